"""Ready measurements along a line, for :func:`napari_dps.measure`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError

__all__ = ["FWHM", "LineProfile", "PairSeparation", "PeakDistance"]


@dataclass(frozen=True)
class LineProfile:
    """Intensity along a line, averaged over a band.

    Parameters
    ----------
    start, end : (float, float)
        Row and column in pixels.
    width : int
        Of the band, in pixels.
    pixel_size : float
        Of square pixels, in ``position_unit``.
    position_unit : str
        Unit of length.
    unit : str
        Of the image.

    Raises
    ------
    InputError
        If the ends are one point.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    width: int = 1
    pixel_size: float = 1.0
    position_unit: str = "px"
    unit: str = ""
    name: str = "profile"

    def __post_init__(self) -> None:
        if math.dist(self.start, self.end) < 1:
            raise InputError(
                f"a line from {self.start} to {self.end} is shorter than a pixel: give two points "
                "farther apart"
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

    Half maximum lies half way between the peak and the lowest value on that side of it; NaN where
    there is no fall on both sides.

    Parameters
    ----------
    line : LineProfile
        Where to look; its unit of length is the width's.
    """

    line: LineProfile
    name: str = "FWHM"

    @property
    def unit(self) -> str:
        """Unit of length."""
        return self.line.position_unit

    def __call__(self, image: NDArray[Any]) -> float:
        """Return the width, in the line's unit of length."""
        profile = self.line(image)
        top = int(profile.argmax())
        right = _fall(profile[top:])
        left = _fall(profile[top::-1])
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


def _fall(profile: NDArray[np.float64]) -> float:
    """Return how many pixels a profile that begins at its peak takes to fall half way down."""
    half = (profile[0] + profile.min()) / 2
    below = np.flatnonzero(profile <= half)
    if len(below) == 0 or profile[0] <= profile.min():
        return math.nan
    k = int(below[0])
    return k - 1 + float((profile[k - 1] - half) / (profile[k - 1] - profile[k]))


def _vertex(profile: NDArray[np.float64], k: int) -> float:
    """Return where a parabola through a maximum and its neighbours has its vertex."""
    left, top, right = profile[k - 1 : k + 2]
    curvature = left - 2 * top + right
    return k + (0.5 * float((left - right) / curvature) if curvature < 0 else 0.0)
