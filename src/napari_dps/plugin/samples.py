"""Sample data (File > Open Sample): a measurement, its ground truth, and its recipe."""

from __future__ import annotations

from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from napari.types import LayerDataTuple

from napari_dps.errors import InputError
from napari_dps.image import Image
from napari_dps.io import read_image
from napari_dps.plugin.layers import KEY, recipe_dict
from napari_dps.recipe import Recipe


def sample_folder() -> Path:
    """Return the folder of the sample files."""
    with as_file(files("napari_dps") / "sample_data") as folder:
        return Path(folder)


def sample_names() -> list[str]:
    """Return the samples that are there in full: measurement, truth and recipe."""
    folder = sample_folder()
    return sorted(
        path.stem
        for path in folder.glob("*.json")
        if (folder / f"{path.stem}.tif").is_file() and (folder / f"{path.stem}_truth.tif").is_file()
    )


def load_sample(name: str) -> list[LayerDataTuple]:
    """Return the layers of a sample: truth (hidden) and measurement.

    Parameters
    ----------
    name : str
        One of `sample_names`.

    Raises
    ------
    InputError
        If there is no such sample.
    """
    if name not in sample_names():
        raise InputError(
            f"there is no sample {name!r}; there are {', '.join(sample_names()) or 'none'}"
        )
    folder = sample_folder()
    recipe = recipe_dict(Recipe.load(folder / f"{name}.json"))
    title = name.replace("_", " ").replace("-", " ")
    measured = read_image(folder / f"{name}.tif")
    truth = read_image(folder / f"{name}_truth.tif")
    same_grid = truth.shape == measured.shape
    return [
        _layer(truth if same_grid else _plain(truth), f"{title} truth", {}, visible=False),
        _layer(measured, title, {"recipe": recipe}, visible=True),
    ]


def _plain(image: Image) -> Image:
    """Return an image whose pixels are those of another space, so without a scale."""
    return Image(image.data, image.axes, name=image.name)


def _layer(image: Image, name: str, about: dict[str, Any], *, visible: bool) -> LayerDataTuple:
    arguments = {
        "name": name,
        "scale": image.scale,
        "units": image.units,
        "translate": image.translate,
        "axis_labels": tuple(image.axes.lower()),
        "colormap": "gray",
        "visible": visible,
        "metadata": {KEY: about},
    }
    return (image.data, arguments, "image")


def __getattr__(name: str) -> Any:
    """Return the opener of a sample: the manifest names ``samples:open_<name>``."""
    if name.startswith("open_"):
        return partial(load_sample, name.removeprefix("open_"))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
