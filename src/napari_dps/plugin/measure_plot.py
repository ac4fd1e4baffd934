"""A small matplotlib figure in the dock: the plot of a measurement, or a legend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_dps.uncertainty.measure import Measurement


class PlotPanel(QWidget):
    """A figure that is made when first needed: matplotlib takes a while to load."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self._canvas: Any = None
        self.axes: Any = None
        self.hide()

    def draw(self, paint: Callable[[Any], object]) -> None:
        """Clear the figure and let a function paint on its axes."""
        if self._canvas is None:
            from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
            from matplotlib.figure import Figure

            canvas: Any = FigureCanvasQTAgg
            self._canvas = canvas(Figure(figsize=(3.4, 2.6), layout="constrained"))
            self._canvas.setMinimumHeight(230)
            self.layout().addWidget(self._canvas)
        figure = self._canvas.figure
        figure.clear()
        self.axes = figure.subplots()
        self.axes.tick_params(labelsize=8)
        paint(self.axes)
        for label in (self.axes.xaxis.label, self.axes.yaxis.label):
            label.set_size(8)
        legend = self.axes.get_legend()
        if legend is not None:
            for text in legend.get_texts():
                text.set_fontsize(7)
        self.show()
        self._canvas.draw_idle()


def paint_of(found: Measurement) -> Callable[[Any], object]:
    """Return what plots a measurement; of objects, whose units differ, how often which count."""
    if found.names[0] != "count" or len(found) == 1:
        return found.plot

    def bars(axes: Any) -> None:
        counts = found.draws[:, 0]
        values, times = np.unique(counts[np.isfinite(counts)], return_counts=True)
        axes.bar(values, times / len(counts), width=0.8)
        axes.axvspan(found.low[0] - 0.5, found.high[0] + 0.5, alpha=0.15, color="tab:blue")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel(f"count ({found.level * 100:g} % interval shaded, {found.note})")
        axes.set_ylabel("share of samples")

    return bars


def legend_of(shown: Any) -> tuple[Callable[[Any], object], str]:
    """Return what paints a legend, and one line that says what it is.

    Parameters
    ----------
    shown : Look or (str, Image layer)
        A colour picture, or a layer with what its values are.
    """
    if not isinstance(shown, tuple):
        return shown.legend, f"legend: {shown.what}"
    what, layer = shown

    def bar(axes: Any) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        scale = ScalarMappable(Normalize(*layer.contrast_limits), layer.colormap.name)
        axes.figure.colorbar(scale, cax=axes, orientation="horizontal")
        axes.set_box_aspect(0.12)
        axes.set_xlabel(what)

    return bar, f"legend: {what}"
