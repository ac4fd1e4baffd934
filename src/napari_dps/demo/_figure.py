"""The demo's figure: one row per case, every panel with its colour bar and unit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_dps.demo import Case


def draw(cases: list[Case], path: Path) -> None:
    """Write the figure as PNG.

    Parameters
    ----------
    cases : list of Case
        One row each.
    path : Path
        Target.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = 7
    figure = Figure(figsize=(3.0 * width, 3.4 * len(cases)), layout="constrained", dpi=80)
    FigureCanvasAgg(figure)
    for strip, case in zip(
        figure.subfigures(len(cases), 1, squeeze=False)[:, 0], cases, strict=True
    ):
        strip.suptitle(f"{case.title} ({_verdict(case)})", fontsize=13)
        axes = strip.subplots(1, width)
        top = float(np.percentile(case.truth, 99.9))
        for place, (label, image, unit, colours, limits) in zip(
            axes, _panels(case, top), strict=True
        ):
            shown = place.imshow(image, cmap=colours, vmin=limits[0], vmax=limits[1])
            place.set_title(label, fontsize=11)
            place.set_xticks([])
            place.set_yticks([])
            bar = strip.colorbar(shown, ax=place, orientation="horizontal", shrink=0.9, pad=0.02)
            bar.set_label(unit, fontsize=9)
            bar.ax.tick_params(labelsize=8)
    figure.savefig(path)


def _verdict(case: Case) -> str:
    report = case.report
    given = report["psnr_input"]
    parts = [] if given is None else [f"input {given:.1f} dB"]
    parts += [
        f"{case.baseline_name} {report['psnr_baseline']:.1f} dB",
        f"mean of {report['samples']} samples {report['psnr']:.1f} dB",
    ]
    return ", ".join(parts)


def _panels(
    case: Case, top: float
) -> list[tuple[str, NDArray[Any], str, str, tuple[float, float]]]:
    """Return (label, image, unit, colour map, limits) of a row's panels."""
    result, unit = case.result, f"{case.unit} per pixel"
    same = (0.0, top)
    if case.measured.shape == case.truth.shape:
        first = ("measured", case.measured, unit, "gray", same)
    else:
        logs = np.log10(case.measured + 1)
        first = ("measured far field", logs, "log10(photons + 1)", "gray", (0.0, float(logs.max())))
    spread = (0.0, float(np.percentile(result.std, 99.9)) or 1.0)
    second = result.samples[min(1, len(result.samples) - 1)]
    return [
        first,
        (case.baseline_name, case.baseline, unit, "gray", same),
        ("posterior mean", result.mean, unit, "gray", same),
        ("posterior std", result.std, unit, "magma", spread),
        ("sample 1", result.samples[0], unit, "gray", same),
        ("sample 2", second, unit, "gray", same),
        ("truth", case.truth, unit, "gray", same),
    ]
