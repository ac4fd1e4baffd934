"""What can go wrong in a way that a user can mend: one sentence each, never a traceback."""

from __future__ import annotations

from typing import Any


class DPSError(Exception):
    """Base of every error that napari-dps raises on purpose; its text is one clear sentence."""


class InputError(DPSError):
    """The image, mask or file that came in cannot be used as it is."""


class RecipeError(DPSError):
    """A recipe names an unknown kind or parameter, or a value out of its range."""


class PriorError(DPSError):
    """A prior cannot be found, read, or trusted."""


class OutOfMemoryError(DPSError):
    """Even the smallest batch and tile do not fit into memory.

    Not a ``RuntimeError``: napari's generator workers swallow those silently.

    Attributes
    ----------
    finished : Result or None
        What was finished before memory ran out.
    """

    finished: Any = None
