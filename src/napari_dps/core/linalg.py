"""Conjugate gradients, each sample of a batch on its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_dps.core.interrupt import ask


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product per sample, shaped (B, 1, ...) to broadcast."""
    return (a * b).flatten(1).sum(1).reshape(-1, *([1] * (a.ndim - 1)))


def cheap_to_read(x: Tensor) -> bool:
    """Return whether a value of ``x`` can be looked at for nothing: only on a CPU.

    Elsewhere the program would wait until the device has done all that it was asked for, and the
    device would then wait for the program.
    """
    return x.device.type == "cpu"


def column(v: Tensor, like: Tensor) -> Tensor:
    """Return one value per frame (B,), shaped (B, 1, ...) to broadcast with ``like``."""
    return v.reshape(-1, *([1] * (like.ndim - 1)))


def smooth(image: Tensor, size: int) -> Tensor:
    """Return the mean over boxes of ``size`` pixels in the plane, borders replicated."""
    if image.ndim != 4:  # the planes of a volume are smoothed one by one
        planes = image.reshape(len(image), -1, *image.shape[-2:])
        return smooth(planes, size).reshape(image.shape)
    r = size // 2
    return functional.avg_pool2d(functional.pad(image, (r, r, r, r), mode="replicate"), size, 1)


def filtered(v: Tensor, transfer: Tensor, axes: tuple[int, ...], norm: str = "backward") -> Tensor:
    """Return F^-1 T F v for a real FFT over ``axes``; ``norm`` is that of F^-1.

    With "forward" T has been divided by the number of modes already, which spares a pass.
    """
    spectrum = torch.fft.rfftn(v, dim=axes)
    spectrum *= transfer  # in place: nothing else holds it, and large images feel the copy
    shape = [v.shape[axis] for axis in axes]
    back: Tensor = torch.fft.irfftn(spectrum, s=shape, dim=axes, norm=norm)
    return back


SELDOM = 32
"""Iterations between two looks at whether a solution is good enough, where a look costs time.

No solve of a sampler's step is longer, so that no step waits; iterations that a look would have
saved change nothing, since a sample that has converged stays as it is."""


@dataclass
class Solution:
    """What conjugate gradients found: the solution, and its image under an extra map."""

    u: Tensor
    image: Tensor | None
    iterations: int


def conjugate_gradients(
    matvec: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]],
    rhs: Tensor,
    *,
    iterations: int,
    tolerance: float = 1e-5,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> Solution:
    """Solve M u = rhs for a symmetric positive definite M, per sample.

    Parameters
    ----------
    matvec : callable
        Returns M p, or (M p, image of p) where ``image`` is a linear map whose value at the
        solution is wanted too: it is accumulated for free.
    rhs : Tensor, shape (B, ...)
        Right-hand sides.
    iterations : int
        At most this many products.
    tolerance : float
        Stop when every residual norm is below this share of its right-hand side.
    precondition : callable, optional
        Approximate inverse of M, symmetric positive definite.

    Notes
    -----
    A sample that has converged, or meets a direction of negative curvature, stops there and keeps
    what it has.
    """
    found = Solution(torch.zeros_like(rhs), None, 0)
    for step in conjugate_gradient_steps(
        matvec, rhs, iterations=iterations, tolerance=tolerance, precondition=precondition
    ):
        found = step
    return found


def iterations_for(condition: float, share: float, most: int) -> int:
    """Return the iterations that leave ``share`` of a residual to conjugate gradients at worst.

    Chebyshev's bound on the error, 2 ((sqrt(k) - 1) / (sqrt(k) + 1))^n for condition k, which the
    residuals of these systems follow.

    Parameters
    ----------
    condition : float
        Largest eigenvalue over the smallest, 1 or more.
    share : float
        Wanted residual over the right-hand side, below 1.
    most : int
        No more than these are returned, and no less than one.
    """
    root = math.sqrt(condition)
    if root <= 1:
        return 1
    shrinks = math.log1p(2 / (root - 1))  # by so much in one iteration, as a logarithm
    if most * shrinks <= math.log(2 / share):
        return most
    return max(1, math.ceil(math.log(2 / share) / shrinks))


def conjugate_gradient_steps(
    matvec: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]],
    rhs: Tensor,
    *,
    iterations: int,
    tolerance: float = 1e-5,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Solution]:
    """Yield the state of :func:`conjugate_gradients` after every product.

    ``u`` is one tensor all along, which the next product changes.
    """
    u = torch.zeros_like(rhs)
    image: Tensor | None = None
    residual = rhs.clone()
    z = precondition(residual) if precondition else residual
    direction = z.clone()
    rho = dot(residual, z)
    goal = tolerance**2 * dot(rhs, rhs)
    active = dot(residual, residual) > goal
    done, pause = 0, 1 if cheap_to_read(rhs) else SELDOM
    for _ in range(iterations):
        if done and done % pause == 0 and not bool(active.any()):
            break
        ask()
        out = matvec(direction)
        product, extra = out if isinstance(out, tuple) else (out, None)
        curvature = dot(direction, product)
        active = active & (curvature > 0)
        alpha = torch.where(active, rho / torch.where(active, curvature, 1), 0)
        u.addcmul_(alpha, direction)  # in place, as below: an image is large beside a transform
        if extra is not None:
            step = column(alpha.flatten(), extra) * extra
            image = step if image is None else image + step
        residual.addcmul_(alpha, product, value=-1)
        z = precondition(residual) if precondition else residual
        fresh = dot(residual, z)
        size = dot(residual, residual) if precondition else fresh
        active = active & (size > goal)
        beta = torch.where(active, fresh / torch.where(rho > 0, rho, 1), 0)
        direction.mul_(beta).add_(z)
        rho = fresh
        done += 1
        yield Solution(u, image, done)
