"""Maps and numbers of probability: the share of the samples in which it is so."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError
from napari_dps.uncertainty.measure import _samples

if TYPE_CHECKING:
    from napari_dps.result import Result

__all__ = ["probability_above", "probability_apart"]


def probability_above(result: Result | NDArray[Any], threshold: float) -> NDArray[np.float32]:
    """Return, per pixel, the share of samples above a threshold.

    Parameters
    ----------
    result : Result, or array of shape (S, ...)
        Posterior samples.
    threshold : float
        In the image's units.

    Returns
    -------
    ndarray of float32, shape of the image
        0 to 1, in steps of 1/S: with 20 samples 0 means "less than about one in 20".
    """
    samples = _samples(result)
    given: Any = threshold
    if not isinstance(given, Real) or not math.isfinite(given):
        raise InputError(f"the threshold must be a finite number; got {given!r}")
    total = np.zeros(samples.shape[1:], dtype=np.int64)
    for sample in samples:
        total += sample > threshold
    return (total / len(samples)).astype(np.float32)


def probability_apart(
    result: Result | NDArray[Any],
    first: tuple[float, ...],
    second: tuple[float, ...],
    *,
    dip: float = 0.1,
) -> float:
    """Return the share of samples in which two objects are apart.

    They are apart where every way from the one to the other leads through a dip: below
    1 - ``dip`` of the lower one's height over the sample's median.

    Parameters
    ----------
    result : Result, or array of shape (S, ...)
        Posterior samples.
    first, second : tuple of float
        A pixel of each object, one number per axis of the image; the brightest of its neighbours
        is taken.
    dip : float
        Share of the height.

    Returns
    -------
    float
        0 to 1, in steps of 1/S.
    """
    samples = _samples(result)
    given: Any = dip
    if not (isinstance(given, Real) and 0 < float(given) < 1):
        raise InputError(f"dip = {given!r} is not allowed; give a share between 0 and 1")
    apart = [_apart(np.asarray(sample, np.float64), first, second, dip) for sample in samples]
    return float(np.mean(apart))


def _apart(
    sample: NDArray[np.float64], first: tuple[float, ...], second: tuple[float, ...], dip: float
) -> bool:
    import skimage.measure

    label: Any = skimage.measure.label
    ends = [_summit(sample, point) for point in (first, second)]
    if ends[0] == ends[1]:
        return False
    floor = float(np.median(sample))
    lower = min(sample[end] for end in ends)
    if lower <= floor:
        return False  # one of them is not there
    parts = label(sample > floor + (1 - dip) * (lower - floor) - 1e-12 * abs(lower))
    return bool(parts[ends[0]] != parts[ends[1]])


def _summit(sample: NDArray[np.float64], point: tuple[float, ...]) -> tuple[int, ...]:
    """Return the brightest pixel among a point's nearest pixel and its neighbours."""
    if len(point) != sample.ndim:
        raise InputError(
            f"a point has {len(point)} coordinates, but the image has {sample.ndim} axes"
        )
    if not np.isfinite(point).all():
        raise InputError(f"the point {point} is no place; give finite coordinates, in pixels")
    centre = [round(p) for p in point]
    if any(not 0 <= c < n for c, n in zip(centre, sample.shape, strict=True)):
        raise InputError(f"the point {point} lies outside the image of shape {sample.shape}")
    low = [max(c - 1, 0) for c in centre]
    box = sample[tuple(slice(b, c + 2) for b, c in zip(low, centre, strict=True))]
    at = np.unravel_index(int(box.argmax()), box.shape)
    return tuple(int(b + i) for b, i in zip(low, at, strict=True))
