"""What a user does with the dock "Measure (DPS)", for its tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from plugin.fake_result import add_result

WAIT = 30_000


def open_dock(qtbot: Any, viewer: Any) -> Iterator[Any]:
    """Yield the dock beside a result, and close it again."""
    from napari_dps.plugin.measure_widget import MeasureWidget

    add_result(viewer)
    widget = MeasureWidget(viewer)
    qtbot.addWidget(widget)
    widget.show()
    yield widget
    qtbot.waitUntil(lambda: not widget.busy, timeout=WAIT)
    widget.shut_down()


def finish(qtbot: Any, dock: Any) -> Any:
    """Wait until nothing is under way; return what was measured."""
    qtbot.waitUntil(lambda: not dock.busy, timeout=WAIT)
    return dock.measurement


def measured(qtbot: Any, dock: Any, key: str) -> Any:
    """Choose a measurement, press the button and wait."""
    dock.choose(key)
    dock.measure_button.click()
    return finish(qtbot, dock)
