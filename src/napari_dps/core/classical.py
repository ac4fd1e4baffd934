"""What classical samplers share: refusals, and the Wiener filter itself.

A classical sampler works on the object in photoelectrons, so it takes the physics
``problem.operator.operator`` and needs no object map.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from napari_dps.core.channelwise import ChannelwiseOperator
from napari_dps.core.gaussian_field import GRID, GaussianField
from napari_dps.core.linalg import column, conjugate_gradient_steps
from napari_dps.core.operator import Operator
from napari_dps.core.problem import Problem
from napari_dps.core.sampler import Sampler, Step
from napari_dps.core.streams import Streams
from napari_dps.errors import RecipeError

LIKELY = 200
"""Products that a Wiener filter takes: about 60 to 400 where it chooses its strength."""


def refuse_non_affine(problem: Problem, kind: str) -> None:
    """Refuse an operator that is not affine."""
    if not problem.operator.is_affine:
        raise RecipeError(
            f"the sampler {kind!r} needs a forward model that is affine in the object, which this "
            "one is not; choose the sampler 'auto'"
        )


def data_of(problem: Problem, n: int) -> tuple[Tensor, Tensor]:
    """Return the measurement and its weight (one where a datum counts), each for n images."""
    y = problem.y.expand(n, *problem.y.shape[1:])
    weight = torch.ones_like(y) if problem.valid is None else problem.valid.expand_as(y).to(y)
    return y, weight


class WienerSampler(Sampler):
    """The linear estimate of least mean square error. See :mod:`napari_dps.samplers.wiener`.

    Parameters
    ----------
    balance : float or None
        Noise variance over object variance; None: as smooth as the data allow.
    length, exponent : float
        Of the object's spectrum.
    positive : bool
        Clip at zero.
    iterations : int
        Conjugate-gradient iterations of a solve, at most.
    tolerance : float
        Relative residual at which a solve ends.
    """

    def __init__(
        self,
        balance: float | None,
        *,
        length: float,
        exponent: float,
        positive: bool,
        iterations: int,
        tolerance: float,
    ) -> None:
        self.balance, self.length, self.exponent = balance, length, exponent
        self.positive, self.iterations, self.tolerance = positive, iterations, tolerance

    def check(self, problem: Problem) -> None:
        """Refuse operators that are not affine, and to clip what is no light."""
        refuse_non_affine(problem, "wiener")
        operator = problem.operator.operator
        two_parts = operator.x_shape[0] == 2 and not isinstance(operator, ChannelwiseOperator)
        if self.positive and two_parts:
            raise RecipeError(
                "the object is complex, so `positive` would clip its real and imaginary part, "
                "which may lie below zero; set it to false"
            )

    def total_steps(self) -> int:
        """Return the products of all solves, at most; a solve that converges skips the rest."""
        return self.iterations * (len(GRID) if self.balance is None else 1)

    def likely_steps(self) -> int:
        """Return how many are likely done: most solves converge early."""
        return min(self.total_steps(), LIKELY)

    def rehearse(self, problem: Problem, n: int) -> None:
        """Do one iteration of a solve."""
        operator = problem.operator.operator
        y, weight = data_of(problem, n)

        def matvec(p: Tensor) -> tuple[Tensor, Tensor]:
            x = operator.adjoint(weight * p)
            axes = tuple(range(2, x.ndim))
            image = torch.fft.ifftn(torch.fft.fftn(x, dim=axes), dim=axes).real
            return weight * operator(image) + p, image

        next(conjugate_gradient_steps(matvec, y, iterations=1, precondition=lambda q: 1.0 * q))

    def _field(self, problem: Problem, n: int) -> GaussianField:
        operator: Operator = problem.operator.operator
        y, _ = data_of(problem, n)
        valid = None if problem.valid is None else problem.valid.expand_as(y)
        if isinstance(operator, ChannelwiseOperator):  # every colour has a level of its own
            operator = operator.single
            y = y.reshape(-1, 1, *y.shape[2:])
            valid = None if valid is None else valid.reshape(y.shape)
        return GaussianField(
            operator,
            y,
            problem.likelihood,
            valid,
            length=self.length,
            exponent=self.exponent,
            iterations=self.iterations,
            tolerance=self.tolerance,
        )

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; see :meth:`Sampler.sample`. No random number is drawn."""
        shape, total = (n, *problem.operator.x_shape), self.total_steps()
        field = self._field(problem, n)
        level = field.level.reshape(shape)
        misfit = problem.misfit(problem.operator.operator(level))
        if self.balance is None:
            steps: Iterator[Tensor] = field.explain_steps()
        else:
            steps = self._balanced(field)
        done = 0
        for image in steps:
            if problem.checkpoint is not None:
                problem.checkpoint()
            if done < total - 1:
                done += 1
                yield Step(done, total, level + image.reshape(shape), misfit, dict(problem.calls))
        x = level + field.image.reshape(shape)
        if self.positive:
            x = x.clamp_min(0)
        misfit = problem.misfit(problem.operator.operator(x))
        strength = field.operator.response**2 * field.s2.flatten()
        balances = (field.noise_variance / strength).reshape(n, -1)
        rule = "chi2 per datum" if self.balance is None else "balance given"
        details: list[dict[str, Any]] = [
            {"balance": found if len(found) > 1 else found[0], "chosen_by": rule}
            for found in balances.tolist()
        ]
        yield Step(total, total, x, misfit, dict(problem.calls), details)

    def _balanced(self, field: GaussianField) -> Iterator[Tensor]:
        """Yield the solve at the balance that was given."""
        assert self.balance is not None
        field.s2 = column(
            field.noise_variance / (self.balance * field.operator.response**2), field.contrast
        )
        field.image = torch.zeros_like(field.level)
        for step in field.solve_steps(field.s2, field.residual):
            if step.image is not None:
                field.image = step.image
            yield field.image
