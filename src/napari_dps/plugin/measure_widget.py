"""The dock widget "Measure (DPS)": numbers with error bars from the samples of a result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from napari.layers import Labels, Points, Shapes
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_dps.errors import DPSError, InputError
from napari_dps.plugin.background import Background, sentence_of
from napari_dps.plugin.editors import MaybeEditor, QuietComboBox
from napari_dps.plugin.layers import source_data, world_point
from napari_dps.plugin.measure_choices import CHOICES, Choice, Inputs, prepare
from napari_dps.plugin.measure_plot import PlotPanel, legend_of, paint_of
from napari_dps.plugin.measure_sources import (
    base_name,
    image_transform,
    intensity_unit,
    is_samples,
    recipe_and_report,
    result_of,
)
from napari_dps.plugin.measure_table import MeasurementTable, save_csv, write_features
from napari_dps.plugin.number_box import NumberBox
from napari_dps.plugin.open_result import OpenResultButton
from napari_dps.plugin.scroll import ScrollColumn
from napari_dps.plugin.show_panel import ShowPanel
from napari_dps.uncertainty.measure import Measurement
from napari_dps.uncertainty.measure_calibration import MeasureCalibration, calibrate_what_fits
from napari_dps.uncertainty.probability import probability_above

if TYPE_CHECKING:
    from napari.viewer import Viewer

_LIST_EVENTS = ("inserted", "removed", "renamed")


class MeasureWidget(QWidget):
    """A result, where to measure, what to measure; then a table and a plot.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Whose layers to measure.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.setObjectName("napari_dps_measure")
        self._docked = False
        self._viewer = napari_viewer
        self.measurement: Measurement | None = None
        self.calibration: MeasureCalibration | None = None
        self._rows: tuple[Any, Any, str] | None = None
        self.work = Background(self)
        self._receive: Callable[[Any], None] | None = None
        self._make_editors()
        self.show_panel = ShowPanel(
            napari_viewer, self.samples_layer, self.level.value, self.above.value
        )
        self._build()
        self._connect()
        self._refill()
        self._choice_changed()

    # ------------------------------------------------------------------ values

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return self.work.busy or self.show_panel.work.busy or self.open_button.busy

    @property
    def choice(self) -> Choice:
        """The measurement that is chosen."""
        return CHOICES[self.choices.currentIndex()]

    def choose(self, key: str) -> None:
        """Choose a measurement by its key."""
        self.choices.setCurrentIndex([choice.key for choice in CHOICES].index(key))

    def samples_layer(self) -> ImageLayer:
        """Return the samples of the chosen result.

        Raises
        ------
        InputError
            If there is none.
        """
        layer = self._layer(self.results)
        if layer is None:
            raise InputError(
                "there is no result with samples; restore an image with a sampler that draws "
                "samples first and keep its layer '<name> samples', or open a saved result"
            )
        assert isinstance(layer, ImageLayer)
        return layer

    def inputs(self) -> Inputs:
        """Return what the dock says."""
        return Inputs(
            self.samples_layer(),
            world_point(self._viewer),
            float(self.level.value()),
            self._layer(self.places),
            self._layer(self.seconds),
            {name: editor.value() for name, editor in self.settings.items()},
        )

    def _layer(self, box: QuietComboBox) -> Any:
        name = box.currentData()
        return self._viewer.layers[name] if name in self._viewer.layers else None

    # ------------------------------------------------------------------ actions

    def measure(self) -> None:
        """Measure, in a thread; an error becomes one notification."""
        choice = self.choice

        def go() -> None:
            inputs = self.inputs()
            function = prepare(choice, inputs)
            self._begin(function, lambda told: self._measured(told[0], told[1], choice, inputs))

        self._guard(go)

    def _measured(self, found: Measurement, rows: Any, choice: Choice, inputs: Inputs) -> None:
        if self.calibration is not None:
            try:
                found = calibrate_what_fits(found, self.calibration)
            except DPSError as error:
                show_error(sentence_of(error))
        self.measurement = found
        self.table.show_measurement(found)
        self.plot.draw(paint_of(found))
        self.save_button.setEnabled(True)
        told = f"{len(found)} value{'s' * (len(found) != 1)}, {found.level * 100:g} % interval: "
        told += found.note
        # Of several frames a region has several values, for which its row has no place.
        fits = rows is not None and len(rows) == len(found) and inputs.where in self._viewer.layers
        if fits and inputs.where is not None:
            write_features(inputs.where, rows, choice.key, found)
            told += f"; written to the features of {inputs.where.name!r}"
        missing = int((found.found < 1).sum())
        if missing:
            told += f"; {missing} of them not found in every sample (column 'found')"
        self.status.setText(told)

    def probability(self) -> None:
        """Add a layer: per pixel, the share of samples above the threshold."""

        def go() -> None:
            samples, threshold = self.samples_layer(), float(self.above.value())
            unit = intensity_unit(recipe_and_report(samples)[0])
            name = f"{base_name(samples)} probability above {threshold:.4g}"

            def add(chance: Any) -> None:
                self._viewer.add_image(
                    chance,
                    name=name,
                    colormap="cividis",
                    contrast_limits=(0, 1),
                    **image_transform(samples),
                )
                count = int(source_data(samples).shape[0])
                text = f"share of {count} samples above {threshold:.4g} {unit}".rstrip()
                self.status.setText(f"{name}: {text}")

            self._begin(lambda: probability_above(result_of(samples), threshold), add)

        self._guard(go)

    def save_csv(self, path: str) -> None:
        """Write the table to a file."""
        if self.measurement is not None:
            save_csv(self.measurement, path)

    def load_calibration(self, path: str) -> None:
        """Take intervals from a calibration of measurements; an empty path: nominal again."""
        found = MeasureCalibration.load(path) if path else None
        self.calibration = found
        text = "…" if found is None else f": {found.quantity}, {found.cases} cases"
        self.calibrate_button.setText(f"Calibration{text}")

    def _begin(self, function: Callable[[], Any], receive: Callable[[Any], None]) -> None:
        self._receive = receive
        self.status.setText("measuring…")
        self.work.start(function)

    def _arrived(self, value: Any) -> None:
        receive, self._receive = self._receive, None
        if receive is not None:
            receive(value)

    def _failed(self, text: str) -> None:
        self.status.setText("failed")
        show_error(sentence_of(text))

    @staticmethod
    def _guard(action: Callable[[], None]) -> None:
        try:
            action()
        except DPSError as error:
            show_error(sentence_of(error))
        except OSError as error:
            show_error(f"The file cannot be written: {error.strerror or error}")

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save the table", "measurement.csv", "CSV (*.csv)"
        )
        if path:
            self._guard(lambda: self.save_csv(path))

    def _ask_calibration(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Calibration of a measurement", "", "Calibration (*.json)"
        )
        self._guard(lambda: self.load_calibration(path))

    def _draw_legend(self, shown: Any) -> None:
        paint, text = legend_of(shown)
        self.plot.draw(paint)
        self.status.setText(text)

    # ------------------------------------------------------------------ the window

    def _make_editors(self) -> None:
        self.results, self.places, self.seconds = (QuietComboBox() for _ in range(3))
        self.results.setToolTip("The samples of a result")
        self.places.setToolTip(
            "Regions: Labels or Shapes. A line: Shapes, or two Points. Labels of a stack are taken "
            "frame by frame; a shape is measured in every frame, whichever it was drawn on"
        )
        self.seconds.setToolTip("The samples of the other channel")
        self.choices = QuietComboBox()
        for choice in CHOICES:
            self.choices.addItem(choice.title, choice.key)
        self.level = NumberBox(float, 0.0, 1.0, exclusive_minimum=True, exclusive_maximum=True)
        self.level.set_value(0.9)
        self.level.setToolTip("Probability inside the interval; 0.9 needs 19 samples")
        self.settings: dict[str, Any] = {
            "threshold": MaybeEditor(NumberBox(float, digits=6), "Otsu", None),
            "smallest": NumberBox(int, 1),
            "split": MaybeEditor(NumberBox(float, 1.0), "off", None),
            "width": NumberBox(int, 1),
            "background": NumberBox(float, digits=6),
        }
        self.settings["threshold"].set_value(None)
        self.settings["smallest"].set_value(4)
        self.settings["split"].set_value(None)
        self.settings["width"].set_value(3)
        self.above = NumberBox(float, digits=6)
        self.above.setToolTip("Threshold in the image's unit, for probability and opacity")

    def _build(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(6, 6, 6, 6)
        column.setSpacing(8)
        self.form = QFormLayout()
        self.form.setVerticalSpacing(4)
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.open_button = OpenResultButton(self._viewer)
        self.form.addRow("Result", self.open_button.beside(self.results))
        self.form.addRow("Measure", self.choices)
        self.form.addRow("Where", self.places)
        self.form.addRow("With", self.seconds)
        titles = {
            "threshold": "Threshold", "smallest": "Least pixels", "split": "Split at (px)",
            "width": "Band (px)", "background": "Background",
        }  # fmt: skip
        for name, editor in self.settings.items():
            self.form.addRow(titles[name], editor)
        self.form.addRow("Level", self.level)
        column.addLayout(self.form)
        self.measure_button = QPushButton("Measure")
        column.addWidget(self.measure_button)
        self.status = QLabel("")
        self.status.setWordWrap(True)
        column.addWidget(self.status)
        self.table = MeasurementTable()
        column.addWidget(self.table)
        self.plot = PlotPanel()
        column.addWidget(self.plot)
        self.save_button = QPushButton("Save CSV…")
        self.save_button.setEnabled(False)
        self.calibrate_button = QPushButton("Calibration…")
        self.calibrate_button.setToolTip(
            "A file of calibrate_measurement: intervals that held on planted objects. "
            "Cancel the choice to be nominal again"
        )
        row = QHBoxLayout()
        row.addWidget(self.calibrate_button)
        row.addWidget(self.save_button)
        column.addLayout(row)
        row = QHBoxLayout()
        self.above_button = QPushButton("Probability above…")
        self.above_button.setToolTip("Add a layer: the share of samples above the threshold")
        row.addWidget(self.above_button)
        row.addWidget(self.above, 1)
        column.addLayout(row)
        column.addWidget(self.show_panel)
        column.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(ScrollColumn(inner))

    def _connect(self) -> None:
        for name in _LIST_EVENTS:
            getattr(self._viewer.layers.events, name).connect(self._refill)
        self.choices.currentIndexChanged.connect(lambda _: self._choice_changed())
        self.results.currentIndexChanged.connect(lambda _: self._result_changed())
        self.measure_button.clicked.connect(self.measure)
        self.above_button.clicked.connect(self.probability)
        self.save_button.clicked.connect(self._ask_save)
        self.calibrate_button.clicked.connect(self._ask_calibration)
        self.work.finished.connect(self._arrived)
        self.work.failed.connect(self._failed)
        self.show_panel.legend.connect(self._draw_legend)
        self.open_button.said.connect(self.status.setText)

    def _choice_changed(self) -> None:
        choice = self.choice
        self.choices.setToolTip(choice.tip)
        self.form.setRowVisible(self.places, choice.needs in ("regions", "line"))
        self.form.setRowVisible(self.seconds, choice.needs == "second")
        for name, editor in self.settings.items():
            self.form.setRowVisible(editor, name in choice.fields)
        # A row that comes back shows all of an editor, so what is ticked hides again.
        for name in ("threshold", "split"):
            self.settings[name].inner.setVisible(not self.settings[name].check.isChecked())
        self._refill()

    def _result_changed(self) -> None:
        """Propose a threshold half way up the chosen result."""
        layer = self._layer(self.results)
        if layer is not None:
            low, high = layer.contrast_limits
            self.above.set_value(float(f"{(low + high) / 2:.3g}"))

    def _refill(self, _event: Any = None) -> None:
        layers = list(self._viewer.layers)
        kinds = (Shapes, Points) if self.choice.needs == "line" else (Labels, Shapes)
        samples = [layer.name for layer in layers if is_samples(layer)]
        places = [layer.name for layer in layers if isinstance(layer, kinds)]
        self._fill(self.results, samples)
        self._fill(self.places, places)
        self._fill(self.seconds, [n for n in samples if n != self.results.currentData()])
        if self.above.value() == 0:
            self._result_changed()

    @staticmethod
    def _fill(box: QuietComboBox, names: list[str]) -> None:
        """Offer names, the newest chosen unless the choice so far is still there."""
        was = box.currentData()
        blocked = box.blockSignals(True)
        box.clear()
        for name in names:
            box.addItem(name, name)
        box.setCurrentIndex(names.index(was) if was in names else len(names) - 1)
        box.blockSignals(blocked)

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
        self.work.drop()
        self.open_button.stop()
        self.show_panel.shut_down()

    def shut_down(self) -> None:
        """Stop whatever is under way and let go of the viewer."""
        self._stop()
        for name in _LIST_EVENTS:
            getattr(self._viewer.layers.events, name).disconnect(self._refill)
