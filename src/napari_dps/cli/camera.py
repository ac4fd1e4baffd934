"""``napari-dps camera``: gain, offset and read noise from dark frames and flats."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from napari_dps.cli._options import Chosen
from napari_dps.cli._output import check_folder
from napari_dps.cli._terminal import note, print_json, print_table
from napari_dps.errors import InputError

GROUPS: tuple[str, ...] = ()
Flag = Annotated[bool, Parameter(negative=())]
Files = Annotated[list[str], Parameter(consume_multiple=True, negative=())]


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command."""
    return camera


def camera(
    *,
    dark: Files,
    flat: Files,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    maps: Path | None = None,
    plot: Path | None = None,
    axes: str | None = None,
    json: Flag = False,
) -> None:
    """Measure a camera from dark frames and flats, as a recipe's noise.

    Parameters
    ----------
    dark
        Frames without light, of the exposure used for imaging: one file or more.
    flat
        Frames of steady light, one stack per brightness: one file or more.
    out
        Recipe (.json) that says the noise; `reconstruct --recipe` takes it.
    maps
        Folder for maps of every pixel (sCMOS), which the recipe then names.
    plot
        Picture (.png, .pdf, .svg) of the photon-transfer curve.
    axes
        One letter per axis, such as TYX, where the files do not say.
    json
        Print one JSON object.
    """
    _check(out, maps, plot, [*dark, *flat])
    from napari_dps.camera import measure_camera

    found = measure_camera(dark, flat, axes=axes)
    written = found.save(out, maps)
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        written.append(found.plot(plot))
    for warning in found.warnings:
        note(f"warning: {warning}")
    if json:
        print_json({"written": [str(path) for path in written], **found.report()})
        return
    rows = [
        ["gain [ADU/electron]", found.gain, found.gain_error],
        ["offset [ADU]", found.offset, found.offset_error],
        ["read noise [electrons]", found.read_noise, found.read_noise_error],
        ["of it the camera's, less rounding", found.own_read_noise, found.own_read_noise_error],
    ]
    frames = f"{found.dark_frames} dark frames, {found.flat_frames} of light"
    print_table(frames, ("", "value", "error"), rows)
    points = [
        [p["name"], p["signal"], p["variance"], p["error"], "yes" if p["used"] else "no"]
        for p in found.curve
    ]
    columns = ("flat", "signal [ADU]", "variance [ADU^2]", "error", "used")
    print_table("photon transfer", columns, points)
    note(f"{out}: use it with --recipe {out}")


def _check(out: Path, maps: Path | None, plot: Path | None, inputs: list[str]) -> None:
    """Refuse, before anything is measured, what could not be written.

    Raises
    ------
    InputError
        The sentence names the file.
    """
    if out.suffix.lower() != ".json" or out.is_dir():
        raise InputError(f"the output {str(out)!r} is no recipe file; name it camera.json")
    if plot is not None and plot.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"the plot {str(plot)!r} is no picture; name it .png, .pdf or .svg")
    if maps is not None and maps.is_file():
        raise InputError(f"the folder of maps {str(maps)!r} is a file; name a folder")
    sources = {os.path.realpath(path): path for path in inputs}
    for target in (path for path in (out, plot) if path is not None):
        if os.path.realpath(target) in sources:
            raise InputError(f"{str(target)!r} would overwrite an input; choose another name")
        check_folder(target)
