"""Pictures of what is sure and what is not: values by colour, certainty by saturation or opacity.

Colour maps are those of even, monotone lightness, which readers with any colour vision see in the
right order; a picture that leaves saturation away keeps its lightness, so that values stay legible
where they are uncertain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError
from napari_dps.uncertainty.measure import _note, _samples
from napari_dps.uncertainty.probability import probability_above

if TYPE_CHECKING:
    from napari_dps.result import Result

__all__ = [
    "COLOUR_MAPS",
    "Look",
    "bivariate",
    "interval_width",
    "mix_with_gray",
    "opacity_by_probability",
]

Array = NDArray[np.float64]

COLOUR_MAPS = ("viridis", "cividis", "magma", "inferno", "plasma")
"""Colour maps that are offered: safe for the colour-blind."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Of linear red, green and blue (ITU-R BT.709)."""
GRAY_AT = 0.5
"""Interval width at which no colour is left, over the range of values shown."""


@dataclass(frozen=True)
class Look:
    """A picture of values and of how sure they are, with what its legend says.

    Attributes
    ----------
    picture : ndarray of float32
        Shape of the image and one axis more, of red, green and blue (and opacity), 0 to 1.
    limits : (float, float)
        Values at the ends of the colour map, in ``unit``.
    certainty_limits : (float, float)
        Interval width (or probability) at which the picture is full, and at which it is gray (or
        transparent).
    what : str
        What saturation or opacity says: level and origin of the interval, or the threshold.
    colormap : str
        Name of the colour map.
    unit : str
        Of the values.
    """

    picture: NDArray[np.float32]
    limits: tuple[float, float]
    certainty_limits: tuple[float, float]
    what: str
    colormap: str
    unit: str = ""

    def legend(self, axes: Any = None) -> Any:
        """Draw the legend: values to the right, certainty upwards.

        Parameters
        ----------
        axes : matplotlib Axes, optional
            Where; a new figure where left out.

        Returns
        -------
        matplotlib Axes
        """
        if axes is None:
            from matplotlib.figure import Figure

            axes = Figure(figsize=(3.2, 2.4), layout="constrained").subplots()
        value, sure = np.meshgrid(np.linspace(0, 1, 128), np.linspace(0, 1, 64))
        colours = _colours(value, self.colormap)
        if self.picture.shape[-1] == 4:
            # Over the black of a viewer's canvas.
            panel = colours * sure[..., None]
        else:
            panel = mix_with_gray(colours, sure)
        full, none = self.certainty_limits
        axes.imshow(
            panel, origin="lower", aspect="auto", extent=(*self.limits, 0.0, 1.0), rasterized=True
        )
        axes.set_yticks([0, 0.5, 1], [f"{v:.3g}" for v in (none, (full + none) / 2, full)])
        axes.set_xlabel(f"value ({self.unit})" if self.unit else "value")
        # A width has the unit of the values; a probability has none.
        unit = f", {self.unit}" if self.unit and self.picture.shape[-1] == 3 else ""
        axes.set_ylabel(self.what.replace(" (", "\n(") + unit)
        return axes


def interval_width(result: Result, level: float = 0.9) -> tuple[NDArray[np.float32], str]:
    """Return the width of the interval per pixel, and what it is.

    Parameters
    ----------
    result : Result
        With samples enough for the level, or calibrated at it.
    level : float
        Probability inside.

    Returns
    -------
    width : ndarray of float32, shape of the image
        In the image's unit.
    what : str
        ``"width of the 90 % interval (nominal)"``, or ``(calibrated on N images)``.

    Raises
    ------
    InputError
        If there are too few samples; the sentence names the number.
    """
    low, high = result.interval(level)
    return np.asarray(high - low, dtype=np.float32), _what(result, level)


def bivariate(
    result: Result,
    *,
    level: float = 0.9,
    limits: tuple[float, float] | None = None,
    gray_at: float | None = None,
    colormap: str = "viridis",
    unit: str = "",
) -> Look:
    """Return the mean with hue by value and saturation by certainty.

    Parameters
    ----------
    result : Result
        With samples enough for the level, or calibrated at it.
    level : float
        Of the interval whose width takes the colour away.
    limits : (float, float), optional
        Values at the ends of the colour map; 0.5th and 99.8th percentile of the mean where left
        out.
    gray_at : float, optional
        Width at which a pixel is gray; half the range between the limits where left out.
    colormap : str
        One of :data:`COLOUR_MAPS`.
    unit : str
        Of the image, for the legend.

    Returns
    -------
    Look
        Its picture is RGB, of the lightness that the colour map alone has.

    Raises
    ------
    InputError
        If there are too few samples, or an argument cannot be used.
    """
    width, what = interval_width(result, level)
    low, high = _limits(result.mean, limits)
    none = GRAY_AT * (high - low) if gray_at is None else float(gray_at)
    if not none > 0:
        raise InputError(f"gray_at must be above 0, in the image's unit; got {gray_at}")
    colours = _colours((np.asarray(result.mean, np.float64) - low) / (high - low), colormap)
    sure = np.clip(1 - np.asarray(width, np.float64) / none, 0, 1)
    picture = mix_with_gray(colours, sure).astype(np.float32)
    return Look(picture, (low, high), (0.0, none), what, colormap, unit)


def opacity_by_probability(
    result: Result | NDArray[Any],
    threshold: float,
    *,
    limits: tuple[float, float] | None = None,
    colormap: str = "viridis",
    unit: str = "",
) -> Look:
    """Return the mean of the samples, as opaque as it is probable that there is structure.

    Parameters
    ----------
    result : Result, or array of shape (S, ...)
        Posterior samples.
    threshold : float
        Structure is what lies above it, in the image's unit.
    limits, colormap, unit
        As in :func:`bivariate`.

    Returns
    -------
    Look
        Its picture is RGBA; opacity is the share of samples above the threshold.
    """
    sure = probability_above(result, threshold)
    mean = _samples(result).mean(axis=0, dtype=np.float64)
    low, high = _limits(mean, limits)
    colours = _colours((mean - low) / (high - low), colormap)
    picture = np.concatenate([colours, sure[..., None]], axis=-1).astype(np.float32)
    what = f"probability above {threshold:.4g}{f' {unit}' if unit else ''}"
    return Look(picture, (low, high), (1.0, 0.0), what, colormap, unit)


def mix_with_gray(colours: Array, share: Any) -> Array:
    """Take saturation away and keep the lightness.

    Parameters
    ----------
    colours : ndarray, shape (..., 3)
        sRGB, 0 to 1.
    share : array-like, shape (...)
        1 keeps the colour, 0 leaves the gray of equal luminance.

    Returns
    -------
    ndarray, shape (..., 3)
    """
    # Luminance is a sum in linear light, so the mix is made there.
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    gray = (linear @ LUMINANCE)[..., None]
    keep = np.asarray(share, dtype=np.float64)[..., None]
    mixed = np.clip(keep * linear + (1 - keep) * gray, 0, 1)
    return np.asarray(
        np.where(mixed <= 0.0031308, 12.92 * mixed, 1.055 * mixed ** (1 / 2.4) - 0.055)
    )


def _what(result: Any, level: float) -> str:
    """Return level and origin of an image's interval; pixels are what a calibration is of."""
    note = result.report.get("calibration") if "intervals" in result.report else _note(result)
    return f"width of the {level * 100:g} % interval ({note})"


def _colours(values: Array, colormap: str) -> Array:
    if colormap not in COLOUR_MAPS:
        raise InputError(
            f"the colour map {colormap!r} is not offered; take one that is safe for the "
            f"colour-blind: {', '.join(COLOUR_MAPS)}"
        )
    import matplotlib

    chosen: Any = matplotlib.colormaps[colormap]
    return np.asarray(chosen(np.clip(np.nan_to_num(values), 0, 1))[..., :3], dtype=np.float64)


def _limits(mean: NDArray[Any], given: tuple[float, float] | None) -> tuple[float, float]:
    if given is None:
        low, high = (float(v) for v in np.nanpercentile(mean, [0.5, 99.8]))
        return low, high if high > low else low + 1.0
    low, high = (float(v) for v in given)
    if not high > low:
        raise InputError(f"limits must be two ascending values; got {given}")
    return low, high
