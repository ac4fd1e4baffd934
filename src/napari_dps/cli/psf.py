"""``napari-dps psf``: a point spread function from an image of beads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from napari_dps.cli._options import Chosen, floats
from napari_dps.cli._output import check_folder
from napari_dps.cli._terminal import note, print_json, print_table
from napari_dps.errors import InputError

GROUPS: tuple[str, ...] = ()
Flag = Annotated[bool, Parameter(negative=())]


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command."""
    return psf


def psf(
    beads: str,
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    bead_diameter: float | None = None,
    size: str | None = None,
    pixel_size: str | None = None,
    axes: str | None = None,
    plot: Path | None = None,
    json: Flag = False,
) -> None:
    """Measure a point spread function from an image of beads.

    Parameters
    ----------
    beads
        Image of beads: one plane, or one stack.
    out
        TIFF for the PSF; `--forward psf --forward.psf FILE` takes it.
    bead_diameter
        Diameter of the beads in micrometres, to take their own width out.
    size
        Pixels of the PSF: one number for Y and X, or one per axis with commas between them.
    pixel_size
        Pixel size in micrometres: one number, or one per axis with commas between them.
    axes
        One letter per axis, such as ZYX, where the file does not say.
    plot
        Picture (.png, .pdf, .svg) of the PSF's sections and profiles.
    json
        Print one JSON object.
    """
    _check(out, plot, beads)
    sides = _whole(floats(size, "--size"))
    pixels = floats(pixel_size, "--pixel-size")
    from napari_dps.beads import measure_psf

    found = measure_psf(
        beads, bead_diameter=bead_diameter, size=sides, axes=axes, pixel_size=pixels
    )
    written = [found.save(out)]
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        written.append(found.plot(plot))
    for warning in found.warnings:
        note(f"warning: {warning}")
    if json:
        print_json({"written": [str(path) for path in written], **found.report()})
        return
    rows = [
        [f"{a} [{found.units[a]}]", found.fwhm[a], found.fwhm_spread[a], n]
        for a, n in zip(found.axes, found.psf.shape, strict=True)
    ]
    title = f"{found.used} of {found.found} beads, signal to noise {found.signal_to_noise:.0f}"
    print_table(title, ("axis", "full width at half maximum", "spread", "pixels"), rows)
    if found.rejected:
        print_table("left out", ("reason", "beads"), found.rejected.items())
    note(f"{out}: use it with --forward psf --forward.psf {out}")


def _whole(values: float | tuple[float, ...] | None) -> Any:
    """Return whole numbers as such; what is none is refused where sizes are."""
    if values is None:
        return None
    given = values if isinstance(values, tuple) else (values,)
    return tuple(int(v) if v.is_integer() else v for v in given)


def _check(out: Path, plot: Path | None, source: str) -> None:
    """Refuse, before anything is measured, what could not be written.

    Raises
    ------
    InputError
        The sentence names the file.
    """
    if out.suffix.lower() not in (".tif", ".tiff") or out.is_dir():
        raise InputError(f"the PSF cannot be written to {str(out)!r}; name it PSF.tif")
    if plot is not None and plot.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"the plot {str(plot)!r} is no picture; name it .png, .pdf or .svg")
    for target in (path for path in (out, plot) if path is not None):
        if os.path.realpath(target) == os.path.realpath(source):
            raise InputError(f"{str(target)!r} would overwrite the input; choose another name")
        check_folder(target)
