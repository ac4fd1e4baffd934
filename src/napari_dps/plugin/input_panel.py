"""What is restored: the image layer, the part of it, and its pixel size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from napari.layers import Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_dps.errors import InputError
from napari_dps.plugin.editors import MaybeEditor, QuietComboBox
from napari_dps.plugin.layers import (
    PixelSize,
    Region,
    file_pixel_size,
    layer_pixel_size,
    visible_region,
    whole,
)
from napari_dps.plugin.number_box import NumberBox

if TYPE_CHECKING:
    from napari.viewer import Viewer

_ORIGINS = {
    "layer": "from the layer",
    "file": "from the file (the layer has none)",
    "typed": "typed by hand",
    "none": "not known",
}


class InputPanel(QWidget):
    """Chooses the layer, the region and the pixel size.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Whose layers to offer.
    """

    changed = Signal()
    layer_changed = Signal()

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._size = PixelSize()
        self._reading: Any = None
        self._layer: ImageLayer | None = None

        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        title = QLabel("<b>Image</b>")
        column.addWidget(title)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.layers = QuietComboBox()
        self.layers.setToolTip("The layer to restore: one measured channel, 2D or a stack")
        self.regions = QuietComboBox()
        self.regions.addItem("whole image", "whole")
        self.regions.addItem("visible region", "visible")
        self.regions.setToolTip(
            "Visible region: only what the canvas shows of the frame at hand; good for a first try"
        )
        self.size_box = MaybeEditor(
            NumberBox(float, 0.0, exclusive_minimum=True, digits=6), "unknown", None
        )
        self.size_box.setToolTip("Pixel size along Y and X in micrometres")
        self.origin = QLabel()
        self.apply_button = QPushButton("Set on layer")
        self.apply_button.setToolTip(
            "Give the layer this pixel size, so that the scale bar and all results carry it"
        )
        note = QHBoxLayout()
        note.setContentsMargins(0, 0, 0, 0)
        note.addWidget(self.origin, 1)
        note.addWidget(self.apply_button)
        form.addRow("Layer", self.layers)
        form.addRow("Part", self.regions)
        form.addRow("Pixel (µm)", self.size_box)
        form.addRow("", note)
        column.addLayout(form)

        self._refill()
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self._refill)
        viewer.layers.events.renamed.connect(self._refill)
        viewer.layers.selection.events.active.connect(self._active_changed)
        self.layers.currentIndexChanged.connect(self._layer_chosen)
        self.regions.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.size_box.changed.connect(self._size_typed)
        self.apply_button.clicked.connect(self.apply_size)
        self._active_changed()
        self._layer_chosen()

    def disconnect_viewer(self) -> None:
        """Listen to the viewer no longer."""
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.renamed):
            event.disconnect(self._refill)
        self._viewer.layers.selection.events.active.disconnect(self._active_changed)

    # ------------------------------------------------------------------ values

    @property
    def layer(self) -> ImageLayer | None:
        """The chosen layer."""
        return self._layer

    @layer.setter
    def layer(self, layer: ImageLayer) -> None:
        self.layers.setCurrentIndex(self._images().index(layer))

    @property
    def pixel_size(self) -> PixelSize:
        """The pixel size that is shown, with its origin."""
        return self._size

    def checked_layer(self) -> ImageLayer:
        """Return the chosen layer.

        Raises
        ------
        InputError
            If there is none, or it is in colour.
        """
        if self._layer is None:
            raise InputError("there is no image layer; open an image or a sample first")
        if self._layer.rgb:
            raise InputError(
                f"{self._layer.name!r} is a colour (RGB) picture; split it and choose one channel"
            )
        return self._layer

    def region(self) -> Region:
        """Return the part that is to be restored.

        Raises
        ------
        InputError
            If nothing of the layer is in view.
        """
        layer = self.checked_layer()
        if self.regions.currentData() == "visible":
            return visible_region(layer, self._viewer)
        return whole(layer)

    def array_layers(self) -> dict[str, Any]:
        """Return the layers that may serve as mask or PSF, by name."""
        return {
            layer.name: layer
            for layer in self._viewer.layers
            if isinstance(layer, (ImageLayer, Labels)) and not getattr(layer, "rgb", False)
        }

    def apply_size(self) -> None:
        """Give the layer the pixel size shown."""
        layer, size = self._layer, self._size
        if layer is None or size.yx is None:
            return
        scale, units = list(layer.scale), [str(unit) for unit in layer.units]
        translate = list(layer.translate)
        for axis, value in ((-2, size.yx[0]), (-1, size.yx[1])):
            translate[axis] *= value / scale[axis] if units[axis] == "pixel" else 1.0
            scale[axis], units[axis] = value, "micrometer"
        layer.units, layer.scale, layer.translate = units, scale, translate
        self._set_size(layer_pixel_size(layer))
        self._viewer.reset_view()

    # ------------------------------------------------------------------ events

    def _images(self) -> list[ImageLayer]:
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, ImageLayer) and not layer.name.endswith(" preview")
        ]

    def _refill(self, _event: Any = None) -> None:
        images = self._images()
        was = self.layers.blockSignals(True)
        self.layers.clear()
        self.layers.addItems([layer.name for layer in images])
        if self._layer in images:
            self.layers.setCurrentIndex(images.index(self._layer))
        self.layers.blockSignals(was)
        if self._layer not in images:
            self._layer_chosen()

    def _active_changed(self, _event: Any = None) -> None:
        """Follow the layer list, but not onto truths and results, which nobody restores."""
        active = self._viewer.layers.selection.active
        images = self._images()
        if self.isEnabled() and active in images and not _is_derived(active):
            self.layers.setCurrentIndex(images.index(active))

    def _layer_chosen(self, _index: int = 0) -> None:
        images, index = self._images(), self.layers.currentIndex()
        layer = images[index] if 0 <= index < len(images) else None
        if layer is self._layer and layer is not None:
            return
        self._layer = layer
        self._set_size(PixelSize() if layer is None else layer_pixel_size(layer))
        if layer is not None and self._size.yx is None and layer.source.path is not None:
            self._read_file(layer)
        self.layer_changed.emit()
        self.changed.emit()

    def _read_file(self, layer: ImageLayer) -> None:
        from napari.qt.threading import create_worker

        worker = create_worker(file_pixel_size, layer, _start_thread=False, _ignore_errors=True)
        worker.returned.connect(self._file_read)
        self._reading = (worker, layer)
        self.origin.setText("reading the file…")
        worker.start()

    def _file_read(self, size: PixelSize) -> None:
        reading, self._reading = self._reading, None
        if reading is not None and reading[1] is self._layer and self._size.yx is None:
            self._set_size(size)
            self.changed.emit()

    def _size_typed(self) -> None:
        value = self.size_box.value()
        if value is None:
            self._size = PixelSize()
        elif self._size.yx is None or value != self._size.yx[0]:
            self._size = PixelSize((value, value), "typed", self._size.z)
        self._show_origin()
        self.changed.emit()

    def _set_size(self, size: PixelSize) -> None:
        was = self.size_box.blockSignals(True)
        self.size_box.set_value(None if size.yx is None else size.yx[0])
        self.size_box.blockSignals(was)
        self._size = size
        self._show_origin()

    def _show_origin(self) -> None:
        text = _ORIGINS[self._size.origin]
        if self._size.yx is not None and self._size.yx[0] != self._size.yx[1]:
            text += f"; X {self._size.yx[1]:.6g}"
        self.origin.setText(text)
        self.apply_button.setVisible(self._size.origin in ("file", "typed"))


def _is_derived(layer: ImageLayer) -> bool:
    held = layer.metadata.get("napari_dps")
    return isinstance(held, dict) and ("report" in held or "recipe" not in held)
