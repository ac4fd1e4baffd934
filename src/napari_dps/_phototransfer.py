"""Moments of calibration frames in time, and the line through the photon-transfer curve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError
from napari_dps.prepare import open_image
from napari_dps.saturation import grey_step

Array = NDArray[np.float64]

CLIPPED = 1e-3
"""Share of clipped values from which on a flat is left out."""
NONLINEAR = 0.05
"""Relative deviation from the line that is told of."""


@dataclass(frozen=True)
class Moments:
    """Mean and variance in time of every pixel.

    Attributes
    ----------
    name : str
        What the frames are.
    frames : int
        How many there were.
    mean, variance : ndarray, shape (Y, X)
        In ADU and ADU squared; changes of all pixels together are no noise of a pixel.
    wander, jitter : float
        Half the range, and the standard deviation, of the frames' mean in ADU.
    clipped : float
        Share of values at the end of the camera's range.
    zeros : float
        Share of zeros, below which a camera cannot count.
    stuck : ndarray of bool
        Pixels that were clipped in any frame.
    step : float
        Spacing of the grey values in ADU; 0 if they are continuous.
    """

    name: str
    frames: int
    mean: Array
    variance: Array
    wander: float
    jitter: float
    clipped: float
    zeros: float
    stuck: NDArray[np.bool_]
    step: float = 0.0


@dataclass
class Transfer:
    """A point of the curve: signal above the dark, shot variance and its error, in ADU."""

    name: str
    signal: float
    variance: float
    error: float
    clipped: float
    used: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "name": self.name,
            "signal": self.signal,
            "variance": self.variance,
            "error": self.error,
            "used": self.used,
        }


def _stacks(given: Any, name: str, axes: str | None) -> Iterator[NDArray[Any]]:
    parts = given if isinstance(given, (list, tuple)) else [given]
    if not parts:
        raise InputError(f"no {name} frames were given; give a stack of two or more")
    for part in parts:
        image = open_image(part, axes)
        if image.is_rgb:
            raise InputError(
                f"the {name} '{image.name}' is a colour (RGB) image; give the camera's raw frames"
            )
        data = image.picture_last().data
        yield data.reshape(-1, *data.shape[-2:])


def moments(given: Any, name: str, axes: str | None = None) -> Moments:
    """Return the moments in time of frames.

    Parameters
    ----------
    given : array, Image, path, or list of these
        Frames, or stacks of frames.
    name : str
        What they are, for errors.
    axes : str, optional
        Axes of arrays and of files that do not say.

    Raises
    ------
    InputError
        If there are fewer than two frames, of different shapes, constant, or not finite.
    """
    stacks = list(_stacks(given, name, axes))
    shapes = {stack.shape[1:] for stack in stacks}
    if len(shapes) > 1:
        raise InputError(
            f"the {name} frames have different shapes: {sorted(shapes)}; give one kind"
        )
    frames = [frame for stack in stacks for frame in stack]
    if len(frames) < 2:
        raise InputError(
            f"the {name} has one frame, and noise is what changes between frames; give two or more"
        )
    levels = np.array([float(np.mean(frame, dtype=np.float64)) for frame in frames])
    if not np.isfinite(levels).all():
        raise InputError(f"the {name} has NaN or infinite pixels; give the camera's raw frames")
    top = max(float(frame.max()) for frame in frames)
    share = float(np.mean([np.mean(frame == top) for frame in frames]))
    first = frames[0].dtype
    full = first.kind == "u" and top == np.iinfo(first).max
    # A tail thins out towards its end; clipping heaps values up there.
    heap = float(np.mean([np.mean((frame >= top - 1) & (frame < top)) for frame in frames]))
    clipped = share if full or share > max(10 * heap, 1e-3) else 0.0
    zeros = float(np.mean([np.mean(frame == 0) for frame in frames])) if first.kind == "u" else 0.0
    shape = frames[0].shape
    mean, square, stuck = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
    for count, (frame, level) in enumerate(zip(frames, levels, strict=True), 1):
        even = frame.astype(np.float64) + (levels.mean() - level)
        step = even - mean
        mean += step / count
        square += step * (even - mean)
        if clipped:
            stuck |= frame == top
    variance = square / (len(frames) - 1)
    if not variance.any():
        raise InputError(
            f"the {name} frames are all alike, so that they show no noise; give the camera's raw "
            "frames"
        )
    return Moments(
        name, len(frames), mean, variance, float(np.ptp(levels)) / 2, float(levels.std(ddof=1)),
        clipped, zeros, stuck, grey_step(np.stack(frames[:2])),
    )  # fmt: skip


def usable(dark: Moments, levels: list[Moments]) -> NDArray[np.bool_]:
    """Return the pixels that are neither clipped nor far noisier in the dark than others."""
    from scipy.stats import chi2

    free = dark.frames - 1
    typical = float(np.median(dark.variance)) / (chi2.median(free) / free)
    # What one pixel in a million has by chance, and tenfold: pixels differ.
    limit = 10 * typical * chi2.isf(1e-6, free) / free
    good: NDArray[np.bool_] = ~dark.stuck & (dark.variance <= max(limit, 1e-300))
    for level in levels:
        if level.clipped <= CLIPPED:
            good &= ~level.stuck
    if good.mean() < 0.1:
        raise InputError(
            f"only {good.mean():.0%} of the pixels are neither clipped nor stuck; give darker flats"
        )
    return good


def fit_line(points: list[Transfer]) -> tuple[float, float, list[str]]:
    """Return slope, its error and warnings; marks the points that were left out.

    Parameters
    ----------
    points : list of Transfer
        One per flat.

    Raises
    ------
    InputError
        If all are clipped.
    """
    warnings = []
    for point in points:
        if point.clipped > CLIPPED:
            point.used = False
            warnings.append(f"the {point.name} is clipped ({point.clipped:.1%}) and was left out")
    kept = [point for point in points if point.used]
    if not kept:
        raise InputError("every flat is clipped at the end of the camera's range; give darker ones")
    x, y, e = (np.array([getattr(p, n) for p in kept]) for n in ("signal", "variance", "error"))
    weight = 1 / np.maximum(e, 1e-12 * y) ** 2
    slope = float((weight * x * y).sum() / (weight * x * x).sum())
    error = float(1 / np.sqrt((weight * x * x).sum()))
    off = y / (slope * x) - 1
    if len(kept) > 1:
        chi2 = float(((y - slope * x) ** 2 * weight).sum()) / (len(kept) - 1)
        error *= max(1.0, float(np.sqrt(chi2)))
        worst = int(np.argmax(np.abs(off)))
        if abs(off[worst]) > NONLINEAR and abs(off[worst]) * slope * x[worst] > 5 * e[worst]:
            warnings.append(
                f"the variance of the {kept[worst].name} is {off[worst]:+.0%} off the line, so the "
                "camera is not linear there or the light flickers; leave that flat out, or stay "
                "within the linear range"
            )
    return slope, error, warnings


def shrink(values: Array, noise: Any, valid: NDArray[np.bool_], *, relative: float = 0.0) -> Array:
    """Return noisy values of pixels, drawn to their mean as far as their scatter is noise.

    The linear estimate of least expected error (Efron and Morris 1973); all alike, where pixels do
    not differ by more than noise.

    Parameters
    ----------
    values : ndarray
        One measured value per pixel.
    noise : float or ndarray
        Variance of each.
    valid : ndarray of bool
        Pixels that count; the others get the mean.
    relative : float
        Where the noise's variance goes with the square of the true value: their ratio.
    """
    mean = float(values[valid].mean())
    scatter = float(values[valid].var())
    chance = float(np.mean(np.broadcast_to(noise, values.shape)[valid]))
    if relative:
        # E[s^4] = (1 + r)(v^2 + mean^2): the spread v^2 of true values raises the noise, too.
        true = max((scatter - relative * mean**2) / (1 + relative), 0.0)
        chance = relative * (mean**2 + true)
    else:
        true = max(scatter - chance, 0.0)
    # Spread within the uncertainty of the scatter itself is none.
    doubt = 3 * chance * float(np.sqrt(2 / max(int(valid.sum()), 1)))
    share = true / (true + chance) if true > doubt and chance > 0 else float(chance == 0)
    drawn: Array = np.where(valid, mean + share * (values - mean), mean)
    return drawn
