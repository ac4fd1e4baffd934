"""A small matplotlib figure in the dock: the plot of a measurement, or a legend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget


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
