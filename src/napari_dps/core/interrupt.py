"""Where long loops without a network ask whether they are to go on.

A sampler asks before each network call (:class:`~napari_dps.core.problem.Problem`). Solvers below
it know nothing of a run: they call :func:`ask`, which costs nothing unless somebody listens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[], None] | None] = ContextVar("listener", default=None)


def ask() -> None:
    """Let the listener end the work by raising."""
    listener = _listener.get()
    if listener is not None:
        listener()


@contextmanager
def listening(listener: Callable[[], None]) -> Iterator[None]:
    """Let every :func:`ask` of this thread call a listener.

    Parameters
    ----------
    listener : callable
        Raises where the work is to end. The block must not yield to other code: the listener is
        the whole thread's while it lasts.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
