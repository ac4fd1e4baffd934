"""The editor of a field that holds an array (mask, PSF): a layer of the viewer, or a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_dps.arrays import ArrayRef, NumberOrArray
from napari_dps.errors import InputError
from napari_dps.plugin.editors import QuietComboBox, TextEditor
from napari_dps.plugin.layers import layer_pixel_size
from napari_dps.plugin.number_box import NumberBox

#: Returns the layers that can serve as an array, by name.
LayerSource = Callable[[], dict[str, Any]]

NOTHING, FILE, HELD, NUMBER = "nothing", "file", "held", "number"


def no_layers() -> dict[str, Any]:
    """Return no layers: for forms outside a viewer."""
    return {}


class SourceBox(QuietComboBox):
    """A combo box that asks for its entries whenever it opens."""

    def __init__(self, refill: Callable[[], None], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._refill = refill

    def showPopup(self) -> None:
        """Fill, then open."""
        self._refill()
        super().showPopup()


class ArrayEditor(QWidget):
    """Nothing, an image or labels layer, or a file; or, in place of nothing, a number.

    Parameters
    ----------
    name : str
        What the array is, for errors.
    layers : callable
        Returns the layers to choose from, by name.
    number : bool
        Whether one number for all pixels may be given, and not nothing.
    number_box : QWidget, optional
        Editor of that number; one without bounds where left out.
    """

    changed = Signal()

    def __init__(
        self,
        name: str,
        layers: LayerSource = no_layers,
        number: bool = False,
        number_box: QWidget | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._name, self._layers, self._number = name, layers, number
        self._held: ArrayRef | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        self.source = SourceBox(self.refill)
        self.file = TextEditor("file")
        self.file.setVisible(False)
        self.number: Any = NumberBox(float) if number_box is None else number_box
        self.number.setVisible(False)
        column.addWidget(self.source)
        column.addWidget(self.file)
        column.addWidget(self.number)
        self.refill()
        self.source.currentIndexChanged.connect(self._source_changed)
        self.file.changed.connect(self.changed)
        self.number.changed.connect(self.changed)
        self._source_changed()

    def refill(self) -> None:
        """List what there is to choose from, keeping the choice."""
        chosen = self.source.currentData()
        first = ("number", (NUMBER, None)) if self._number else ("none", (NOTHING, None))
        entries: list[tuple[str, Any]] = [first, ("file…", (FILE, None))]
        entries += [(f"layer: {name}", ("layer", name)) for name in self._layers()]
        if self._held is not None:
            entries.append((self._held_text(), (HELD, None)))
        if chosen is not None and chosen not in [data for _, data in entries]:
            entries.append((f"layer: {chosen[1]} (gone)", chosen))
        was = self.source.blockSignals(True)
        self.source.clear()
        for text, data in entries:
            self.source.addItem(text, data)
        if chosen is not None:
            self._choose(chosen)
        self.source.blockSignals(was)

    def value(self) -> ArrayRef | None:
        """Return the array, None where nothing was chosen.

        Raises
        ------
        InputError
            If the layer is gone.
        """
        kind, name = self.source.currentData()
        if kind == NUMBER:
            return NumberOrArray(self.number.value())
        if kind == FILE:
            path = self.file.value()
            if path is None:
                return None
            return self._held if self._held and self._held.path == path else ArrayRef(path)
        if kind == "layer":
            layer = self._layers().get(name)
            if layer is None:
                raise InputError(
                    f"the layer {name!r} chosen for {self._name} is gone; choose another one"
                )
            data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
            values = np.asarray(data)
            return ArrayRef(values, _pixel_size(layer) if values.ndim in (2, 3) else None)
        return self._held if kind == HELD else None

    def set_value(self, value: Any) -> None:
        """Show a reference to an array (or a path, or values)."""
        parse = NumberOrArray.parse if self._number else ArrayRef.parse
        self._held = None if value is None else parse(value)
        if isinstance(self._held, NumberOrArray) and self._held.number is not None:
            self.number.set_value(self._held.number)
            self._held = None
        self.refill()
        if self._held is None:
            self._choose((NUMBER if self._number else NOTHING, None))
        elif self._held.path is not None:
            self.file.set_value(self._held.path)
            self._choose((FILE, None))
        else:
            self._choose((HELD, None))
        self._source_changed()

    def _held_text(self) -> str:
        assert self._held is not None
        if self._held.path is not None:
            return "file of the recipe"
        return "array, " + " × ".join(str(n) for n in self._held.load().shape)

    def _choose(self, data: tuple[str, Any]) -> None:
        for index in range(self.source.count()):
            if self.source.itemData(index) == data:
                self.source.setCurrentIndex(index)

    def _source_changed(self) -> None:
        kind, _ = self.source.currentData()
        self.file.setVisible(kind == FILE)
        self.number.setVisible(kind == NUMBER)
        self.changed.emit()


def _pixel_size(layer: Any) -> dict[str, float]:
    """Return micrometres per pixel that a layer carries or, failing that, the TIFF it came from."""
    own = layer_pixel_size(layer) if hasattr(layer, "units") else None
    if own is not None and own.yx is not None:
        found = dict(zip("YX", own.yx, strict=True))
        return found if own.z is None else {"Z": own.z, **found}
    path = getattr(getattr(layer, "source", None), "path", None)
    if path is None:
        return {}
    file = ArrayRef(str(path))
    try:
        # napari's own reader drops the pixel size; a changed shape means that the data did too.
        same = tuple(n for n in file.shape() if n > 1) == tuple(
            n for n in layer.data.shape if n > 1
        )
        return file.pixel_size() if same else {}
    except InputError:  # the layer outlives its file
        return {}
