"""A draw from N(x0; m, C) p(y | x0) for any differentiable operator: randomise, then optimise.

Bardsley, Solonen, Haario, Laine, "Randomize-then-optimize: a method for sampling from posterior
distributions in nonlinear inverse problems", SIAM J. Sci. Comput. 36 (2014). Prior mean and data
are perturbed by their own noise and the perturbed objective is minimised by Gauss-Newton steps on
the exact likelihood. Where the operator is linear and the noise Gaussian the draw is exact;
elsewhere it has the spread of the local quadratic model. Unlike Langevin steps it does not creep
along directions that the data hardly see.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_dps.core.covariance import Covariance, StationaryCovariance
from napari_dps.core.guidance import valid_only
from napari_dps.core.linalg import cheap_to_read, column, conjugate_gradients, dot
from napari_dps.core.problem import Problem
from napari_dps.core.streams import Streams

ROUNDS = 2
"""Gauss-Newton steps a draw; the next noise level goes on from there."""
HALVINGS = 4
SHORTER = 0.4
ROUNDING = 1e-3
"""Share of the largest certainty below zero that transforms make of zero."""


def gauss_newton_draw(
    problem: Problem,
    mean: Tensor,
    sigma: float | Covariance,
    streams: Streams,
    iterations: int,
    begin: Tensor,
    *,
    rounds: int = ROUNDS,
) -> tuple[Tensor, Tensor]:
    """Draw x0 given x_sigma and y.

    Parameters
    ----------
    problem : Problem
        With any differentiable operator.
    mean : Tensor, shape (n, *x_shape)
        E[x0 | x_sigma].
    sigma : float or Covariance
        The noise level, from which the prior's covariance follows; or C itself.
    streams : Streams
        One per sample.
    iterations : int
        Conjugate-gradient iterations of a Gauss-Newton step, at most.
    begin : Tensor, shape (n, *x_shape)
        Where the first step begins; it chooses the mode where there are several.
    rounds : int
        Gauss-Newton steps.

    Returns
    -------
    x0, z : Tensor
        The draw, and its expected measurement.
    """
    if isinstance(sigma, Covariance):
        covariance = sigma
    else:
        covariance = StationaryCovariance(problem.prior, mean, sigma)
    operator = problem.operator
    centre = mean + covariance.root(streams.normal(operator.x_shape))
    unit = streams.normal(operator.y_shape)
    z, _, vjp = operator.linearize(begin)
    # sqrt(Fisher information) n: what moving every datum by its own noise adds to the gradient.
    push = vjp(valid_only(problem)(problem.likelihood.variance(z).rsqrt() * unit))
    return gauss_newton_solve(problem, centre, covariance, iterations, begin, push, rounds=rounds)


def _by_pixel(covariance: Covariance, certainty: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a preconditioner of I + C^(1/2) J^T W J C^(1/2): one factor per pixel.

    Behind a camera's response, or beside a dark ground, data tell some pixels thousands of times
    more exactly than others, and plain conjugate gradients spend all their iterations on those.

    Parameters
    ----------
    covariance : Covariance
        C.
    certainty : Tensor, shape (n, *x_shape)
        J^T W J 1: no less than the matrix's diagonal where J has no negative entries. A sample in
        which it is negative somewhere (light that interferes) is left as it is.
    """
    flat = certainty.flatten(1)
    bound = flat.amin(1) > -ROUNDING * flat.amax(1)
    inverse = 1 / (1 + covariance.variance * certainty.clamp_min(0))
    inverse = torch.where(column(bound, certainty), inverse, 1)
    return lambda q: inverse * q


def gauss_newton_solve(
    problem: Problem,
    centre: Tensor,
    covariance: Covariance,
    iterations: int,
    begin: Tensor,
    push: Tensor | None = None,
    *,
    rounds: int = ROUNDS,
) -> tuple[Tensor, Tensor]:
    """Minimise |x - centre|^2_(C^-1) / 2 - log p(y | A(x)) - <push, x>, a few steps of it.

    Parameters
    ----------
    problem : Problem
        With any differentiable operator.
    centre : Tensor, shape (n, *x_shape)
        Where the quadratic term is least.
    covariance : Covariance
        C.
    iterations, begin, rounds
        As in :func:`gauss_newton_draw`.
    push : Tensor or None, shape of ``centre``
        A constant force; None for none.

    Returns
    -------
    x, z : Tensor
        Where the steps ended, never higher than they began, and its expected measurement.
    """
    operator, likelihood, y = problem.operator, problem.likelihood, problem.y
    mask = valid_only(problem)
    force = torch.zeros_like(centre) if push is None else push
    z, jvp, vjp = operator.linearize(begin)
    x0, u = begin, covariance.whiten(begin - centre)

    def objective(z: Tensor, x: Tensor, u: Tensor) -> Tensor:
        fit = likelihood.log_prob(y, z, problem.valid).reshape(-1, *([1] * (u.ndim - 1)))
        total: Tensor = 0.5 * dot(u, u) - fit - dot(force, x)
        return total

    value = objective(z, x0, u)
    for k in range(rounds):
        if k:
            z, jvp, vjp = operator.linearize(x0)
        weight = mask(likelihood.curvature(y, z))
        slope = covariance.root(vjp(mask(likelihood.score(y, z))) + force) - u

        def matvec(p: Tensor, jvp=jvp, vjp=vjp, weight=weight) -> Tensor:  # type: ignore[no-untyped-def]
            product: Tensor = p + covariance.root(vjp(weight * jvp(covariance.root(p))))
            return product

        inverse = None
        if not operator.operator.symmetric:  # waves interfere: no certainty of one pixel
            inverse = _by_pixel(covariance, vjp(weight * jvp(torch.ones_like(u))))
        step = conjugate_gradients(
            matvec, slope, iterations=iterations, tolerance=1e-2, precondition=inverse
        ).u
        length = torch.ones_like(value)
        found = torch.zeros_like(value, dtype=torch.bool)
        for _ in range(HALVINGS):
            trial_u = u + length * step
            trial = centre + covariance.root(trial_u)
            trial_z = operator(trial)
            trial_value = objective(trial_z, trial, trial_u)
            better = (trial_value < value) & ~found
            x0, u = torch.where(better, trial, x0), torch.where(better, trial_u, u)
            value = torch.where(better, trial_value, value)
            found = found | better
            if cheap_to_read(found) and bool(found.all()):
                break
            length = length * SHORTER
    return x0, operator(x0)
