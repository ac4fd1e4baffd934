"""Read TIFF, OME-TIFF and ImageJ TIFF with their axes and calibration."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from napari_dps.errors import DPSError, InputError
from napari_dps.units import to_micrometer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffPageSeries

__all__ = [
    "Calibration",
    "open_tiff",
    "read_calibration",
    "read_series",
    "read_tiff",
    "write_values",
]

#: Per axis letter: (step, unit, position of the first pixel).
Calibration = dict[str, tuple[float, str, float]]

# What tifffile only logs, and then goes on with fewer or empty pages.
_DAMAGE = (
    "invalid page offset",
    "invalid value offset",
    "invalid valueoffset",
    "corrupted",
    "failed to reshape",
    "invalid offset",
    "circular reference",
)
# Printer and screen resolutions in dots per inch: set by drawing programs, not by microscopes.
_PRINT_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 180, 192, 200, 240, 300, 360, 400, 600, 1200)
RISING = 0.9
"""Share of a colour map's steps that must all go to brighter (or all to darker) colours."""
_SECONDS = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "µs": 1e-6,
    "us": 1e-6,
    "ns": 1e-9,
    "min": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
}


class _Damage(logging.Filter):
    """Collects what tifffile complains about in this thread; lets everything else pass."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
        self.found: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if record.thread == self.thread and any(phrase in text for phrase in _DAMAGE):
            self.found.append(text)
            return False
        return True


@contextmanager
def open_tiff(path: Path) -> Iterator[TiffFile]:
    """Open a TIFF; whatever goes wrong with the file inside becomes one sentence.

    Parameters
    ----------
    path : pathlib.Path
        An existing file.

    Yields
    ------
    tifffile.TiffFile

    Raises
    ------
    InputError
        If the file is no TIFF, is cut short or damaged, or uses a compression that is not
        installed.
    """
    import tifffile

    with path.open("rb") as file:
        head = file.read(4)
    if head not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        what = "is an empty file" if not head else "is not a TIFF, whatever its name says"
        raise InputError(f"'{path}' {what}; export the image again as TIFF.")
    damage = _Damage()
    logger = logging.getLogger("tifffile")
    logger.addFilter(damage)
    broken = f"'{path}' is truncated or damaged; copy or export it again."
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except (DPSError, OSError, MemoryError):
        raise
    except Exception as error:
        # Decoders raise errors of every kind (struct, zlib, index): the file is the cause of all.
        if "imagecodecs" in str(error):
            raise InputError(
                f"'{path}' is compressed in a way that needs another package: "
                "run `pip install imagecodecs` or save it without compression."
            ) from error
        raise InputError(broken) from error
    finally:
        logger.removeFilter(damage)
    if damage.found:
        raise InputError(broken)


def read_series(file: TiffFile, series: TiffPageSeries, path: Path) -> NDArray[Any]:
    """Return all pixels of one series, having made sure that all of them are there.

    Raises
    ------
    InputError
        If pages are missing or reach beyond the end of the file.
    """
    size = file.filehandle.size
    for page in series.pages:
        if page is None:
            raise InputError(
                f"'{path}' refers to other files that are not beside it; keep all files of the "
                "set in one folder."
            )
        if not series.is_multifile and any(
            offset + count > size
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
        ):
            raise InputError(f"'{path}' is truncated or damaged; copy or export it again.")
    return np.asarray(series.asarray(squeeze=False))


def _zero_is_white(page: Any, path: Path) -> bool:
    """Whether a page says that zero is white; refuse numbers that are names of colours.

    Microscopes' software keeps light with a colour map beside it: that grows brighter with it.
    """
    photometric = getattr(getattr(page, "photometric", None), "name", "")
    if photometric == "PALETTE" and getattr(page, "colormap", None) is not None:
        brightness = np.array([0.299, 0.587, 0.114]) @ np.asarray(page.colormap, dtype=float)
        rising = float(np.mean(np.diff(brightness) >= 0))
        if not RISING < rising and not rising < 1 - RISING:
            raise InputError(
                f"'{path}' has a palette: its numbers are names of colours, not amounts of light; "
                "export it as gray values."
            )
    return photometric == "MINISWHITE"


def read_tiff(path: Path) -> tuple[NDArray[Any], str, Calibration, dict[str, Any]]:
    """Read the first series of a TIFF.

    Parameters
    ----------
    path : pathlib.Path
        An existing file.

    Returns
    -------
    data : numpy.ndarray
        All axes, length one included.
    axes : str
        As tifffile names them, one letter per axis.
    calibration : dict
        Per axis letter its step, unit (``"micrometer"`` or ``"second"``) and first position.
    metadata : dict
        Format, number of series, ``zero_is_white`` where the file says so and, where there is
        one, the name inside the file.

    Raises
    ------
    InputError
        As `open_tiff` and `read_series`.
    """
    with open_tiff(path) as file:
        if not file.series:
            raise InputError(f"'{path}' holds no image.")
        series = file.series[0]
        white = _zero_is_white(series.keyframe, path)
        data = read_series(file, series, path)
        axes = series.get_axes(squeeze=False)
        metadata: dict[str, Any] = {"series": len(file.series)}
        if white:
            metadata["zero_is_white"] = True
        metadata["format"], calibration = _calibration(file)
        return data, axes, calibration, metadata


def read_calibration(path: Path) -> Calibration:
    """Return what :func:`read_tiff` says of the calibration, without reading pixels.

    Raises
    ------
    InputError
        As `open_tiff`.
    """
    with open_tiff(path) as file:
        return _calibration(file)[1]


def write_values(path: Path, values: NDArray[Any], pixel_size: dict[str, float]) -> None:
    """Write values with their pixel size as OME-TIFF.

    Parameters
    ----------
    path : pathlib.Path
        Target.
    values : numpy.ndarray
        Two axes are taken for YX, three for ZYX.
    pixel_size : dict of str to float
        Micrometres per pixel by axis letter.
    """
    import tifffile

    # OME knows neither 64-bit integers nor half precision.
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    elif values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        values = values.astype(np.float64)
    elif values.dtype == np.float16:
        values = values.astype(np.float32)
    extra: dict[str, Any] = {"axes": "TCZYX"[-values.ndim :]}
    for letter, size in pixel_size.items():
        if letter in extra["axes"]:
            extra |= {f"PhysicalSize{letter}": size, f"PhysicalSize{letter}Unit": "µm"}
    tifffile.imwrite(path, values, ome=True, metadata=extra, photometric="minisblack")


def _calibration(file: TiffFile) -> tuple[str, Calibration]:
    """Return the format of a TIFF and its calibration."""
    calibration: Calibration = {}
    form = "tiff"
    if file.is_ome:
        form, calibration = "ome-tiff", _from_ome(file.ome_metadata or "")
    elif file.is_imagej:
        form, calibration = "imagej-tiff", _from_imagej(file)
    if "X" not in calibration and not file.is_imagej:
        calibration |= _from_tags(file)
    return form, calibration


def _from_ome(xml: str) -> Calibration:
    root = ElementTree.fromstring(xml)
    pixels = root.find(".//{*}Image/{*}Pixels")
    if pixels is None:
        return {}
    first = {"TheZ": "0", "TheT": "0", "TheC": "0"}
    plane = next(
        (p for p in pixels.iterfind("{*}Plane") if {k: p.get(k) for k in first} == first), None
    )
    found: Calibration = {}
    for letter in "XYZ":
        size = pixels.get(f"PhysicalSize{letter}")
        factor = to_micrometer(pixels.get(f"PhysicalSize{letter}Unit") or "µm")
        if size is None or factor is None:
            continue
        step = float(size) * factor
        position = 0.0
        if plane is not None:
            # OME's default here is the "reference frame", which has no known length.
            unit = to_micrometer(plane.get(f"Position{letter}Unit") or "reference frame")
            if unit is not None:
                position = float(plane.get(f"Position{letter}") or 0.0) * unit
        _put(found, letter, step, "micrometer", position)
    interval = pixels.get("TimeIncrement")
    if interval is not None:
        seconds = _SECONDS.get(pixels.get("TimeIncrementUnit") or "s")
        if seconds is not None:
            _put(found, "T", float(interval) * seconds, "second", 0.0)
    return found


def _from_imagej(file: TiffFile) -> Calibration:
    meta = file.imagej_metadata or {}
    per_pixel = _resolution(file)
    unit = str(meta.get("unit") or "")
    found: Calibration = {}
    for letter in "XY":
        factor = to_micrometer(str(meta.get(f"{letter.lower()}unit") or unit))
        if per_pixel is None or factor is None or (factor == 25400.0 and _printed(per_pixel, 1.0)):
            continue
        step = factor / per_pixel[letter]
        origin = float(meta.get(f"{letter.lower()}origin") or 0.0)
        _put(found, letter, step, "micrometer", -origin * step)
    factor = to_micrometer(str(meta.get("zunit") or unit))
    spacing = abs(float(meta.get("spacing") or 0.0))
    if factor is not None and "X" in found:
        step = spacing * factor
        _put(found, "Z", step, "micrometer", -float(meta.get("zorigin") or 0.0) * step)
    seconds = _SECONDS.get(str(meta.get("tunit") or "s"))
    if seconds is not None:
        _put(found, "T", float(meta.get("finterval") or 0.0) * seconds, "second", 0.0)
    return found


def _from_tags(file: TiffFile) -> Calibration:
    """Take resolution tags for a pixel size only where a microscope may have written them."""
    per_pixel = _resolution(file)
    tag = file.pages.first.tags.get("ResolutionUnit")
    per_inch = {2: 1.0, 3: 2.54}.get(int(tag.value) if tag is not None else 2)
    if per_pixel is None or per_inch is None or _printed(per_pixel, per_inch):
        return {}
    steps = {letter: 25400.0 / (per_pixel[letter] * per_inch) for letter in "XY"}
    if any(step >= 1000.0 for step in steps.values()):
        return {}
    found: Calibration = {}
    for letter, step in steps.items():
        _put(found, letter, step, "micrometer", 0.0)
    return found


def _resolution(file: TiffFile) -> dict[str, float] | None:
    """Pixels per unit along X and Y, from the tags."""
    found = {}
    for letter in "XY":
        tag = file.pages.first.tags.get(f"{letter}Resolution")
        if tag is None:
            return None
        above, below = tag.value
        if not above or not below:
            return None
        found[letter] = above / below
    return found


def _printed(per_pixel: dict[str, float], per_inch: float) -> bool:
    dpi = per_pixel["X"] * per_inch
    return any(abs(dpi - known) < 0.005 * known for known in _PRINT_DPI)


def _put(found: Calibration, letter: str, step: float, unit: str, position: float) -> None:
    if math.isfinite(step) and step > 0:
        found[letter] = (step, unit, position if math.isfinite(position) else 0.0)
