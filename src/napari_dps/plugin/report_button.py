"""The button that writes the last run's report: one HTML page, made off the window's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info
from qtpy.QtWidgets import QFileDialog, QPushButton, QWidget

from napari_dps.plugin.background import Background, sentence_of

if TYPE_CHECKING:
    from napari_dps.result import Result

_TEXT = "Save report…"


class ReportButton(QPushButton):
    """Writes the report of the result it was given last; hidden until there is one."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(_TEXT, parent)
        self.setToolTip(
            "<qt>Whether the model explains the data, mean and standard deviation, and what was "
            "assumed, as one HTML page with pictures. What comes from the prior and how stable it "
            "is takes a closer look: napari_dps.assess, or --report on the command line.</qt>"
        )
        self._result: Result | None = None
        self.work = Background(self, what="writing the report")
        self.work.finished.connect(self._written)
        self.work.failed.connect(self._failed)
        self.clicked.connect(self._ask)
        self.hide()

    def set_result(self, result: Result) -> None:
        """Take the result of a run, whole or stopped."""
        self._result = result
        self.show()

    def write(self, path: str) -> None:
        """Begin to write the page; a notification says when it is there."""
        if self._result is None:
            return
        result = self._result
        self.setEnabled(False)
        self.setText("Writing…")
        self.work.start(lambda: result.save_report(path))

    def _ask(self) -> None:
        name = "report.html" if self._result is None else f"{self._result.name}-report.html"
        path, _ = QFileDialog.getSaveFileName(self, "Save the report", name, "Page (*.html *.htm)")
        if path:
            self.write(path)

    def _ready(self) -> None:
        self.setEnabled(True)
        self.setText(_TEXT)

    def _written(self, path: object) -> None:
        self._ready()
        show_info(f"The report is in {path}")

    def _failed(self, sentence: str) -> None:
        self._ready()
        show_error(sentence_of(sentence))
