"""A first solution of phase retrieval: many restarts at once, the best by misfit.

RAAR: Luke, "Relaxed averaged alternating reflections for diffraction imaging", Inverse Problems
2005. Support, and positivity of real objects, as object constraint; unmeasured magnitudes stay
free.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_dps.core.estimate import Estimate
from napari_dps.core.projections import Projections, polished, raar, with_real_sum
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
    far_field, back, positive, pixels
        See :class:`Projections`; complex objects come with the global phase at which their sum is
        real.
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
    """
    frames = magnitude.shape[0]
    starts = first_objects(streams, rounds[0][0], x_shape).to(magnitude)
    images, misfits = [], []
    for f in range(frames):
        known = None if valid is None else valid[min(f, valid.shape[0] - 1)].unsqueeze(0)
        p = Projections(far_field, back, magnitude[f : f + 1], known, positive, pixels)
        field = p.begin(starts[f])
        x, misfit = starts[f], torch.zeros(len(field))
        for count, iterations in rounds:
            field = field[misfit.argsort()[:count]] if len(misfit) > count else field
            field = raar(p, field, iterations, BETA)
            x, misfit = polished(p, field, polish)
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


def first_objects(streams: Streams, count: int, x_shape: tuple[int, ...]) -> Tensor:
    """Return random objects (B, count, *x_shape): uniform, about zero where they are complex."""
    starts = streams.uniform((count, *x_shape))
    return starts if x_shape[0] == 1 else 2 * starts - 1
