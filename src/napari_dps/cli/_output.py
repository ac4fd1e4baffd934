"""Where results go: never over an input, never two to one place; and plain arrays on disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_dps._resultfile import check_target, ome_geometry
from napari_dps.errors import InputError
from napari_dps.image import Image

SUFFIXES = (".ome.tiff", ".ome.tif", ".ome.zarr", ".tiff", ".tif", ".zarr", ".npy", ".png")
RESULTS = (".ome.tiff", ".ome.tif", ".ome.zarr", ".tiff", ".tif", ".zarr")


@dataclass(frozen=True)
class Job:
    """One input file and where its result goes."""

    source: str
    target: Path


def suffix_of(name: str, known: Sequence[str] = SUFFIXES) -> str:
    """Return the suffix of a file name, doubled ones such as ``.ome.tif`` included."""
    low = name.lower()
    for suffix in known:
        if low.endswith(suffix) and len(low) > len(suffix):
            return name[-len(suffix) :]
    return Path(name).suffix


def stem_of(path: str) -> str:
    """Return the name of a file without folder and suffix."""
    name = Path(path).name
    return name.removesuffix(suffix_of(name))


def is_folder(out: str) -> bool:
    """Whether an output names a folder to write into: it exists as one or ends with a slash."""
    if out.endswith(("/", os.sep)):
        return True
    return Path(out).is_dir() and suffix_of(Path(out).name).lower() != ".zarr"


def plan_outputs(inputs: Sequence[str], out: str) -> list[Job]:
    """Decide where the result of each input goes.

    Raises
    ------
    InputError
        If there is no input, if a result would overwrite an input or another result, or if the
        output's suffix is none that results have.
    """
    if not inputs:
        raise InputError("no image was named; give one file or more, such as image.tif")
    if not out.strip():
        raise InputError("the output has an empty name; name a file or a folder")
    if len(inputs) == 1:
        target = Path(out)
        if is_folder(out):
            target = target / f"{stem_of(inputs[0])}.tif"
        elif suffix_of(target.name).lower() not in RESULTS:
            raise InputError(
                f"the output {out!r} is no result file; name it .tif, .ome.tif or .zarr, or give "
                "a folder (ending in /)"
            )
        jobs = [Job(inputs[0], target)]
    else:
        folder = Path(out)
        if folder.is_file() or (suffix_of(folder.name).lower() in RESULTS and not is_folder(out)):
            raise InputError(f"{len(inputs)} inputs need a folder as output, but {out!r} is a file")
        jobs = [Job(name, folder / f"{stem_of(name)}.tif") for name in inputs]
    check_outputs(jobs)
    return jobs


def check_outputs(jobs: Sequence[Job]) -> None:
    """Refuse outputs that would overwrite an input or each other.

    Raises
    ------
    InputError
        The sentence names the two files; also if something else lies at the output's place.
    """
    sources = {os.path.realpath(job.source): job.source for job in jobs}
    taken: dict[str, str] = {}
    for job in jobs:
        # Windows and macOS take two names that differ in case for one file.
        place = os.path.realpath(job.target).casefold()
        if place in taken:
            raise InputError(
                f"{taken[place]!r} and {job.source!r} would both be written to "
                f"{str(job.target)!r}; restore them into different folders"
            )
        taken[place] = job.source
        hit = sources.get(os.path.realpath(job.target))
        if hit is not None:
            raise InputError(
                f"the output {str(job.target)!r} would overwrite the input {hit!r}; "
                "choose another name or folder"
            )
        check_target(job.target)
        check_folder(job.target)


def check_folder(target: Path) -> None:
    """Refuse a file that could not be written in the end, before any work is done.

    Raises
    ------
    InputError
        If its folder, or the one to make it in, is no folder or refuses a file.
    """
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{str(target)!r} cannot be written ({error.strerror or error}); choose a folder that "
            "can be written"
        ) from error


def is_page(report: Path | None) -> bool:
    """Whether a report is asked for as a page."""
    return report is not None and report.suffix.lower() in (".html", ".htm")


def check_report(report: Path, jobs: Sequence[Job]) -> None:
    """Refuse a report that would overwrite an input or a result, or cannot be written.

    Raises
    ------
    InputError
        The sentence names the file.
    """
    place = os.path.realpath(report)
    for job in jobs:
        for other in (job.source, job.target):
            if place == os.path.realpath(other):
                raise InputError(
                    f"the report would overwrite {str(other)!r}; give it a name of its own, such "
                    "as report.json"
                )
    if is_page(report) and len(jobs) > 1:
        raise InputError(
            f"{len(jobs)} inputs do not go on one page {str(report)!r}; name a .json file, or "
            "restore them one by one"
        )
    if report.is_dir():
        raise InputError(f"the report's name {str(report)!r} is a folder; name a file")
    check_folder(report)


def check_image_output(out: str, source: str | None = None) -> Path:
    """Return where an array is written.

    Raises
    ------
    InputError
        If the suffix is none of .tif and .npy, or it would overwrite the source.
    """
    target = Path(out)
    if suffix_of(target.name).lower() not in (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".npy"):
        raise InputError(f"the output {out!r} is no image file; name it .tif, .ome.tif or .npy")
    if target.is_dir():
        raise InputError(f"the output {out!r} is a folder; choose another name")
    if source is not None and os.path.realpath(source) == os.path.realpath(target):
        raise InputError(f"the output {out!r} would overwrite the input; choose another name")
    check_folder(target)
    return target


def write_array(target: Path, array: Any, axes: str, like: Image | None = None) -> None:
    """Write an array as OME-TIFF or ``.npy``; on failure leave nothing.

    Parameters
    ----------
    target : Path
        As `check_image_output` returns it.
    array : ndarray
        Values.
    axes : str
        One letter each.
    like : Image, optional
        Has the same axes, and gives their scale, units and translate.

    Raises
    ------
    InputError
        If the place cannot be written.
    """
    partial = target.with_name(f".partial-{os.getpid()}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix.lower() == ".npy":
            np.save(partial, array)
        else:
            import tifffile

            extra: dict[str, Any] = {"axes": axes}
            if like is not None:
                extra |= ome_geometry(vars(like), axes, array.shape)
            tifffile.imwrite(partial, array, ome=True, metadata=extra, photometric="minisblack")
        partial.replace(target)
    except OSError as error:
        raise InputError(
            f"{str(target)!r} cannot be written ({error.strerror or error}); "
            "choose a folder that can be written and has space"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
