"""A dock in a viewer without a window, and the notifications it sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from plugin import fake_run
from plugin.driving import UM


@pytest.fixture
def viewer() -> Any:
    """Return a viewer without a window: everything but the canvas, in no time."""
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def notes() -> Iterator[list[Any]]:
    seen: list[Any] = []
    notification_manager.notification_ready.connect(seen.append)
    yield seen
    notification_manager.notification_ready.disconnect(seen.append)


@pytest.fixture
def dock(qtbot: Any, viewer: Any) -> Iterator[Any]:
    from napari_dps.plugin.widget import ReconstructWidget

    data = np.arange(24 * 32, dtype=np.float32).reshape(24, 32)
    viewer.add_image(data, name="cells", scale=(0.1, 0.1), units=UM, translate=(5, 6))
    widget = ReconstructWidget(viewer, command=fake_run.COMMAND)
    qtbot.addWidget(widget)
    widget.show()
    yield widget
    widget.shut_down()
