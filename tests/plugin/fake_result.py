"""A viewer's layers as a run leaves them behind: samples, std and mean of two spots."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_dps.image import Image
from napari_dps.plugin.layers import Region
from napari_dps.plugin.result_layers import Frame, result_layers
from napari_dps.recipe import Recipe
from napari_dps.result import Result

UM = ("micrometer", "micrometer")
SIDE = (24, 32)
PIXEL = 0.1


def scene() -> np.ndarray:
    """Return two spots of width 4.7 pixels, 12 pixels apart on row 12, on a background of 2."""
    y, x = np.mgrid[: SIDE[0], : SIDE[1]].astype(float)
    spots = sum(np.exp(-((y - 12) ** 2 + (x - at) ** 2) / 8) for at in (10.0, 22.0))
    return 2 + 20 * spots


def add_result(
    viewer: Any, name: str = "cells", samples: int = 20, shape: tuple[int, ...] = SIDE, **more: Any
) -> Any:
    """Add the layers that a run leaves behind; return that of the samples."""
    rng = np.random.default_rng(3)
    mean = np.broadcast_to(scene(), shape)
    draws = mean + 0.1 * rng.normal(size=(samples, *shape))
    where = {"scale": (PIXEL, PIXEL), "units": UM, "translate": (5.0, 6.0), **more}
    source = viewer.add_image(mean, name=name, axis_labels=("z", "y", "x")[-len(shape) :], **where)
    frame = Frame.of(source, Region(tuple(slice(0, n) for n in shape)))
    recipe = Recipe(noise="poisson", prior="gaussian", samples=samples)
    result = Result.from_image(draws, Image.from_array(mean), recipe, {"complete": True})
    for data, arguments, _ in result_layers(result, frame):
        viewer.add_image(data, **arguments)
    return viewer.layers[f"{name} samples"]


def physical(*points: tuple[float, float]) -> np.ndarray:
    """Return pixels of the result as positions in micrometres."""
    return np.array(points) * PIXEL + (5.0, 6.0)
