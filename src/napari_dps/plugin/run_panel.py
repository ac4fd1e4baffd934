"""How carefully to look: samples, seed, device, and what else belongs to a recipe."""

from __future__ import annotations

import sys
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_dps.device import nvidia_signs
from napari_dps.fields import describe_field
from napari_dps.plugin.array_editor import ArrayEditor, LayerSource
from napari_dps.plugin.calibration_button import CalibrationButton
from napari_dps.plugin.editors import MaybeEditor, QuietComboBox, make_editor
from napari_dps.plugin.number_box import NumberBox
from napari_dps.recipe import Intensity, Recipe

_TIPS = {
    "samples": "Posterior samples to draw. Intervals of 90 % need at least 19.",
    "point estimate": "This sampler gives one image, without samples or error bars.",
    "seed": "Same recipe, seed and device: the same result, bit by bit.",
    "device": "auto takes the fastest device that torch finds.",
    "intensity": (
        "Intensity range of the object in photoelectrons; auto estimates it from the image."
    ),
    "valid": (
        "Mask of the image's shape: zero where a pixel says nothing "
        "(saturated, dead or missing pixels)."
    ),
    "intervals": (
        "Intervals of the samples themselves, or those that `napari-dps calibrate` tested to cover "
        "for this very recipe: of a few common ones they come along, of others choose the file."
    ),
}


class IntensityEditor(QWidget):
    """The object's intensity range: background and scale."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.scale = NumberBox(float, 0.0, exclusive_minimum=True)
        self.background = NumberBox(float)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.background, 1)
        row.addWidget(QLabel("to +"))
        row.addWidget(self.scale, 1)
        for box in (self.scale, self.background):
            box.changed.connect(self.changed)

    def value(self) -> Intensity:
        """Return the range."""
        return Intensity(scale=self.scale.value(), background=self.background.value())

    def set_value(self, value: Intensity) -> None:
        """Show a range."""
        self.scale.set_value(value.scale)
        self.background.set_value(value.background)


class RunPanel(QWidget):
    """The parts of a recipe that are no component, and the device.

    Parameters
    ----------
    layers : callable
        Returns the layers that can serve as mask, by name.
    """

    changed = Signal()

    def __init__(self, layers: LayerSource, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(QLabel("<b>Run</b>"))
        form = _form()
        fields = Recipe.model_fields
        self.samples, self.seed = (
            make_editor(
                describe_field(name, fields[name]),
                lambda name, number: ArrayEditor(name, number=number),
            )
            for name in ("samples", "seed")
        )
        self.devices = QuietComboBox()
        names = ["auto", "cpu"]
        names += ["cuda"] if nvidia_signs() else []
        names += ["mps"] if sys.platform == "darwin" else []
        self.devices.addItems(names)
        _row(form, "Samples", self.samples, "samples")
        _row(form, "Seed", self.seed, "seed")
        _row(form, "Device", self.devices, "device")
        column.addLayout(form)

        self.more = QToolButton()
        self.more.setText("more")
        self.more.setCheckable(True)
        self.more.setAutoRaise(True)
        self.more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.more.setArrowType(Qt.ArrowType.RightArrow)
        column.addWidget(self.more)
        self._extra = QWidget()
        extra = _form(self._extra)
        self.intensity = MaybeEditor(IntensityEditor(), "auto", "auto")
        self.intensity.set_value("auto")
        self.valid = ArrayEditor("valid pixels", layers)
        _row(extra, "Intensity", self.intensity, "intensity")
        _row(extra, "Valid pixels", self.valid, "valid")
        self.calibration = CalibrationButton()
        _row(extra, "Intervals", self.calibration, "intervals")
        column.addWidget(self._extra)
        self._extra.setVisible(False)
        self.more.toggled.connect(self._toggled)
        self.devices.currentIndexChanged.connect(lambda _: self.changed.emit())
        for editor in (self.samples, self.seed, self.intensity, self.valid):
            editor.changed.connect(self.changed)

    @property
    def device(self) -> str:
        """The chosen device."""
        return str(self.devices.currentText())

    def set_devices(self, found: tuple[str, ...]) -> None:
        """List what torch found, keeping the choice where it is there."""
        chosen = self.device
        was = self.devices.blockSignals(True)
        self.devices.clear()
        self.devices.addItems(["auto", *found])
        self.devices.setCurrentIndex(max(0, self.devices.findText(chosen)))
        self.devices.blockSignals(was)

    def show_samples(self, drawn: bool) -> None:
        """Say whether the sampler draws samples; of a point estimate there is one."""
        self.samples.setEnabled(drawn)
        tip = _TIPS["samples"] if drawn else _TIPS["point estimate"]
        self.samples.setToolTip(f"<qt>{tip}</qt>")

    def parts(self) -> dict[str, Any]:
        """Return samples, seed, intensity and valid as for a `Recipe`."""
        return {
            "samples": self.samples.value(),
            "seed": self.seed.value(),
            "intensity": self.intensity.value(),
            "valid": self.valid.value(),
        }

    def set_parts(self, recipe: Recipe) -> None:
        """Show those parts of a recipe."""
        self.samples.set_value(recipe.samples)
        self.seed.set_value(recipe.seed)
        self.intensity.set_value(recipe.intensity)
        self.valid.set_value(recipe.valid)
        if recipe.intensity != "auto" or recipe.valid is not None:
            self.more.setChecked(True)

    def _toggled(self, on: bool) -> None:
        self._extra.setVisible(on)
        self.more.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)


def _form(parent: QWidget | None = None) -> QFormLayout:
    form = QFormLayout(parent)
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form


def _row(form: QFormLayout, text: str, editor: QWidget, tip: str) -> None:
    label = QLabel(text)
    for part in (label, editor):
        part.setToolTip(f"<qt>{_TIPS[tip]}</qt>")
    form.addRow(label, editor)
