"""The dock widget "Reconstruct (DPS)": what was measured, how; run, watch, stop."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_dps.components import GROUPS, component_class
from napari_dps.errors import DPSError
from napari_dps.plugin.forms import ComponentChooser
from napari_dps.plugin.input_panel import InputPanel
from napari_dps.plugin.layers import crop_recipe, make_image, recipe_of, source_data
from napari_dps.plugin.messages import Estimate, Finished, Request, Update
from napari_dps.plugin.output import LayerOutput
from napari_dps.plugin.report_button import ReportButton
from napari_dps.plugin.result_layers import Frame
from napari_dps.plugin.run_panel import RunPanel
from napari_dps.plugin.scroll import ScrollColumn
from napari_dps.plugin.words import estimate_text, progress_text, result_text
from napari_dps.plugin.worker import Computation
from napari_dps.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer

    from napari_dps.image import Image


class ReconstructWidget(QWidget):
    """Everything between a layer and its posterior.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Where layers come from and go.
    command : tuple of str, optional
        What to start as computing process (for tests).
    """

    def __init__(self, napari_viewer: Viewer, command: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self._docked = False
        self.setObjectName("napari_dps_reconstruct")
        self._viewer, self._command = napari_viewer, command
        self.computation = Computation(command, parent=self)
        self._frame: Frame | None = None
        self._measured: Image | None = None
        self._activity: Any = None
        self._warned: set[str] = set()
        self._news: Update | None = None
        self._draw_timer = QTimer(self)
        self._draw_timer.setSingleShot(True)
        self._draw_timer.setInterval(100)
        self._draw_timer.timeout.connect(self._draw)

        self.output = LayerOutput(napari_viewer, parent=self)
        self.input = InputPanel(napari_viewer)
        self.choosers = {
            group: ComponentChooser(group, self.input.array_layers) for group in GROUPS
        }
        self.run_panel = RunPanel(self.input.array_layers)
        self._build()
        self._connect()
        self.set_recipe(Recipe())
        self._layer_changed()

    # ------------------------------------------------------------------ recipe

    @property
    def recipe(self) -> Recipe:
        """What the forms say.

        Raises
        ------
        DPSError
            If a field is empty that must not be, or values do not fit.
        """
        parts = {group: chooser.value() for group, chooser in self.choosers.items()}
        return Recipe(**parts, **self.run_panel.parts())

    def set_recipe(self, recipe: Recipe) -> None:
        """Show a recipe in the forms."""
        for group, chooser in self.choosers.items():
            chooser.set_value(getattr(recipe, group))
        self.run_panel.set_parts(recipe)

    def load_recipe(self, path: str) -> None:
        """Fill the forms from a recipe file."""
        self.set_recipe(Recipe.load(path))

    def save_recipe(self, path: str) -> None:
        """Write what the forms say to a recipe file."""
        self.recipe.save(path)

    # ------------------------------------------------------------------ running

    @property
    def busy(self) -> bool:
        """Whether a run or an estimate is under way, or its layers are still to come."""
        return self.computation.busy or self.output.busy

    def run(self) -> None:
        """Start a run; an error becomes one notification."""
        if self.computation.busy:
            if self.computation.running:
                return
            # An estimate is under way; a run makes its own.
            self.computation.close()
        try:
            request = self._request()
        except DPSError as error:
            show_error(_sentence(error))
            return
        self._warned.clear()
        layer = self.input.layer
        assert layer is not None
        from napari.utils import progress

        self._activity = progress(total=1000, desc=f"Reconstruct {layer.name}")
        self.computation.start(request)

    def cancel(self) -> None:
        """Stop the run; samples finished so far become layers."""
        if self.computation.running:
            self.run_button.setText("Cancelling…")
            self.run_button.setEnabled(False)
            self.computation.cancel()

    def estimate(self) -> None:
        """Ask what a run would cost."""
        if self.computation.busy:
            return
        try:
            request = self._request()
        except DPSError as error:
            show_error(_sentence(error))
            return
        self.estimate_button.setEnabled(False)
        self.estimate_label.setText("estimating…")
        self.computation.estimate(request)

    def _request(self) -> Callable[[], Request]:
        """Return what makes the request in the worker's thread, checked as far as is cheap."""
        layer = self.input.checked_layer()
        region = self.input.region()
        size = self.input.pixel_size
        recipe, device = self.recipe, self.run_panel.device
        self._frame = Frame.of(layer, region)
        full = tuple(int(n) for n in source_data(layer).shape[: layer.ndim])[-2:]

        def make() -> Request:
            cropped = crop_recipe(recipe, (full[0], full[1]), region)
            self._measured = make_image(layer, region, size)
            return Request(0, self._measured, cropped, device)

        return make

    def _running_changed(self, running: bool) -> None:
        self.run_button.setText("Cancel" if running else "Run")
        self.run_button.setEnabled(running or self.input.layer is not None)
        for part in self._parts():
            part.setEnabled(not running)
        self.estimate_button.setEnabled(not running)
        self.bar.setVisible(running)
        self.bar.setValue(0)
        if running:
            self.status.setText("starting…")
            self.status.show()
            return
        self._news = None
        self.output.remove_preview()
        activity, self._activity = self._activity, None
        if activity is not None:
            activity.close()

    def _estimated(self, estimate: Estimate) -> None:
        self.estimate_label.setText(estimate_text(estimate))
        self.estimate_button.setEnabled(not self.computation.running)
        self.run_panel.set_devices(estimate.devices)

    def _updated(self, update: Update) -> None:
        """Keep the newest state; it is drawn when the event loop has time."""
        if self._news is not None and update.preview is None:
            update = replace(update, preview=self._news.preview)
        self._news = update
        if not self._draw_timer.isActive():
            self._draw_timer.start()

    def _draw(self) -> None:
        # napari's activity dock runs the event loop while it draws, so this may be entered again
        # before it is done, and the run may be over after it.
        update, self._news = self._news, None
        if update is None or self._frame is None or not self.computation.running:
            return
        done = round(1000 * update.done / update.total) if update.total else 0
        self.bar.setValue(done)
        self.status.setText(progress_text(update))
        if update.preview is not None:
            self.output.show_preview(self._frame, update.preview)
        if self._activity is not None:
            self._activity.update(done - self._activity.n)

    def _finished(self, end: Finished) -> None:
        for text in end.warnings:
            if text not in self._warned:
                self._warned.add(text)
                show_warning(text)
        if end.result is None:
            self.status.setText("cancelled")
            show_info("Cancelled before one sample was finished: there is nothing to show.")
            return
        self._news = None
        assert self._frame is not None
        result, sentence = self.run_panel.calibration.apply(end.result)
        if sentence:
            show_warning(sentence)
        self.output.add_result(result, self._frame)
        self.report_button.set_result(result, self._measured)
        if end.cancelled:
            count = len(result)
            self.status.setText(f"cancelled; kept {count} finished sample{'s' * (count != 1)}")
        else:
            self.status.setText(result_text(result))

    def _failed(self, text: str, partial: Any) -> None:
        if partial is not None and self._frame is not None:
            self.output.add_result(partial, self._frame)
            self.report_button.set_result(partial, self._measured)
        self.estimate_label.setText("not estimated yet")
        self.estimate_button.setEnabled(True)
        self.status.setText("failed")
        show_error(text[:1].upper() + text[1:])

    # ------------------------------------------------------------------ the window

    def _build(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(6, 6, 6, 6)
        column.setSpacing(8)
        column.addWidget(self.input)
        for chooser in self.choosers.values():
            column.addWidget(_line())
            column.addWidget(chooser)
        column.addWidget(_line())
        column.addWidget(self.run_panel)
        column.addStretch(1)
        self.load_button = QPushButton("Load recipe…")
        self.save_button = QPushButton("Save recipe…")
        self.estimate_button = QPushButton("Estimate")
        self.estimate_button.setToolTip("Say how long a run will take and how much memory it needs")
        self.estimate_label = QLabel("not estimated yet")
        self.estimate_label.setWordWrap(True)
        self.bar = QProgressBar()
        # Not the restless bar of unknown length: every frame of it redraws the whole window.
        self.bar.setRange(0, 1000)
        self.bar.setVisible(False)
        self.bar.setTextVisible(False)
        self.status = QLabel("")
        self.status.setWordWrap(True)
        self.status.hide()
        self.report_button = ReportButton(command=self._command)
        self.run_button = QPushButton("Run")

        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 6)
        outer.addWidget(ScrollColumn(inner), 1)
        foot = QVBoxLayout()
        foot.setContentsMargins(6, 0, 6, 0)
        foot.setSpacing(4)
        files = QHBoxLayout()
        files.addWidget(self.load_button)
        files.addWidget(self.save_button)
        cost = QHBoxLayout()
        cost.addWidget(self.estimate_label, 1)
        cost.addWidget(self.estimate_button)
        foot.addLayout(files)
        foot.addLayout(cost)
        foot.addWidget(self.bar)
        foot.addWidget(self.status)
        foot.addWidget(self.report_button)
        foot.addWidget(self.run_button)
        outer.addLayout(foot)

    def _parts(self) -> list[Any]:
        return [self.input, *self.choosers.values(), self.run_panel]

    def _connect(self) -> None:
        self.run_button.clicked.connect(
            lambda: self.cancel() if self.computation.running else self.run()
        )
        self.estimate_button.clicked.connect(self.estimate)
        self.load_button.clicked.connect(self._ask_load)
        self.save_button.clicked.connect(self._ask_save)
        self.input.layer_changed.connect(self._layer_changed)
        for part in self._parts():
            part.changed.connect(self._settings_changed)
        self.computation.estimated.connect(self._estimated)
        self.computation.updated.connect(self._updated)
        self.computation.finished.connect(self._finished)
        self.computation.failed.connect(self._failed)
        self.computation.running_changed.connect(self._running_changed)

    def _settings_changed(self) -> None:
        sampler = component_class("sampler", self.choosers["sampler"].kind)
        self.run_panel.show_samples(not getattr(sampler, "point_estimate", False))
        if not self.computation.busy:
            self.estimate_label.setText("not estimated yet")

    def _layer_changed(self) -> None:
        layer: ImageLayer | None = self.input.layer
        if not self.computation.running:
            self.run_button.setEnabled(layer is not None)
        brought = None if layer is None else recipe_of(layer)
        if layer is not None and brought is not None and not self.computation.running:
            try:
                self.set_recipe(Recipe(**brought))
            except DPSError as error:
                show_warning(f"The recipe of {layer.name!r} cannot be used: {error}")

    def _ask_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load a recipe", "", "Recipe (*.json)")
        if path:
            self._guard(lambda: self.load_recipe(path))

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save the recipe", "recipe.json", "Recipe (*.json)"
        )
        if path:
            self._guard(lambda: self.save_recipe(path))

    @staticmethod
    def _guard(action: Callable[[], None]) -> None:
        try:
            action()
        except DPSError as error:
            show_error(_sentence(error))
        except OSError as error:
            show_error(f"The file cannot be written: {error.strerror or error}")

    def event(self, event: Any) -> bool:
        """Stop when napari throws the dock away, which takes the widget out without closing it."""
        if event.type() == QEvent.Type.ParentChange:
            docked = self.parent() is not None
            if self._docked and not docked:
                self._stop()
            self._docked = docked
        return bool(super().event(event))

    def closeEvent(self, event: Any) -> None:
        """Stop whatever is under way."""
        self.shut_down()
        super().closeEvent(event)

    def _stop(self) -> None:
        self.computation.close()
        self.report_button.stop()
        self.output.drop()
        # The viewer may be closing itself, with its layers gone already.
        with contextlib.suppress(RuntimeError):
            self._running_changed(False)

    def shut_down(self) -> None:
        """Stop whatever is under way and let go of the viewer."""
        self._stop()
        self.input.disconnect_viewer()


def _sentence(error: DPSError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setFrameShadow(QFrame.Shadow.Sunken)
    return line
