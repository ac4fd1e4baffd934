"""From layers to images: axes, pixel size, the region looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Layer
from napari.utils.transforms import Affine

from napari_dps.arrays import ArrayRef
from napari_dps.components import GROUPS
from napari_dps.errors import DPSError, InputError
from napari_dps.image import Image, guess_axes, to_micrometer
from napari_dps.recipe import Recipe

KEY = "napari_dps"

#: Fields that hold one value per pixel of the image, so that they are cropped with it.
_PER_PIXEL = ("mask", "valid")
_ONE_LETTER = {"time": "T", "channel": "C", "t": "T", "c": "C", "z": "Z", "y": "Y", "x": "X"}


@dataclass(frozen=True)
class PixelSize:
    """A pixel size and where it came from.

    Attributes
    ----------
    yx : tuple of float or None
        Micrometres along Y and X; None where nobody knows.
    origin : {"layer", "file", "typed", "none"}
        Who says so.
    z : float or None
        Step along Z in micrometres, where known.
    """

    yx: tuple[float, float] | None = None
    origin: str = "none"
    z: float | None = None


def source_data(layer: Layer) -> Any:
    """Return a layer's array at full resolution (it may be lazy)."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def layer_axes(layer: ImageLayer) -> str:
    """Return one letter per axis of a layer: from its labels, else its file, else guessed."""
    labels = [_ONE_LETTER.get(str(label).lower(), "?") for label in layer.axis_labels]
    shape = tuple(int(n) for n in source_data(layer).shape)
    if layer.rgb:
        return "".join(labels) + "S" if _usable(labels) else guess_axes(shape, layer.name)
    if _usable(labels):
        return "".join(labels)
    from_file = _file_image(layer)
    if from_file is not None and from_file.shape == shape and not from_file.is_rgb:
        return from_file.axes
    return guess_axes((*shape[:-1], 1000) if shape[-1] in (3, 4) else shape, layer.name)


def _usable(letters: Sequence[str]) -> bool:
    return "?" not in letters and len(set(letters)) == len(letters) and {"Y", "X"} <= set(letters)


def world_point(viewer: Any) -> tuple[float, ...]:
    """Return where a viewer's sliders stand, in micrometres along axes of length.

    ``viewer.dims.point`` itself is in units that the layers have in common: the finest of them.
    """
    dims = viewer.dims
    units = getattr(dims, "units", None)  # napari has them since 0.9
    if units is None:
        units = max((layer.units for layer in viewer.layers), key=len, default=())
    factors = [1.0] * (len(dims.point) - len(units)) + [_length(unit) for unit in units]
    return tuple(float(p) * f for p, f in zip(dims.point, factors, strict=True))


def data_point(layer: Layer, point: Sequence[float]) -> np.ndarray:
    """Return the pixel of a layer at a point as `world_point` gives it, or one of the same kind."""
    own = np.asarray(point, dtype=float)[-layer.ndim :]
    return np.asarray(layer.world_to_data(own / [_length(unit) for unit in layer.units]))


def place_of(layer: Layer, pixel: Any) -> np.ndarray:
    """Return where a pixel of a layer lies, in micrometres along axes of length."""
    return np.asarray(layer.data_to_world(pixel)) * [_length(unit) for unit in layer.units]


def _length(unit: Any) -> float:
    """Return a unit in micrometres; 1 where it is no length."""
    return to_micrometer(str(unit)) or 1.0


def layer_pixel_size(layer: Layer) -> PixelSize:
    """Return the pixel size that a layer carries itself (cheap)."""
    factors = [to_micrometer(str(unit)) for unit in layer.units]
    sizes = [
        None if f is None else float(abs(s)) * f for s, f in zip(layer.scale, factors, strict=True)
    ]
    if len(sizes) < 2 or sizes[-1] is None or sizes[-2] is None:
        return PixelSize()
    return PixelSize((sizes[-2], sizes[-1]), "layer", sizes[-3] if len(sizes) > 2 else None)


def file_pixel_size(layer: ImageLayer) -> PixelSize:
    """Return the pixel size that the layer's file carries; reads the file, so not for the GUI.

    napari's own reader drops it.
    """
    image = _file_image(layer)
    if image is None or image.pixel_size_yx is None:
        return PixelSize()
    # Channels may have been split into layers, and axes of length one dropped.
    if image.spatial_shape != tuple(source_data(layer).shape[-3 : -1 if layer.rgb else None])[-2:]:
        return PixelSize()
    z = None
    if "Z" in image.axes:
        factor = to_micrometer(image.units[image.axes.index("Z")])
        z = None if factor is None else image.scale[image.axes.index("Z")] * factor
    return PixelSize(image.pixel_size_yx, "file", z)


def _file_image(layer: Layer) -> Image | None:
    path = layer.source.path
    if path is None or not Path(path).is_file():
        return None
    return _read_header(str(path), Path(path).stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _read_header(path: str, _mtime: int) -> Image | None:
    from napari_dps.io import read_image

    try:
        image = read_image(path)
    except DPSError:
        return None  # not a format that we read: then the file simply tells us nothing
    # Only shape and calibration are wanted; the pixels must not stay in the cache.
    return image.with_data(np.broadcast_to(image.data.dtype.type(0), image.shape))


@dataclass(frozen=True)
class Region:
    """A part of a layer: one slice per axis of its data (colour left out)."""

    slices: tuple[slice, ...]

    @property
    def offset(self) -> tuple[int, ...]:
        """First pixel along each axis."""
        return tuple(int(s.start or 0) for s in self.slices)


def whole(layer: ImageLayer) -> Region:
    """Return the region that is everything."""
    return Region(tuple(slice(0, int(n)) for n in source_data(layer).shape[: layer.ndim]))


def visible_region(layer: ImageLayer, viewer: Any) -> Region:
    """Return what the canvas shows of a layer: a 2D crop of the frame at hand.

    Raises
    ------
    InputError
        If the canvas shows 3D, other axes than the last two, or nothing of the layer.
    """
    if viewer.dims.ndisplay != 2:
        raise InputError(
            "the visible region needs the 2D display; switch it, or take the whole image"
        )
    shown = [int(d) for d in viewer.dims.displayed]
    first = viewer.dims.ndim - layer.ndim
    if [d - first for d in shown] != [layer.ndim - 2, layer.ndim - 1]:
        raise InputError(
            "the visible region needs the layer's last two axes on display; "
            "roll the dimensions back, or take the whole image"
        )
    shape = source_data(layer).shape
    low, high = np.asarray(layer.corner_pixels)
    point = data_point(layer, world_point(viewer))
    slices = []
    for axis in range(layer.ndim):
        size = int(shape[axis])
        if axis >= layer.ndim - 2:
            start, stop = max(0, int(low[axis])), min(size, int(high[axis]) + 1)
            if stop - start < 2:
                raise InputError(
                    f"nothing of {layer.name!r} is in view; move it there, or take the whole image"
                )
        else:
            start = int(np.clip(round(float(point[axis])), 0, size - 1))
            stop = start + 1
        slices.append(slice(start, stop))
    return Region(tuple(slices))


def make_image(layer: ImageLayer, region: Region, pixel_size: PixelSize) -> Image:
    """Return a region of a layer as an image; reads the data, so not for the GUI's thread."""
    data = np.asarray(source_data(layer)[region.slices])
    axes = layer_axes(layer)
    factors = [to_micrometer(str(unit)) for unit in layer.units]
    translate = region_translate(layer, region)
    scale, units, origin = [], [], []
    for i in range(layer.ndim):
        letter, factor, unit = axes[i], factors[i], str(layer.units[i])
        if factor is not None and letter in "ZYX":
            scale.append(float(abs(layer.scale[i])) * factor)
            origin.append(float(translate[i]) * factor)
            units.append("micrometer")
        else:
            scale.append(float(abs(layer.scale[i])))
            origin.append(float(translate[i]))
            units.append("second" if unit == "second" else "pixel")
    if "S" in axes:
        scale, units, origin = [*scale, 1.0], [*units, "pixel"], [*origin, 0.0]
    image = Image(
        data,
        axes,
        tuple(scale),
        tuple(units),
        tuple(origin),
        name=layer.name,
        calibration="file" if pixel_size.origin in ("layer", "file") else "none",
        path=layer.source.path,
    )
    if pixel_size.yx is None or pixel_size.origin == "layer":
        return image
    sizes: tuple[float, ...] = pixel_size.yx
    if "Z" in axes and pixel_size.z is not None:
        sizes = (pixel_size.z, *sizes)
    given = image.with_pixel_size(sizes)
    return replace(given, calibration="file" if pixel_size.origin == "file" else "given")


def crop_recipe(recipe: Recipe, shape: tuple[int, int], region: Region) -> Recipe:
    """Return the recipe with masks of the whole image's size cropped to the region.

    Parameters
    ----------
    recipe : Recipe
        As the forms describe it.
    shape : tuple of int
        Rows and columns of the whole image.
    region : Region
        The part that is restored.
    """
    rows, columns = region.slices[-2:]
    if (rows.start, rows.stop, columns.start, columns.stop) == (0, shape[0], 0, shape[1]):
        return recipe

    def cropped(ref: ArrayRef) -> ArrayRef:
        values = ref.load()
        return ArrayRef(values[..., rows, columns]) if values.shape[-2:] == shape else ref

    parts: dict[str, Any] = {}
    for group in GROUPS:
        component = getattr(recipe, group)
        held = {name: getattr(component, name, None) for name in _PER_PIXEL}
        changed = {n: cropped(ref) for n, ref in held.items() if isinstance(ref, ArrayRef)}
        if changed:
            parts[group] = component.model_copy(update=changed)
    if recipe.valid is not None:
        parts["valid"] = cropped(recipe.valid)
    return recipe.with_parts(**parts) if parts else recipe


def region_translate(layer: ImageLayer, region: Region) -> np.ndarray:
    """Return the translate that puts a crop where it was (before the layer's own affine)."""
    to_physical = Affine(
        scale=layer.scale, rotate=layer.rotate, shear=layer.shear, translate=layer.translate
    )
    return np.asarray(to_physical(np.asarray(region.offset, dtype=float)))


def recipe_dict(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain values."""
    plain: dict[str, Any] = recipe.model_dump(mode="json")
    return plain


def recipe_of(layer: Layer) -> dict[str, Any] | None:
    """Return the recipe that a layer (sample data, or a result) brings along."""
    held = layer.metadata.get(KEY)
    recipe = held.get("recipe") if isinstance(held, dict) else None
    return recipe if isinstance(recipe, dict) else None
