"""The button that says whose intervals a result gets: nominal ones, or those of a calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QPushButton, QWidget

from napari_dps.errors import InputError
from napari_dps.plugin.background import sentence_of

if TYPE_CHECKING:
    from napari_dps.result import Result
    from napari_dps.uncertainty.calibration import Calibration

_NOMINAL = "nominal…"


class CalibrationButton(QPushButton):
    """Holds a calibration file, or none; closing its file dialog without a file takes it away."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(_NOMINAL, parent)
        self.calibration: Calibration | None = None
        self.clicked.connect(self._ask)

    def load(self, path: str) -> None:
        """Take a calibration of the recipe from its file; an empty path: nominal again.

        Raises
        ------
        InputError
            If the file is none.
        """
        from napari_dps.uncertainty.calibration import Calibration

        self.calibration = Calibration.load(path) if path else None
        found = self.calibration
        self.setText(_NOMINAL if found is None else f"calibrated on {found.basis}")
        self.changed.emit()

    def apply(self, result: Result) -> tuple[Result, str | None]:
        """Return the result with its calibration, or as it is and a sentence that says why."""
        if self.calibration is None or result.point_estimate:
            return result, None
        found = self.calibration.matches(result)
        if found:
            return result, f"The calibration was not applied ({found[0]}): intervals are nominal."
        return result.calibrated(self.calibration), None

    def _ask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Calibration of the recipe", "", "Calibration (*.json)"
        )
        try:
            self.load(path)
        except InputError as error:
            show_error(sentence_of(error))
