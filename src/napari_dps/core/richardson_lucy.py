"""Multiplicative expectation maximisation. See :mod:`napari_dps.samplers.richardson_lucy`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from napari_dps.core.classical import data_of, refuse_non_affine
from napari_dps.core.differences import curvature
from napari_dps.core.linalg import column
from napari_dps.core.operator import Operator
from napari_dps.core.problem import Problem
from napari_dps.core.sampler import Sampler, Step
from napari_dps.core.streams import Streams
from napari_dps.errors import RecipeError

SEEN = 0.01
"""Share of the largest sensitivity below which an object's pixel is not measured: it keeps the
flat level that it started from."""
NEGATIVE = 1e-3
"""Share of the largest value down to which a negative one passes for rounding of a transform."""
FAR_BELOW = 0.5
"""Chi-square per datum below which an iteration has gone past the noise, not up to it."""
PAST = (
    "Richardson-Lucy went past the noise at once: where the forward model mixes no pixels, one "
    "iteration reproduces the data, noise and all, and total variation has no say; choose "
    "'admm-tv', 'wiener' or 'auto'"
)
NO_LIGHT = (
    "the measurement lies below zero on the whole, which no light explains, and Richardson-Lucy "
    "knows light alone: add what was subtracted from it, or choose 'wiener' or 'admm-tv'"
)
LIKELY = 50
"""Iterations that the discrepancy principle takes, from bright images to dim ones 10 to 200."""


class RichardsonLucySampler(Sampler):
    """Multiply the object by A^T(y / z) / A^T 1 until it explains the data.

    Parameters
    ----------
    iterations : int
        At most.
    discrepancy : bool
        Stop a frame where its chi-square per datum reaches one.
    tv : float
        Weight of total variation, per sensitivity.
    """

    def __init__(self, iterations: int, *, discrepancy: bool, tv: float) -> None:
        self.iterations, self.discrepancy, self.tv = iterations, discrepancy, tv

    def check(self, problem: Problem) -> None:
        """Refuse operators that are not affine, or that let light subtract from light."""
        refuse_non_affine(problem, "richardson-lucy")
        operator = problem.operator.operator
        like = problem.y[:1]
        generator = torch.Generator().manual_seed(0)

        def spots(shape: tuple[int, ...]) -> Tensor:
            # One in twenty: among many, what is negative would be hidden by what is positive.
            bright = torch.rand((1, *shape), generator=generator) < 0.05
            return (bright * torch.rand((1, *shape), generator=generator)).to(like)

        x = spots(operator.x_shape)
        seen = operator(x) - operator(torch.zeros_like(x))
        found = [seen, operator.adjoint(spots(operator.y_shape))]
        if any(float(v.min()) < -NEGATIVE * float(v.abs().max()) for v in found):
            raise RecipeError(
                "the sampler 'richardson-lucy' needs a forward model without negative entries, "
                "where more object never means less light; choose 'admm-tv', 'wiener' or 'auto'"
            )

    def total_steps(self) -> int:
        """Return the iterations, at most."""
        return self.iterations

    def likely_steps(self) -> int:
        """Return how many are likely done."""
        return min(self.iterations, LIKELY) if self.discrepancy else self.iterations

    def rehearse(self, problem: Problem, n: int) -> None:
        """Do one iteration."""
        operator = problem.operator.operator
        y, _ = data_of(problem, n)
        x = operator.adjoint(y.clamp_min(0))
        if self.tv:
            x = x * self._flatness(x)
        problem.misfit(operator(x))

    def _flatness(self, x: Tensor) -> Tensor:
        """Return 1 - tv div(grad x / |grad x|), by which the total variation divides.

        A step diffuses by tv x / |grad x|, which oscillates from pixel to pixel where that is
        large: gradients below 4 tv x for each dimension count as if they were that steep.
        """
        return 1 - self.tv * curvature(x, 4 * (x.ndim - 2) * self.tv)

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; see :meth:`Sampler.sample`. No random number is drawn."""
        operator: Operator = problem.operator.operator
        y, weight = data_of(problem, n)
        ones = torch.ones((n, *operator.x_shape), dtype=y.dtype, device=y.device)
        dark = operator(torch.zeros_like(ones))
        # Snyder et al. 1995: counts plus Gaussian noise of variance v, with v added, are about
        # Poisson of mean z + v.
        extra = getattr(problem.likelihood, "read_variance", 0.0)
        counts = weight * (y + extra).clamp_min(0)
        clipped = (weight * (y + extra < 0)).flatten(1).sum(1) / weight.flatten(1).sum(1)
        sensitivity = operator.adjoint(weight)
        seen = sensitivity > SEEN * column(sensitivity.flatten(1).amax(1), ones)
        # Not clipped: read noise about nothing would be taken for light.
        x = _level(operator, weight * (y - dark), weight, dark) * ones
        z = operator(x)
        running = torch.ones(n, dtype=torch.bool, device=y.device)
        used = torch.zeros(n, dtype=torch.int64, device=y.device)
        misfit = problem.misfit(z)
        for k in range(1, self.iterations + 1):
            if problem.checkpoint is not None:
                problem.checkpoint()
            expected = z + extra
            # Rounding leaves what is dark a little negative, where a division would explode.
            floor = 1e-6 * column(expected.flatten(1).amax(1), y).clamp_min(1e-30)
            factor = operator.adjoint(counts / torch.maximum(expected, floor))
            penalised = sensitivity * self._flatness(x) if self.tv else sensitivity
            factor = torch.where(seen, factor / torch.where(seen, penalised, 1), 1).clamp_min(0)
            x = torch.where(column(running, x), x * factor, x)
            z = operator(x)
            used += running
            misfit = problem.misfit(z)
            if self.discrepancy:
                running = running & (misfit > 1)
            if k == self.iterations or not bool(running.any()):
                break
            yield Step(k, self.iterations, x, misfit, dict(problem.calls))
        light = weight * (y - dark)
        below = light.flatten(1).sum(1) < -0.5 * light.abs().flatten(1).sum(1)
        rule = "discrepancy" if self.discrepancy else "iterations"
        details: list[dict[str, Any]] = [
            {
                "iterations": count,
                "stopped_by": "max_iterations" if went_on and self.discrepancy else rule,
                "clipped": share,
                **({"warning": PAST} if self.discrepancy and reached < FAR_BELOW else {}),
                **({"warning": NO_LIGHT} if dim else {}),
            }
            for count, went_on, share, reached, dim in zip(
                *(v.tolist() for v in (used, running, clipped, misfit, below)), strict=True
            )
        ]
        yield Step(self.iterations, self.iterations, x, misfit, dict(problem.calls), details)


def _level(operator: Operator, light: Tensor, weight: Tensor, dark: Tensor) -> Tensor:
    """Return the flat object that explains the total, above zero where all is dark."""
    ones = torch.ones((len(light), *operator.x_shape), dtype=light.dtype, device=light.device)
    flat = (weight * (operator(ones) - dark)).flatten(1).sum(1).clamp_min(1e-12)
    total = light.flatten(1).sum(1)
    least = 1e-3 * light.abs().flatten(1).sum(1)
    return column(torch.maximum(total, least).clamp_min(1e-12) / flat, ones)
