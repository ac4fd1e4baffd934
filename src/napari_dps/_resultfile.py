"""How a result lies on disk: one OME-TIFF, or one OME-Zarr group, never half of either."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from napari_dps._resultorder import NAMESPACE, store, tiff_order, unstore
from napari_dps._resultzarr import need_zarr as _need_zarr
from napari_dps._resultzarr import read_zarr, read_zarr_maps
from napari_dps._resultzarr import write_zarr as _write_zarr
from napari_dps._resultzarr import zarr_meta as _zarr_meta
from napari_dps._tiff import open_tiff, read_series
from napari_dps.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "SERIES",
    "WRITABLE",
    "check_target",
    "is_result",
    "ome_geometry",
    "read",
    "write",
]

#: Names of the series, in the order in which they are written.
SERIES = ("mean", "std", "samples")
#: Suffixes that `write` takes (``.ome.tif`` and ``.ome.zarr`` end in them).
WRITABLE = (".tif", ".tiff", ".zarr")

FORMAT = 1

_ABOUT = {
    "mean": "Posterior mean",
    "std": "Posterior standard deviation, per pixel",
    "samples": "Posterior samples along the modulo axis (Q)",
}
_OME_UNITS = {
    "micrometer": "µm",
    "nanometer": "nm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "angstrom": "Å",
    "picometer": "pm",
}
_OME_SECONDS = {"second": "s", "millisecond": "ms", "minute": "min", "hour": "h"}

Arrays = dict[str, "NDArray[np.float32]"]


def check_target(path: Path) -> None:
    """Refuse a path that `write` could not write to, before any work is done.

    Raises
    ------
    InputError
        If the suffix is unknown, a package is missing, or something else lies there.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise InputError(
            f"'{path}' ends in '{suffix}'; a result is saved as .ome.tif, .tif or .ome.zarr."
        )
    if suffix == ".zarr":
        _need_zarr()
        if path.exists() and not (path / "zarr.json").is_file():
            raise InputError(f"'{path}' exists and is no Zarr group; choose another name.")
    elif path.is_dir():
        raise InputError(f"'{path}' is a folder; name a file.")


def write(path: Path, arrays: Arrays, meta: dict[str, Any], maps: Arrays | None = None) -> None:
    """Write a result beside its final place, then move it there in one step.

    Parameters
    ----------
    path : pathlib.Path
        Ends in one of `WRITABLE`; missing parent folders are made.
    arrays : dict
        float32 arrays under names of `SERIES`: mean and std of the image's shape, samples with
        one leading axis more.
    meta : dict
        JSON-able: name, axes, shape, scale, units, translate, recipe (text or None), report.
    maps : dict, optional
        float32 arrays of two or three axes by any name; pages behind the series of a TIFF, arrays
        of their own in Zarr.

    Raises
    ------
    InputError
        As `check_target`, or if the disk refuses.
    """
    check_target(path)
    meta = {"format": FORMAT, "written": [n for n in SERIES if n in arrays], **meta}
    maps = maps or {}
    meta["maps"] = {name: list(array.shape) for name, array in maps.items()}
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".zarr":
            _write_zarr(part, arrays, meta, maps)
            if path.exists():
                old = part.with_suffix(".old")
                path.replace(old)
                try:
                    part.replace(path)
                except BaseException:
                    old.replace(path)
                    raise
                shutil.rmtree(old, ignore_errors=True)
            else:
                part.replace(path)
        else:
            _write_tiff(part, arrays, meta, maps)
            part.replace(path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: {error.strerror or error}.") from error
    finally:
        # After success nothing lies there any more; after anything else nothing may stay.
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def is_result(path: Path) -> bool:
    """Whether an existing file or Zarr group was written by `write`."""
    if path.suffix.lower() == ".zarr":
        return _zarr_meta(path) is not None
    if path.suffix.lower() not in WRITABLE or not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(2) not in (b"II", b"MM"):
            return False
    with open_tiff(path) as tiff:
        return tiff.is_ome and _tiff_meta(tiff.ome_metadata or "") is not None


def read(path: Path, wanted: tuple[str, ...] = ()) -> tuple[Arrays, dict[str, Any]]:
    """Read a result back.

    Parameters
    ----------
    path : pathlib.Path
        What `write` has written.
    wanted : tuple of str
        Series that must be there; where empty, all that are there are read.

    Returns
    -------
    arrays : dict
        As given to `write`, bit for bit.
    meta : dict
        As given to `write`, with ``written``: the names of all series in the file.

    Raises
    ------
    InputError
        If it is missing, no result, of a later format, damaged, or lacks a wanted series.
    """
    if not path.exists():
        raise InputError(f"There is no file '{path}'; check the name and the folder.")
    foreign = InputError(f"'{path}' is no result of napari-dps; open it as an image instead.")
    if not is_result(path):
        raise foreign
    if path.suffix.lower() == ".zarr":
        meta = _zarr_meta(path)
        if meta is None:
            raise foreign
        names = _select(path, meta, wanted)
        return read_zarr(path, names, meta), meta
    with open_tiff(path) as tiff:
        meta = _tiff_meta(tiff.ome_metadata or "")
        if meta is None:
            raise foreign
        names = _select(path, meta, wanted)
        series = {s.name: s for s in tiff.series}
        return {
            n: unstore(read_series(tiff, series[n], path), n, meta, tiff_order(n, meta["axes"]))
            for n in names
        }, meta


def read_maps(path: Path, meta: dict[str, Any]) -> Arrays:
    """Read the maps of a result whose ``meta`` was read by :func:`read`; old files have none."""
    shapes: dict[str, list[int]] = meta.get("maps", {})
    if not shapes:
        return {}
    if path.suffix.lower() == ".zarr":
        found = read_zarr_maps(path, len(shapes))
    else:
        sizes = [math.prod(shape[:-2]) for shape in shapes.values()]
        with open_tiff(path) as tiff:
            at, found = len(tiff.pages) - sum(sizes), []
            for size in sizes:
                planes = [tiff.pages[k].asarray() for k in range(at, at + size)]
                found.append(np.stack(planes))
                at += size
    return {
        name: np.asarray(array, dtype=np.float32).reshape(shape)
        for (name, shape), array in zip(shapes.items(), found, strict=True)
    }


def _select(path: Path, meta: dict[str, Any], wanted: tuple[str, ...]) -> list[str]:
    if meta["format"] > FORMAT:
        raise InputError(
            f"'{path}' was written by a later napari-dps (format {meta['format']}, this one reads "
            f"up to {FORMAT}); update napari-dps."
        )
    missing = [name for name in wanted if name not in meta["written"]]
    if missing:
        raise InputError(
            f"'{path}' was saved without '{missing[0]}' (it holds {', '.join(meta['written'])}); "
            "save the result again with it."
        )
    return list(wanted or meta["written"])


# OME-TIFF ---------------------------------------------------------------------------------------


def _write_tiff(path: Path, arrays: Arrays, meta: dict[str, Any], maps: Arrays) -> None:
    import tifffile

    size = sum(array.nbytes for array in (*arrays.values(), *maps.values()))
    with tifffile.TiffWriter(path, bigtiff=size > 2**32 - 2**25, ome=True) as file:
        for name in meta["written"]:
            order = tiff_order(name, meta["axes"])
            data = store(arrays[name], name, meta["axes"], order)
            ome = {"axes": order, "Name": name, "Description": _ABOUT[name] + "."}
            ome |= ome_geometry(meta, order, data.shape)
            if name == "samples":
                ome["TypeDescription"] = {"Q": "posterior sample"}
            if name == meta["written"][0]:
                ome["Creator"] = "napari-dps"
                values = {k: v if k == "recipe" else json.dumps(v) for k, v in meta.items()}
                ome["MapAnnotation"] = {
                    "Namespace": NAMESPACE,
                    **{k: v for k, v in values.items() if v is not None},
                }
            # Uncompressed: noise hardly shrinks, and every reader can map it into memory.
            file.write(data, photometric="minisblack", metadata=ome)
    if not maps:
        return
    # Plain pages behind those that the OME-XML lists: readers see mean, std and samples, no more.
    with tifffile.TiffWriter(path, append="force") as file:
        for array in maps.values():
            file.write(array, photometric="minisblack", metadata=None)


def ome_geometry(meta: dict[str, Any], order: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return what OME calls the scale, units and translate of ``meta``, for tifffile's metadata."""
    geometry = {
        letter: (step, unit, position)
        for letter, step, unit, position in zip(
            meta["axes"], meta["scale"], meta["units"], meta["translate"], strict=True
        )
    }
    found: dict[str, Any] = {}
    for letter in "XYZ":
        if letter in geometry and geometry[letter][1] in _OME_UNITS:
            found[f"PhysicalSize{letter}"] = geometry[letter][0]
            found[f"PhysicalSize{letter}Unit"] = _OME_UNITS[geometry[letter][1]]
    if "T" in geometry and geometry["T"][1] in _OME_SECONDS:
        found["TimeIncrement"] = geometry["T"][0]
        found["TimeIncrementUnit"] = _OME_SECONDS[geometry["T"][1]]
    placed = [a for a in "XYZ" if a in geometry and f"PhysicalSize{a}" in found]
    if any(geometry[letter][2] for letter in placed):
        planes = math.prod(shape[:-2])
        plane: dict[str, Any] = {}
        for letter in placed:
            step, unit, position = geometry[letter]
            index = np.zeros(planes)
            if letter == "Z":
                index = np.indices(shape[:-2])[order.index("Z")].ravel()
            plane[f"Position{letter}"] = (position + step * index).tolist()
            plane[f"Position{letter}Unit"] = [_OME_UNITS[unit]] * planes
        found["Plane"] = plane
    return found


def _tiff_meta(xml: str) -> dict[str, Any] | None:
    if NAMESPACE not in xml:
        return None
    for note in ElementTree.fromstring(xml).iterfind(".//{*}MapAnnotation"):
        if note.get("Namespace") == NAMESPACE:
            texts = {m.get("K", ""): m.text or "" for m in note.iterfind("{*}Value/{*}M")}
            recipe = texts.pop("recipe", None)
            return {k: json.loads(v) for k, v in texts.items()} | {"recipe": recipe}
    return None
