"""Boxes for numbers that lose no digit: Qt's own round to a number of decimals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QValidator, QWheelEvent
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QHBoxLayout, QWidget

BAD = "QLineEdit { background-color: #7a2e2e; color: white; }"
_PARTIAL = re.compile(r"[-+]?\d*\.?\d*(e[-+]?\d*)?", re.IGNORECASE)


def number_text(value: float) -> str:
    """Return the shortest text that reads back as exactly this number."""
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


class NumberBox(QAbstractSpinBox):
    """A box for one number, with all its digits and its bounds.

    Qt's own boxes round to a number of decimals (and integers to 32 bits); this one keeps what
    was typed. Text that is no number, or one out of bounds, turns red, is not taken over, and
    gives way to the last good value when the box is left.

    Parameters
    ----------
    kind : {float, int}
        What to return.
    minimum, maximum : float, optional
        Bounds, open where None.
    exclusive_minimum, exclusive_maximum : bool
        Whether the bound itself is out.
    digits : int, optional
        Significant digits to show, all by default; the value keeps its others until it is edited.
    """

    changed = Signal()

    def __init__(
        self,
        kind: Callable[[Any], Any] = float,
        minimum: float | None = None,
        maximum: float | None = None,
        exclusive_minimum: bool = False,
        exclusive_maximum: bool = False,
        digits: int | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._kind, self._digits = kind, digits
        self._low = -math.inf if minimum is None else minimum
        self._high = math.inf if maximum is None else maximum
        self._open_low, self._open_high = exclusive_minimum, exclusive_maximum
        self._value: float = kind(0)
        # What an unusable text falls back to; digits typed on the way to it must not count.
        self._settled = self._value
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumWidth(70)
        self.lineEdit().textEdited.connect(self._take_text)
        self.editingFinished.connect(self._settle)
        if not self.allows(self._value):
            # The nearest value allowed may be absurdly small; one is a number people know.
            self._value = kind(1) if self.allows(kind(1)) else self._inside(0)
        self._settled = self._value
        self._show()

    def allows(self, value: float) -> bool:
        """Whether a number is finite and within the bounds."""
        if not math.isfinite(value) or not self._low <= value <= self._high:
            return False
        at_open_end = (self._open_low and value == self._low) or (
            self._open_high and value == self._high
        )
        return not at_open_end

    def value(self) -> Any:
        """Return the number: as set, until it is edited."""
        return self._value

    def set_value(self, value: float) -> None:
        """Show a number."""
        self._value = self._settled = self._kind(value)
        self._show()
        self.changed.emit()

    def stepBy(self, steps: int) -> None:
        """Step by a tenth of the number's magnitude (integers by at least one)."""
        magnitude = 10.0 ** (math.floor(math.log10(abs(self._value))) - 1 if self._value else -1)
        step = max(1, int(magnitude)) if self._kind is int else magnitude
        new = self._value + steps * step
        if self._kind is float:
            new = float(f"{new:.12g}")
        if not self.allows(new):
            new = self._inside(new)
        self.set_value(new)

    def stepEnabled(self) -> QAbstractSpinBox.StepEnabledFlag:
        """Both ways."""
        flag = QAbstractSpinBox.StepEnabledFlag
        return flag.StepUpEnabled | flag.StepDownEnabled

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the scroll area, unless the box is being edited."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def _inside(self, value: float) -> float:
        """Return the allowed number nearest to ``value`` (the old one at an open end)."""
        clipped: float = self._kind(min(max(value, self._low), self._high))
        if self.allows(clipped):
            return clipped
        if self.allows(self._value):
            return self._value
        if math.isfinite(self._low) and math.isfinite(self._high):
            inner = (self._low + self._high) / 2
        else:
            inner = self._low + 1 if math.isfinite(self._low) else self._high - 1
        inside: float = self._kind(inner)
        return inside

    def _parse(self, text: str) -> float | None:
        text = text.strip().replace(",", ".")
        try:
            value = self._kind(text)
        except ValueError:
            return None
        return value if self.allows(value) else None

    def _take_text(self, text: str) -> None:
        value = self._parse(text)
        self.lineEdit().setStyleSheet("" if value is not None else BAD)
        new = self._settled if value is None else value
        if new != self._value:
            self._value = new
            self.changed.emit()

    def _settle(self) -> None:
        self._settled = self._value
        self._show()

    def _show(self) -> None:
        value = self._value
        shown = value if self._digits is None else float(f"{value:.{self._digits}g}")
        self.lineEdit().setText(number_text(shown))
        self.lineEdit().setCursorPosition(0)
        self.lineEdit().setStyleSheet("")

    def validate(self, text: str, position: int) -> tuple[Any, str, int]:
        """Let through what may become a number; bounds are judged as it is taken over."""
        good = _PARTIAL.fullmatch(text.strip().replace(",", ".")) is not None
        state = QValidator.State.Acceptable if good else QValidator.State.Invalid
        return state, text, position


class ReciprocalEditor(QWidget):
    """A number that may be typed in its unit or in the reciprocal one.

    Parameters
    ----------
    box : NumberBox
        Box of the value proper; bounds are checked in its own unit.
    unit, other : str
        Unit of the value, and the reciprocal unit.
    """

    changed = Signal()

    def __init__(
        self, box: NumberBox, unit: str, other: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._value, self._allows = box.value(), box.allows
        self.box = NumberBox(float, 0.0, exclusive_minimum=True)
        self.units = QComboBox()
        self.units.addItems([unit, other])
        self.units.setMinimumContentsLength(7)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.box, 1)
        row.addWidget(self.units)
        self._show()
        self.box.changed.connect(self._edited)
        self.units.currentIndexChanged.connect(lambda _: self._show())

    def value(self) -> float:
        """Return the value in its own unit."""
        return float(self._value)

    def set_value(self, value: float) -> None:
        """Show a value given in its own unit."""
        self._value = float(value)
        self._show()
        self.changed.emit()

    def _reciprocal(self) -> bool:
        return bool(self.units.currentIndex() == 1)

    def _show(self) -> None:
        was = self.box.blockSignals(True)
        # 1/3 has no short text: twelve digits are shown, the value itself stays as it was.
        shown = float(f"{1 / self._value:.12g}") if self._reciprocal() else self._value
        self.box.set_value(shown)
        self.box.blockSignals(was)

    def _edited(self) -> None:
        typed = self.box.value()
        value = 1 / typed if self._reciprocal() else typed
        if self._allows(value):
            self._value = value
            self.changed.emit()
