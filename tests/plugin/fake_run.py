"""A stand-in for `napari_dps.api.Run`: no torch, known timing, and every way to go wrong."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_dps.errors import InputError
from napari_dps.image import Image
from napari_dps.recipe import Recipe
from napari_dps.result import Result

# The seed chooses the behaviour: it travels through every surface.
PLAIN, SLOW, STUCK, REFUSE, CRASH, RUNTIME, WARN, MEMORY, KILLED_LATE = range(9)


@dataclass(frozen=True)
class Plan:
    seconds: float = 12.0
    bytes: int = 300_000_000
    batch: int = 2
    tile: int | None = None
    network_calls: int = 40


@dataclass(frozen=True)
class Progress:
    stage: str
    done: int
    total: int
    seconds: float
    seconds_left: float | None
    samples_done: int
    samples: int
    misfit: float | None = None
    calls: dict[str, int] = field(default_factory=dict)
    picture: Any = None

    def preview(self) -> np.ndarray:
        return np.asarray(self.picture, dtype=np.float32)


class FakeRun:
    """Gives the image back, sample k raised by k; one batch is one sample of four steps."""

    def __init__(self, image: Image, recipe: Recipe, *, device: str = "auto", **_: Any) -> None:
        self.image, self.recipe, self.device = image, recipe, device
        self.warnings: list[str] = []
        self._done = 0
        self._cancelled = False
        if recipe.seed == REFUSE:
            raise InputError("'image' has NaN in 3 pixels; declare them missing with a mask")
        if recipe.seed == CRASH:
            os._exit(3)

    def cancel(self) -> None:
        self._cancelled = True

    def plan(self) -> Plan:
        return Plan()

    def __iter__(self) -> Iterator[Progress]:
        mode, samples = self.recipe.seed, self.recipe.samples
        if mode == RUNTIME:
            raise RuntimeError("shapes do not match\nsecond line")
        if mode == MEMORY:
            raise MemoryError("cannot allocate")
        if mode == WARN:
            self.warnings.append("8-bit images may not be counts")
        frame = np.asarray(self.image.data[(0,) * (self.image.data.ndim - 2)], dtype=np.float32)
        total = 4 * samples
        yield Progress("estimate", 0, total, 0.0, None, 0, samples)
        for i in range(total):
            if mode in (SLOW, STUCK):
                time.sleep(0.06)
            if mode == STUCK and self._done == 1:
                time.sleep(60)
            if mode == KILLED_LATE and self._done == 1:
                time.sleep(0.1)
                os.kill(os.getpid(), 9)
            if self._cancelled:
                return
            self._done = (i + 1) // 4
            yield Progress(
                "sample", i + 1, total, 0.1, 1.5, self._done, samples, 1.02, {}, frame + i
            )

    def result(self) -> Result:
        if not self._done:
            raise InputError("no sample is finished")
        data = np.asarray(self.image.data, dtype=np.float32)
        stack = np.stack([data + k for k in range(self._done)])
        point = self.recipe.sampler.point_estimate
        complete = self._done == self.recipe.samples
        report = {"complete": complete, "device": "cpu", "point_estimate": point}
        return Result.from_image(stack, self.image, self.recipe, report)


def main() -> None:
    """Serve as the computing process; without torch, which takes seconds to import."""
    print("printing must not break the pipe")
    import napari_dps.device
    from napari_dps.plugin.process import serve

    napari_dps.device.available_devices = lambda: {"cpu": "fake"}

    serve(FakeRun)


COMMAND = (sys.executable, os.path.abspath(__file__))

if __name__ == "__main__":
    main()
