"""The button that brings a saved result back as layers, read off the window's thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_error
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_dps.plugin.background import Background, sentence_of
from napari_dps.plugin.output import LayerOutput
from napari_dps.plugin.result_layers import Frame

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_dps.result import Result

__all__ = ["OpenResultButton", "frame_of"]

_FILES = "Results (*.tif *.tiff zarr.json)"
_INSIDE = "zarr.json"


class OpenResultButton(QPushButton):
    """Asks for a file, and adds the layers that the run left behind.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Where to add them.
    """

    said = Signal(str)
    """Emitted with what was opened, and what its file does not hold."""

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__("Open…", parent)
        self.setToolTip(
            "Open a result that was saved (.tif, or the file zarr.json in a folder .zarr): its "
            "samples, standard deviation and mean come back as layers"
        )
        self._output = LayerOutput(viewer, self)
        self.work = Background(self, what="opening the result")
        self.work.finished.connect(self._opened)
        self.work.failed.connect(lambda sentence: show_error(sentence_of(sentence)))
        self.clicked.connect(self._ask)

    @property
    def busy(self) -> bool:
        """Whether a file is read, or layers wait to be added."""
        return self.work.busy or self._output.busy

    def beside(self, box: QWidget) -> QHBoxLayout:
        """Return a row with a list of results and this button."""
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(box, 1)
        row.addWidget(self)
        return row

    def open(self, path: str | Path) -> None:
        """Begin to read a result."""
        given = Path(path)
        self.work.start(lambda: _read(given.parent if given.name == _INSIDE else given))

    def stop(self) -> None:
        """Add nothing any more."""
        self.work.drop()
        self._output.drop()

    def _ask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a result", "", _FILES)
        if path:
            self.open(path)

    def _opened(self, result: Result) -> None:
        self._output.add_result(result, frame_of(result))
        lost = [name for name in ("samples", "std", "mean") if not result.holds(name)]
        told = f"opened {result.name!r}"
        if lost and not result.point_estimate:
            told += f"; its file holds no {' and no '.join(lost)}"
        self.said.emit(told)


def _read(path: Path) -> Any:
    from napari_dps.result import Result

    result = Result.load(path)
    if len(result) > 1 and result.holds("std"):
        _ = result.std  # computed here, where it does not halt the window
    return result


def frame_of(result: Result) -> Frame:
    """Return the coordinates that a result keeps itself."""
    n = len(result.axes)
    transform = {
        "scale": np.array(result.scale),
        "translate": np.array(result.translate),
        "rotate": np.eye(n),
        "shear": np.eye(n),
        "affine": np.eye(n + 1),
        "units": tuple(result.units),
        "axis_labels": tuple(result.axes.lower()),
    }
    return Frame(result.name, tuple(result.shape), transform)
