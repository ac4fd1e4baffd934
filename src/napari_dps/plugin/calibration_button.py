"""The button that says whose intervals a result gets: nominal ones, or those of a calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from napari.utils.notifications import show_error
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton, QWidget

from napari_dps.errors import InputError
from napari_dps.plugin.background import sentence_of

if TYPE_CHECKING:
    from napari_dps.result import Result
    from napari_dps.uncertainty.calibration import Calibration

_NOMINAL = "nominal"


class CalibrationButton(QPushButton):
    """A menu of nominal intervals, those of a calibration that comes along, or of one in a file.

    Attributes
    ----------
    calibration : Calibration, "shipped" or None
        What a result gets; None: intervals stay nominal.
    nominal, shipped, from_file : QAction
        The choices.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(_NOMINAL, parent)
        self.calibration: Calibration | Literal["shipped"] | None = None
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self.nominal = menu.addAction("Nominal: of the samples themselves")
        self.shipped = menu.addAction("Calibrated (shipped with napari-dps)")
        self.shipped.setToolTip(
            "For a few common recipes with the default prior and sampler; where none belongs to "
            "the recipe, intervals stay nominal and a message says so."
        )
        self.from_file = menu.addAction("Calibrated, from a file…")
        self.nominal.triggered.connect(lambda: self._take(None))
        self.shipped.triggered.connect(lambda: self._take("shipped"))
        self.from_file.triggered.connect(self._ask)
        self.setMenu(menu)

    def load(self, path: str) -> None:
        """Take a calibration of the recipe from its file; an empty path: nominal again.

        Raises
        ------
        InputError
            If the file is none.
        """
        from napari_dps.uncertainty.calibration import Calibration

        self._take(Calibration.load(path) if path else None)

    def apply(self, result: Result) -> tuple[Result, str | None]:
        """Return the result with its calibration, or as it is and a sentence that says why."""
        if self.calibration is None or result.point_estimate:
            return result, None
        from napari_dps.uncertainty.shipped import shipped_for

        try:
            found = shipped_for(result) if self.calibration == "shipped" else self.calibration
        except InputError as error:
            return result, f"Intervals are nominal: {error}."
        differences = found.matches(result)
        if differences:
            told = f"The calibration was not applied ({differences[0]}): intervals are nominal."
            return result, told
        return result.calibrated(found), None

    def _take(self, calibration: Calibration | Literal["shipped"] | None) -> None:
        self.calibration = calibration
        if calibration is None:
            self.setText(_NOMINAL)
        elif calibration == "shipped":
            self.setText("calibrated (shipped)")
        else:
            self.setText(f"calibrated on {calibration.basis}")
        self.changed.emit()

    def _ask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Calibration of the recipe", "", "Calibration (*.json)"
        )
        if not path:
            return
        try:
            self.load(path)
        except InputError as error:
            show_error(sentence_of(error))
