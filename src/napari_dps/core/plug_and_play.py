"""Plug-and-play ADMM. See :mod:`napari_dps.samplers.pnp_admm` for the method and its papers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from napari_dps.core.covariance import ScalarCovariance
from napari_dps.core.data_step import proximal
from napari_dps.core.problem import UNKNOWN_NOISE, Problem
from napari_dps.core.sampler import Sampler, Step, final_step
from napari_dps.core.streams import Streams
from napari_dps.errors import RecipeError

LAST = 0.1
"""Last noise level over the measurement's: there x and v can no longer differ, whatever the
denoiser, so that the iteration ends even where the denoiser is no proximal step."""


class ADMMSampler(Sampler):
    """Fit the data, denoise, sum up the difference.

    Parameters
    ----------
    steps : int
        Iterations, one forward pass of the network each.
    iterations : int
        Conjugate-gradient iterations of a data step.
    lam : float
        Weight of the prior.
    sigma_max, sigma_min : float
        Ends of the noise levels, in geometric progression; None takes what the noise asks for.
    """

    def __init__(
        self,
        steps: int,
        iterations: int,
        *,
        lam: float,
        sigma_max: float,
        sigma_min: float | None,
    ) -> None:
        self.steps, self.iterations, self.lam = steps, iterations, lam
        self.sigma_max, self.sigma_min = sigma_max, sigma_min

    def check(self, problem: Problem) -> None:
        """Refuse operators that are not affine."""
        if not problem.operator.is_affine:
            raise RecipeError(
                "the sampler 'pnp-admm' needs a forward model that is linear in the object, and "
                "this one is not; choose 'daps', 'pnp-dm' or 'diffpir'"
            )

    def total_steps(self) -> int:
        """Return the number of iterations."""
        return self.steps

    def calls_per_step(self) -> tuple[float, float]:
        """Return one forward pass and no product."""
        return 1.0, 0.0

    def levels(self, problem: Problem) -> list[float]:
        """Return the noise level of every iteration, in geometric progression."""
        noise = UNKNOWN_NOISE if problem.noise_level is None else problem.noise_level
        ratio = (self.sigma_min or LAST * noise) / self.sigma_max
        return [
            self.sigma_max * min(ratio, 1.0) ** (k / (self.steps - 1)) for k in range(self.steps)
        ]

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; see :meth:`Sampler.sample`. Nothing is random."""
        # Not from the classical estimate: it has no noise, and a denoiser that is told of much
        # would smooth it away.
        shape = (n, *problem.operator.x_shape)
        v = torch.zeros(shape, dtype=problem.y.dtype, device=problem.y.device)
        x, u = v, torch.zeros_like(v)
        sigmas = self.levels(problem)
        for k, sigma in enumerate(sigmas):
            if k:
                # u is the multiplier times rho^2, and the multiplier is what lasts.
                u = u * (sigma / sigmas[k - 1]) ** 2
            covariance = ScalarCovariance(sigma / math.sqrt(self.lam))
            x, z = proximal(problem, v - u, covariance, self.iterations, near=x)
            v = problem.denoise(x + u, sigma)
            u = u + x - v
            if k + 1 < self.steps:
                yield Step(k + 1, self.steps, v, problem.misfit(z), dict(problem.calls))
        gap = (x - v).square().flatten(1).mean(1).sqrt()
        yield final_step(problem, v, self.steps, {"gap": float(gap.max())})
