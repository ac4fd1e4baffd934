"""Decoupled annealing. See :mod:`napari_dps.samplers.daps` for the method and its paper."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from napari_dps.core.covariance import StationaryCovariance
from napari_dps.core.data_step import draw
from napari_dps.core.problem import Problem
from napari_dps.core.sampler import Step, final_step, finest_level, starting_point
from napari_dps.core.schedule import karras_ladder
from napari_dps.core.searching import SearchingSampler
from napari_dps.core.streams import Streams


class DAPSSampler(SearchingSampler):
    """Anneal by drawing x0 from p(x0 | x_sigma) p(y | x0) and adding less noise again.

    Parameters
    ----------
    steps : int
        Noise levels, one forward pass of the network each.
    iterations : int
        Conjugate-gradient iterations of a draw (of each of its Gauss-Newton steps where the
        operator is not affine).
    sigma_max, sigma_min : float
        Ends of the ladder.
    informed : bool
        Start from the problem's classical estimate where there is one.
    """

    def __init__(
        self,
        steps: int,
        iterations: int,
        *,
        sigma_max: float,
        sigma_min: float | None,
        informed: bool,
    ) -> None:
        super().__init__(iterations, informed)
        self.steps, self.sigma_max, self.sigma_min = steps, sigma_max, sigma_min

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
        # From an informed start a chain goes on where it was, so that it keeps its mode. Without
        # one it begins anew at every level, so that a wrong solution found early is left.
        start = problem.start if self.informed else None
        informed = start is not None and (start.level is not None or top < self.sigma_max)
        x0 = start.estimate.expand(n, *x.shape[1:]) if informed and start is not None else None
        for i in range(total):
            mean = problem.denoise(x, sigmas[i])
            covariance = StationaryCovariance(problem.prior, mean, sigmas[i])
            begin = mean if x0 is None or not informed else x0
            x0, z = draw(problem, mean, covariance, streams, self.iterations, begin)
            x = x0 + sigmas[i + 1] * noise() if sigmas[i + 1] > 0 else x0
            if i + 1 < total:
                yield Step(i + 1, total, mean, problem.misfit(z), dict(problem.calls))
        yield final_step(problem, x, total)
