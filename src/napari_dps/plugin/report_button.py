"""The button that writes the last run's report: one HTML page, made off the window's thread.

The closer look that a page may show asks the prior, so it runs like a restoration: in a process of
its own, which can be ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton, QWidget

from napari_dps.plugin.background import Background, sentence_of
from napari_dps.plugin.messages import Finished, Request
from napari_dps.plugin.worker import Computation

if TYPE_CHECKING:
    from napari_dps.image import Image
    from napari_dps.result import Result

_TEXT = "Save report…"


class ReportButton(QPushButton):
    """Writes the report of the result it was given last; hidden until there is one.

    Parameters
    ----------
    command : tuple of str, optional
        What to start as computing process (for tests).

    Attributes
    ----------
    plain, closer : QAction
        The two pages.
    """

    def __init__(
        self, parent: QWidget | None = None, command: tuple[str, ...] | None = None
    ) -> None:
        super().__init__(_TEXT, parent)
        self._result: Result | None = None
        self._image: Image | None = None
        self._looking: Result | None = None  # what the closer look is at
        self._stopping = False
        self._path = ""
        self._menu = QMenu(self)
        self._menu.setToolTipsVisible(True)
        self.plain = self._menu.addAction("As it is, at once")
        self.plain.setToolTip(
            "Whether the model explains the data, mean and standard deviation, and what was assumed"
        )
        self.closer = self._menu.addAction("After a closer look, in a minute or more")
        self.closer.setToolTip(
            "Also what comes from the prior, whether it knows such images, how stable the result "
            "is, and how good the approximation; about as long as the run itself"
        )
        self.plain.triggered.connect(lambda: self._ask(closer=False))
        self.closer.triggered.connect(lambda: self._ask(closer=True))
        self.work = Background(self, what="writing the report")
        self.work.finished.connect(self._written)
        self.work.failed.connect(self._failed)
        self.look = Computation(command, parent=self)
        self.look.finished.connect(self._looked)
        self.look.failed.connect(self._look_failed)
        self.look.running_changed.connect(self._look_changed)
        self.clicked.connect(self._cancel)
        self._ready()
        self.hide()

    def set_result(self, result: Result, image: Image | None) -> None:
        """Take the result of a run, whole or stopped, and its measurement for a closer look."""
        self._result, self._image = result, image
        self.closer.setEnabled(image is not None)
        self.show()

    def write(self, path: str, *, closer: bool = False) -> None:
        """Begin to write the page; a notification says when it is there."""
        result, image = self._result, self._image
        if result is None:
            return
        if not closer or image is None:
            self._write_page(result, path)
            return
        self._path, self._looking, self._stopping = path, result, False
        device = str(result.report.get("device") or "auto")
        self.look.start(lambda: Request(0, image, result.recipe, device, result=result))
        self.setMenu(None)
        self.setText("Looking closer… (click to stop)")

    def _write_page(self, result: Result, path: str) -> None:
        self.setEnabled(False)
        self.setText("Writing…")
        self.work.start(lambda: result.save_report(path))

    def stop(self) -> None:
        """End what is under way, without an answer."""
        self.look.close()
        self.work.drop()
        self._ready()

    def _cancel(self) -> None:
        if self.look.running:
            self._stopping = True
            self.setText("Stopping…")
            self.look.cancel()

    def _ask(self, *, closer: bool) -> None:
        name = "report.html" if self._result is None else f"{self._result.name}-report.html"
        path, _ = QFileDialog.getSaveFileName(self, "Save the report", name, "Page (*.html *.htm)")
        if path:
            self.write(path, closer=closer)

    def _looked(self, end: Finished) -> None:
        if end.result is not None and self._result is self._looking:
            self._result = end.result  # kept: a plain page has the findings too from now on
        # The look may be over by the time its process hears of the click; no page even so.
        if self._stopping or end.result is None:
            show_info("The closer look was stopped; no report was written.")
        else:
            self._write_page(end.result, self._path)

    def _look_failed(self, sentence: str, _: object) -> None:
        show_error(sentence_of(sentence))

    def _look_changed(self, running: bool) -> None:
        # Only now may another look begin; the page of this one may be under way.
        if not running and not self.work.busy:
            self._ready()

    def _ready(self) -> None:
        self.setEnabled(True)
        self.setText(_TEXT)
        self.setMenu(self._menu)

    def _written(self, path: object) -> None:
        self._ready()
        show_info(f"The report is in {path}")

    def _failed(self, sentence: str) -> None:
        self._ready()
        show_error(sentence_of(sentence))
