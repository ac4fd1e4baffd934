"""What a run tells while it works: its cost beforehand, and where it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import DPSError

__all__ = ["Cancelled", "Plan", "Progress"]


class Cancelled(DPSError):
    """Raised between two network calls when the run was cancelled."""


@dataclass(frozen=True)
class Plan:
    """What a run will cost: seconds, bytes, samples at once, tile side, network calls."""

    seconds: float
    bytes: int
    batch: int
    tile: int | None
    network_calls: int


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes
    ----------
    stage : {"estimate", "sample"}
    done, total : int
        Steps of the sampler over all batches; a search for a start counts as so many of them.
    seconds, seconds_left : float
        Since the start, and to the end (None while unknown).
    samples_done, samples : int
        Finished samples (all frames), and asked for.
    calls : dict
        Network passes, ``forward`` and ``vjp``.
    """

    stage: str
    done: int
    total: int
    seconds: float
    seconds_left: float | None
    samples_done: int
    samples: int
    _misfit: Any = None
    calls: dict[str, int] = field(default_factory=dict)
    _image: Any = None

    @cached_property
    def misfit(self) -> float | None:
        """Chi-square per datum. Asking for it waits for the device, so only a report should."""
        return None if self._misfit is None else float(self._misfit.mean())

    def preview(self) -> NDArray[np.float32] | None:
        """Return the present image of the frame being restored, (Y, X), in the input's units."""
        return None if self._image is None else self._image()
