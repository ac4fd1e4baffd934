"""Split Gibbs sampling. See :mod:`napari_dps.samplers.pnp_dm` for the method and its paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from torch import Tensor

from napari_dps.core.covariance import ScalarCovariance
from napari_dps.core.data_step import draw
from napari_dps.core.problem import UNKNOWN_NOISE, Problem
from napari_dps.core.sampler import SMALLEST, SecondOrderMove, Step, final_step
from napari_dps.core.schedule import informed_sigma, karras_ladder
from napari_dps.core.searching import SearchingSampler
from napari_dps.core.streams import Streams
from napari_dps.errors import RecipeError

NOISE_SHARE = 0.3
"""Last rho over the noise: adds 4 % to the spread of what the data alone decide."""
LOWEST = 0.2
"""Last noise level of a turn's diffusion, over rho."""


class SplitGibbsSampler(SearchingSampler):
    """Draw z given x and y, then x given z by a short diffusion, with a falling coupling.

    Parameters
    ----------
    steps : int
        Turns.
    levels : int
        Forward passes of the network in each.
    iterations : int
        Conjugate-gradient iterations of a draw (of each of its Gauss-Newton steps where the
        operator is not affine).
    rho_max, rho_min : float
        Ends of the coupling, in geometric progression; None takes what the noise asks for.
    informed : bool
        Start from the problem's classical estimate where there is one.
    """

    def __init__(
        self,
        steps: int,
        levels: int,
        iterations: int,
        *,
        rho_max: float,
        rho_min: float | None,
        informed: bool,
    ) -> None:
        super().__init__(iterations, informed)
        self.steps, self.levels = steps, levels
        self.rho_max, self.rho_min = rho_max, rho_min

    def total_steps(self) -> int:
        """Return the number of turns."""
        return self.steps

    def calls_per_step(self) -> tuple[float, float]:
        """Return the forward passes of a turn, and no product."""
        return float(self.levels), 0.0

    def couplings(self, top: float, bottom: float) -> list[float]:
        """Return rho of every turn, in geometric progression."""
        last = max(self.steps - 1, 1)
        return [top * (bottom / top) ** (k / last) for k in range(self.steps)]

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; see :meth:`Sampler.sample`."""

        def noise() -> Tensor:
            return streams.normal(problem.operator.x_shape)

        start = problem.start if self.informed else None
        top = self.rho_max
        if start is None:
            x = problem.prior.data_std * noise()
        else:
            x = start.estimate.expand(n, *problem.operator.x_shape)
            top = min(top, start.level or informed_sigma(start.error, top))
        for k, rho in enumerate(self.couplings(top, self._last_coupling(problem, top))):
            z, _ = draw(problem, x, ScalarCovariance(rho), streams, self.iterations, x)
            x = self._diffused(problem, z, rho, noise)
            if k + 1 < self.steps:
                misfit = problem.misfit(problem.operator(x))
                yield Step(k + 1, self.steps, x, misfit, dict(problem.calls))
        yield final_step(problem, x, self.steps)

    def _last_coupling(self, problem: Problem, top: float) -> float:
        """Return the last rho."""
        if self.rho_min is not None:
            if self.rho_min >= top:
                raise RecipeError(
                    f"rho_min = {self.rho_min:g} is not below the coupling to begin at, {top:g} "
                    "(rho_max, or less where a classical estimate is a good start): lower rho_min"
                )
            return self.rho_min
        noise = UNKNOWN_NOISE if problem.noise_level is None else problem.noise_level
        least = 0.001 if problem.prior.learned else SMALLEST
        return min(top / 2, max(least, NOISE_SHARE * noise))

    def _diffused(
        self, problem: Problem, z: Tensor, rho: float, noise: Callable[[], Tensor]
    ) -> Tensor:
        """Draw x from the prior given that z = x + rho n."""
        sigmas = karras_ladder(self.levels, rho, LOWEST * rho)
        move, x = SecondOrderMove(), z
        for sigma, lower in pairwise(sigmas):
            x = move(x, problem.denoise(x, sigma), sigma, lower, noise)
        return x
