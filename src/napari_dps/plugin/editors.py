"""One editor per kind of value: what a form is made of.

Every editor has ``value()``, ``set_value(value)`` and the signal ``changed``; it keeps the value
that it was given and gives that back until somebody edits it, so that no digit is lost on the way
through a box.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QToolButton,
    QWidget,
)

from napari_dps.arrays import ArrayRef, NumberOrArray
from napari_dps.components import Component
from napari_dps.errors import RecipeError
from napari_dps.fields import FieldInfo
from napari_dps.plugin.number_box import NumberBox


class CheckEditor(QCheckBox):
    """Yes or no."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.toggled.connect(lambda _: self.changed.emit())

    def value(self) -> bool:
        """Return whether it is ticked."""
        return bool(self.isChecked())

    def set_value(self, value: bool) -> None:
        """Tick or not."""
        self.setChecked(bool(value))


class QuietComboBox(QComboBox):
    """A combo box that leaves the wheel to the scroll area and does not widen the dock."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Ignore the wheel unless the box has the focus."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class ChoiceEditor(QuietComboBox):
    """One of a few values."""

    changed = Signal()

    def __init__(self, choices: tuple[Any, ...], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choices = list(choices)
        self.addItems([str(choice) for choice in choices])
        self.currentIndexChanged.connect(lambda _: self.changed.emit())

    def value(self) -> Any:
        """Return the chosen value."""
        return self._choices[self.currentIndex()]

    def set_value(self, value: Any) -> None:
        """Choose a value."""
        self.setCurrentIndex(self._choices.index(value))


class TextEditor(QWidget):
    """A line of text; a file or folder can be picked where it names one."""

    changed = Signal()

    def __init__(self, pick: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._line = QLineEdit()
        self._line.setMinimumWidth(60)
        self._line.textChanged.connect(lambda _: self.changed.emit())
        row.addWidget(self._line)
        if pick:
            button = QToolButton()
            button.setText("…")
            button.setToolTip(f"Choose a {pick}")
            button.clicked.connect(lambda: self._pick(pick))
            row.addWidget(button)

    def value(self) -> Any:
        """Return the text, None where there is none."""
        return self._line.text().strip() or None

    def set_value(self, value: Any) -> None:
        """Show a text."""
        self._line.setText("" if value is None else str(value))

    def _pick(self, what: str) -> None:
        if what == "folder":
            path = QFileDialog.getExistingDirectory(self, "Choose a folder")
        else:
            path, _ = QFileDialog.getOpenFileName(self, "Choose a file")
        if path:
            self._line.setText(path)


class JsonEditor(TextEditor):
    """A structure, written as JSON; it keeps what it was given until the text is edited."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._name = name
        self._given: tuple[str, Any] = ("", None)
        self._arrays: dict[str, ArrayRef] = {}

    def value(self) -> Any:
        """Return the structure.

        Raises
        ------
        RecipeError
            If the text is no JSON.
        """
        text = self._line.text().strip()
        if text == self._given[0]:
            return self._given[1]
        try:
            return self._with_arrays(json.loads(text)) if text else None
        except json.JSONDecodeError as error:
            raise RecipeError(f"{self._name} is no JSON ({error.msg}); write e.g. [1, 2]") from None

    def set_value(self, value: Any) -> None:
        """Show a structure."""
        self._arrays = {}
        text = "" if value is None else json.dumps(value, default=self._plain)
        self._given = (text, value)
        self._line.setText(text)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, Component):
            # What is not the default: a chain of models shall stay a text that can be read.
            fields = {n: getattr(value, n) for n in type(value).model_fields if n != "kind"}
            default = {n: f.get_default() for n, f in type(value).model_fields.items()}
            return {"kind": value.kind} | {n: v for n, v in fields.items() if v != default[n]}
        if isinstance(value, NumberOrArray) and value.number is not None:
            return value.number
        if isinstance(value, ArrayRef):
            self._arrays[str(value)] = value
        return str(value)

    def _with_arrays(self, value: Any) -> Any:
        """Put the arrays that were given in memory back where the text names them."""
        if isinstance(value, dict):
            return {name: self._with_arrays(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._with_arrays(inner) for inner in value]
        return self._arrays.get(value, value) if isinstance(value, str) else value


class MaybeEditor(QWidget):
    """A value or a word in its place (``"auto"``, or none): a check box beside the editor."""

    changed = Signal()

    def __init__(
        self, inner: Any, word: str, stands_for: Any, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.inner, self._stands_for = inner, stands_for
        self.check = QCheckBox(word)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.check)
        row.addWidget(inner, 1)
        self.check.toggled.connect(self._toggled)
        inner.changed.connect(self.changed)

    def value(self) -> Any:
        """Return what the word stands for, or the editor's value."""
        return self._stands_for if self.check.isChecked() else self.inner.value()

    def set_value(self, value: Any) -> None:
        """Tick the box for the word, else show the value."""
        given = value is not None and not (isinstance(value, str) and value == self._stands_for)
        if given:
            self.inner.set_value(value)
        self.check.setChecked(not given)
        self.inner.setVisible(given)

    def _toggled(self, on: bool) -> None:
        self.inner.setVisible(not on)
        self.changed.emit()


def make_editor(info: FieldInfo, array_editor: Callable[[str, bool], QWidget]) -> Any:
    """Return the editor of a field, showing its default.

    Parameters
    ----------
    info : FieldInfo
        The field.
    array_editor : callable
        Makes the editor of a field that holds an array, from the field's name and whether a number
        may stand for it.
    """
    editor: Any
    if info.annotation in (int, float):
        editor = NumberBox(
            int if info.annotation is int else float,
            info.minimum,
            info.maximum,
            info.exclusive_minimum,
            info.exclusive_maximum,
        )
    elif info.annotation is bool:
        editor = CheckEditor()
    elif info.annotation == "choice":
        editor = ChoiceEditor(info.choices)
    elif info.annotation == "array":
        editor = array_editor(info.name, info.number)
    elif info.annotation is str:
        named = info.name in ("path", "file", "spectrum", "module")
        editor = TextEditor("folder" if info.unit == "folder" else "file" if named else "")
    else:
        editor = JsonEditor(info.name)
    if info.auto:
        editor = MaybeEditor(editor, "auto", "auto")
    elif info.optional and info.annotation not in ("array", str, "other"):
        editor = MaybeEditor(editor, "none", None)
    if not info.required:
        editor.set_value(info.default)
    return editor
