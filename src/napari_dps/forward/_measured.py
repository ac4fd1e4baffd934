"""From a recorded point spread function to a kernel: background, centre, pitch, size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Array = NDArray[np.float64]

SIGNIFICANT = 5.0
"""What is brighter than this many standard deviations of the noise is light."""
DARK_SHARE = 0.1
"""Share of a volume's planes whose borders are taken for dark."""


def clipped_mean(values: Array) -> tuple[float, float]:
    """Return mean and standard deviation of values but for what is far from most of them.

    Unlike the median it tells grey levels apart that lie between those of an 8-bit camera.
    """
    kept = values[values <= np.quantile(values, 0.9)]
    for _ in range(50):
        mean, std = float(kept.mean()), float(kept.std())
        inside = values[np.abs(values - mean) <= 3.5 * std]
        if inside.size == kept.size or not inside.size:
            break
        kept = inside
    return float(kept.mean()), float(kept.std())


def border_level(values: NDArray[np.generic]) -> tuple[float, float, float]:
    """Return background and noise of a PSF, from the border of its planes.

    Out of focus, the light of a volume fills its planes to the border; only the darkest planes
    tell the background there.

    Parameters
    ----------
    values : ndarray, shape (Z, Y, X)
        The PSF; a 2D one has one plane.

    Returns
    -------
    level, noise, error : float
        Background, standard deviation of a value about it, and of the background itself; zeros
        where its planes are too small to have a border.
    """
    if min(values.shape[1:]) < 5:
        return 0.0, 0.0, 0.0
    rings = np.concatenate(
        [values[:, 0], values[:, -1], values[:, 1:-1, 0], values[:, 1:-1, -1]], axis=1
    ).astype(np.float64)
    levels = np.array([clipped_mean(ring)[0] for ring in rings])
    dark = np.argsort(levels, kind="stable")[: max(1, int(DARK_SHARE * len(levels)))]
    # The lowest of many noisy levels is too low: all that noise may have told apart belong to it.
    for _ in range(3):
        level, noise = clipped_mean(rings[dark].ravel())
        dark = np.flatnonzero(levels <= level + 4 * noise / np.sqrt(rings.shape[1]))
    return level, noise, noise / float(np.sqrt(rings[dark].size))


def light_only(values: Array, noise: float, error: float = 0.0) -> Array:
    """Return the non-negative light in background-free values, free of the noise around it.

    Clipping alone would leave half of the noise, which over a large volume adds up to more than
    the light. What stands out from the noise pixel by pixel is kept as it is; what is left is
    averaged over wider and wider surroundings, and kept where it stands out then.

    Parameters
    ----------
    values : ndarray
        Background subtracted.
    noise : float
        Standard deviation of one value where there is no light.
    error : float
        Standard deviation of the background that was subtracted.
    """
    if noise <= 0:
        return np.clip(values, 0, None)
    # A value alone among its neighbours is noise, however bright: it has no say in what they tell.
    near, level = _smooth(values, 1.0)
    own = _own_weight(values.shape, 1.0)
    around = (near - own * values) / (1 - own)
    spread = np.sqrt(np.maximum(level**2 - own**2, 0)) / (1 - own)
    high = values > SIGNIFICANT * noise
    bright = high & (around > SIGNIFICANT * np.hypot(noise * spread, error))
    if bright.any():  # else all light is in one pixel
        values = np.where(high & ~bright, around, values)
    else:
        bright = high
    out = np.where(bright, values, 0.0)
    rest = np.where(bright, 0.0, values)
    for width in (1.0, 2.0, 4.0):
        smooth, level = _smooth(rest, width)
        found = np.where(smooth > SIGNIFICANT * np.hypot(noise * level, error), smooth, 0.0)
        out += found
        rest = rest - found
    return out


def _own_weight(shape: Sequence[int], width: float) -> Array:
    """Return the weight that every value has in its own smoothed one."""
    total: Array = np.ones(shape)
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        # Beyond the reach of the filter from both ends all weigh the same.
        few = min(n, 4 * int(np.ceil(4 * width)) + 1)
        line = np.diag(
            ndi.gaussian_filter1d(np.eye(few), min(width, n / 8), axis=0, mode="nearest")
        )
        half = few // 2
        line = np.concatenate([line[:half], np.full(n - 2 * half, line[half]), line[few - half :]])
        total = total * line.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return total


def _smooth(values: Array, width: float) -> tuple[Array, float]:
    """Return the smoothed values and the factor by which white noise shrank."""
    widths = [min(width, n / 8) if n > 1 else 0.0 for n in values.shape]
    level = np.prod([1.0 if w == 0 else min(1.0, (2 * np.sqrt(np.pi) * w) ** -0.5) for w in widths])
    return np.asarray(ndi.gaussian_filter(values, widths, mode="nearest")), float(level)


def brightest(values: NDArray[np.generic]) -> tuple[int, ...]:
    """Return where a volume's light peaks, not taken in by one hot pixel; plane by plane."""
    best, place = -np.inf, (0,) * values.ndim
    for number, plane in enumerate(values):
        smooth = ndi.gaussian_filter(plane.astype(np.float32), 1.0, mode="nearest")
        at = np.unravel_index(int(smooth.argmax()), smooth.shape)
        if smooth[at] > best:
            best, place = float(smooth[at]), (number, *(int(i) for i in at))
    return place


def sharpest_plane(values: NDArray[np.generic]) -> int:
    """Return the plane in which the light is most concentrated: the one in focus."""
    scores = []
    for plane in values:
        smooth = ndi.gaussian_filter(plane.astype(np.float32), 1.0, mode="nearest")
        scores.append(float(((smooth - np.median(smooth)).clip(0) ** 2).sum()))
    return int(np.argmax(scores))


def centre_of_light(values: Array) -> tuple[float, ...]:
    """Return the centre of mass of what rises above half the maximum, about the peak.

    Weighted by the height above the half, so that it moves smoothly with the light.
    """
    smooth = ndi.gaussian_filter(values, [1.0 if n > 4 else 0.0 for n in values.shape])
    peak = np.unravel_index(int(smooth.argmax()), smooth.shape)
    labels, _ = ndi.label(smooth > smooth[peak] / 2, np.ones((3,) * values.ndim))
    core = labels == labels[peak]
    weight = np.where(core, np.clip(values - values[core].max() / 2, 0, None), 0.0)
    axes = np.indices(values.shape)
    return tuple(float((axis * weight).sum() / weight.sum()) for axis in axes)


def resample(values: Array, centre: Sequence[float], ratio: Sequence[float]) -> Array:
    """Return the PSF in pixels ``ratio`` times as large, its ``centre`` in the middle one.

    Each new pixel holds the light that falls on it: what is finer than a pixel is averaged, not
    skipped, and the sum stays. The light inside an old pixel is spread by a monotone cubic through
    the running sum, which neither rings nor turns negative. An axis whose ratio is one and whose
    centre is a whole pixel only moves.
    """
    out = values
    for axis, (middle, scale) in enumerate(zip(centre, ratio, strict=True)):
        out = _resample_axis(out, axis, middle, scale)
    return out


def _resample_axis(values: Array, axis: int, middle: float, scale: float) -> Array:
    n = values.shape[axis]
    if scale == 1.0 and middle == round(middle):
        reach = int(max(middle, n - 1 - middle))
        pad = [(0, 0)] * values.ndim
        pad[axis] = (reach - int(middle), reach - (n - 1 - int(middle)))
        return np.pad(values, pad)
    # Rounding must not add a pixel that holds none of the light.
    reach = max(0, int(np.ceil(max(middle + 0.5, n - 0.5 - middle) / scale - 0.5 - 1e-9)))
    edges = middle + scale * (np.arange(-reach, reach + 2) - 0.5)
    running = np.concatenate(
        [np.zeros_like(values.take([0], axis)), np.cumsum(values, axis)], axis=axis
    )
    # One dark pixel at each end, so that the light runs out to nothing and not into the end.
    first, last = running.take([0], axis), running.take([-1], axis)
    running = np.concatenate([first, running, last], axis=axis)
    known = np.arange(n + 3) - 1.5
    curve = PchipInterpolator(known, running, axis=axis)
    light = np.diff(curve(np.clip(edges, known[0], known[-1])), axis=axis)
    return np.asarray(np.clip(light, 0, None))


def crop_to(values: Array, keep: float, limit: Sequence[int] | None) -> Array:
    """Return the middle of a PSF with odd sides that keeps a share of the light, of sum one.

    Each axis gives up an equal part of what may be lost, so a long PSF stays long and a narrow one
    narrow. ``limit`` is the largest reach that matters, per axis.
    """
    total = values.sum()
    index = []
    for axis, n in enumerate(values.shape):
        middle = n // 2
        line = values.sum(tuple(a for a in range(values.ndim) if a != axis))
        folded = line[middle:].copy()
        folded[1:] += line[:middle][::-1]
        held = np.cumsum(folded)
        enough = total * (1 - (1 - keep) / values.ndim)
        reach = int(np.searchsorted(held, enough * (1 - 1e-12)))
        reach = min(reach, middle, *([] if limit is None else [limit[axis]]))
        index.append(slice(middle - reach, middle + reach + 1))
    out = values[tuple(index)]
    return np.asarray(out / out.sum())
