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
    print_table("napari-dps demo", ("case", "measure", "value"), _rows(report))
    if not report["passed"]:
        complain("the demo ran, but did not reach the figures that it should; see the table")
        return 1
    note(f"everything is in {out}")
    return 0


def _rows(report: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Flatten the report into rows: every number and verdict, case by case."""
    rows: list[tuple[str, str, Any]] = []
    for case, values in report.items():
        if isinstance(values, dict):
            rows += [
                (case, name, value)
                for name, value in values.items()
                if value is None or isinstance(value, (bool, int, float, str))
            ]
        elif isinstance(values, (bool, int, float, str)):
            rows.append(("all", case, values))
    return rows
