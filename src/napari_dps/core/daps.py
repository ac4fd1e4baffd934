"""Decoupled annealing. See :mod:`napari_dps.samplers.daps` for the method and its paper."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from napari_dps.core.covariance import StationaryCovariance
from napari_dps.core.gauss_newton import gauss_newton_draw
from napari_dps.core.guidance import valid_only
from napari_dps.core.linalg import conjugate_gradients
from napari_dps.core.problem import Problem, Start
from napari_dps.core.sampler import Sampler, Step, final_step, finest_level, starting_point
from napari_dps.core.schedule import karras_ladder
from napari_dps.core.search import CHAINS, search, search_calls
from napari_dps.core.streams import Streams


class DAPSSampler(Sampler):
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
        self.steps, self.iterations = steps, iterations
        self.sigma_max, self.sigma_min, self.informed = sigma_max, sigma_min, informed

    def total_steps(self) -> int:
        """Return the number of noise levels."""
        return self.steps

    def calls_per_step(self) -> tuple[float, float]:
        """Return one forward pass and no product."""
        return 1.0, 0.0

    def rehearse(self, problem: Problem, n: int) -> None:
        """Draw once where the operator is not affine: the solves take as long as the network."""
        if not problem.operator.is_affine:
            y = problem.y
            streams = Streams(0, range(n), y.device, y.dtype)
            x = streams.normal(problem.operator.x_shape)
            gauss_newton_draw(problem, x, 0.3, streams, self.iterations, x)

    def search_calls(self, multimodal: bool) -> int:
        """Return the forward passes of one image that :meth:`search` costs."""
        return search_calls() if multimodal and self.informed else 0

    def search(
        self, problem: Problem, candidates: Tensor, label: object, seed: int, at_once: int
    ) -> Iterator[tuple[int, int] | Start]:
        """Look for the best mode where there are many; see :mod:`.search`."""
        if not self.search_calls(problem.operator.operator.multimodal):
            return
        indices = [("search", label, k) for k in range(CHAINS + len(candidates))]
        streams = Streams(seed, indices, problem.y.device, problem.y.dtype)
        yield from search(problem, candidates, streams, self.iterations, at_once)

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
            if problem.operator.is_affine:
                x0, z = exact_draw(problem, x, mean, sigmas[i], streams, self.iterations)
            else:
                begin = mean if x0 is None or not informed else x0
                x0, z = gauss_newton_draw(problem, mean, sigmas[i], streams, self.iterations, begin)
            x = x0 + sigmas[i + 1] * noise() if sigmas[i + 1] > 0 else x0
            if i + 1 < total:
                yield Step(i + 1, total, mean, problem.misfit(z), dict(problem.calls))
        yield final_step(problem, x, total)


def exact_draw(
    problem: Problem,
    x: Tensor,
    mean: Tensor,
    sigma: float,
    streams: Streams,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """Draw from N(x0; mean, C) N(y; A(x0), V) by perturbing and solving.

    C is the prior's stationary covariance given x_sigma. Poisson noise enters by its variance at
    the expectation of the mean.
    """
    covariance = StationaryCovariance(problem.prior, x, sigma)
    mask = valid_only(problem)
    z, jvp, vjp = problem.operator.linearize(mean)
    variance = problem.variance(z)
    prior_draw = covariance.root(streams.normal(problem.operator.x_shape))
    data_draw = variance.sqrt() * streams.normal(problem.operator.y_shape)

    normal = problem.operator.normal(covariance.transfer)

    def matvec(p: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if normal is not None:
            return mask(normal(mask(p))) + variance * p
        image = covariance(vjp(mask(p)))
        return mask(jvp(image)) + variance * p, image

    rhs = problem.residual(z + jvp(prior_draw) - data_draw)
    found = conjugate_gradients(
        matvec, rhs, iterations=iterations, tolerance=1e-3, precondition=lambda r: r / variance
    )
    image = covariance(vjp(mask(found.u))) if found.image is None else found.image
    return mean + prior_draw + image, z
