"""Which axes of an image make one measurement, and which those of its object are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_dps.errors import InputError
from napari_dps.grid import Grid
from napari_dps.image import Image, to_micrometer

if TYPE_CHECKING:
    from napari_dps.recipe import Recipe

__all__ = ["Datum", "datum_of", "datum_of_object", "grid_of", "with_datum_last"]


@dataclass(frozen=True)
class Datum:
    """The axes of one measurement and of its object; all other axes are frames.

    Attributes
    ----------
    axes : str
        ``"YX"``; ``"ZYX"`` of a volume, ``"TYX"`` of the patterns of a scan; ``"CYX"`` in colour.
    object_axes : str
        ``"YX"`` or ``"ZYX"``, with a ``"C"`` before where the object has channels.
    colour : bool
        Whether the channels are red, green and blue.
    pitched : str
        The measurement's axes of which the object's pitch comes: both of rows and columns must be
        lengths for the pixel size to be known, or the detector's alone.
    """

    axes: str = "YX"
    object_axes: str = "YX"
    colour: bool = False
    pitched: str = "YX"


def datum_of(image: Image, recipe: Recipe, colour: bool = False) -> Datum:
    """Return which axes of a measurement the recipe takes as one.

    Raises
    ------
    InputError
        If the model needs a stack and there is none, or the object needs an axis that is taken.
    """
    model = recipe.forward
    if colour:
        return Datum("CYX", "CYX", True)
    axes = "YX"
    if model.dimensions(image.axes, image.shape) == 3:
        axes = model.stack_axis(_leading(image, model.kind)) + "YX"
    spatial = "ZYX" if model.object_dimensions(image.axes, image.shape) == 3 else "YX"
    channels = "C" if model.object_channels() == 2 else ""
    taken = (set(image.axes) - set(axes)) & set(channels + spatial)
    if taken:
        raise InputError(
            f"the object behind {model.kind!r} has axes {channels + spatial}, but '{image.name}' "
            f"has frames along {', '.join(sorted(taken))} already; give one of them at a time"
        )
    pitched = "YX"
    if len(axes) == len(spatial):
        used = {axes[k] for k in model.object_axes_from(len(axes))}
        pitched = "".join(letter for letter in "YX" if letter in used)
    return Datum(axes, channels + spatial, pitched=pitched)


def datum_of_object(image: Image, recipe: Recipe) -> str:
    """Return which axes of an object the recipe takes as one, for a simulation."""
    model = recipe.forward
    axes = "YX"
    if model.object_dimensions(image.axes, image.shape) == 3:
        leading = _leading(image, model.kind)
        axes = ("Z" if "Z" in leading else leading[-1]) + "YX"
    if model.object_channels() == 2:
        at = image.axes.find("C")
        if at < 0 or image.shape[at] != 2:
            raise InputError(
                f"the object behind {model.kind!r} is complex; give its real and imaginary part "
                "as an axis C of length 2 (axes 'CYX')"
            )
        axes = "C" + axes
    return axes


def _leading(image: Image, kind: str) -> str:
    """Return the axes of a stack but Y and X."""
    leading = "".join(letter for letter in image.axes if letter not in "YXS")
    if not leading:
        raise InputError(
            f"the forward model {kind!r} needs a stack, but '{image.name}' has one plane of shape "
            f"{image.shape}; give an image with one more axis"
        )
    return leading


def with_datum_last(image: Image, axes: str) -> Image:
    """Return the image with the axes of one measurement last, in that order."""
    image = image.picture_last()
    leading = "".join(letter for letter in image.axes if letter not in axes)
    return image.with_axes(leading + axes)


def grid_of(image: Image, datum: Datum, device: str = "cpu", dtype: str = "float32") -> Grid:
    """Return the grid of one measurement (of one channel, in colour)."""
    axes = "YX" if datum.colour else datum.axes
    sizes: list[float] = []
    for letter in axes:
        at = image.axes.index(letter)
        factor = to_micrometer(image.units[at])
        sizes.append(np.nan if factor is None else image.scale[at] * factor)
    shape = tuple(image.shape[image.axes.index(letter)] for letter in axes)
    known = all(np.isfinite(sizes[axes.index(letter)]) for letter in datum.pitched)
    return Grid(shape, tuple(sizes) if known else None, device, dtype)
