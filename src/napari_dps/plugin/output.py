"""What a run shows in the viewer: the preview while it lasts, then the layers of its result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_dps.plugin.result_layers import Frame, preview_layer, result_layers

if TYPE_CHECKING:
    import numpy as np
    from napari.types import LayerDataTuple
    from napari.viewer import Viewer

#: Drawing previews may take this share of the window's time at most.
_SHARE = 0.1


class LayerOutput(QObject):
    """Adds layers to a viewer, one for each turn of the event loop.

    Creating a layer takes napari up to 0.2 s; three in a row would be felt as a halt.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Where to add them.
    """

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._preview: Any = None
        self._next_preview = 0.0
        self._waiting: list[LayerDataTuple] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._add_next)

    @property
    def busy(self) -> bool:
        """Whether layers wait to be added."""
        return bool(self._waiting)

    def show_preview(self, frame: Frame, picture: np.ndarray) -> None:
        """Show the present state of a run, unless the last one was drawn a moment ago."""
        begin = time.monotonic()
        if begin < self._next_preview:
            return
        if self._preview is None:
            data, arguments, _ = preview_layer(frame, picture)
            selected = set(self._viewer.layers.selection)
            self._preview = self._viewer.add_image(data, **arguments)
            self._viewer.layers.selection = selected
        elif self._preview in self._viewer.layers:
            self._preview.data = picture
            self._preview.reset_contrast_limits()
        end = time.monotonic()
        self._next_preview = end + (end - begin) * (1 / _SHARE - 1)

    def remove_preview(self) -> None:
        """Take the preview away."""
        preview, self._preview = self._preview, None
        self._next_preview = 0.0
        if preview is not None and preview in self._viewer.layers:
            self._viewer.layers.remove(preview)

    def add_result(self, result: Any, frame: Frame) -> None:
        """Add the layers of a result, soon."""
        self.remove_preview()
        self._waiting += result_layers(result, frame)
        self._timer.start()

    def drop(self) -> None:
        """Add nothing any more."""
        self._waiting.clear()

    def _add_next(self) -> None:
        if self._waiting:
            data, arguments, _ = self._waiting.pop(0)
            self._viewer.add_image(data, **arguments)
        if self._waiting:
            self._timer.start()
