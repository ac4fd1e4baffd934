"""A bar where there is a terminal, a line per ten percent where there is none."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from napari_dps.cli._terminal import duration, note

PAUSE = 0.1
"""Seconds between two updates of the bar, which is drawn no oftener."""


class ProgressDisplay:
    """Shows how far a run is, on stderr.

    Parameters
    ----------
    label : str
        What is running.
    quiet : bool
        Whether to show nothing.
    """

    def __init__(self, label: str, quiet: bool = False) -> None:
        self.label = label
        self.quiet = quiet
        self._tenth = -1
        self._shown = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if not self.quiet and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[state]}", markup=False),
                console=Console(file=sys.stderr),
                transient=True,
            )
            self._task = self._bar.add_task(self.label, total=None, state="")
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int, state: str) -> None:
        """Show that `done` of `total` steps are made, and a few words beside it."""
        if self.quiet:
            return
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=max(total, 1), state=state)
            return
        tenth = 10 * done // max(total, 1)
        if tenth > self._tenth:
            self._tenth = tenth
            note(f"{self.label}: {10 * tenth} %, {state}")

    def show(self, progress: Any) -> None:
        """Show a step of a run (`napari_dps.api.Progress`)."""
        if progress.stage == "estimate":
            if progress.seconds_left is None:
                if self._bar is not None and self._task is not None:
                    self._bar.update(self._task, state="estimating intensities")
                return
            left = duration(progress.seconds_left)
            self.update(progress.done, progress.total, f"looking for the best start, {left} left")
            return
        if not self._due(progress.done, progress.total):
            return  # what a GPU has not computed yet is not asked for
        left = progress.seconds_left
        words = [f"{progress.samples_done}/{progress.samples} samples"]
        if progress.misfit is not None:
            words.append(f"chi2 {progress.misfit:.2f}")
        if left is not None:
            words.append(f"{duration(left)} left")
        self.update(progress.done, progress.total, ", ".join(words))

    def _due(self, done: int, total: int) -> bool:
        """Return whether a step would be shown."""
        if self._bar is None:
            return not self.quiet and 10 * done // max(total, 1) > self._tenth
        if done < total and time.monotonic() - self._shown < PAUSE:
            return False
        self._shown = time.monotonic()
        return True


class StopRequest:
    """Whether the user asked to stop."""

    asked = False


@contextmanager
def stop_on_signals(cancel: Callable[[], object]) -> Iterator[StopRequest]:
    """Let the first Ctrl-C (or SIGTERM) ask the run to end, the second stop it at once.

    A KeyboardInterrupt in the middle of a step would lose the samples that are finished.

    Parameters
    ----------
    cancel : callable
        Asks the run to end before its next network call.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True
        cancel()
        note("stopping; once more stops at once and saves nothing")

    # Whoever started us in the background may have told us to ignore Ctrl-C.
    wanted = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    old = {number: signal.signal(number, ask) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
