"""A column that scrolls up and down and is always as wide as what it holds."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QWidget


class ScrollColumn(QScrollArea):
    """A scroll area without a sideways bar.

    Parameters
    ----------
    inner : QWidget
        What to scroll.
    """

    def __init__(self, inner: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(inner)
        self._fit()

    def eventFilter(self, watched: QObject, event: Any) -> bool:
        """Follow the forms as they change."""
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.Show):
            self._fit()
        return bool(super().eventFilter(watched, event))

    def _fit(self) -> None:
        inner = self.widget()
        if inner is not None:
            # A few pixels more than the style says: some draw their scroll bars wider.
            bar = self.verticalScrollBar().sizeHint().width() + 4
            self.setMinimumWidth(max(290, inner.minimumSizeHint().width() + bar))
