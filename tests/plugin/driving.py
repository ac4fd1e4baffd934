"""What a user does with the dock, for its tests."""

from __future__ import annotations

from typing import Any

from plugin import fake_run

UM = ("micrometer", "micrometer")
LONG = 30_000


def names(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers]


def start(dock: Any, mode: int = fake_run.PLAIN, samples: int = 3) -> None:
    dock.set_recipe(dock.recipe.with_parts(samples=samples, seed=mode))
    dock.run_button.click()


def finish(qtbot: Any, dock: Any) -> None:
    qtbot.waitUntil(lambda: not dock.busy, timeout=LONG)
