"""Operators that are not affine: exact products by autodiff, and a first estimate by linearising.

Around an object the operator is nearly its tangent, whose estimate is found like that of an
affine one; the next tangent is laid there. Gauss-Newton, a step only where it explains y better.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_dps.core.estimate import Estimate, gaussian_field_estimate
from napari_dps.core.likelihood import Likelihood
from napari_dps.core.linalg import column, smooth
from napari_dps.core.operator import Linear, LinearOperator, Operator
from napari_dps.core.streams import Streams

ROUNDS, HALVINGS, BOX = 4, 5, 5
ENOUGH = 0.99
"""Stop when a step leaves more than this share of the misfit."""


def products(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Linear, Linear]:
    """Return f(x) and the products with its Jacobian, all by reverse differentiation.

    J v is the derivative of w -> J^T w along v: unlike forward differentiation this works for
    scripted modules too.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        z = function(leaf)
        w = torch.zeros_like(z).requires_grad_(True)
        (pulled,) = torch.autograd.grad(z, leaf, w, create_graph=True)

    def vjp(v: Tensor) -> Tensor:
        return torch.autograd.grad(z, leaf, v, retain_graph=True)[0]

    def jvp(v: Tensor) -> Tensor:
        return torch.autograd.grad(pulled, w, v, retain_graph=True)[0]

    return z.detach(), jvp, vjp


class _Tangent(LinearOperator):
    """J, seen from the same grids as its operator."""

    def __init__(self, operator: Operator, jvp: Linear, vjp: Linear) -> None:
        super().__init__(operator.x_shape, operator.y_shape, operator.field)
        self._jvp, self._vjp = jvp, vjp

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        return self._jvp(x)

    def transpose(self, v: Tensor) -> Tensor:
        return self._vjp(v)


class KnownVariance(Likelihood):
    """Stands for a likelihood whose variance is known datum by datum.

    Parameters
    ----------
    variance : Tensor
        Of every datum, whatever is expected.
    redundancy : float
        As in the likelihood that it stands for.
    """

    def __init__(self, variance: Tensor, redundancy: float) -> None:
        self._variance, self.redundancy = variance, redundancy

    def variance(self, z: Tensor) -> Tensor:
        """Return the variance, whatever ``z``."""
        return self._variance.expand_as(z)


def local_variance(y: Tensor, likelihood: Likelihood, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a measurement's local mean and the variance there, both of the shape of ``y``.

    The expectation of a trial object would not do: where that is far too dark its counts look
    certain, and no step away from it explains more.
    """
    share = smooth(weight, BOX)
    local = smooth(weight * y, BOX) / share.clamp_min(1e-6)
    total = (weight * y).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1.0)
    local = torch.where(share > 1e-6, local, column(total, y).expand_as(y))
    return local, likelihood.variance(local)


def linearised_estimate(
    operator: Operator,
    y: Tensor,
    likelihood: Likelihood,
    valid: Tensor | None,
    streams: Streams,
    first: Tensor | None = None,
) -> Estimate:
    """Return an estimate of the object of an operator that is not affine.

    Parameters
    ----------
    operator : Operator
        Smooth, with one solution about a flat object; acting on photoelectrons.
    y : Tensor, shape (B, *y_shape)
        Measurement.
    likelihood : Likelihood
        Gives the variance.
    valid : Tensor of bool or None
        Data that count.
    streams : Streams
        One per frame.
    first : Tensor or None, shape (B, *x_shape)
        Where to begin; None: at the flat object that explains y best.
    """
    weight = torch.ones_like(y) if valid is None else valid.expand_as(y).to(y)
    y = torch.where(weight > 0, y, torch.zeros_like(y))
    _, variance = local_variance(y, likelihood, weight)

    def misfit(x: Tensor) -> Tensor:
        chi2 = (weight * (y - operator(x)) ** 2 / variance).flatten(1).sum(1)
        return torch.where(torch.isfinite(chi2), chi2, torch.full_like(chi2, torch.inf))

    x = _flat_level(operator, y, misfit) if first is None else first
    best = misfit(x)
    found: Estimate | None = None
    for _ in range(ROUNDS):
        z, jvp, vjp = operator.linearize(x)
        found = gaussian_field_estimate(
            _Tangent(operator, jvp, vjp),
            y - z + jvp(x),
            KnownVariance(variance, likelihood.redundancy),
            valid,
            streams,
            positive=False,
        )
        before, length = best, torch.ones_like(best)
        step, better = found.image - x, torch.zeros_like(best, dtype=torch.bool)
        for _ in range(HALVINGS):
            trial = x + column(length, x) * step
            value = misfit(trial)
            take = (value < best) & ~better
            x = torch.where(column(take, x), trial, x)
            best, better = torch.where(take, value, best), better | take
            if bool(better.all()):
                break
            length = length / 2
        if not bool((best < ENOUGH * before).any()):
            break
    assert found is not None
    found.image = x
    return found


def _flat_level(operator: Operator, y: Tensor, misfit: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the flat object that explains y best: by trial on a wide grid, then a finer one."""
    ones = torch.ones((y.shape[0], *operator.x_shape), dtype=y.dtype, device=y.device)
    top = y.abs().flatten(1).amax(1).clamp_min(1e-6)
    coarse = [0.0] + [sign * 2.0**k for k in range(-10, 11) for sign in (1, -1)]
    level, least = torch.zeros_like(top), torch.full_like(top, torch.inf)

    def look(levels: list[Tensor]) -> None:
        nonlocal level, least
        for trial in levels:
            value = misfit(column(trial, y) * ones)
            better = value < least
            level, least = torch.where(better, trial, level), torch.where(better, value, least)

    look([c * top for c in coarse])
    look([level * 2.0 ** (k / 8) for k in range(-7, 8) if k])
    return column(level, y) * ones


class NonlinearOperator(Operator):
    """Base of operators that are not affine, with one solution about a flat object."""

    is_affine = False

    def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
        """Return (A(x), jvp, vjp), exact at ``x``; see :func:`products`."""
        return products(self, x)

    def classical_estimate(
        self, y: Tensor, likelihood: Likelihood, valid: Tensor | None, streams: Streams
    ) -> Estimate:
        """Return a first estimate; see :func:`linearised_estimate`."""
        return linearised_estimate(self, y, likelihood, valid, streams)
