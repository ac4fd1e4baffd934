"""``napari-dps demo``: two restorations from start to end, with figures and numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from napari_dps.cli._options import Chosen
from napari_dps.cli._progress import ProgressDisplay
from napari_dps.cli._terminal import complain, note, print_table

GROUPS: tuple[str, ...] = ()
_KEYS = ("psnr_input", "psnr_baseline", "psnr", "threshold", "ssim", "seconds")
_COLUMNS = ("case", "input", "baseline", "restored", "needed", "SSIM", "seconds", "passed")


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command."""
    return demo


def demo(
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))] = Path("demo-output"),
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative=())] = False,
) -> int:
    """Restore a fluorescence image and an object behind its diffraction pattern, and check both.

    Parameters
    ----------
    out
        Folder for the images, the figure and the report.
    quiet
        Show no progress.
    """
    from napari_dps.demo import run_demo

    with ProgressDisplay("demo", quiet) as display:
        report = run_demo(out, display.show)
    print_table("napari-dps demo: PSNR against the truth, dB", _COLUMNS, _rows(report))
    if not report["passed"]:
        complain("the demo ran, but did not reach the figures that it should; see the table")
        return 1
    note(f"images, figure and report are in {out}")
    return 0


def _rows(report: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows = []
    for name in report["cases"]:
        case = report[name]
        figures = [case.get(key) for key in _KEYS]
        rows.append((name, *figures, "yes" if case["passed"] else "NO"))
    return rows
