"""A computation as the window sees it: started, followed by signals, cancelled.

A napari thread worker drives the process that computes (see `process`); so the window's thread
never waits, and napari knows that there is work and asks before it closes.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_dps.errors import DPSError
from napari_dps.plugin.messages import (
    ComputeError,
    Estimate,
    Failed,
    Finished,
    Message,
    Request,
    Update,
)
from napari_dps.plugin.process import Computer

log = logging.getLogger("napari_dps")


def follow(
    computer: Computer, make_request: Callable[[], Request], cancelled: Callable[[], bool]
) -> Iterator[Message | None]:
    """Go through the answers to a request; None means "nothing yet".

    napari's generator workers swallow every ``RuntimeError`` (running out of memory is one), so
    whatever goes wrong here leaves as a `DPSError`.

    Parameters
    ----------
    computer : Computer
        Who computes.
    make_request : callable
        Makes the request; reads layer data and files, so it belongs into the thread.
    cancelled : callable
        Whether to stop.

    Raises
    ------
    DPSError
        If the request cannot be made, or the computation failed.
    """
    try:
        request = make_request()
        for message in computer.ask(request, cancelled):
            yield message
            if isinstance(message, Failed):
                if message.trace:
                    log.error("the computation failed:\n%s", message.trace)
                raise message.error()
    except DPSError:
        raise
    except Exception as error:
        log.exception("the worker failed")
        raise ComputeError(
            f"the run failed unexpectedly ({type(error).__name__}: {error})"
        ) from error


class Computation(QObject):
    """Runs and estimates, one at a time; the answers of an earlier one are dropped.

    Parameters
    ----------
    command : tuple of str, optional
        What to start as computing process.
    """

    estimated = Signal(object)
    """Emitted with an `Estimate`."""
    updated = Signal(object)
    """Emitted with an `Update`."""
    finished = Signal(object)
    """Emitted with the `Finished` that ended a run."""
    failed = Signal(str, object)
    """Emitted with one sentence, and the result of the samples finished before (or None)."""
    running_changed = Signal(bool)
    """Emitted when a run (not an estimate) begins and after it ended."""

    def __init__(
        self, command: tuple[str, ...] | None = None, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._command = command
        self._computer = self._new_computer()
        self._number = 0
        self._worker: Any = None
        self._cancelled = threading.Event()
        self._running = False
        self._partial: Any = None
        self._retire = False
        # Not Qt's `destroyed`: it would hand a half-destroyed object to Python.
        self._closing = [self._computer]
        weakref.finalize(self, _close_last, self._closing)

    def _new_computer(self) -> Computer:
        return Computer() if self._command is None else Computer(self._command)

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._running

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return self._worker is not None

    def start(self, make_request: Callable[[], Request]) -> None:
        """Start a run, or an estimate where the request says so later; see `follow`.

        Raises
        ------
        ComputeError
            If a run is under way.
        """
        self._begin(make_request, run=True)

    def estimate(self, make_request: Callable[[], Request]) -> None:
        """Start an estimate; its answer is `estimated` or `failed`."""
        self._begin(make_request, run=False)

    def cancel(self) -> None:
        """Ask the run to stop; it ends within a second, keeping the samples finished so far."""
        self._cancelled.set()

    def close(self) -> None:
        """Stop whatever is under way, at once and without an answer."""
        self._number += 1
        self._cancelled.set()
        worker, self._worker = self._worker, None
        self._running = False
        if worker is not None:
            worker.quit()
        # The old worker may still be winding up, so it keeps its computer and we take another.
        self._replace_computer()

    def _replace_computer(self) -> None:
        self._computer.close()
        self._computer = self._closing[0] = self._new_computer()

    def _begin(self, make_request: Callable[[], Request], *, run: bool) -> None:
        from napari.qt.threading import create_worker

        if self.busy:
            raise ComputeError("a computation is under way; cancel it first")
        self._number += 1
        number, self._cancelled = self._number, threading.Event()
        self._partial = None

        def numbered() -> Request:
            return replace(make_request(), number=number, run=run)

        # `errored` is answered by one notification of ours; napari's default would add a second.
        worker = create_worker(
            _napari_dps_reconstruction,
            self._computer,
            numbered,
            self._cancelled.is_set,
            _start_thread=False,
            _ignore_errors=True,
        )
        self._worker = worker
        worker.yielded.connect(self._receive)
        # Bound methods of a QObject run in its thread under every Qt binding; lambdas do not.
        worker.errored.connect(self._errored)
        # A closing window destroys this object before the worker ends; the computer is plain
        # Python and outlives both.
        worker.aborted.connect(self._computer.close)
        worker.aborted.connect(self._aborted)
        worker.finished.connect(self._ended)
        self._running = run
        if run:
            self.running_changed.emit(True)
        worker.start()

    def _receive(self, message: Message | None) -> None:
        if message is None or message.number != self._number:
            return
        if isinstance(message, Estimate):
            self.estimated.emit(message)
        elif isinstance(message, Update):
            self.updated.emit(message)
        elif isinstance(message, Finished):
            device = "cpu" if message.result is None else message.result.report.get("device")
            self._retire = str(device) != "cpu"
            self.finished.emit(message)
        elif isinstance(message, Failed):
            self._partial = message.partial

    def _errored(self, error: Exception) -> None:
        if self._worker is not None:
            self.failed.emit(str(error), self._partial)

    def _aborted(self) -> None:
        """Give way when napari stops the worker, as it does when its window closes."""
        if self._worker is not None:
            was = self._running
            self.close()
            if was:
                self.running_changed.emit(False)

    def _ended(self) -> None:
        if self._worker is None:
            return  # closed meanwhile
        self._worker = None
        if self._retire:
            # A graphics card gets its memory back for certain only when the process ends.
            self._retire = False
            self._replace_computer()
        was, self._running = self._running, False
        if was:
            self.running_changed.emit(False)


def _close_last(computers: list[Computer]) -> None:
    computers[0].close()


def _napari_dps_reconstruction(
    computer: Computer, make_request: Callable[[], Request], cancelled: Callable[[], bool]
) -> Iterator[Message | None]:
    """Call `follow` under a name that napari can show in its question before closing."""
    yield from follow(computer, make_request, cancelled)
