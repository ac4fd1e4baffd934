"""The figure of benchmarks/phantoms.py: statistics of real images and phantoms as curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLOURS = {"real": "black", "phantoms": "tab:orange"}
TITLES = ("power (log10)", "intensity", "local std, 7 px (log10)", "sparsity, log10 kurtosis")


def draw_curves(
    curves: dict[str, tuple[dict[str, Any], dict[str, Any]]],
    rings: NDArray[np.float64],
    boxes: tuple[int, ...],
    path: Path,
) -> None:
    """Write one row a structure.

    Parameters
    ----------
    curves : dict
        Statistics of real fields and of phantoms, by structure.
    rings : ndarray
        Edges of the rings of the spectrum, in cycles per pixel.
    boxes : tuple of int
        Sides of the boxes of the local statistics, in pixels; one of them is 7.
    path : Path
        Target, PNG.
    """
    figure = Figure(figsize=(9.6, 1.5 * len(curves)), layout="constrained", dpi=80)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(curves), 4, squeeze=False)
    middle = np.sqrt(rings[1:] * rings[:-1])
    for row, (name, both) in zip(grid, curves.items(), strict=True):
        row[0].set_ylabel(name)
        for found, (label, colour) in zip(both, COLOURS.items(), strict=True):
            low, half, high = np.quantile(found["spectrum"], (0.25, 0.5, 0.75), axis=0)
            row[0].plot(middle, half, color=colour, label=label)
            row[0].fill_between(middle, low, high, color=colour, alpha=0.2, linewidth=0)
            row[0].set_xscale("log")
            local = found["local_std"][boxes.index(7)].astype(float)
            for axes, values, span in ((row[1], found["intensity"], (-1.1, 1.1)),
                                       (row[2], local, (-3.0, 0.0))):  # fmt: skip
                axes.hist(values, 60, span, density=True, histtype="step", color=colour)
            row[1].set_yscale("log")
            row[3].plot(found["sparsity"], found["kurtosis"], ".", color=colour, alpha=0.4, ms=3)
        for axes in row:
            axes.tick_params(labelsize=7)
    for axes, title in zip(grid[0], TITLES, strict=True):
        axes.set_title(title, fontsize=9)
    grid[0, 0].legend(fontsize=7, loc="lower left")
    grid[-1, 0].set_xlabel("cycles per pixel", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
