"""Pixels at which a detector was full: they say only that there was at least so much light."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["full_scale", "saturated_pixels"]

BITS = range(8, 17)
"""Depths of cameras' converters; the full scale is 2^bits - 1."""
FEWEST, STEEPEST = 4, 5.0
"""A plateau holds at least so many pixels, and so many times as many as values just below it."""


def full_scale(frames: NDArray[Any]) -> float | None:
    """Return the value at which the detector was full, None where no pixel shows that it was.

    The largest value of an integer type counts where any pixel has it. A camera of 10 to 14 bits
    in a 16-bit file shows by a plateau: its largest value is 2^k - 1 and occurs far more often
    than the values just below.

    Parameters
    ----------
    frames : ndarray
        The measurement in its own units; NaN where missing.
    """
    values = np.asarray(frames)
    if values.dtype.kind not in "uif" or values.size == 0:
        return None
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
        if values.size == 0:
            return None
    top = float(values.max())
    if values.dtype.kind in "ui" and top == np.iinfo(values.dtype).max:
        return top
    if top not in {float(2**k - 1) for k in BITS}:
        return None
    count = int((values == top).sum())
    # As wide a neighbourhood as noise would scatter the brightest pixels over.
    width = max(8, round(2 * top**0.5))
    below = values[(values < top) & (values >= top - width)]
    typical = below.size / width
    return top if count >= max(FEWEST, STEEPEST * typical) else None


def saturated_pixels(
    frames: NDArray[Any], level: float | None = None
) -> tuple[float | None, NDArray[np.bool_]]:
    """Return the full scale, and True where a pixel is at or above it.

    Parameters
    ----------
    frames : ndarray
        The measurement in its own units.
    level : float, optional
        The camera's full scale; found by :func:`full_scale` where left out.
    """
    found = full_scale(frames) if level is None else level
    if found is None:
        return None, np.zeros(frames.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        return found, np.asarray(frames >= found)
