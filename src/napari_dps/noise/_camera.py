"""Camera parameters, with errors, from the patch statistics of one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError
from napari_dps.noise._correlated import correlation_report, pixels_per_value
from napari_dps.noise._estimate import (
    REPLICATES,
    SMALLEST,
    Known,
    Line,
    Patches,
    every,
    fit,
    flat,
    measure,
)
from napari_dps.noise._grey import less_rounding
from napari_dps.noise._stack import FEWEST, changes, known_means, measure_stack

SYSTEMATIC = 0.03
"""Relative error of the gain by residual structure, found on simulated images."""
SKEWED = 1.5
"""Factor on the bootstrap's error of the skewness for faint structure, found likewise."""
WHITE = 1.0
"""Ratio of coarser to finest noise variance (see ``_colour``) up to which noise is white."""
WHITE_IN_TIME = 1.15
"""The same of a stack, where averaging over time leaves less to chance."""
COLOURED = 1.6
"""Ratio from which on structure and noise cannot be told apart."""
SHARED = 1.1
"""The same where only every second, third, ... pixel was looked at: structure hides there."""
UNSURE = {"gain": 0.06, "read_noise": 0.2}
"""Relative stated errors from which on a figure is called unsure: in simulations of single images
19 of 20 gains that are stated more exactly lie within 10 % of the camera's, and 6 of 7 read noises
within 20 %; of stacks all do."""
HOPELESS = 0.25
"""Relative error of the gain from which on the variance of what is bright is a guess, too."""
STRIDES = 4
"""Coarsest grid of pixels that is tried where the noise of neighbours is correlated."""
ADVICE = "give gain, offset and read_noise (the camera's sheet or a calibration has them)"


@dataclass(frozen=True)
class Camera:
    """What was found out about a camera.

    Attributes
    ----------
    gain, offset, read_noise : float
        In ADU per electron, ADU, electrons.
    gain_error, offset_error, read_noise_error : float
        One standard deviation each; 0 for what was given.
    levels : list of (float, float, float)
        Mean of flat patches, their measured variance, and the variance of this camera there.
    correlation : list of float
        Of the noise with that 1, 2, ... pixels further; empty for white noise.
    step : float
        Spacing of the grey values in ADU; 0 if they are continuous.
    """

    gain: float
    offset: float
    read_noise: float
    gain_error: float
    offset_error: float
    read_noise_error: float
    levels: list[tuple[float, float, float]]
    correlation: list[float]
    step: float = 0.0

    @property
    def pixels_per_value(self) -> float:
        """Pixels per independent value."""
        return pixels_per_value(self.correlation)

    def report(self) -> dict[str, Any]:
        """Return everything as plain numbers."""
        names = ("gain", "offset", "read_noise")
        out: dict[str, Any] = {}
        for name in names:
            out[name] = getattr(self, name)
            out[f"{name}_error"] = getattr(self, f"{name}_error")
        # The likelihood needs the noise with rounding, a data sheet has it without.
        read, error = self.read_noise, self.read_noise_error
        own = less_rounding(read**2, 2 * read * error, self.gain, self.step)
        out["own_read_noise"], out["own_read_noise_error"] = own
        out["levels"] = [list(level) for level in self.levels]
        out |= correlation_report(self.correlation)
        out["unsure"] = [n for n in UNSURE if out[f"{n}_error"] > UNSURE[n] * out[n]]
        share = self.gain_error / self.gain
        if "gain" in out["unsure"]:
            out.setdefault("warnings", []).append(
                f"the image tells the camera's gain to ± {share:.0%} only; give it (the camera's "
                "sheet has it), or measure it with `napari-dps camera`"
            )
        return out


def _background(patches: Patches, line: Line) -> float:
    """Return the electrons of light at the dark level, from the skewness of the noise.

    Read noise is symmetric, shot noise is skewed: the third cumulant is gain^2 (mean - offset).
    """
    gain = line.slope
    level = np.maximum(line.at(patches.mean), 1e-3 * np.median(patches.fine))
    flattest = patches.side < 1.3 * level
    if flattest.sum() >= 30:
        patches, level = patches.take(flattest), level[flattest]
    weight = 1 / (level**3 + gain**4 * level)
    value = patches.mean - patches.third / gain**2
    # A faint spot or a hot pixel is skewed, too: the median over groups passes a few of them by.
    groups = np.arange(len(value)) % int(np.clip(len(value) // 30, 1, 15))
    sums = np.bincount(groups, weight)
    offset = float(np.median(np.bincount(groups, weight * value) / sums))
    return (patches.dark - offset) / gain


def _share(
    total: float, seen: float, error: float, most: float
) -> tuple[float, float, float, float]:
    """Split the variance at the dark level into light and read noise.

    Parameters
    ----------
    total : float
        Variance at the dark level in electrons squared: light + read_noise^2.
    seen, error : float
        Light there as the skewness tells it, and its standard deviation, in electrons.
    most : float
        Largest light that can be there, in electrons.

    Returns
    -------
    light, light_error, read_noise, read_noise_error : float
        Posterior means and standard deviations, with every split equally likely beforehand.
    """
    if total <= 0:
        return 0.0, 0.0, 0.0, 0.0
    light = (np.arange(400) + 0.5) / 400 * min(total, max(most, 1e-3 * total))
    log = -0.5 * ((light - seen) / max(error, 1e-3 * total)) ** 2
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    read = np.sqrt(total - light)
    mean, noise = float(weight @ light), float(weight @ read)
    return (
        mean,
        float(np.sqrt(weight @ (light - mean) ** 2)),
        noise,
        float(np.sqrt(weight @ (read - noise) ** 2)),
    )


def _line(patches: Patches, known: Known) -> tuple[Patches, Line]:
    """Return the flat patches and their line, choosing one by the other."""
    floor = max(0.02 * float(np.median(patches.fine)), patches.step**2 / 12)
    chosen = flat(patches, np.full(len(patches.mean), float(np.median(patches.fine))))
    line = fit(chosen, known)
    read_part = 0.0
    for _ in range(3):
        chosen = flat(patches, np.maximum(line.at(patches.mean), floor))
        line = fit(chosen, known, line, read_part)
        dark = float(line.at(patches.dark))
        if line.slope > 0 and dark > 0:
            light = np.clip(_background(chosen, line) * line.slope**2, 0.0, dark)
            read_part = dark - float(light)
    return chosen, fit(chosen, known, line, read_part)


def _colour(chosen: Patches, line: Line) -> float:
    """Return coarser over finest noise variance in the flattest patches: 0.7 for white noise."""
    level = np.maximum(line.at(chosen.mean), 0.02 * float(np.median(chosen.fine)))
    lowest = np.argsort(chosen.side / level)[: max(6, len(level) // 4)]
    return float((chosen.side / level)[lowest].mean() / (chosen.fine / level)[lowest].mean())


Found = tuple[int, Patches, Patches, Line, float]


def _whitest(
    stack: NDArray[np.generic],
    known: Known,
    look: Callable[[NDArray[np.generic], int], Patches],
    white: float,
) -> Found:
    """Return the grid of pixels on which noise is white: stride, patches, flat ones, line, colour.

    A colour camera's image is interpolated between its pixels, and a resampled one likewise: the
    noise of neighbours is correlated, but every second or third pixel has its own.
    """
    patches = look(stack, 1)
    chosen, line = _line(patches, known)
    best = (1, patches, chosen, line, _colour(chosen, line))
    if best[-1] <= white:
        return best
    for stride in range(2, STRIDES + 1):
        if min(stack.shape[1:]) < stride * SMALLEST:
            break
        patches = look(stack, stride)
        chosen, line = _line(patches, known)
        colour = _colour(chosen, line)
        if colour < best[-1]:
            best = (stride, patches, chosen, line, colour)
    return best


def _in_image(stack: NDArray[np.generic], stride: int) -> Patches:
    return measure(every(stack, stride) if stride > 1 else stack)


def _in_time(stack: NDArray[np.generic], stride: int) -> Patches:
    return measure_stack([stack[:, i::stride, j::stride] for i, j in np.ndindex(stride, stride)])


def _correlation(
    stack: NDArray[np.generic], line: Line, stride: int, timewise: bool
) -> list[float]:
    """Return the correlation of noise at 1, 2, ... stride - 1 pixels along the axes."""
    found: list[float] = []
    if stride == 1:
        return found
    level_of = values = np.asarray(stack[0], dtype=np.float64)
    if timewise:
        means, changed = changes(stack[:FEWEST])
        level_of, values = means[0], changed[0]
    expected = line.at(known_means(level_of))
    level = np.maximum(expected, 1e-3 * float(np.nanmax(np.abs(expected))))
    for lag in range(1, stride):
        parts = []
        for axis in (0, 1):
            half = (np.roll(values, lag, axis) - values) ** 2 / 2
            parts.append(float(np.nanmedian(known_means(half) / level)))
        found.append(float(np.clip(1 - np.mean(parts), 0.0, 1.0)))
    return found


def _refuse(
    patches: Patches, chosen: Patches, colour: float, stride: int, advice: str = ADVICE
) -> None:
    """Refuse noise that is no noise of a linear detector.

    Raises
    ------
    InputError
        One sentence that says why and what to do.
    """
    if colour > (COLOURED if stride == 1 else SHARED):
        raise InputError(
            "the image's noise cannot be told from its structure: fine detail everywhere, or an "
            f"image that was resampled, compressed or smoothed; {advice}"
        )
    if colour < 0.3:
        raise InputError(
            "the image's noise is a pattern that alternates between neighbouring pixels (a "
            f"colour mosaic or an interlaced scan); {advice}"
        )
    if patches.step > 0 and float(np.median(chosen.fine)) < 0.1 * patches.step**2:
        raise InputError(
            f"the image's grey values are {patches.step:g} apart, coarser than its noise, so that "
            f"the noise cannot be estimated; {advice}"
        )


def _levels(chosen: Patches, line: Line) -> list[tuple[float, float, float]]:
    """Return mean, measured variance and fitted variance in up to eight groups."""
    order = np.argsort(chosen.mean)
    groups = np.array_split(order, int(np.clip(len(order) // 12, 1, 8)))
    out = []
    for group in groups:
        mean = float(chosen.mean[group].mean())
        out.append((mean, float(chosen.fine[group].mean()), float(line.at(mean))))
    return out


def estimate(image: NDArray[np.generic], known: Known, *, stack: bool = False) -> Camera:
    """Estimate what is not known of a camera from one image, or from a stack of one scene.

    Parameters
    ----------
    image : ndarray, shape (frames, Y, X) or (Y, X)
        In its own units (ADU); not-a-number marks pixels that do not count.
    known : Known
        What is given and held fixed.
    stack : bool
        Whether the frames show one scene in the order of time: then noise is what changes.

    Raises
    ------
    InputError
        If the image cannot tell; the sentence says why and what to give.
    """
    frames = np.asarray(image)
    frames = frames[None] if frames.ndim == 2 else frames
    look, white = (_in_time, WHITE_IN_TIME) if stack else (_in_image, WHITE)
    stride, patches, chosen, line, colour = _whitest(frames, known, look, white)
    _refuse(patches, chosen, colour, stride)
    rng = np.random.default_rng(0)
    slopes, darks, lights = [], [], []
    light = _background(chosen, line) if line.slope > 0 else 0.0
    read_part = 0.0
    if line.slope > 0:
        dark = float(line.at(patches.dark))
        read_part = max(dark - line.slope**2 * max(light, 0.0), 0.0)
    for _ in range(REPLICATES):
        again = chosen.take(rng.integers(0, len(chosen.mean), len(chosen.mean)))
        other = fit(again, known, line, read_part, rounds=5)
        slopes.append(other.slope)
        if other.slope > 0:
            darks.append(float(other.at(patches.dark)) / other.slope**2)
            lights.append(_background(again, other))
    gain, gain_error = line.slope, float(np.std(slopes))
    if known.gain is None:
        if not gain > 3 * gain_error:
            raise InputError(
                "the image cannot tell the camera's gain, its noise does not grow measurably with "
                f"its brightness (slope {gain:.3g} ± {gain_error:.2g}); {ADVICE}"
            )
        gain_error = float(np.hypot(gain_error, SYSTEMATIC * gain))
    else:
        gain_error = 0.0
    if gain_error * stride > HOPELESS * gain:
        raise InputError(
            "the image tells the camera's gain to no better than "
            f"± {gain_error * stride / gain:.0%}, so that its error bars would be a guess; {ADVICE}"
        )
    total, total_error = float(line.at(patches.dark)) / gain**2, float(np.std(darks))
    offset, read = known.offset, known.read_noise
    offset_error = read_error = 0.0
    if offset is None and read is None:
        # An image without negative values comes from a camera without negative offset.
        most = patches.dark / gain if np.nanmin(frames) >= 0 else np.inf
        seen_error = SKEWED * float(np.std(lights))
        light, light_error, read, read_error = _share(total, light, seen_error, most)
        offset = patches.dark - gain * light
        offset_error = gain * light_error
        if read > 0:
            read_error = float(np.hypot(read_error, total_error / (2 * max(read, read_error))))
    elif offset is None:
        assert read is not None
        light = total - read**2
        offset, offset_error = patches.dark - gain * light, gain * total_error
    elif read is None:
        # V at the offset, where there is no light, is the read noise alone.
        square = float(line.at(offset)) / gain**2
        read = float(np.sqrt(max(square, 0.0)))
        read_error = min(total_error / (2 * max(read, 1e-9)), float(np.sqrt(total_error)))
    camera = Line(gain, gain**2 * read**2 - gain * offset)
    # The images of every second pixel share their noise: not as many patches as it seems.
    return Camera(
        gain,
        offset,
        read,
        gain_error * stride,
        offset_error * stride,
        read_error * stride,
        _levels(chosen, camera),
        _correlation(frames, camera, stride, stack),
        patches.step,
    )


def noise_sigma(image: NDArray[np.generic]) -> tuple[float, float, list[float]]:
    """Return the standard deviation of an image's noise, its error and its correlation.

    Parameters
    ----------
    image : ndarray, shape (frames, Y, X) or (Y, X)
        In its own units.

    Raises
    ------
    InputError
        If the image has no noise, or is too small.
    """
    stack = np.asarray(image)
    stack = stack[None] if stack.ndim == 2 else stack
    constant = Known(gain=0.0)  # a line without slope
    stride, patches, chosen, line, colour = _whitest(stack, constant, _in_image, WHITE)
    _refuse(patches, chosen, colour, stride, "give the noise's sigma")
    rng = np.random.default_rng(0)
    draws = [
        fit(chosen.take(rng.integers(0, len(chosen.mean), len(chosen.mean))), constant, line)
        for _ in range(REPLICATES)
    ]
    error = float(np.std([np.sqrt(draw.constant) for draw in draws]))
    return float(np.sqrt(line.constant)), error * stride, _correlation(stack, line, stride, False)
