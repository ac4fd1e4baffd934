"""Images side by side with a caption each, as one PNG for a page of the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

LOW, HIGH = 0.5, 99.8
"""Percentiles between which an image is stretched."""
HEIGHT = 2.4
"""Of a panel, in inches."""


def panels(images: dict[str, NDArray[Any]], path: Path) -> None:
    """Draw images of one height in a row, each stretched on its own between two percentiles.

    Parameters
    ----------
    images
        By caption. Those whose caption begins with ``std`` take a colour map of their own and begin
        at zero; phases that go all around have a cyclic one from -pi to pi.
    path
        File for the PNG; its folder is made.
    """
    shapes = [image.shape for image in images.values()]
    ratios = [width / height for height, width in shapes]
    figure = Figure(figsize=(HEIGHT * sum(ratios), HEIGHT + 0.3), dpi=110)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        1,
        len(images),
        width_ratios=ratios,
        wspace=0.04,
        left=0.005,
        right=0.995,
        bottom=0.01,
        top=HEIGHT / (HEIGHT + 0.3),
    )
    for number, (caption, image) in enumerate(images.items()):
        low, high = np.percentile(image, [LOW, HIGH])
        colours = "gray"
        if caption.startswith("std"):
            low, colours = 0.0, "magma"
        elif "phase" in caption and high - low > np.pi:
            low, high, colours = -np.pi, np.pi, "twilight"
        axes = figure.add_subplot(grid[number])
        axes.imshow(
            image, cmap=colours, vmin=low, vmax=max(high, low + 1e-12), interpolation="nearest"
        )
        axes.set_title(caption, fontsize=9, pad=3)
        axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
