"""Ready measurements along a line, for :func:`napari_dps.measure`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError

__all__ = ["FWHM", "LineProfile", "PairSeparation", "PeakDistance"]

FEWEST_OUTER = 3
"""Pixels at an end of a line whose median is a level; of fewer, one dark pixel would decide."""
LEVELLED = 2.0
"""How much farther from the peak than half maximum the level begins."""


@dataclass(frozen=True)
class LineProfile:
    """Intensity along a line, averaged over a band.

    Parameters
    ----------
    start, end : (float, float)
        Row and column in pixels.
    width : int
        Of the band, in pixels, 1 or more.
    pixel_size : float
        Of square pixels, in ``position_unit``.
    position_unit : str
        Unit of length.
    unit : str
        Of the image.

    Raises
    ------
    InputError
        If the ends are not two points of a plane, or the width or the pixel size is none; when it
        measures, if an end lies outside the image.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    width: int = 1
    pixel_size: float = 1.0
    position_unit: str = "px"
    unit: str = ""
    name: str = "profile"

    def __post_init__(self) -> None:
        for end in (self.start, self.end):
            if np.shape(end) != (2,) or not np.isfinite(np.asarray(end, dtype=np.float64)).all():
                raise InputError(
                    f"a line cannot end at {end!r}: give a row and a column, both finite"
                )
        step: Any = self.pixel_size
        if not (isinstance(step, Real) and 0 < float(step) < math.inf):
            raise InputError(f"pixel_size = {step!r} is no length; give a number above 0")
        if math.dist(self.start, self.end) < 1:
            raise InputError(
                f"a line from {self.start} to {self.end} is shorter than a pixel: give two points "
                "farther apart"
            )
        if not isinstance(self.width, int | np.integer) or self.width < 1:
            raise InputError(
                f"width = {self.width!r} is no band; give a whole number of pixels, 1 or more"
            )

    @cached_property
    def position(self) -> NDArray[np.float64]:
        """Distance of each value from the start."""
        count = math.ceil(math.dist(self.start, self.end) + 1)
        return np.linspace(0, math.dist(self.start, self.end), count) * self.pixel_size

    def __call__(self, image: NDArray[Any]) -> NDArray[np.float64]:
        """Return the profile of a plane, shape (K,)."""
        from scipy.ndimage import map_coordinates

        if image.ndim != 2:
            raise InputError(
                f"a line lies in a plane, but the image has shape {image.shape}: measure one plane "
                "(result samples [:, z], or a function that picks it)"
            )
        a, b = np.array(self.start, float), np.array(self.end, float)
        last = np.array(image.shape) - 0.5
        if (np.minimum(a, b) < -0.5).any() or (np.maximum(a, b) > last).any():
            raise InputError(
                f"the line from {self.start} to {self.end} leaves the image of shape "
                f"{image.shape}: draw it inside"
            )
        along = (b - a) / np.linalg.norm(b - a)
        across = np.array([-along[1], along[0]])
        steps = np.linspace(0, float(np.linalg.norm(b - a)), len(self.position))
        side = np.arange(self.width) - (self.width - 1) / 2
        points = a + steps[:, None, None] * along + side[None, :, None] * across
        values = map_coordinates(
            image.astype(np.float64), points.transpose(2, 0, 1), order=1, mode="nearest"
        )
        return np.asarray(values.mean(1))


@dataclass(frozen=True)
class FWHM:
    """Full width at half maximum of the highest peak along a line.

    On each side, half maximum lies half way between the peak and the level of that end of the line:
    the median of its outermost pixels, which neither a single dark pixel nor noise pulls down. NaN
    where the profile does not level off, so that the height is not known: where it does not fall
    half way, or the pixels of the level begin nearer to the middle of the peak than twice as far as
    half maximum. The middle is that of what lies above three quarters of the height: the highest
    pixel of a flat top may be anywhere on it.
    At that distance a Gaussian is at a sixteenth of its height, and its width comes out 3 % too
    small at most; a line that ends on the flank has no width. Noise makes the profile cross half
    maximum too early: where it is more than a tenth of the height, average over a band.

    Parameters
    ----------
    line : LineProfile
        Where to look; its unit of length is the width's. Three times the width is long enough.
    ends : float
        Share of the line at either end whose median is the level, 3 pixels at least.

    Raises
    ------
    InputError
        If `ends` is not above 0 and below 0.5.
    """

    line: LineProfile
    name: str = "FWHM"
    ends: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.ends < 0.5:
            raise InputError(
                f"ends = {self.ends!r} is not allowed; give the share of the line at either end, "
                "above 0 and below 0.5"
            )

    @property
    def unit(self) -> str:
        """Unit of length."""
        return self.line.position_unit

    def __call__(self, image: NDArray[Any]) -> float:
        """Return the width, in the line's unit of length."""
        profile = self.line(image)
        top = int(profile.argmax())
        outer = max(FEWEST_OUTER, round(self.ends * len(profile)))
        right = _fall(profile[top:], outer)
        left = _fall(profile[top::-1], outer)
        if math.isnan(left + right):
            return math.nan
        middle, last = _crest(profile, top, outer), len(profile) - 1
        level = (middle - (outer - 1), last - (outer - 1) - middle)
        half = (middle - (top - left), top + right - middle)
        if any(away < LEVELLED * fall for away, fall in zip(level, half, strict=True)):
            return math.nan
        return (left + right) * float(self.line.position[1])


@dataclass(frozen=True)
class PeakDistance:
    """Distance between the two highest maxima along a line; NaN where there are not two.

    Parameters
    ----------
    line : LineProfile
        Where to look; its unit of length is the distance's.
    dip : float
        Two maxima are two where the profile between them falls by this share of the lower one's
        height above the profile's minimum.
    least : float
        The lower one has at least this share of the higher one's height, so that no ripple of the
        background counts.
    """

    line: LineProfile
    dip: float = 0.1
    least: float = 0.25
    name: str = "distance"

    @property
    def unit(self) -> str:
        """Unit of length."""
        return self.line.position_unit

    def __call__(self, image: NDArray[Any]) -> float:
        """Return the distance, in the line's unit of length."""
        from scipy.signal import find_peaks

        profile = self.line(image)
        low = profile.min()
        # A maximum at an end of the line is one too.
        padded = np.concatenate(([low], profile, [low]))
        peaks, facts = find_peaks(padded, prominence=0)
        height = padded[peaks] - low
        parted = (facts["prominences"] >= self.dip * height) & (
            height >= self.least * height.max(initial=0.0)
        )
        peaks, height = peaks[parted], height[parted]
        if len(peaks) < 2:
            return math.nan
        first, second = peaks[np.argsort(height, kind="stable")[::-1][:2]]
        between = abs(_vertex(padded, int(first)) - _vertex(padded, int(second)))
        return between * float(self.line.position[1])


@dataclass(frozen=True)
class PairSeparation:
    """Distance of two points of equal brightness from how long their common spot is.

    Two equal points of one width, a distance d apart, have a variance of light along the line
    through both that is (d/2)^2 larger than across. So d follows without a dip between them, where
    :class:`PeakDistance` sees one maximum; but it must be known that they are two, equal, and alone
    in the disc. 0 where the spot is no longer than it is wide; NaN where there is no light.

    Parameters
    ----------
    line : LineProfile
        Through both points, its middle about between them; half its length is the radius of the
        disc that is looked at. Its unit of length is the distance's.
    background : float or None
        Level of a pixel without light; the median outside the disc where None.
    """

    line: LineProfile
    background: float | None = None
    name: str = "separation"

    @property
    def unit(self) -> str:
        """Unit of length."""
        return self.line.position_unit

    def __call__(self, image: NDArray[Any]) -> float:
        """Return the distance, in the line's unit of length."""
        if image.ndim != 2:
            raise InputError(
                f"points lie in a plane, but the image has shape {image.shape}: measure one plane"
            )
        ends = np.array([self.line.start, self.line.end], dtype=np.float64)
        length = math.dist(*ends)
        row, column = (ends[1] - ends[0]) / length
        y, x = np.indices(image.shape, dtype=np.float64) - ends.mean(0)[:, None, None]
        inside = np.hypot(y, x) <= length / 2
        level = self.background
        if level is None:
            level = float(np.median(image[~inside])) if (~inside).any() else float(image.min())
        light = image[inside].astype(np.float64) - level
        total = light.sum()
        if total <= 0:
            return math.nan
        along = (y * row + x * column)[inside]
        across = (x * row - y * column)[inside]
        longer = _variance(along, light / total) - _variance(across, light / total)
        return 2 * math.sqrt(max(longer, 0.0)) * self.line.pixel_size


def _variance(place: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    return float((share * (place - (share * place).sum()) ** 2).sum())


def _fall(profile: NDArray[np.float64], outer: int) -> float:
    """Return how many pixels a profile that begins at its peak takes to fall half way down.

    NaN where it does not.
    """
    if len(profile) <= outer:
        return math.nan
    half = (profile[0] + float(np.median(profile[-outer:]))) / 2
    below = np.flatnonzero(profile <= half)
    if len(below) == 0 or profile[0] <= half:
        return math.nan
    k = int(below[0])
    return k - 1 + float((profile[k - 1] - half) / (profile[k - 1] - profile[k]))


def _crest(profile: NDArray[np.float64], top: int, outer: int) -> float:
    """Return the middle of what lies about the peak above three quarters of its height.

    The highest pixel itself may be anywhere on a flat top: at its beginning where a detector was
    saturated, by chance where there is noise.
    """
    level = max(float(np.median(profile[:outer])), float(np.median(profile[-outer:])))
    low = np.flatnonzero(profile < level + 0.75 * (profile[top] - level))
    before, after = low[low < top], low[low > top]
    first = int(before[-1]) + 1 if len(before) else 0
    last = int(after[0]) - 1 if len(after) else len(profile) - 1
    return (first + last) / 2


def _vertex(profile: NDArray[np.float64], k: int) -> float:
    """Return where a parabola through a maximum and its neighbours has its vertex."""
    left, top, right = profile[k - 1 : k + 2]
    curvature = left - 2 * top + right
    return k + (0.5 * float((left - right) / curvature) if curvature < 0 else 0.0)
