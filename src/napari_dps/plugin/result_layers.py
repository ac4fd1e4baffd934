"""From results back to layers, in the coordinates of the layer that they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.types import LayerDataTuple
from napari.utils.transforms import Affine

from napari_dps.image import to_micrometer
from napari_dps.plugin.layers import KEY, Region, recipe_dict, region_translate


@dataclass(frozen=True)
class Frame:
    """Where results go: the coordinates of the source layer, taken when the run started.

    Attributes
    ----------
    name : str
        Name of the source layer.
    shape : tuple of int
        Shape of what is restored.
    transform : dict
        Layer arguments for an array of that shape.
    """

    name: str
    shape: tuple[int, ...]
    transform: dict[str, Any]

    @classmethod
    def of(cls, layer: ImageLayer, region: Region) -> Frame:
        """Take the coordinates of a region of a layer."""
        transform = {
            "scale": np.array(layer.scale),
            "translate": region_translate(layer, region),
            "rotate": np.array(layer.rotate),
            "shear": np.array(layer.shear),
            "affine": np.array(layer.affine.affine_matrix),
            "units": tuple(layer.units),
            "axis_labels": tuple(layer.axis_labels),
        }
        shape = tuple(s.stop - s.start for s in region.slices)
        return cls(layer.name, shape, transform)


def sample_axis(transform: dict[str, Any]) -> dict[str, Any]:
    """Return layer arguments with one axis more in front: the samples, in units of pixels."""
    n = len(transform["scale"])
    shear = np.array(transform["shear"])
    if shear.ndim == 1:
        full = np.eye(n)
        full[np.triu_indices(n, 1)] = shear
        shear = full
    labels = transform["axis_labels"]
    # Default labels count axes from the end, so one more axis renames nothing.
    default = tuple(labels) == tuple(str(i) for i in range(-n, 0))
    return {
        "scale": np.concatenate([[1.0], transform["scale"]]),
        "translate": np.concatenate([[0.0], transform["translate"]]),
        "rotate": _grow(transform["rotate"]),
        "shear": _grow(shear),
        "affine": _grow(transform["affine"]),
        # Not "dimensionless": that makes napari drop the units of all axes.
        "units": ("pixel", *transform["units"]),
        "axis_labels": ("sample", *([f"{i}" for i in range(-n, 0)] if default else labels)),
    }


def _grow(matrix: np.ndarray) -> np.ndarray:
    n = len(matrix)
    grown = np.eye(n + 1)
    grown[1:, 1:] = matrix
    return grown


def last_two(transform: dict[str, Any]) -> dict[str, Any]:
    """Return layer arguments for a 2D picture in the plane of the last two axes."""
    affine = Affine(affine_matrix=transform["affine"]).set_slice([-2, -1])
    n = len(transform["scale"])
    shear = np.array(transform["shear"])
    if shear.ndim == 1:
        full = np.eye(n)
        full[np.triu_indices(n, 1)] = shear
        shear = full
    return {
        "scale": transform["scale"][-2:],
        "translate": transform["translate"][-2:],
        "rotate": transform["rotate"][-2:, -2:],
        "shear": shear[-2:, -2:],
        "affine": affine.affine_matrix,
        "units": transform["units"][-2:],
        "axis_labels": transform["axis_labels"][-2:],
    }


def preview_layer(frame: Frame, picture: np.ndarray) -> LayerDataTuple:
    """Return the layer that shows a run under way."""
    transform = last_two(frame.transform)
    if picture.shape != frame.shape[-2:]:
        transform = {"units": transform["units"], "axis_labels": transform["axis_labels"]}
    arguments = {**transform, "name": f"{frame.name} preview", "colormap": "gray"}
    return (picture, arguments, "image")


def result_layers(result: Any, frame: Frame) -> list[LayerDataTuple]:
    """Return the layers of a result, samples first, so that the mean ends on top.

    Parameters
    ----------
    result : Result
        What came back.
    frame : Frame
        Coordinates of the source.
    """
    transform = frame.transform
    shape = tuple(result.shape)
    if shape != frame.shape:
        # The object has a grid of its own (phase retrieval): the result's coordinates hold.
        transform = _own_transform(result, frame)
    metadata = {
        KEY: {
            "recipe": None if result.recipe is None else recipe_dict(result.recipe),
            "report": dict(result.report),
        }
    }
    layers: list[LayerDataTuple] = []

    def add(data: np.ndarray, what: str, arguments: dict[str, Any], **more: Any) -> None:
        name = f"{frame.name} {what}"
        layers.append((data, {**arguments, "name": name, "metadata": metadata, **more}, "image"))

    if not result.point_estimate:
        if result.holds("samples"):
            add(result.samples, "samples", sample_axis(transform), colormap="gray", visible=False)
        # One sample says nothing about the spread.
        if len(result) > 1 and result.holds("std"):
            add(result.std, "std", transform, colormap="magma", visible=False)
    if result.holds("mean"):
        add(result.mean, "mean", transform, colormap="gray")
    return layers


def _own_transform(result: Any, frame: Frame) -> dict[str, Any]:
    n = len(result.scale)
    scale, translate = np.array(result.scale), np.array(result.translate)
    units = list(frame.transform["units"])
    for i in range(n):
        # Every layer of a viewer must have the same units, so the source's are kept.
        factor = to_micrometer(str(units[i]))
        if result.units[i] == "micrometer" and factor is not None:
            scale[i], translate[i] = scale[i] / factor, translate[i] / factor
        elif result.units[i] != str(units[i]):
            # Lengths of another space: shown with the source's pitch, which claims nothing.
            scale[i], translate[i] = frame.transform["scale"][i], 0.0
    return {
        "scale": scale,
        "translate": translate,
        "rotate": np.eye(n),
        "shear": np.eye(n),
        "affine": np.eye(n + 1),
        "units": tuple(units),
        "axis_labels": frame.transform["axis_labels"],
    }
