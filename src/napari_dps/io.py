"""Read measurements: TIFF, OME-TIFF, ImageJ TIFF, PNG, .npy and results of this package."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dps import _resultfile
from napari_dps._tiff import Calibration, read_tiff
from napari_dps.errors import InputError
from napari_dps.image import Image, check_array, guess_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["READABLE", "read_image"]

#: Suffixes that `read_image` takes.
READABLE = (".tif", ".tiff", ".tf8", ".btf", ".png", ".npy", ".zarr")


def read_image(
    path: str | Path,
    axes: str | None = None,
    pixel_size: float | tuple[float, ...] | None = None,
) -> Image:
    """Read an image file into memory, with axes and pixel size as far as the file knows them.

    Parameters
    ----------
    path : str or pathlib.Path
        A TIFF (plain, OME or ImageJ), PNG, .npy, or a result of this package, which gives its
        mean. Of a TIFF with several images the first is read.
    axes : str, optional
        One letter per axis, of T, C, Z, Y, X, where the file does not say or is wrong; axes of
        length one may be named or left out.
    pixel_size : float or tuple of float, optional
        Micrometres, instead of what the file says; see `Image.with_pixel_size`.

    Returns
    -------
    Image
        Axes of length one other than Y and X dropped; RGB(A) kept as a last axis S; spatial scale
        in micrometres where known. Pixels are not searched for NaN or infinity here.

    Raises
    ------
    InputError
        If the file is missing, truncated, of another kind than its suffix says, empty, holds no
        real numbers, or `axes` or `pixel_size` do not fit it.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if axes is not None and not isinstance(axes, str):
        raise InputError(f"axes must be a string such as 'TYX'; got {axes!r}.")
    if not path.exists():
        raise InputError(f"There is no file '{path}'; check the name and the folder.")
    if path.is_dir() and suffix != ".zarr":
        raise InputError(f"'{path}' is a folder; name one image file in it.")
    if suffix not in READABLE:
        raise InputError(
            f"'{path}' ends in '{suffix}', which cannot be read; "
            f"use one of {', '.join(READABLE)} or export the image as TIFF."
        )
    try:
        if _resultfile.is_result(path):
            image = _mean_of_result(path)
            if axes is not None and axes.upper() != image.axes:
                raise InputError(
                    f"axes '{axes}' do not fit the result '{path}', whose axes are '{image.axes}'."
                )
        else:
            image = _read_plain(path, suffix, axes)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    return image if pixel_size is None else image.with_pixel_size(pixel_size)


def image_name(path: Path) -> str:
    """Return a file's name without suffixes, ``.ome.tif`` counting as one."""
    name = path.name
    for end in (path.suffix, ".ome"):
        if end and name.lower().endswith(end.lower()) and len(name) > len(end):
            name = name[: -len(end)]
    return name


def _mean_of_result(path: Path) -> Image:
    arrays, meta = _resultfile.read(path, ("mean",))
    return Image(
        arrays["mean"],
        meta["axes"],
        tuple(meta["scale"]),
        tuple(meta["units"]),
        tuple(meta["translate"]),
        name=image_name(path),
        calibration="none" if "pixel" in _spatial_units(meta) else "file",
        path=str(path),
        metadata={"format": "napari-dps result", "series": len(meta["written"])},
    )


def _spatial_units(meta: dict[str, Any]) -> list[str]:
    return [u for a, u in zip(meta["axes"], meta["units"], strict=True) if a in "YX"]


def _read_plain(path: Path, suffix: str, axes: str | None) -> Image:
    calibration: Calibration = {}
    metadata: dict[str, Any]
    stored: str | None
    if suffix == ".npy":
        data, stored, metadata = _read_npy(path), None, {"format": "npy"}
    elif suffix == ".png":
        data, stored = _read_png(path)
        metadata = {"format": "png"}
    elif suffix == ".zarr":
        raise InputError(
            f"'{path}' is no result of napari-dps; export the image as OME-TIFF to read it."
        )
    else:
        data, stored, calibration, metadata = read_tiff(path)
    data = check_array(data, path.name)
    data, letters, guessed = _label(data, stored, axes, path)
    if guessed:
        metadata["axes_guessed"] = True
    known = [calibration.get(letter) for letter in letters]
    return Image(
        data,
        letters,
        scale=tuple(1.0 if k is None else k[0] for k in known),
        units=tuple("pixel" if k is None else k[1] for k in known),
        translate=tuple(0.0 if k is None else k[2] for k in known),
        name=image_name(path),
        calibration="file" if {"Y", "X"} <= calibration.keys() else "none",
        path=str(path),
        metadata=metadata,
    )


def _label(
    data: NDArray[Any], stored: str | None, axes: str | None, path: Path
) -> tuple[NDArray[Any], str, bool]:
    """Drop axes of length one, name the others, and put colour last."""
    if axes is not None:
        axes = axes.upper()
        if len(axes) != data.ndim:
            # The file may carry axes of length one that its owner never saw.
            keep = _kept(data.shape, stored)
            if len(axes) != len(keep):
                raise InputError(
                    f"axes '{axes}' name {len(axes)} axes but '{path.name}' has {len(keep)} "
                    f"(shape {tuple(data.shape[i] for i in keep)}); give one letter per axis."
                )
            data = data.reshape([data.shape[i] for i in keep])
        # Image checks the letters; then axes of length one go as they do without `axes`.
        data = Image(data, axes, name=path.name).data
        keep = _kept(data.shape, axes)
        letters = "".join(axes[i] for i in keep)
        guessed = False
    else:
        keep = _kept(data.shape, stored)
        if stored is None:
            letters = guess_axes(tuple(data.shape[i] for i in keep), path.name)
            guessed = len(letters) > 2 and "S" not in letters
        else:
            letters, guessed = _known_letters("".join(stored[i] for i in keep), path)
    data = data.reshape([data.shape[i] for i in keep])
    if "S" in letters:
        data = np.moveaxis(data, letters.index("S"), -1)
        letters = letters.replace("S", "") + "S"
    return data, letters, guessed


def _kept(shape: tuple[int, ...], axes: str | None) -> list[int]:
    """Return indices of the axes that are longer than one, or are Y or X."""
    if axes is None:
        return [i for i, n in enumerate(shape) if n > 1 or i >= len(shape) - 2]
    return [i for i, n in enumerate(shape) if n > 1 or axes[i] in "YX"]


def _known_letters(stored: str, path: Path) -> tuple[str, bool]:
    """Give axes that a TIFF leaves unnamed the likeliest free letter: Z, then T, then C."""
    free = [letter for letter in "ZTC" if letter not in stored]
    letters = list(stored)
    guessed = False
    for i in reversed(range(len(letters))):
        if letters[i] in "TCZYXS":
            continue
        if not free:
            raise InputError(
                f"'{path.name}' has axes '{stored}', more than T, C, Z, Y and X; "
                "save a part of it with at most five axes."
            )
        letters[i], guessed = free.pop(0), True
    if len(set(letters)) != len(letters) or not {"Y", "X"} <= set(letters):
        raise InputError(
            f"'{path.name}' has axes '{stored}', which are no picture; name them with "
            "axes, for example axes='TYX'."
        )
    return "".join(letters), guessed


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        data = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        if "pickle" in str(error) and path.read_bytes()[:6] == b"\x93NUMPY":
            raise InputError(
                f"'{path}' holds Python objects, which are never loaded; save a numeric array."
            ) from error
        raise InputError(
            f"'{path}' is no .npy array or is truncated; save it again with numpy.save."
        ) from error
    if not isinstance(data, np.ndarray):
        raise InputError(f"'{path}' holds several arrays; save one with numpy.save.")
    if data.ndim < 2:
        raise InputError(
            f"'{path}' has {data.ndim} axes (shape {data.shape}); an image needs Y and X at least."
        )
    return data


def _read_png(path: Path) -> tuple[NDArray[Any], str]:
    import PIL.Image

    try:
        with PIL.Image.open(path, formats=["PNG"]) as picture:
            picture.load()
            # A palette's numbers are names of colours, not amounts of light.
            data = np.array(picture.convert("RGB") if picture.mode in ("P", "PA") else picture)
    except PIL.UnidentifiedImageError as error:
        raise InputError(
            f"'{path}' is not a PNG, whatever its name says; export the image again."
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, PermissionError):
            raise
        raise InputError(f"'{path}' is truncated or damaged; copy or export it again.") from error
    if data.dtype == np.int32 and data.min() >= 0 and data.max() <= math.pow(2, 16) - 1:
        # Older Pillow opens 16-bit gray as 32-bit integers.
        data = data.astype(np.uint16)
    return data, "YXS" if data.ndim == 3 else "YX"
