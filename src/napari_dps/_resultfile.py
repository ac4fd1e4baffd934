"""How a result lies on disk: one OME-TIFF, or one OME-Zarr group, never half of either."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

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

NAMESPACE = "napari-dps/result"
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


def write(path: Path, arrays: Arrays, meta: dict[str, Any]) -> None:
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

    Raises
    ------
    InputError
        As `check_target`, or if the disk refuses.
    """
    check_target(path)
    meta = {"format": FORMAT, "written": [n for n in SERIES if n in arrays], **meta}
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".zarr":
            _write_zarr(part, arrays, meta)
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
            _write_tiff(part, arrays, meta)
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
        return _read_zarr(path, names, meta), meta
    with open_tiff(path) as tiff:
        meta = _tiff_meta(tiff.ome_metadata or "")
        if meta is None:
            raise foreign
        names = _select(path, meta, wanted)
        series = {s.name: s for s in tiff.series}
        return {
            n: _unstore(read_series(tiff, series[n], path), n, meta, _tiff_order(n, meta["axes"]))
            for n in names
        }, meta


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


# Both formats want the picture last and know few orders of the rest. Arrays are stored in an order
# they know ("Q" is the sample axis) and put back on reading; `meta` keeps the true axes and shape.


def _tiff_order(name: str, axes: str) -> str:
    high = "".join(letter for letter in axes if letter not in "YX")
    if name == "samples":
        # OME knows T, Z and C only; a further axis lies along an unused one or behind a used one.
        high = high[:1] + "Q" + high[1:] if len(high) == 3 else "Q" + high
    return high + "YX"


def _zarr_order(name: str, axes: str) -> str:
    # OME-Zarr 0.5: time first, then one channel-like axis, then space.
    q = "Q" if name == "samples" else ""
    return "".join(letter for letter in "T" + q + "CZYX" if letter in axes + q)


def _full(name: str, axes: str) -> str:
    return "Q" + axes if name == "samples" else axes


def _store(array: NDArray[np.float32], name: str, axes: str, order: str) -> NDArray[np.float32]:
    full = _full(name, axes)
    moved = array.transpose([full.index(letter) for letter in order])
    return np.ascontiguousarray(moved, dtype=np.float32)


def _unstore(
    array: NDArray[Any], name: str, meta: dict[str, Any], order: str
) -> NDArray[np.float32]:
    full = _full(name, meta["axes"])
    sizes = dict(zip(meta["axes"], meta["shape"], strict=True)) | {"Q": meta["samples"]}
    array = array.reshape([sizes[letter] for letter in order])
    array = array.transpose([order.index(letter) for letter in full])
    return np.ascontiguousarray(array, dtype=np.float32)


# OME-TIFF ---------------------------------------------------------------------------------------


def _write_tiff(path: Path, arrays: Arrays, meta: dict[str, Any]) -> None:
    import tifffile

    size = sum(array.nbytes for array in arrays.values())
    with tifffile.TiffWriter(path, bigtiff=size > 2**32 - 2**25, ome=True) as file:
        for name in meta["written"]:
            order = _tiff_order(name, meta["axes"])
            data = _store(arrays[name], name, meta["axes"], order)
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


# OME-Zarr ---------------------------------------------------------------------------------------


def _need_zarr() -> None:
    if any(importlib.util.find_spec(name) is None for name in ("yaozarrs", "zarr")):
        raise InputError(
            'OME-Zarr needs two more packages: run `pip install "napari-dps[zarr]"` '
            "or use .ome.tif."
        )


def _write_zarr(path: Path, arrays: Arrays, meta: dict[str, Any]) -> None:
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
        order = _zarr_order(name, meta["axes"])
        data = _store(arrays[name], name, meta["axes"], order)
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
    write_bioformats2raw(path, images, extra_attributes={NAMESPACE: meta}, writer="zarr")


def _zarr_meta(path: Path) -> dict[str, Any] | None:
    try:
        text = (path / "zarr.json").read_text(encoding="utf-8")
        found = json.loads(text).get("attributes", {}).get(NAMESPACE)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"'{path}' is truncated or damaged; copy or export it again.") from error
    return found if isinstance(found, dict) else None


def _read_zarr(path: Path, names: list[str], meta: dict[str, Any]) -> Arrays:
    _need_zarr()
    import zarr

    arrays: Arrays = {}
    for name in names:
        try:
            data = np.asarray(zarr.open_array(path / name / "0", mode="r")[...])
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(
                f"'{path}' is truncated or damaged; copy or export it again."
            ) from error
        arrays[name] = _unstore(data, name, meta, _zarr_order(name, meta["axes"]))
    return arrays
