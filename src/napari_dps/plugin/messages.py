"""What the window and the computation say to each other: frozen, picklable, free of Qt.

`answer` is the whole of the computing side; where it runs (here: in a process of its own) is
none of its business.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_dps import errors
from napari_dps.errors import DPSError
from napari_dps.image import Image
from napari_dps.recipe import Recipe

#: Least seconds between two previews, and between two messages about progress.
PREVIEW_EVERY = 0.2
UPDATE_EVERY = 0.05


class ComputeError(DPSError):
    """The computation broke down in a way that was not foreseen."""


@dataclass(frozen=True)
class Request:
    """One question to the computation.

    Attributes
    ----------
    number : int
        Its number; every answer carries it, so that stale ones can be dropped.
    image, recipe, device
        As for `napari_dps.api.Run`.
    run : bool
        Whether to do the work, or only to estimate it.
    result : Result or None
        A result of this image: it is not restored again, but looked at more closely.
    """

    number: int
    image: Image
    recipe: Recipe
    device: str = "auto"
    run: bool = True
    result: Any = None


@dataclass(frozen=True)
class Message:
    """Base of all answers."""

    number: int


@dataclass(frozen=True)
class Estimate(Message):
    """What a run will cost."""

    seconds: float
    bytes: int
    network_calls: int
    batch: int
    tile: int | None
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Update(Message):
    """How far a run is; with a picture at most every `PREVIEW_EVERY` seconds."""

    stage: str
    done: int
    total: int
    seconds_left: float | None
    samples_done: int
    samples: int
    misfit: float | None = None
    preview: np.ndarray | None = None


@dataclass(frozen=True)
class Partial(Message):
    """The result of the samples finished so far, in case that the rest never comes."""

    result: Any


@dataclass(frozen=True)
class Finished(Message):
    """The end of a run; ``result`` is None where not one sample was finished."""

    result: Any
    cancelled: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed(Message):
    """The end of a run that went wrong.

    Attributes
    ----------
    kind, text : str
        Class and sentence of the error.
    trace : str
        The traceback where nobody foresaw the error.
    partial : Result or None
        The samples finished before.
    """

    kind: str
    text: str
    trace: str = ""
    partial: Any = None

    def error(self) -> DPSError:
        """Return the error to raise on this side."""
        cls = getattr(errors, self.kind, ComputeError)
        return cls(self.text) if issubclass(cls, DPSError) else ComputeError(self.text)


@dataclass
class _Pace:
    """Lets something through at most every ``every`` seconds."""

    every: float
    last: float = field(default=-1e9)

    def due(self) -> bool:
        now = time.monotonic()
        if now - self.last < self.every:
            return False
        self.last = now
        return True


class Stop:
    """The wish to stop, which may be uttered from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._run: Any = None

    def set(self) -> None:
        """Stop: before the next network call where the run can, else after its step."""
        self._event.set()
        run = self._run
        if run is not None:
            run.cancel()

    def clear(self) -> None:
        """Take it back, for the next request."""
        self._event.clear()

    def watch(self, run: Any) -> None:
        """Name the run that is to be told."""
        self._run = run
        if self._event.is_set():
            run.cancel()

    def __call__(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()


def answer(request: Request, stop: Stop, make_run: Any = None) -> Iterator[Message]:
    """Answer a request; the last message is `Finished`, `Failed`, or an `Estimate` asked for.

    Parameters
    ----------
    request : Request
        What to do.
    stop : Stop
        Whether to stop; samples finished by then are kept.
    make_run : callable, optional
        Makes the run; `napari_dps.api.Run` by default.
    """
    try:
        yield from _answer(request, stop, make_run)
    except DPSError as error:
        yield Failed(request.number, type(error).__name__, str(error))
    except Exception as error:  # told to the user in one sentence, and in full to the log
        yield Failed(request.number, *_unforeseen(error), traceback.format_exc())


def _unforeseen(error: Exception) -> tuple[str, str]:
    name, text = type(error).__name__, str(error).strip().splitlines() or [""]
    if isinstance(error, MemoryError) or "OutOfMemory" in name:
        return "OutOfMemoryError", (
            f"memory ran out ({text[0][:120] or name}); choose a smaller region or fewer samples"
        )
    return "ComputeError", (
        f"the computation failed unexpectedly ({name}: {text[0][:200]}); "
        "the log of napari holds the details"
    )


def _answer(request: Request, stop: Stop, make_run: Any) -> Iterator[Message]:
    from napari_dps.device import available_devices

    if request.result is not None:
        from napari_dps.uncertainty.verdict.assess import assess

        judged = assess(request.result, request.image, device=request.device)
        yield Finished(request.number, judged, stop())
        return
    if make_run is None:
        from napari_dps.api import Run

        make_run = Run
    number = request.number
    run = make_run(request.image, request.recipe, device=request.device)
    plan = run.plan()
    yield Estimate(
        number,
        float(plan.seconds),
        int(plan.bytes),
        int(plan.network_calls),
        int(plan.batch),
        plan.tile,
        tuple(available_devices()),
    )
    if not request.run:
        return

    updates, previews = _Pace(UPDATE_EVERY), _Pace(PREVIEW_EVERY)
    finished = 0
    stop.watch(run)
    for step in run:
        # A batch of samples is finished: hand it over at once, so that it survives whatever
        # happens to this process. The last one travels with `Finished`.
        if finished < step.samples_done < step.samples:
            yield Partial(number, run.result())
        finished = step.samples_done
        if updates.due():
            picture = step.preview() if step.stage == "sample" and previews.due() else None
            yield Update(
                number,
                step.stage,
                int(step.done),
                int(step.total),
                step.seconds_left,
                int(step.samples_done),
                int(step.samples),
                step.misfit,
                None if picture is None else np.asarray(picture, dtype=np.float32),
            )
        if stop():
            break
    cancelled = stop()
    result = run.result() if finished or not cancelled else None
    if result is not None:
        # Computed and kept here, since the window must not wait for it.
        _ = result.mean, result.point_estimate or result.std
    yield Finished(number, result, cancelled, tuple(run.warnings))
