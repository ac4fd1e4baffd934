"""Alternating projections for phase retrieval: many restarts at once, the best by misfit.

RAAR: Luke, "Relaxed averaged alternating reflections for diffraction imaging", Inverse Problems
2005. Support, and positivity of real objects, as object constraint; unmeasured magnitudes stay
free.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_dps.core.estimate import Estimate
from napari_dps.core.linalg import column
from napari_dps.core.streams import Streams

BETA = 0.9
ROUNDS = ((16, 300), (4, 500))
"""How many restarts go on, and for how many iterations: the worse half is given up each time."""


def phase_by_projections(
    far_field: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
    magnitude: Tensor,
    valid: Tensor | None,
    streams: Streams,
    x_shape: tuple[int, ...],
    *,
    rounds: tuple[tuple[int, int], ...] = ROUNDS,
    polish: int = 60,
    positive: bool = True,
    pixels: int | None = None,
) -> Estimate:
    """Return the restart with the smallest misfit of each frame.

    Parameters
    ----------
    far_field, back : callable
        The padded orthonormal FFT of the object's grid, and the real part of its adjoint (which
        is the projection onto the support).
    magnitude : Tensor, shape (B, 1, *y spatial)
        Measured magnitudes.
    valid : Tensor of bool or None
        Which of them count.
    streams : Streams
        One per frame.
    rounds : tuple of (restarts, iterations)
        See ``ROUNDS``.
    polish : int
        Iterations of error reduction before a misfit is taken.
    positive : bool
        Whether the object is real and non-negative; complex ones (two channels) have their support
        alone, and come with the global phase at which their sum is real.
    pixels : int or None
        Bright pixels of a real object, at most: all others are zero.
    """

    def project(x: Tensor) -> Tensor:
        if not positive:
            return x
        x = x.clamp_min(0)
        if pixels is None or pixels >= x[0].numel():
            return x
        faintest = x.flatten(1).topk(pixels, 1).values[:, -1]
        return torch.where(x >= column(faintest, x), x, torch.zeros_like(x))

    frames = magnitude.shape[0]
    starts = streams.uniform((rounds[0][0], *x_shape)).to(magnitude)
    starts = starts if positive else 2 * starts - 1
    images, misfits = [], []
    for f in range(frames):
        y = magnitude[f : f + 1]
        known = None if valid is None else valid[min(f, valid.shape[0] - 1)].unsqueeze(0)
        field = far_field(starts[f])
        field = field * (y.pow(2).sum() / field.abs().pow(2).flatten(1).sum(1).mean()).sqrt()
        x, misfit = starts[f], torch.zeros(len(field))
        for count, iterations in rounds:
            field = field[misfit.argsort()[:count]] if len(misfit) > count else field
            field = _raar(far_field, back, project, y, known, field, iterations)
            x, misfit = _polished(far_field, back, project, y, known, field, polish)
        order = misfit.argsort()
        images.append(x[order] if positive else with_real_sum(x[order]))
        misfits.append(misfit[order])
    image = torch.stack([x[0] for x in images])
    return Estimate(
        image,
        0.15 * image.flatten(1).amax(1),
        torch.zeros(frames),
        {
            "restarts": rounds[0][0],
            "restart_misfits": [m.tolist() for m in misfits],
        },
        torch.stack(images),
    )


def with_real_sum(x: Tensor) -> Tensor:
    """Return complex objects (R, 2, *spatial) with the global phase that makes their sum real."""
    total = x.flatten(2).sum(2)
    size = total.pow(2).sum(1).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
    shape = [-1, *[1] * (x.ndim - 2)]
    cos, sin = (total[:, k] / size for k in range(2))
    cos, sin = cos.reshape(shape), sin.reshape(shape)
    return torch.stack((cos * x[:, 0] + sin * x[:, 1], cos * x[:, 1] - sin * x[:, 0]), 1)


def _to_data(field: Tensor, y: Tensor, known: Tensor | None) -> Tensor:
    """Give a far field the measured magnitudes; unmeasured ones stay free."""
    fixed = field * (y / field.abs().clamp_min(torch.finfo(y.dtype).tiny))
    return fixed if known is None else torch.where(known, fixed, field)


def _raar(
    far_field: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
    project: Callable[[Tensor], Tensor],
    y: Tensor,
    known: Tensor | None,
    field: Tensor,
    iterations: int,
) -> Tensor:
    """Run RAAR on a batch of far fields, shape (R, *y_shape).

    The iterate lives on the padded plane: the shadow outside the support is what makes the
    reflections work.
    """
    for _ in range(iterations):
        data = _to_data(field, y, known)
        reflected = 2 * data - field
        inside = far_field(project(back(reflected)))
        field = 0.5 * BETA * (2 * inside - reflected + field) + (1 - BETA) * data
    return field


def _polished(
    far_field: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
    project: Callable[[Tensor], Tensor],
    y: Tensor,
    known: Tensor | None,
    field: Tensor,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """Return objects after error reduction, and the mean squared misfit of their magnitudes."""
    x = project(back(_to_data(field, y, known)))
    for _ in range(iterations):
        x = project(back(_to_data(far_field(x), y, known)))
    difference = far_field(x).abs() - y
    if known is not None:
        difference = torch.where(known, difference, torch.zeros_like(difference))
    return x, difference.pow(2).flatten(1).mean(1)
