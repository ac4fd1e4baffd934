"""What the window and the computation say to each other: frozen, picklable, free of Qt.

`answer` is the whole of the computing side; where it runs (here: in a process of its own) is
none of its business.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
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
    """

    number: int
    image: Image
    recipe: Recipe
    device: str = "auto"
    run: bool = True


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


def answer(
    request: Request, stopped: Callable[[], bool], make_run: Any = None
) -> Iterator[Message]:
    """Answer a request; the last message is `Finished`, `Failed`, or an `Estimate` asked for.

    Parameters
    ----------
    request : Request
        What to do.
    stopped : callable
        Asked between steps whether to stop; samples finished by then are kept.
    make_run : callable, optional
        Makes the run; `napari_dps.api.Run` by default.
    """
    try:
        yield from _answer(request, stopped, make_run)
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


def _answer(request: Request, stopped: Callable[[], bool], make_run: Any) -> Iterator[Message]:
    from napari_dps.device import available_devices

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
    finished, cancelled = 0, False
    steps = iter(run)
    for step in steps:
        # A batch of samples is finished: hand it over at once, so that it survives whatever
        # happens to this process. The last one travels with `Finished`.
        if finished < step.samples_done < step.samples:
            yield Partial(number, run.result())
        finished = step.samples_done
        if updates.due():
            picture = step.stage == "sample" and previews.due()
            yield Update(
                number,
                step.stage,
                int(step.done),
                int(step.total),
                step.seconds_left,
                int(step.samples_done),
                int(step.samples),
                step.misfit,
                np.asarray(step.preview(), dtype=np.float32) if picture else None,
            )
        if stopped():
            cancelled = True
            break
    if cancelled:
        close = getattr(steps, "close", None)
        if close is not None:
            close()
    result = run.result() if finished or not cancelled else None
    yield Finished(number, result, cancelled, tuple(run.warnings))
