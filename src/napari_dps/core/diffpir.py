"""Plug-and-play diffusion. See :mod:`napari_dps.samplers.diffpir` for the method and its paper."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from napari_dps.core.covariance import ScalarCovariance
from napari_dps.core.data_step import proximal
from napari_dps.core.problem import Problem
from napari_dps.core.sampler import Step, final_step, finest_level, starting_point
from napari_dps.core.schedule import karras_ladder
from napari_dps.core.searching import SearchingSampler
from napari_dps.core.streams import Streams


class DiffPIRSampler(SearchingSampler):
    """Denoise, fit the data, go on with old and new noise.

    Parameters
    ----------
    steps : int
        Noise levels, one forward pass of the network each.
    iterations : int
        Conjugate-gradient iterations of a data step (of each of its Gauss-Newton steps where the
        operator is not affine).
    lam, zeta : float
        Weight of the denoised image against the data; share of new noise.
    sigma_max, sigma_min : float
        Ends of the ladder; None takes what the noise asks for.
    informed : bool
        Start from the problem's classical estimate where there is one.
    """

    def __init__(
        self,
        steps: int,
        iterations: int,
        *,
        lam: float,
        zeta: float,
        sigma_max: float,
        sigma_min: float | None,
        informed: bool,
    ) -> None:
        super().__init__(iterations, informed)
        self.steps, self.lam, self.zeta = steps, lam, zeta
        self.sigma_max, self.sigma_min = sigma_max, sigma_min

    def total_steps(self) -> int:
        """Return the number of noise levels."""
        return self.steps

    def calls_per_step(self) -> tuple[float, float]:
        """Return one forward pass and no product."""
        return 1.0, 0.0

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; see :meth:`Sampler.sample`."""

        def noise() -> Tensor:
            return streams.normal(problem.operator.x_shape)

        x, top = starting_point(problem, noise, self.sigma_max, self.informed)
        sigmas = karras_ladder(self.steps, top, finest_level(problem, self.sigma_min))
        total = len(sigmas) - 1
        for i in range(total):
            sigma, lower = sigmas[i], sigmas[i + 1]
            mean = problem.denoise(x, sigma)
            covariance = ScalarCovariance(sigma / math.sqrt(self.lam))
            x0, z = proximal(problem, mean, covariance, self.iterations)
            if lower > 0:
                old = math.sqrt(1 - self.zeta) * (x - x0) / sigma
                x = x0 + lower * (old + math.sqrt(self.zeta) * noise())
            else:
                x = x0
            if i + 1 < total:
                yield Step(i + 1, total, x0, problem.misfit(z), dict(problem.calls))
        yield final_step(problem, x, total)
