"""What one image tells about its own noise: gain, offset and read noise of the camera.

Mean and variance of a pixel of z expected photoelectrons lie on a line,
V = gain (mean - offset) + (gain read_noise)^2. The variance is read from the finest diagonal
wavelet band, where an optical image has least structure (Foi et al. 2008, doi
10.1109/TIP.2008.2001399), patch by patch. Which patches count is decided by the horizontal and
vertical bands of the same scale: for white noise they are independent of the diagonal one, so
that choosing flat patches does not bias the variance. The line leaves one freedom: a camera with
read noise and one with a faint background look alike. The third cumulant, gain^2 (mean - offset),
to which read noise adds nothing, tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError
from napari_dps.noise._missing import MOST, TRUNCATED, Filling
from napari_dps.saturation import grey_step, saturated

Array = NDArray[np.float64]

SIDE = 8
"""Side of a patch in pixels."""
SMALLEST = 32
"""Smallest image side in pixels from which anything is estimated."""
MOST_PIXELS = 2**23
"""Pixels looked at: a long stack is thinned to frames spread evenly over it."""
ROUNDED = 2.0**-44
"""Variance over the squared level that is rounding in single precision, and no noise."""
REPLICATES = 60
"""Bootstrap replicates behind the stated errors."""

# Daubechies' wavelet with three vanishing moments; its highpass ignores local parabolas.
_LOW = np.array(
    [0.33267055, 0.80689151, 0.45987750, -0.13501102, -0.08544127, 0.03522629], dtype=np.float64
)
_HIGH = _LOW[::-1] * np.array([1, -1, 1, -1, 1, -1])
# The next coarser scale. Bands made of it hardly overlap the finest diagonal one in frequency, so
# that choosing patches by them leaves the noise in that one as it is.
_LOW2 = np.convolve(_LOW, np.kron(_LOW, [1.0, 0.0])[:-1])
_HIGH2 = np.convolve(_LOW, np.kron(_HIGH, [1.0, 0.0])[:-1])
_MARGIN = len(_LOW) // 2
INNER = (slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
"""What of a frame the patches cover."""


def _effective(*kernels: Array) -> float:
    """Return the number of independent values among the SIDE^2 filtered ones of a patch."""
    total = 1.0
    for kernel in kernels:
        rho = np.correlate(kernel, kernel, "full")
        lag = np.abs(np.arange(len(rho)) - len(kernel) + 1)
        total *= float(np.sum(rho**2 * np.clip(1 - lag / SIDE, 0, None)))
    return SIDE**2 / total


_DOF = _effective(_HIGH, _HIGH)
_FOURTH = float(np.sum(_HIGH**4) ** 2) / SIDE**2
_THIRD = (8 / 9) ** 3 - 8 / 9**3


@dataclass(frozen=True)
class Patches:
    """Statistics of the patches of an image, one entry per patch, in the image's units.

    Attributes
    ----------
    mean : ndarray
        Mean of the pixels.
    fine : ndarray
        Mean square of the diagonal band: the noise variance where there is no structure.
    side : ndarray
        Mean square of the horizontal and vertical bands: noise variance plus structure.
    third : ndarray
        Mean cube of the difference from the 3x3 neighbourhood: the third cumulant.
    dark : float
        Level of the darkest part of the image.
    step : float
        Spacing of the grey values; 0 if they are continuous.
    frames, repeats : float
        Frames that the mean, and independent ones that the others, were averaged over.
    """

    mean: Array
    fine: Array
    side: Array
    third: Array
    dark: float
    step: float
    frames: float = 1.0
    repeats: float = 1.0

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Patches:
        """Return some of the patches."""
        return replace(
            self,
            mean=self.mean[index],
            fine=self.fine[index],
            side=self.side[index],
            third=self.third[index],
        )


def blocks(values: Array) -> Array:
    """Return the means over patches, shape (Y // SIDE, X // SIDE)."""
    rows, columns = (n // SIDE for n in values.shape)
    cut = values[: rows * SIDE, : columns * SIDE]
    means: Array = cut.reshape(rows, SIDE, columns, SIDE).mean(axis=(1, 3))
    return means


def _band(down: Array, kernel: Array) -> Array:
    """Return the squared coefficients, given the image filtered along its columns."""
    from scipy.ndimage import correlate1d

    coefficients: Array = correlate1d(down, kernel, axis=1)
    return coefficients**2


def every(stack: NDArray[np.generic], stride: int) -> NDArray[np.generic]:
    """Return the images of every stride-th pixel, all of them, as a stack (frames, Y, X)."""
    rows, columns = (n // stride for n in stack.shape[1:])
    parts = [
        stack[:, i : rows * stride : stride, j : columns * stride : stride]
        for i in range(stride)
        for j in range(stride)
    ]
    return np.concatenate(parts)


def grids_of(frame: Array, bad: NDArray[np.bool_]) -> tuple[list[Array], NDArray[np.bool_]]:
    """Return mean, fine, side and third (see :class:`Patches`) of each place, and which are good.

    Parameters
    ----------
    frame : ndarray, shape (Y, X)
        One frame.
    bad : ndarray of bool
        Pixels that do not count.
    """
    from scipy.ndimage import correlate1d, uniform_filter

    box = np.ones(3) / 3
    kernels = {"high": _HIGH, "low2": _LOW2, "high2": _HIGH2, "box": box}
    frame = np.where(np.isfinite(frame), frame, 0.0)
    down = {name: correlate1d(frame, kernel, axis=0) for name, kernel in kernels.items()}
    fields = [
        frame,
        _band(down["high"], _HIGH),
        (_band(down["high"], _LOW2) + _band(down["low2"], _HIGH) + _band(down["high2"], _HIGH2))
        / 3,
    ]
    rest = frame - correlate1d(down["box"], box, axis=1)
    grids = [blocks(field[INNER]) for field in fields]
    first, second, third_power = (blocks(rest[INNER] ** power) for power in (1, 2, 3))
    # About the patch's own mean: a curved background shifts it, which would pass for skewness.
    grids.append((third_power - 3 * first * second + 2 * first**3) / _THIRD)
    near = uniform_filter(bad.astype(np.float64), 2 * _MARGIN + 1)[INNER]
    return grids, blocks(near) < 1e-9


def grids_with(
    filling: Filling, frame: Array, bad: NDArray[np.bool_]
) -> tuple[list[Array], NDArray[np.bool_]]:
    """Return :func:`grids_of` of a frame whose missing pixels are filled, as if it were whole."""
    grids, good = grids_of(filling(frame), bad | filling.left)
    if filling.done.any():
        from scipy.ndimage import correlate1d

        filled = filling.done.astype(np.float64)
        touched = correlate1d(correlate1d(filled, _HIGH**2, axis=0), _HIGH**2, axis=1)
        share = blocks(touched[INNER])

        def bands(noise: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            found = grids_of(noise, bad)[0]
            return found[1], found[2]

        fine, side = filling.kept(share, bands)
        # A filled pixel has next to no noise of its own, and so no skewness.
        own = 1 - blocks(filled[INNER])
        level, finest, beside, skewed = grids
        grids = [level, finest / fine, beside / side, skewed / np.maximum(own, 0.1)]
        # By the side bands: chosen by its own, the noise would come out too small.
        top = grids[0] + TRUNCATED * np.sqrt(grids[2])
        good &= (share <= MOST) & ((share == 0) | (top < np.max(frame[~filling.missing & ~bad])))
    return grids, good


def darkest(means: Array, good: NDArray[np.bool_]) -> float:
    """Return the level of the darkest part, from the means of patches."""
    from scipy.ndimage import uniform_filter

    return float(np.quantile(uniform_filter(means, 3, mode="nearest")[good], 0.02))


def measure(image: NDArray[np.generic]) -> Patches:
    """Return the patch statistics of a stack.

    Parameters
    ----------
    image : ndarray, shape (frames, Y, X) or (Y, X)
        In its own units; not-a-number marks pixels that do not count.

    Raises
    ------
    InputError
        If the image is too small, constant, or has too few patches without clipped values.
    """
    stack = np.asarray(image)
    stack = stack[None] if stack.ndim == 2 else stack
    if min(stack.shape[-2:]) < SMALLEST:
        raise InputError(
            f"an image of {stack.shape[-2]} x {stack.shape[-1]} pixels is too small to estimate "
            f"its noise (at least {SMALLEST} x {SMALLEST}); give the noise parameters"
        )
    stride = max(1, -(-stack.size // MOST_PIXELS))
    stack = stack[::stride]
    finite = stack[np.isfinite(stack)]
    if finite.size == 0 or finite.max() == finite.min():
        raise InputError(
            "the image is constant, so that its noise cannot be estimated; give the noise "
            "parameters, or another image"
        )
    ceiling = float(finite.max())
    clipped = saturated(finite) > 0
    lists: list[list[Array]] = [[], [], [], []]
    lows: list[float] = []
    filling = Filling(np.isnan(stack[0]))
    for raw in stack:
        frame = np.asarray(raw, dtype=np.float64)
        if (np.isnan(frame) != filling.missing).any():
            filling = Filling(np.isnan(frame))
        bad = np.isinf(frame)
        if clipped:
            bad |= frame >= ceiling
        grids, good = grids_with(filling, frame, bad)
        if good.sum() >= 4:
            lows.append(darkest(grids[0], good))
        # A patch without any noise was painted (a margin of zeros), not recorded.
        good &= grids[1] > ROUNDED * max(abs(ceiling), 1e-300) ** 2
        for found, grid in zip(lists, grids, strict=True):
            found.append(grid[good])
    mean, fine, side, third = (np.concatenate(found) for found in lists)
    if len(mean) < 9:
        raise InputError(
            "almost every part of the image is clipped, missing or without noise, so that its "
            "noise cannot be estimated; give the noise parameters"
        )
    return Patches(mean, fine, side, third, min(lows), grey_step(finite))


def _bins(patches: Patches) -> list[NDArray[np.intp]]:
    """Return the patches in groups of equal mean."""
    order = np.argsort(patches.mean, kind="stable")
    return np.array_split(order, int(np.clip(len(order) // 40, 1, 24)))


def flat(patches: Patches, level: Array, share: float = 0.25) -> Patches:
    """Return the patches with the least structure at every mean.

    Parameters
    ----------
    patches : Patches
        All of them.
    level : ndarray
        Noise variance that is expected of each.
    share : float
        Share of the patches of each mean that is kept in any case.
    """
    ratio = patches.side / level
    keep = ratio < 1.0
    for group in _bins(patches):
        count = max(3, int(np.ceil(share * len(group))))
        keep[group[np.argsort(ratio[group])[:count]]] = True
    return patches.take(keep)


@dataclass(frozen=True)
class Line:
    """Noise variance over mean, V = slope * mean + constant, in the image's units."""

    slope: float
    constant: float

    def at(self, mean: Any) -> Any:
        """Return the variance at a mean."""
        return self.slope * mean + self.constant


@dataclass(frozen=True)
class Known:
    """What is known of the camera already; None is to be estimated."""

    gain: float | None = None
    offset: float | None = None
    read_noise: float | None = None


def _solve(
    x: Array, y: Array, weight: Array, line: Line, read: float, frames: float
) -> tuple[float, float]:
    """Return slope and constant of the weighted least-squares line.

    The mean of a patch has an error of its own, which flattens the line and which for shot noise
    goes with the error of the variance; both are known well enough to be taken out.
    """
    total = weight.sum()
    centre = (weight * x).sum() / total
    spread = (weight * (x - centre) ** 2).sum()
    common = (weight * (x - centre) * y).sum()
    level = np.clip(line.at(x), 0.0, None)
    own = (weight * level).sum() / (SIDE**2 * frames)
    if own < spread / 2:  # beyond that the image has no range of means, and the error says so
        shared = line.slope * np.clip(level - read, 0.0, None)
        spread -= own
        common -= (weight * shared).sum() / (SIDE**2 * frames)
    slope = float(common / max(spread, 1e-300))
    return slope, float((weight * y).sum() / total - slope * centre)


def _step(patches: Patches, weight: Array, known: Known, line: Line, read_part: float) -> Line:
    """Return the weighted least-squares line that agrees with what is known."""
    m, s = patches.mean, patches.fine
    gain, offset, read = known.gain, known.offset, known.read_noise
    if gain is not None:
        if offset is not None and read is not None:
            return Line(gain, gain**2 * read**2 - gain * offset)
        constant = float((weight * (s - gain * m)).sum() / weight.sum())
        if offset is not None:  # read noise is no less than none
            constant = max(constant, -gain * offset)
        return Line(gain, constant)
    if offset is not None:
        u = m - offset
        if read is not None:  # s = g u + g^2 r^2, linearised about the last g
            last = max(line.slope, 1e-12)
            a = u + 2 * last * read**2
            slope = float((weight * a * (s + last**2 * read**2)).sum() / (weight * a * a).sum())
            return Line(slope, slope**2 * read**2 - slope * offset)
        slope, constant = _solve(
            u, s, weight, Line(line.slope, line.at(offset)), read_part, patches.frames
        )
        if constant < 0:
            slope, constant = float((weight * u * s).sum() / (weight * u * u).sum()), 0.0
        return Line(slope, constant - slope * offset)
    slope, constant = _solve(m, s, weight, line, read_part, patches.frames)
    if slope * patches.dark + constant < 0:  # the darkest part has no negative variance
        u = m - patches.dark
        slope = float((weight * u * s).sum() / (weight * u * u).sum())
        constant = -slope * patches.dark
    return Line(slope, constant)


def fit(
    patches: Patches,
    known: Known,
    start: Line | None = None,
    read_part: float = 0.0,
    rounds: int = 12,
) -> Line:
    """Return the robust mean-variance line of patches of little structure.

    Parameters
    ----------
    patches : Patches
        See :func:`flat`.
    known : Known
        What the line has to agree with.
    start : Line, optional
        First guess.
    read_part : float
        Variance by read noise, as far as it is known already.
    rounds : int
        Reweighting steps.
    """
    from scipy.special import gammainc, gammaincinv

    floor = max(0.02 * float(np.median(patches.fine)), patches.step**2 / 12, 1e-300)
    line = start or Line(0.0, float(np.median(patches.fine)))
    keep = np.ones(len(patches.mean), dtype=bool)
    correction = np.ones(len(patches.mean))
    for turn in range(rounds):
        level = np.maximum(line.at(patches.mean), floor)
        gain = max(line.slope, 0.0)
        spread = (2 * level**2 / _DOF + gain**2 * level * _FOURTH) / patches.repeats
        if turn >= 2:
            # Cut what structure or a hot pixel has raised, and undo what the cut takes from noise.
            shape = level**2 / spread
            high = gammaincinv(shape, 0.99) / shape
            keep = patches.fine < high * level
            correction = gammainc(shape + 1, high * shape) / 0.99
        if keep.sum() < 4:
            break
        scaled = replace(patches, fine=patches.fine / correction).take(keep)
        line = _step(scaled, 1 / spread[keep], known, line, read_part)
    return line
