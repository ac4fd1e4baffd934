"""A stand-in for `napari_dps.api.Run`: four samples in forty instant steps, no network."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import napari_dps
from napari_dps.errors import InputError
from napari_dps.io import read_image
from napari_dps.result import Result


class FakeRun:
    """What the command line needs of a run; `stop_at` is the step in which Ctrl-C is pressed."""

    made: ClassVar[list[FakeRun]] = []
    stop_at: ClassVar[int | None] = None
    presses: ClassVar[int] = 1
    error: ClassVar[Exception | None] = None

    def __init__(self, image: Any, recipe: Any, **options: Any) -> None:
        self.image = read_image(image, options["axes"], options["pixel_size"])
        self.recipe, self.options = recipe, options
        self.warnings = ["the counts look stretched"]
        self.finished = 0
        self.cancelled = False
        FakeRun.made.append(self)

    def plan(self) -> SimpleNamespace:
        return SimpleNamespace(seconds=75.0, bytes=3e8, batch=4, tile=None, network_calls=30)

    def cancel(self) -> None:
        self.cancelled = True

    def __iter__(self) -> Iterator[SimpleNamespace]:
        for step in range(1, 41):
            if step == FakeRun.stop_at:
                for _ in range(FakeRun.presses):
                    signal.raise_signal(signal.SIGINT)
            if FakeRun.error is not None:
                raise FakeRun.error
            self.finished = step // 10
            yield SimpleNamespace(
                stage="sample", done=step, total=40, seconds=1.0, seconds_left=3.0,
                samples_done=self.finished, samples=4, misfit=1.0,
            )  # fmt: skip

    def result(self) -> Result:
        if not self.finished:
            raise InputError("not one sample is finished")
        report = {"complete": self.finished == 4, "seconds": 3.0, "misfit": 1.0, "chi2": [1.0]}
        samples = np.stack([self.image.data + k for k in range(self.finished)])
        return Result.from_image(samples, self.image, self.recipe, report)


def install(monkeypatch: pytest.MonkeyPatch) -> type[FakeRun]:
    """Put `FakeRun` where the command line looks for the real one, until the test ends."""
    api = ModuleType("napari_dps.api")
    api.Run = FakeRun  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "napari_dps.api", api)
    monkeypatch.setattr(napari_dps, "api", api, raising=False)
    for name, value in (("made", []), ("stop_at", None), ("presses", 1), ("error", None)):
        monkeypatch.setattr(FakeRun, name, value)
    return FakeRun
