"""The data's half of decoupled samplers: given a guess of the object and its covariance, and y.

Where the operator is affine one linear system is solved by conjugate gradients, in the space of
the data, where every datum has its own variance. Where it is not, Gauss-Newton steps go along the
exact likelihood (:mod:`napari_dps.core.gauss_newton`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from napari_dps.core.covariance import Covariance
from napari_dps.core.gauss_newton import gauss_newton_draw, gauss_newton_solve
from napari_dps.core.guidance import valid_only
from napari_dps.core.operator import Linear
from napari_dps.core.problem import Problem
from napari_dps.core.streams import Streams
from napari_dps.core.typical import TypicalSystem

TOLERANCE = 1e-3
"""Relative residual, in units of the noise, at which a linear system is solved well enough."""


def draw(
    problem: Problem,
    mean: Tensor,
    covariance: Covariance,
    streams: Streams,
    iterations: int,
    begin: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw from N(x; mean, C) p(y | A(x)).

    Parameters
    ----------
    problem : Problem
        With any differentiable operator.
    mean : Tensor, shape (n, *x_shape)
        The guess.
    covariance : Covariance
        C.
    streams : Streams
        One per sample.
    iterations : int
        Conjugate-gradient iterations of a linear system, at most.
    begin : Tensor or None, shape of ``mean``
        Where Gauss-Newton steps begin; None: at the mean.

    Returns
    -------
    x, z : Tensor
        The draw, and an expected measurement near it: that of the mean where A is affine, else
        that of the draw.
    """
    if problem.operator.is_affine:
        return affine_draw(problem, mean, covariance, streams, iterations)
    begin = mean if begin is None else begin
    return gauss_newton_draw(problem, mean, covariance, streams, iterations, begin)


def affine_draw(
    problem: Problem, mean: Tensor, covariance: Covariance, streams: Streams, iterations: int
) -> tuple[Tensor, Tensor]:
    """Draw from N(x; mean, C) N(y; A(x), V) by perturbing both by their noise and solving.

    Exact where A is affine and the noise Gaussian. Counts enter by their variance at the
    expectation of the mean. Returns what :func:`draw` does.
    """
    operator = problem.operator
    z, jvp, vjp = operator.linearize(mean)
    variance = problem.variance(z)
    from_prior = covariance.root(streams.normal(operator.x_shape))
    from_data = variance.sqrt() * streams.normal(operator.y_shape)
    x, at = mean + from_prior, z + jvp(from_prior)
    products = (jvp, vjp)
    return _solved(problem, x, at - from_data, products, variance, covariance, iterations), z


def proximal(
    problem: Problem,
    centre: Tensor,
    covariance: Covariance,
    iterations: int,
    *,
    near: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimise |x - centre|^2_(C^-1) / 2 - log p(y | A(x)): the proximal step of the data.

    Parameters
    ----------
    problem : Problem
        With any differentiable operator.
    centre : Tensor, shape (n, *x_shape)
        The guess.
    covariance : Covariance
        C.
    iterations : int
        Conjugate-gradient iterations of a linear system, at most.
    near : Tensor or None, shape of ``centre``
        An image whose expectation tells the variance of counts, and where Gauss-Newton steps
        begin; None: the centre. Repeated with what it returned last, the step solves the
        likelihood of counts exactly: its slope is (y - z) / z.

    Returns
    -------
    x, z : Tensor
        The minimiser, and its expected measurement.
    """
    operator = problem.operator
    if not operator.is_affine:
        begin = centre if near is None else near
        return gauss_newton_solve(problem, centre, covariance, iterations, begin)
    at, *products = operator.linearize(centre)
    variance = problem.variance(at if near is None else operator(near))
    x = _solved(problem, centre, at, products, variance, covariance, iterations)
    return x, operator(x)


def _solved(
    problem: Problem,
    x: Tensor,
    z: Tensor,
    products: Sequence[Linear],
    variance: Tensor,
    covariance: Covariance,
    iterations: int,
) -> Tensor:
    """Return x + C A^T (A C A^T + V)^-1 (y - z) for an affine operator.

    ``products`` are those with its Jacobian A and with A^T, the same wherever they were taken.
    """
    mask = valid_only(problem)
    jvp, vjp = products
    constant = problem.likelihood.constant_variance
    if problem.valid is None and constant is not None:
        inverse = problem.operator.normal_inverse(covariance.transfer, constant)
        if inverse is not None:
            return x + covariance(vjp(inverse(problem.residual(z))))
    root, normal = variance.sqrt(), problem.operator.normal(covariance.transfer)
    system = TypicalSystem(covariance, jvp, vjp, root, mask, normal, problem.alike)
    u = system.solve(problem.residual(z) / root, iterations=iterations, tolerance=TOLERANCE)
    return x + system.image(u)
