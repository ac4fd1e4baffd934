"""From layers to what is measured: the samples of a result, regions and lines in its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer, Points, Shapes
from numpy.typing import NDArray

from napari_dps.errors import DPSError, InputError
from napari_dps.image import to_micrometer
from napari_dps.plugin.layers import _ONE_LETTER, KEY, data_point, place_of, source_data
from napari_dps.recipe import Recipe
from napari_dps.result import Result

__all__ = [
    "Line",
    "base_name",
    "image_transform",
    "intensity_unit",
    "is_samples",
    "line_in_pixels",
    "recipe_and_report",
    "region_labels",
    "result_of",
    "same_place",
    "shown_frame",
]

SAMPLES = " samples"
_LETTERS = "TCZYX"
#: Corners of an ellipse drawn as a polygon.
_CORNERS = 90


def is_samples(layer: Layer) -> bool:
    """Whether a layer holds the samples of a result."""
    held = layer.metadata.get(KEY)
    return (
        isinstance(layer, ImageLayer)
        and isinstance(held, dict)
        and "report" in held
        and layer.ndim > 2
        and str(layer.axis_labels[0]) == "sample"
    )


def base_name(layer: Layer) -> str:
    """Return the name that results of one run share."""
    return str(layer.name).removesuffix(SAMPLES)


def recipe_and_report(layer: ImageLayer) -> tuple[Recipe | None, dict[str, Any]]:
    """Return what a layer of a result brings along."""
    held = layer.metadata[KEY]
    recipe = held.get("recipe")
    if isinstance(recipe, dict):
        try:
            return Recipe(**recipe), dict(held["report"])
        except DPSError:
            return None, dict(held["report"])  # of a plugin that is no longer there
    return None, dict(held["report"])


def result_of(layer: ImageLayer) -> Result:
    """Return the result behind a layer of samples; reads the data, so not for the GUI's thread."""
    recipe, report = recipe_and_report(layer)
    n = layer.ndim - 1
    letters = [_ONE_LETTER.get(str(label).lower(), "?") for label in layer.axis_labels[1:]]
    known = "?" not in letters and len(set(letters)) == n
    axes = "".join(letters) if known else _LETTERS[-n:]
    scale, units, translate = [], [], []
    for k in range(n):
        unit, step, place = str(layer.units[k + 1]), layer.scale[k + 1], layer.translate[k + 1]
        factor = to_micrometer(unit) if axes[k] in "ZYX" else None
        scale.append(float(abs(step)) * (factor or 1.0))
        translate.append(float(place) * (factor or 1.0))
        units.append("micrometer" if factor else ("second" if unit == "second" else "pixel"))
    data = np.asarray(source_data(layer))
    return Result(data, axes, scale, units, translate, base_name(layer), recipe, report)


def same_place(first: ImageLayer, second: ImageLayer) -> bool:
    """Whether equal pixels of two results lie in one place, to half a pixel."""
    last = np.array(source_data(first).shape) - 1.0
    last[0] = 0.0  # samples have no place
    corners = [np.zeros(len(last)), last, np.append(last[:-1], 0.0)]
    here, there = (
        np.array([place_of(layer, corner) for corner in corners])[:, 1:]
        for layer in (first, second)
    )
    lengths = [to_micrometer(str(unit)) or 1.0 for unit in first.units[1:]]
    half = np.abs(np.asarray(first.scale)[1:]) * lengths / 2
    return bool((np.abs(here - there) <= half).all())


def intensity_unit(recipe: Recipe | None) -> str:
    """Return the unit of a result's values: the input's own, so counts of the camera."""
    counting = recipe is not None and recipe.noise.kind in ("poisson", "poisson-gaussian")
    return "counts" if counting else ""


def image_transform(layer: ImageLayer) -> dict[str, Any]:
    """Return layer arguments for an image of one sample's shape: the sample axis taken away."""
    shear = np.array(layer.shear)
    if shear.ndim == 1:
        full = np.eye(layer.ndim)
        full[np.triu_indices(layer.ndim, 1)] = shear
        shear = full
    return {
        "scale": np.array(layer.scale)[1:],
        "translate": np.array(layer.translate)[1:],
        "rotate": np.array(layer.rotate)[1:, 1:],
        "shear": shear[1:, 1:],
        "affine": np.array(layer.affine.affine_matrix)[1:, 1:],
        "units": tuple(layer.units)[1:],
        "axis_labels": tuple(layer.axis_labels)[1:],
    }


def shown_frame(layer: ImageLayer, point: Any, keep: int) -> tuple[int, ...]:
    """Return the indices of the frame on display, along the axes between samples and picture.

    Parameters
    ----------
    layer : Image layer
        Samples.
    point : sequence of float
        Where the viewer's sliders stand, see `world_point`.
    keep : int
        How many of the last axes make a picture.
    """
    at = data_point(layer, point)[1 : layer.ndim - keep]
    sizes = source_data(layer).shape[1 : layer.ndim - keep]
    return tuple(int(np.clip(round(float(p)), 0, n - 1)) for p, n in zip(at, sizes, strict=True))


# ------------------------------------------------------------------ regions


def region_labels(
    regions: Layer, samples: ImageLayer, point: Any
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return regions in the pixels of a result, whatever grid they were drawn on.

    Parameters
    ----------
    regions : Labels or Shapes layer
        Shapes that enclose something count, in every frame, whichever they were drawn on.
    samples : Image layer
        Of the result.
    point : sequence of float
        Where the viewer's sliders stand, see `world_point`: says which labels, along axes that the
        result does not have.

    Returns
    -------
    rows : ndarray, shape (K,)
        Row of each region in its layer's features: its label, or the shape's place in the list.
    labels : list of ndarray, shape (Y, X) or that of one sample
        0 outside. Labels as they are, of the whole stack where its frames have labels of their
        own; shapes counted from 1, in one array unless they overlap.

    Raises
    ------
    InputError
        If there is no region, or none that reaches into the result.
    """
    shape = tuple(int(n) for n in source_data(samples).shape[-2:])
    if isinstance(regions, Labels):
        there = _labels_of_stack(regions, samples, point, shape)
        rows = np.unique(there[there > 0]).astype(np.int64)
        images = [there]
    elif isinstance(regions, Shapes):
        images = []
        drawn = []
        for k, (data, kind) in enumerate(zip(regions.data, regions.shape_type, strict=True)):
            if kind not in ("rectangle", "polygon", "ellipse"):
                continue
            outline = _outline(np.asarray(data)[:, -2:], kind)
            mask = _filled(_to_pixels(outline, regions, samples), shape)
            if mask.any():
                drawn.append(k)
                _place(images, mask, k + 1)
        rows = np.array(drawn, dtype=np.int64)
    else:
        raise InputError(
            f"{regions.name!r} holds no regions; choose a Labels layer, or a Shapes layer with "
            "rectangles, ellipses or polygons"
        )
    if len(rows) == 0:
        raise InputError(
            f"no region of {regions.name!r} reaches into {samples.name!r}; draw one there"
        )
    return rows, images


def _place(images: list[NDArray[np.int64]], mask: NDArray[np.bool_], label: int) -> None:
    """Write a label into the first image in which its place is free."""
    for image in images:
        if not image[mask].any():
            image[mask] = label
            return
    images.append(np.where(mask, label, 0).astype(np.int64))


def _labels_of_stack(
    regions: Labels, samples: ImageLayer, point: Any, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the labels of each frame of a result, or of one where all have the same."""
    frames = tuple(int(n) for n in source_data(samples).shape[1:-2])
    values = np.asarray(source_data(regions))
    if regions.ndim == 2 or not frames:
        return _labels_on(values, regions, samples, point, shape)
    planes = []
    for index in np.ndindex(*frames):
        at = np.array(point, dtype=float)
        at[1 - samples.ndim :] = place_of(samples, (0.0, *index, 0.0, 0.0))[1:]
        planes.append(_labels_on(values, regions, samples, at, shape))
    if all(np.array_equal(plane, planes[0]) for plane in planes[1:]):
        return planes[0]
    return np.stack(planes).reshape(*frames, *shape)


def _labels_on(
    values: NDArray[Any], regions: Labels, samples: ImageLayer, point: Any, shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the label that lies under the middle of each pixel of a result's plane."""
    if values.ndim > 2:
        at = data_point(regions, point)[: values.ndim - 2]
        sizes = values.shape[: values.ndim - 2]
        index = [int(np.clip(round(float(p)), 0, n - 1)) for p, n in zip(at, sizes, strict=True)]
        values = values[tuple(index)]
    matrix, offset = _plane_map(samples, regions)
    rows, columns = np.mgrid[: shape[0], : shape[1]].reshape(2, -1)
    there = matrix @ np.stack([rows, columns]) + offset[:, None]
    # Half a pixel is no pixel's for certain; a hair upwards makes equal grids agree exactly.
    at_row, at_column = np.floor(there + 0.5 + 1e-6).astype(int)
    inside = (at_row >= 0) & (at_row < values.shape[0])
    inside &= (at_column >= 0) & (at_column < values.shape[1])
    found = np.zeros(shape[0] * shape[1], dtype=np.int64)
    found[inside] = values[at_row[inside], at_column[inside]]
    return found.reshape(shape)


def _plane_map(here: Layer, there: Layer) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (A, b): pixel p of the last two axes here lies at A p + b there."""

    def place(row: float, column: float) -> NDArray[np.float64]:
        world = place_of(here, [0.0] * (here.ndim - 2) + [row, column])[-2:]
        return data_point(there, [0.0] * (there.ndim - 2) + list(world))[-2:]

    origin = place(0, 0)
    return np.stack([place(1, 0) - origin, place(0, 1) - origin], axis=1), origin


def _to_pixels(points: NDArray[Any], here: Layer, samples: ImageLayer) -> NDArray[np.float64]:
    matrix, offset = _plane_map(here, samples)
    return np.asarray(points, dtype=float) @ matrix.T + offset


def _outline(corners: NDArray[Any], kind: str) -> NDArray[np.float64]:
    """Return a shape as a polygon; napari keeps an ellipse as the four corners of its box."""
    if kind != "ellipse":
        return np.asarray(corners, dtype=float)
    centre = corners.mean(0)
    one, two = (corners[1] - corners[0]) / 2, (corners[2] - corners[1]) / 2
    angle = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)[:, None]
    return np.asarray(centre + np.cos(angle) * one + np.sin(angle) * two, dtype=float)


def _filled(polygon: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    import skimage.draw

    draw: Any = skimage.draw.polygon2mask
    return np.asarray(draw(shape, polygon), dtype=bool)


# ------------------------------------------------------------------ lines


@dataclass(frozen=True)
class Line:
    """A line in the pixels of a result.

    Attributes
    ----------
    start, end : (float, float)
        Row and column.
    """

    start: tuple[float, float]
    end: tuple[float, float]


def line_in_pixels(layer: Layer, samples: ImageLayer) -> Line:
    """Return the line that a Shapes layer holds, or that leads through two points.

    Of several lines the one that is selected counts, else the last that was drawn.

    Raises
    ------
    InputError
        If there is no line, or its ends lie outside the result.
    """
    if isinstance(layer, Points):
        if len(layer.data) != 2:
            raise InputError(
                f"{layer.name!r} holds {len(layer.data)} points; a line leads through two: add or "
                "remove points, or draw a line in a Shapes layer"
            )
        ends = np.asarray(layer.data)[:, -2:]
    elif isinstance(layer, Shapes):
        lines = [k for k, kind in enumerate(layer.shape_type) if kind in ("line", "path")]
        chosen = [k for k in lines if k in layer.selected_data] or lines
        if not chosen:
            raise InputError(
                f"{layer.name!r} holds no line; draw one in a Shapes layer, or set two points"
            )
        corners = np.asarray(layer.data[chosen[-1]])[:, -2:]
        if len(corners) != 2:
            raise InputError(
                f"the path in {layer.name!r} has {len(corners)} points, and profiles run straight: "
                "draw a line, or one path for each straight part"
            )
        ends = corners
    else:
        raise InputError(
            f"{layer.name!r} holds no line; choose a Shapes layer with one, or two points"
        )
    pixels = _to_pixels(ends, layer, samples)
    shape = np.array(source_data(samples).shape[-2:])
    if (pixels < -0.5).any() or (pixels > shape - 0.5).any():
        raise InputError(f"the line of {layer.name!r} leaves {samples.name!r}; draw it inside")
    (y0, x0), (y1, x1) = (tuple(float(v) for v in end) for end in pixels)
    return Line((y0, x0), (y1, x1))
