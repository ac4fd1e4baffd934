"""Small computations off the window's thread: one at a time, the newest counts."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_dps.errors import DPSError

__all__ = ["Background", "sentence_of"]

log = logging.getLogger("napari_dps")


def _napari_dps_background(
    function: Callable[[], Any], number: int, what: str
) -> tuple[int, Any, str | None]:
    """Call a function; whatever goes wrong comes back as one sentence, for threads lose errors."""
    try:
        value = function()
        # The answer will be drawn; loading this in the window's thread would be felt as a halt.
        importlib.import_module("matplotlib.backends.backend_qtagg")
        return number, value, None
    except DPSError as error:
        return number, None, str(error)
    except MemoryError:
        return number, None, "memory ran out; take a smaller region or fewer samples"
    except OSError as error:
        return number, None, f"{what} failed: {error.strerror or error}"
    except Exception as error:
        log.exception("%s failed", what)
        return number, None, f"{what} failed ({type(error).__name__}: {error})"


class Background(QObject):
    """Runs functions in a napari thread worker; answers to earlier ones are dropped.

    Parameters
    ----------
    what : str
        What is done, as an error's sentence names it.
    """

    finished = Signal(object)
    """Emitted with what the function returned."""
    failed = Signal(str)
    """Emitted with one sentence."""

    def __init__(self, parent: QObject | None = None, *, what: str = "the measurement") -> None:
        super().__init__(parent)
        self._what = what
        self._number = 0
        self._workers: dict[int, Any] = {}

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return self._number in self._workers

    def start(self, function: Callable[[], Any]) -> None:
        """Run a function; its answer is `finished` or `failed`."""
        from napari.qt.threading import create_worker

        self._number += 1
        worker = create_worker(
            _napari_dps_background,
            function,
            self._number,
            self._what,
            _start_thread=False,
            _ignore_errors=True,
        )
        self._workers[self._number] = worker
        worker.returned.connect(self._returned)
        worker.start()

    def drop(self) -> None:
        """Take no answer of what is under way."""
        self._number += 1

    def _returned(self, answer: tuple[int, Any, str | None]) -> None:
        number, value, sentence = answer
        self._workers.pop(number, None)
        if number != self._number:
            return
        if sentence is None:
            self.finished.emit(value)
        else:
            self.failed.emit(sentence)


def sentence_of(error: object) -> str:
    """Return an error's text with a capital, as notifications show it."""
    text = str(error)
    return text[:1].upper() + text[1:]
