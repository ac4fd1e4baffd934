"""Pixels at which a detector was full: they say only that there was at least so much light."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["full_scale", "grey_step", "saturated", "saturated_pixels"]

BITS = range(8, 17)
"""Depths of cameras' converters; the full scale is 2^bits - 1."""
MULTIPLES = sorted({*range(1, 17), *(2**j for j in range(9)), *(n * n for n in range(1, 9))})
"""What full scales come times: bits that were shifted up, pixels that were summed."""
FEWEST, STEEPEST = 4, 5.0
"""A plateau holds at least so many pixels, and so many times as many as values just below it."""
SURELY = 10
"""Both for a plateau at a value that is no camera's full scale."""
LEVELS = 16
"""An image of fewer values is a mask, a phantom or a count of very few photons."""
SMOOTH, NOISY = 0.5, -0.3
"""Correlation of the signs of neighbouring mixed fourth differences: above 0.6 of a smooth image
without noise, -0.5 of white noise; up to the first a full scale is believed, any plateau up to the
other."""


def grey_step(image: NDArray[np.generic]) -> float:
    """Return the spacing of the grey values (a common divisor), 0 if they are continuous."""
    values = np.asarray(image).ravel()[:: max(1, image.size // 2**20)].astype(np.float64)
    values = np.unique(values[np.isfinite(values)])
    gaps = np.diff(values)
    if len(gaps) == 0:
        return 0.0
    if (values == np.round(values)).all() and np.abs(values).max() < 2**53:
        return float(np.gcd.reduce(gaps.astype(np.int64)))
    step = float(gaps.min())
    # Rounded floats: all gaps are multiples of the smallest one, to what float32 can hold.
    tolerance = 1e-3 + float(np.abs(values).max()) * 1e-6 / step
    odd = np.abs(gaps / step - np.round(gaps / step))
    return step if tolerance < 0.1 and odd.max() < tolerance else 0.0


def full_scale(frames: NDArray[Any]) -> float | None:
    """Return the value at which the detector was full, None where no pixel surely shows it.

    The largest value of an integer type counts where any pixel has it. Other cameras show by a
    plateau: the image's largest value occurs far more often than those just below. It is believed
    at 2^k - 1, times what shifted bits or summed pixels make of it, or 1 of an image of fractions;
    anywhere else it must stand out more, and the image be noisy, for noise leaves no flat maximum
    of the object itself. Masks, phantoms and simulations without noise are not full.

    Parameters
    ----------
    frames : ndarray
        The measurement in its own units, the last two axes one picture; NaN where missing.
    """
    image = np.asarray(frames)
    if image.dtype.kind not in "uif" or image.size == 0:
        return None
    values = image[np.isfinite(image)] if image.dtype.kind == "f" else image.ravel()
    if values.size == 0:
        return None
    top = float(values.max())
    if values.dtype.kind in "ui" and top == np.iinfo(values.dtype).max:
        return top
    count = int((values == top).sum())
    if count < FEWEST or top <= 0 or len(np.unique(values)) < LEVELS:
        return None
    step = grey_step(values)
    typical = _usual(values, top, step)
    signs = _signs(image, top, step)
    if _is_full_scale(top, step) and count >= STEEPEST * typical and signs < SMOOTH:
        return top
    sure = count >= SURELY * max(typical, 1.0) and signs < NOISY
    return top if sure else None


def _is_full_scale(top: float, step: float) -> bool:
    """Whether a converter ends at a value, in ADU or in fractions of it."""
    levels = [top] if step <= 0 else [top, round(top / step)]
    known = {float((2**k - 1) * m) for k in BITS for m in MULTIPLES}
    return top == 1.0 or any(level in known for level in levels)


def _usual(values: NDArray[Any], top: float, step: float) -> float:
    """Return how often each value just below the largest occurs."""
    if step <= 0:
        return 1.0  # values without spacing do not recur by chance
    # As wide a neighbourhood as noise would scatter the brightest pixels over.
    width = step * max(8, round(2 * (top / step) ** 0.5))
    below = (values < top) & (values >= top - width)
    return float(float(below.sum()) * step / width)


def _signs(image: NDArray[Any], top: float, step: float) -> float:
    """Return the correlation of signs of neighbouring mixed differences below the maximum.

    Those that rounding can make do not count; where too few are left there is no noise: 1.
    """
    if image.ndim < 2 or min(image.shape[-2:]) < 4:
        return 1.0
    frames = image.reshape(-1, *image.shape[-2:])
    total = number = pairs = 0
    for frame in frames[:: max(1, image.size // 2**23)]:
        part = np.where(frame < top, frame, np.nan).astype(np.float64)
        bent = np.diff(np.diff(part, 2, axis=0), 2, axis=1)
        bent[np.abs(bent) <= max(4.01 * step, 2e-6 * top)] = 0.0
        sign = np.sign(bent)
        for product in (sign[1:] * sign[:-1], sign[:, 1:] * sign[:, :-1]):
            known = product[np.isfinite(product)]
            total += int(known.sum())
            number += int(np.count_nonzero(known))
            pairs += known.size
    return total / number if number >= max(20, 0.02 * pairs) else 1.0


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


def saturated(values: NDArray[np.generic]) -> float:
    """Return the share of values at the maximum if they pile up there, else 0."""
    values = np.asarray(values)
    top = values.max()
    count = int((values == top).sum())
    share = count / values.size
    below = values[values < top]
    # In a small image two or three pixels are equal by chance.
    if count < 4 or share < 1e-4 or below.size == 0:
        return 0.0
    # The tail of a distribution thins out; clipping collects it in one value.
    return share if share > float((values == below.max()).mean()) else 0.0
