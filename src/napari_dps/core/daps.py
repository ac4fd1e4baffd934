"""Decoupled annealing. See :mod:`napari_dps.samplers.daps` for the method and its paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from napari_dps.core.covariance import StationaryCovariance
from napari_dps.core.guidance import valid_only
from napari_dps.core.likelihood import GaussianLikelihood
from napari_dps.core.linalg import conjugate_gradients, dot
from napari_dps.core.problem import Problem
from napari_dps.core.sampler import Sampler, Step, final_step, finest_level, starting_point
from napari_dps.core.schedule import karras_ladder
from napari_dps.core.streams import Streams


class DAPSSampler(Sampler):
    """Anneal by drawing x0 from p(x0 | x_sigma) p(y | x0) and adding less noise again.

    Parameters
    ----------
    steps : int
        Noise levels, one forward pass of the network each.
    langevin : int
        Langevin steps a level where the operator is not affine.
    iterations : int
        Conjugate-gradient iterations of the exact draw where it is.
    sigma_max, sigma_min : float
        Ends of the ladder.
    informed : bool
        Start from the problem's classical estimate where there is one.
    """

    def __init__(
        self,
        steps: int,
        langevin: int,
        iterations: int,
        *,
        sigma_max: float,
        sigma_min: float | None,
        informed: bool,
    ) -> None:
        self.steps, self.langevin, self.iterations = steps, langevin, iterations
        self.sigma_max, self.sigma_min, self.informed = sigma_max, sigma_min, informed

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
        draw = exact_draw if problem.operator.is_affine else langevin_draw
        count = self.iterations if problem.operator.is_affine else self.langevin
        total = len(sigmas) - 1
        # From an informed start the chain goes on where it was: data that say much would need
        # very many steps to be met again from the denoised image. Without one it begins anew at
        # every level, so that a wrong solution found early is left.
        informed = top < self.sigma_max and problem.start is not None
        x0 = problem.start.estimate.expand(n, *x.shape[1:]) if informed and problem.start else None
        for i in range(total):
            mean = problem.denoise(x, sigmas[i])
            begin = mean if x0 is None or not informed else x0
            x0, z = draw(problem, x, mean, sigmas[i], streams, count, begin)
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
    begin: Tensor,
) -> tuple[Tensor, Tensor]:
    """Draw from N(x0; mean, C) N(y; A(x0), V) by perturbing and solving.

    C is the prior's stationary covariance given x_sigma. Poisson noise enters by its variance at
    the expectation of the mean. The draw is exact, so that where it ``begin``s does not matter.
    """
    covariance = StationaryCovariance(problem.prior, x, sigma)
    mask = valid_only(problem)
    z, jvp, vjp = problem.operator.linearize(mean)
    variance = problem.variance(z)
    prior_draw = covariance.root(streams.normal(problem.operator.x_shape))
    data_draw = variance.sqrt() * streams.normal(problem.operator.y_shape)

    def matvec(p: Tensor) -> tuple[Tensor, Tensor]:
        image = covariance(vjp(mask(p)))
        return mask(jvp(image)) + variance * p, image

    rhs = problem.residual(z + jvp(prior_draw) - data_draw)
    found = conjugate_gradients(
        matvec, rhs, iterations=iterations, tolerance=1e-3, precondition=lambda r: r / variance
    )
    x0 = mean + prior_draw
    return (x0 if found.image is None else x0 + found.image), z


def stabilised(problem: Problem) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """Return the measurement, and a map of expectations, where noise has unit variance.

    For counts 2 sqrt(. + 3/8 + sigma_r^2) (Anscombe), for Gaussian noise the quotient by sigma.
    The map also returns its derivative.
    """
    likelihood = problem.likelihood
    if isinstance(likelihood, GaussianLikelihood):
        sigma = likelihood.sigma
        return problem.y / sigma, lambda z: (z / sigma, torch.full_like(z, 1 / sigma))
    shift = 0.375 + float(getattr(likelihood, "read_variance", 0.0))

    def transform(z: Tensor) -> tuple[Tensor, Tensor]:
        root = (z + shift - 0.125).clamp_min(1e-3).sqrt()
        return 2 * root, 1 / root

    return 2 * (problem.y + shift).clamp_min(0).sqrt(), transform


def langevin_draw(
    problem: Problem,
    x: Tensor,
    mean: Tensor,
    sigma: float,
    streams: Streams,
    steps: int,
    begin: Tensor,
) -> tuple[Tensor, Tensor]:
    """Draw by unadjusted Langevin steps on the variance-stabilised likelihood.

    The step length is half the inverse of the largest curvature, found by power iteration, per
    sample; so no step size needs tuning.
    """
    tau2 = problem.prior.data_std**2
    r2 = tau2 * sigma**2 / (tau2 + sigma**2)
    target, transform = stabilised(problem)
    mask = valid_only(problem)
    operator = problem.operator
    x0 = begin
    z, jvp, vjp = operator.linearize(x0)
    slope = transform(z)[1]
    v = streams.normal(operator.x_shape)
    curvature = torch.ones_like(dot(v, v))
    for _ in range(4):
        v = v / dot(v, v).sqrt().clamp_min(1e-20)
        w = vjp(mask(slope**2 * jvp(v)))
        curvature = dot(v, w).clamp_min(0)
        v = w
    step = 0.5 / (1.3 * curvature + 1 / r2)
    for k in range(steps):
        if k:
            z, _, vjp = operator.linearize(x0)
        value, slope = transform(z)
        pull = vjp(mask(slope * (target - value)))
        x0 = x0 + step * (pull - (x0 - mean) / r2)
        x0 = x0 + (2 * step).sqrt() * streams.normal(operator.x_shape)
    return x0, z
