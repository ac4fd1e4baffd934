"""Alternating projections for phase retrieval: many restarts at once, the best by misfit.

RAAR: Luke, "Relaxed averaged alternating reflections for diffraction imaging", Inverse Problems
2005. Support and positivity as object constraint; unmeasured magnitudes stay free.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_dps.core.estimate import Estimate
from napari_dps.core.streams import Streams

BETA = 0.9


def phase_by_projections(
    far_field: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
    magnitude: Tensor,
    valid: Tensor | None,
    streams: Streams,
    x_shape: tuple[int, ...],
    *,
    restarts: int = 16,
    iterations: int = 400,
    polish: int = 60,
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
    """
    frames = magnitude.shape[0]
    starts = streams.uniform((restarts, *x_shape)).to(magnitude)
    images, misfits = [], []
    for f in range(frames):
        y = magnitude[f : f + 1]
        known = None if valid is None else valid[min(f, valid.shape[0] - 1)].unsqueeze(0)
        x, misfit = _raar(far_field, back, y, known, starts[f], iterations, polish)
        order = misfit.argsort()
        images.append(x[order])
        misfits.append(misfit[order])
    image = torch.stack([x[0] for x in images])
    spread = torch.stack([(x[:4] - x[:1]).pow(2).mean().sqrt() for x in images])
    return Estimate(
        image,
        0.15 * image.flatten(1).amax(1),
        0.0 * spread,
        {
            "restarts": restarts,
            "restart_misfits": [m.tolist() for m in misfits],
            "candidates": torch.stack([x[:4] for x in images]),
        },
    )


def _raar(
    far_field: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
    y: Tensor,
    known: Tensor | None,
    start: Tensor,
    iterations: int,
    polish: int,
) -> tuple[Tensor, Tensor]:
    """Run RAAR and then error reduction from a batch of starts, shape (R, *x_shape).

    The iterate lives on the padded plane, as a far field: the shadow outside the support is what
    makes reflections work. It is kept as (inside, far field of all).
    """
    tiny = torch.finfo(y.dtype).tiny

    def to_data(field: Tensor) -> Tensor:
        fixed = field * (y / field.abs().clamp_min(tiny))
        return fixed if known is None else torch.where(known, fixed, field)

    def to_object(field: Tensor) -> Tensor:
        return far_field(back(field).clamp_min(0))

    scale = y.pow(2).sum().sqrt() / start.flatten(1).pow(2).sum(1).mean().sqrt()
    field = far_field(start * scale)
    for _ in range(iterations):
        data = to_data(field)
        reflected = 2 * data - field
        field = 0.5 * BETA * (2 * to_object(reflected) - reflected + field) + (1 - BETA) * data
    for _ in range(polish):
        field = to_object(to_data(field))
    x = back(field).clamp_min(0)
    difference = far_field(x).abs() - y
    if known is not None:
        difference = torch.where(known, difference, torch.zeros_like(difference))
    return x, difference.pow(2).flatten(1).mean(1)
