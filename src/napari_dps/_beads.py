"""Beads in an image: where they are, registered below the pixel, averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

from napari_dps.forward._measured import border_level, clipped_mean

Array = NDArray[np.float64]

FWHM = float(2 * np.sqrt(2 * np.log(2)))
"""Full width at half maximum of a Gaussian, in standard deviations."""
STANDS_OUT = 6.0
"""Standard deviations of the smoothed background by which a spot must rise."""
HOT = 4.0
"""A pixel so many times as high as all around it is no light that came through a lens."""
PART = 0.2
"""A lesser peak near a bead, up to this share of its height, is taken for a part of its PSF."""
MARGIN = 3
"""Pixels around a bead's box, lest a shift by Fourier wraps its border into it."""
ENOUGH = 1_000_000
"""Values that tell the background."""
ROUNDS = 5
"""Rounds of registration to the average and averaging."""
ROBUST = 5
"""Beads from which on single values far from the others' are left out of the average."""


@dataclass
class Bead:
    """One spot.

    Attributes
    ----------
    peak : tuple of int
        Its brightest pixel, of the smoothed image.
    height : float
        Height of the smoothed peak above the background.
    verdict : str
        ``"used"``, or why it is not.
    box : ndarray
        Its surroundings, with a margin, the local background subtracted.
    noise : float
        Standard deviation of the background.
    shift : ndarray
        What moves its centre to the middle of the box, in pixels.
    """

    peak: tuple[int, ...]
    height: float
    verdict: str = "used"
    box: Array = field(default_factory=lambda: np.zeros(0))
    noise: float = 0.0
    shift: Array = field(default_factory=lambda: np.zeros(0))


@dataclass
class Averaged:
    """Beads registered and averaged.

    Attributes
    ----------
    psf : ndarray
        The average, its centre in the middle, at height one, with the margin.
    noise : float
        Standard deviation of its background.
    heights : ndarray
        The beads' heights.
    scales : ndarray, shape (beads, axes)
        How wide each bead is against the average.
    unlike : ndarray
        One less the correlation of each bead with the average, noise apart.
    """

    psf: Array
    noise: float
    heights: Array
    scales: Array
    unlike: Array


def background(image: Array) -> tuple[float, float]:
    """Return mean and standard deviation of the dark ground, of which most of the image may be.

    Begun with the darker half and widened, so that crowded beads do not count as ground.
    """
    # Every so manieth value tells as much; an odd step does not follow the rows.
    values = image.ravel()[:: image.size // ENOUGH | 1]
    kept = values[values <= np.median(values)]
    for _ in range(50):
        mean, std = float(kept.mean()), float(kept.std())
        inside = values[np.abs(values - mean) <= 3.5 * std]
        if inside.size in (kept.size, 0):
            break
        kept = inside
    if kept.std() > 0:
        return float(kept.mean()), float(kept.std())
    return clipped_mean(values)  # more than half of one grey value


def without_hot_pixels(image: Array) -> tuple[Array, int]:
    """Return the image with single bright pixels replaced by what is around them, and how many.

    A camera's hot pixel is hot in every plane, so only the neighbours in Y and X are asked.
    """
    around = np.ones((3, 3), dtype=bool)
    around[1, 1] = False
    footprint = around if image.ndim == 2 else around[None]
    level, noise = background(image)
    near = ndi.maximum_filter(image, footprint=footprint, mode="reflect")
    rise = image - level
    hot = (rise > HOT * np.maximum(near - level, 0)) & (rise > 10 * max(noise, 1e-12))
    if not hot.any():
        return image, 0
    return np.where(hot, ndi.median_filter(image, footprint=footprint), image), int(hot.sum())


def find_peaks(image: Array) -> tuple[list[Bead], tuple[float, ...]]:
    """Find local maxima that stand out of the background.

    Parameters
    ----------
    image : ndarray
        2D or 3D.

    Returns
    -------
    beads : list of Bead
        The brightest first.
    width : tuple of float
        Typical full width at half maximum per axis, in pixels.
    """
    from skimage import feature

    ground, _ = background(image)

    def smoothed(width: Any) -> tuple[Array, float, float]:
        # Dark beyond the border: mirrored noise would average out less there, and pass for spots.
        smooth = ndi.gaussian_filter(image, width, mode="constant", cval=ground)
        level, spread = background(smooth)
        return smooth, level, max(STANDS_OUT * spread, 1e-6 * float(smooth.max() - level))

    first, level, rise = smoothed(1.0)
    places = cast(Any, feature).peak_local_max(
        first, min_distance=3, threshold_abs=level + rise, exclude_border=False, num_peaks=500
    )
    if not len(places):
        return [], (0.0,) * image.ndim
    heights = first[tuple(places.T)] - level
    # Lesser maxima of noise and of rings tell nothing of the beads' width.
    bright = places[heights > 0.3 * np.quantile(heights[: max(5, len(heights) // 4)], 0.5)]
    rough = np.median([_rough_width(first - level, tuple(p)) for p in bright], axis=0)
    # The smoothing widened them.
    width = np.sqrt(np.maximum(rough**2 - FWHM**2, 1.0))
    smooth, level, rise = smoothed(width / FWHM / 2)
    size = tuple(2 * max(1, round(w / 2)) + 1 for w in width)
    found = (smooth == ndi.maximum_filter(smooth, size=size)) & (smooth > level + rise)
    # The flat tops of saturated beads have many maxima: one each.
    labels, count = ndi.label(found, np.ones((3,) * image.ndim))
    middles = ndi.center_of_mass(found, labels, range(1, count + 1))
    peaks = [tuple(round(v) for v in middle) for middle in middles]
    beads = [Bead(peak, float(smooth[peak] - level)) for peak in peaks]
    return sorted(beads, key=lambda b: -b.height), tuple(map(float, width))


def _rough_width(image: Array, peak: tuple[int, ...]) -> list[float]:
    found = []
    for axis in range(image.ndim):
        index: list[int | slice] = list(peak)
        index[axis] = slice(None)
        found.append(crossing(image[tuple(index)], peak[axis], image[peak] / 2))
    return found


def crossing(line: Array, start: int, half: float) -> float:
    """Return the distance between a line's two crossings of ``half`` about ``start``."""
    sides = []
    for step in (-1, 1):
        at = start
        while 0 <= at + step < len(line) and line[at + step] > half:
            at += step
        after = at + step
        if not 0 <= after < len(line):
            sides.append(abs(at - start) + 0.5)
            continue
        drop = line[at] - line[after]
        sides.append(abs(at - start) + (float(line[at] - half) / drop if drop > 0 else 0.5))
    return float(sum(sides))


def neighbours(beads: Sequence[Bead], reach: Sequence[float]) -> list[Bead]:
    """Return the beads without parts of brighter ones' PSFs; mark those too near each other."""
    kept: list[Bead] = []
    for bead in beads:  # the brightest first
        hits = [
            other
            for other in kept
            if all(abs(a - b) <= r for a, b, r in zip(bead.peak, other.peak, reach, strict=True))
        ]
        if any(bead.height < PART * other.height for other in hits):
            continue
        kept.append(bead)
        for one in (bead, *hits) if hits else ():
            one.verdict = "too near another"
    return kept


def cut(image: Array, bead: Bead, reach: Sequence[int], wide: Sequence[int]) -> None:
    """Cut a bead's box out and subtract the background, told by the border of a ``wide`` one."""

    def part(half: Sequence[int], margin: int) -> Array:
        index, pad = [], []
        for p, r, n in zip(bead.peak, half, image.shape, strict=True):
            start, stop = p - r - margin, p + r + margin + 1
            index.append(slice(max(0, start), min(n, stop)))
            pad.append((max(0, -start), max(0, stop - n)))
        return np.pad(image[tuple(index)], pad, mode="edge")

    around = part(wide, 0)
    level, bead.noise, _ = border_level(around if around.ndim == 3 else around[None])
    bead.box = part(reach, MARGIN) - level
    bead.shift = np.zeros(image.ndim)


def core(shape: Sequence[int], width: Sequence[float]) -> NDArray[np.bool_]:
    """Return where in a box the bead's core is: within one full width of the middle."""
    far: Array = np.zeros(tuple(shape))
    for grid, n, w in zip(np.indices(tuple(shape)), shape, width, strict=True):
        far += ((grid - n // 2) / max(1.5, w)) ** 2
    return far <= 1


def moved(box: Array, shift: Array) -> Array:
    """Return a box moved by a part of a pixel, exact as far as it is band-limited."""
    spectrum = np.fft.fftn(box)
    for axis, (n, s) in enumerate(zip(box.shape, shift, strict=True)):
        turn = np.exp(-2j * np.pi * np.fft.fftfreq(n) * s)
        if n % 2 == 0:
            turn[n // 2] = np.cos(np.pi * s)
        spectrum = spectrum * turn.reshape([-1 if a == axis else 1 for a in range(box.ndim)])
    return np.asarray(np.fft.ifftn(spectrum).real)


def average(beads: Sequence[Bead], width: Sequence[float]) -> Averaged:
    """Register beads to their average, and average, in turns.

    Each bead is fitted by the average with a height, a background, a shift and a width per axis:
    linear least squares on the average's derivatives.
    """
    near = core(beads[0].box.shape, width)
    for bead in beads:
        bead.shift = bead.shift + _centring(moved(bead.box, bead.shift), near)
    noise = np.array([bead.noise for bead in beads])
    boxes = np.stack([moved(bead.box, bead.shift) for bead in beads])
    heights = np.array([box[near].sum() for box in boxes])
    heights = heights * max(1e-12, float(boxes.max())) / max(1e-12, float(heights.max()))
    psf = boxes[0]
    fits = np.zeros((len(beads), 2 + 2 * boxes[0].ndim))
    for turn in range(ROUNDS):
        psf = _weighted(boxes, heights, noise)
        psf = moved(psf, _centring(psf, near))
        psf = psf / psf[tuple(n // 2 for n in psf.shape)]
        basis = _basis(psf, near)
        fits = np.stack([np.linalg.lstsq(basis, box[near], rcond=None)[0] for box in boxes])
        heights = np.maximum(fits[:, 0], 1e-12)
        if turn == ROUNDS - 1:
            break
        steps = np.clip(fits[:, 2 : 2 + psf.ndim] / heights[:, None], -1, 1)
        for k, bead in enumerate(beads):
            bead.shift = bead.shift + steps[k]
            boxes[k] = moved(bead.box, bead.shift)
    scales = 1 - fits[:, 2 + psf.ndim :] / heights[:, None]
    weights = heights / np.maximum(noise, 1e-12) ** 2
    left = float(np.sqrt(((weights * noise) ** 2).sum()) / (weights * heights).sum())
    return Averaged(psf, left, heights, scales, _unlike(boxes, psf, near, noise))


def _centring(box: Array, near: NDArray[np.bool_]) -> Array:
    """Return the shift that brings the centre of what is above half the height to the middle."""
    top = float(np.sort(box[near])[-max(1, int(near.sum()) // 50) :].mean())
    weight = np.where(near, np.clip(box - top / 2, 0, None), 0.0)
    total = max(float(weight.sum()), 1e-300)
    grids = np.indices(box.shape)
    return np.array(
        [n // 2 - (g * weight).sum() / total for g, n in zip(grids, box.shape, strict=True)]
    )


def _basis(psf: Array, near: NDArray[np.bool_]) -> Array:
    """Return what a bead is fitted by, as columns: height, background, shifts, widths."""
    slopes, stretches = [], []
    for axis, n in enumerate(psf.shape):
        slope = _slope(psf, axis)
        where = (np.arange(n) - n // 2).reshape([-1 if a == axis else 1 for a in range(psf.ndim)])
        slopes.append(slope[near])
        stretches.append((slope * where)[near])
    return np.stack([psf[near], np.ones(int(near.sum())), *slopes, *stretches], axis=1)


def _slope(values: Array, axis: int) -> Array:
    n = values.shape[axis]
    turn = 2j * np.pi * np.fft.fftfreq(n)
    if n % 2 == 0:
        turn[n // 2] = 0
    turn = turn.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    return np.asarray(np.fft.ifft(np.fft.fft(values, axis=axis) * turn, axis=axis).real)


def _weighted(boxes: Array, heights: Array, noise: Array) -> Array:
    """Return the average in units of height, best for the given noise; robust where it can be."""
    column = (slice(None), *([None] * (boxes.ndim - 1)))
    sigma = np.maximum(noise, 1e-12)
    weight = np.broadcast_to(((heights / sigma) ** 2)[column], boxes.shape)
    scaled = boxes / heights[column]
    if len(boxes) >= ROBUST:
        middle = np.median(scaled, axis=0)
        spread = 1.4826 * np.median(np.abs(scaled - middle), axis=0)
        allowed = 4 * np.hypot(spread, (sigma / heights)[column])
        weight = np.where(np.abs(scaled - middle) <= allowed, weight, 0.0)
    total = weight.sum(axis=0)
    mean = (weight * scaled).sum(axis=0) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, np.median(scaled, axis=0))


def _unlike(boxes: Array, psf: Array, near: NDArray[np.bool_], noise: Array) -> Array:
    found = []
    for box, sigma in zip(boxes, noise, strict=True):
        a, b = box[near] - box[near].mean(), psf[near] - psf[near].mean()
        power = max(float(a @ a) - near.sum() * sigma**2, 1e-300)
        found.append(1 - min(1.0, float(a @ b) / np.sqrt(power * float(b @ b))))
    return np.array(found)
