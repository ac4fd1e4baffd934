"""A result as one OME-Zarr group."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dps._resultorder import NAMESPACE, map_label, store, unstore, zarr_order
from napari_dps.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[np.float32]"]


def need_zarr() -> None:
    """Refuse where the packages for OME-Zarr are missing."""
    if any(importlib.util.find_spec(name) is None for name in ("yaozarrs", "zarr")):
        raise InputError(
            'OME-Zarr needs two more packages: run `pip install "napari-dps[zarr]"` '
            "or use .ome.tif."
        )


def write_zarr(path: Path, arrays: Arrays, meta: dict[str, Any], maps: Arrays) -> None:
    """Write series and maps as the images of one group."""
    from yaozarrs import v05
    from yaozarrs.write.v05 import write_bioformats2raw

    geometry = {
        letter: (step, unit, position)
        for letter, step, unit, position in zip(
            meta["axes"], meta["scale"], meta["units"], meta["translate"], strict=True
        )
    } | {"Q": (1.0, "pixel", 0.0)}
    images = {}
    for name in meta["written"]:
        order = zarr_order(name, meta["axes"])
        data = store(arrays[name], name, meta["axes"], order)
        if "QC" in order:
            # The format has room for one channel-like axis: samples and channels share it.
            at = order.index("Q")
            data = data.reshape(*data.shape[:at], -1, *data.shape[at + 2 :])
            order = order.replace("Q", "")
        axes: list[Any] = []
        for letter in order:
            unit = geometry[letter][1]
            known = {} if unit == "pixel" else {"unit": unit}
            if letter == "T":
                axes.append(v05.TimeAxis(name="t", **known))
            elif letter == "C":
                axes.append(v05.ChannelAxis(name="c"))
            elif letter == "Q":
                axes.append(v05.CustomAxis(name="sample"))
            else:
                axes.append(v05.SpaceAxis(name=letter.lower(), **known))
        transforms: list[Any] = [
            v05.ScaleTransformation(scale=[geometry[letter][0] for letter in order])
        ]
        if any(geometry[letter][2] for letter in order):
            shift = [geometry[letter][2] for letter in order]
            transforms.append(v05.TranslationTransformation(translation=shift))
        dataset = v05.Dataset(path="0", coordinateTransformations=transforms)
        multiscale = v05.Multiscale(name=name, axes=axes, datasets=[dataset])
        images[name] = (v05.Image(multiscales=[multiscale]), [data])
    for number, array in enumerate(maps.values()):
        axes = [v05.SpaceAxis(name=letter) for letter in "zyx"[-array.ndim :]]
        scale = v05.ScaleTransformation(scale=[1.0] * array.ndim)
        dataset = v05.Dataset(path="0", coordinateTransformations=[scale])
        label = map_label(number)
        multiscale = v05.Multiscale(name=label, axes=axes, datasets=[dataset])
        images[label] = (v05.Image(multiscales=[multiscale]), [array])
    write_bioformats2raw(path, images, extra_attributes={NAMESPACE: meta}, writer="zarr")


def zarr_meta(path: Path) -> dict[str, Any] | None:
    """Return what the group tells of itself; None where it is no result."""
    try:
        text = (path / "zarr.json").read_text(encoding="utf-8")
        found = json.loads(text).get("attributes", {}).get(NAMESPACE)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"'{path}' is truncated or damaged; copy or export it again.") from error
    return found if isinstance(found, dict) else None


def read_zarr(path: Path, names: list[str], meta: dict[str, Any]) -> Arrays:
    """Read series of a group."""
    need_zarr()
    found: Arrays = {}
    for name in names:
        data = _read(path, name)
        found[name] = unstore(data, name, meta, zarr_order(name, meta["axes"]))
    return found


def read_zarr_maps(path: Path, count: int) -> list[NDArray[np.float32]]:
    """Read the maps of a group."""
    need_zarr()
    return [np.asarray(_read(path, map_label(k)), dtype=np.float32) for k in range(count)]


def _read(path: Path, name: str) -> NDArray[Any]:
    import zarr

    try:
        return np.asarray(zarr.open_array(path / name / "0", mode="r")[...])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"'{path}' is truncated or damaged; copy or export it again.") from error
