"""The DPS step (Chung et al., ICLR 2023), in sigma. See :mod:`napari_dps.samplers.dps`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from napari_dps.core.likelihood import GaussianLikelihood, masked_sum
from napari_dps.core.linalg import column
from napari_dps.core.problem import Problem
from napari_dps.core.sampler import Sampler, Step, ancestral_move, final_step
from napari_dps.core.schedule import ddpm_ladder
from napari_dps.core.streams import Streams

MOST = 4.0
"""Times the expected that a count is taken for at most, where its pull is concerned."""
TOO_FAR = 10.0
"""Chi-square per datum of samples that were thrown off, rather than drawn."""


def too_long(scale: float) -> str:
    """Return what to say of samples that are further off the data."""
    return (
        f"samples lie far off the data (chi-square per datum above {TOO_FAR:g}): most likely the "
        f"step length is too large for so much light; lower `scale` (now {scale:g}) tenfold, and "
        "where that does not help look at noise and optics"
    )


class DPSSampler(Sampler):
    """Ancestral DDPM sampling with a gradient step on the norm of the residual.

    Parameters
    ----------
    steps : int
        Length of the respaced ladder.
    scale : float
        Step length in VP coordinates, as in the authors' code.
    exact : bool
        Use the deviance of the exact likelihood in place of the weighted norm.
    clip : bool
        Clip x0 to [-1, 1]; the gradient passes through the clamp.
    """

    def __init__(
        self, steps: int, scale: float, *, exact: bool = False, clip: bool = False
    ) -> None:
        self.steps, self.scale, self.exact, self.clip = steps, scale, exact, clip

    def total_steps(self) -> int:
        """Return the number of noise levels."""
        return self.steps

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; see :meth:`Sampler.sample`."""
        shape = problem.operator.x_shape
        sigmas = ddpm_ladder(self.steps)
        # The authors start from unit noise in VP coordinates: x_vp = n, x = n / sqrt(abar).
        x = streams.normal(shape) * math.sqrt(1 + sigmas[0] ** 2)
        total = len(sigmas) - 1
        for i, (sigma, lower) in enumerate(pairwise(sigmas)):
            x0, vjp, fraction = problem.linearize_moments(x, sigma)
            inside = None
            if self.clip:
                # A clamp passes the gradient on at its ends, and stops it beyond.
                inside = ((x0 >= -1) & (x0 <= 1)).to(x0)
                x0 = x0.clamp(-1, 1)
            z, _, vjp_a = problem.operator.linearize(x0)
            v = vjp_a(self.gradient(problem, z))
            g = vjp(v if inside is None else v * inside)
            del vjp  # what it holds of the network's pass would stay through the next one
            moved = ancestral_move(x, x0, sigma, lower, lambda: streams.normal(shape), fraction)
            # One gradient in VP coordinates: d/dx_vp = sqrt(1 + sigma^2)^... both ends rescale.
            x = moved - self.scale * math.sqrt((1 + lower**2) * (1 + sigma**2)) * g
            x = self.after(problem, x, lower, streams)
            if i + 1 < total:
                yield Step(i + 1, total, x0, problem.misfit(z), dict(problem.calls))
        last = final_step(problem, x, total)
        last.details = [
            {"warning": too_long(self.scale)} if chi2 > TOO_FAR else {}
            for chi2 in last.misfit.tolist()
        ]
        yield last

    def after(self, problem: Problem, x: Tensor, sigma: float, streams: Streams) -> Tensor:
        """Return x, at ``sigma``, as a step leaves it; methods that add to the step do it here."""
        return x

    def gradient(self, problem: Problem, z: Tensor) -> Tensor:
        """Return the gradient of the distance between y and z with respect to z."""
        if self.exact:
            return exact_gradient(problem, z)
        r = problem.residual(z)
        weight = problem.likelihood.dps_weight(problem.y)
        if isinstance(problem.likelihood, GaussianLikelihood):
            # The paper's images are measured in prior units, in which `scale` has its meaning; in
            # a camera's it would depend on the unit.
            scale = problem.operator.scale.flatten(1).mean(1)
            weight = weight / column(scale / 2, z) ** 2
        norm = masked_sum(weight * r**2, None).sqrt()
        norm = norm.clamp_min(torch.finfo(norm.dtype).tiny).reshape(-1, *([1] * (z.ndim - 1)))
        return -weight * r / norm


def exact_gradient(problem: Problem, z: Tensor) -> Tensor:
    """Return the gradient of sqrt(log p(y | y) - log p(y | z)), the root of half the deviance."""
    y = problem.y.expand_as(z)
    likelihood = problem.likelihood
    best = likelihood.log_density(y, y.clamp_min(0) if hasattr(likelihood, "read_variance") else y)
    drop = masked_sum(best - likelihood.log_density(y, z), problem.valid)
    root = drop.clamp_min(1e-6).sqrt().reshape(-1, *([1] * (z.ndim - 1)))
    if hasattr(likelihood, "read_variance"):
        # Where a count is far above what is expected it pulls by y / z, without bound as z goes to
        # zero: no datum pulls harder than one that is four times the expected.
        z = torch.maximum(z, y / MOST)
    score = likelihood.score(y, z)
    if problem.valid is not None:
        score = torch.where(problem.valid, score, torch.zeros_like(score))
    return -score / (2 * root)
