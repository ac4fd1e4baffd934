"""The flat object: how bright it must be, and whether an operator shows one at all."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["flat_level", "shown_flat"]

UNSEEN = 1e-5
"""Share of an operator's response below which its image of a flat object is rounding alone."""


def shown_flat(flat: Tensor, weight: Tensor, response: float) -> tuple[Tensor, Tensor]:
    """Return what a datum shows of a flat object of one, on average, and whether that is anything.

    Operators that take differences show nothing of it, nor does k-space without its zero frequency.

    Parameters
    ----------
    flat : Tensor, shape (B, *y_shape)
        The operator's image of an object of ones.
    weight : Tensor, shape (B, *y_shape)
        One where a datum counts, else zero.
    response : float
        The operator's.

    Returns
    -------
    mean, shown : Tensor, shape (B,)
        The mean over data that count, one where nothing is shown; and a bool.
    """
    count = weight.flatten(1).sum(1).clamp_min(1.0)
    mean = (weight * flat).flatten(1).sum(1) / count
    shown = mean.abs() > UNSEEN * response
    return torch.where(shown, mean, torch.ones_like(mean)), shown


def flat_level(flat: Tensor, weight: Tensor, y: Tensor, response: float) -> Tensor:
    """Return the level of the flat object that explains the total of y, shape (B,).

    Zero where the operator does not show it: the data then say nothing of the level.

    Parameters
    ----------
    flat, weight, response
        As in :func:`shown_flat`.
    y : Tensor, shape (B, *y_shape)
        Measurement, less what there is without an object.
    """
    _, shown = shown_flat(flat, weight, response)
    seen, total = ((weight * v).flatten(1).sum(1) for v in (flat, y))
    level = total / torch.where(shown, seen, torch.ones_like(seen))
    return torch.where(shown, level, torch.zeros_like(level))
