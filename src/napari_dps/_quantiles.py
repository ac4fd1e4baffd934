"""Quantiles from order statistics, and how many samples they need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from napari_dps.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_level", "quantiles", "ranks", "samples_needed"]


def samples_needed(level: float) -> int:
    """Return how many samples an interval of this level needs.

    The interval is made of order statistics: of S samples and one further draw each of the
    S + 1 places is equally likely, so the widest interval holds (S - 1)/(S + 1).

    Parameters
    ----------
    level : float
        Probability inside, above 0 and below 1.

    Returns
    -------
    int
        The smallest S with S >= (1 + level)/(1 - level); 19 for 0.9.

    Raises
    ------
    InputError
        If `level` is not between 0 and 1.
    """
    if not _real(level) or not 0.0 < level < 1.0:
        raise InputError(f"level {level!r} must lie between 0 and 1, for example 0.9.")
    return _ceil((1.0 + level) / (1.0 - level))


def check_level(level: float, count: int, each: int = 1) -> None:
    """Refuse an interval that `count` samples cannot give.

    Parameters
    ----------
    level : float
        Probability inside.
    count : int
        Samples that there are.
    each : int
        Samples that make one draw: 2 where pairs of them are compared.

    Raises
    ------
    InputError
        If `level` is not between 0 and 1, or needs more samples.
    """
    needed = samples_needed(level) * each
    if count < needed:
        raise InputError(
            f"a {level:g} interval needs at least {needed} samples; there are {count}: "
            "draw more, or ask for a lower level."
        )


def ranks(probabilities: Sequence[float], count: int) -> list[float]:
    """Return the ranks q (S + 1) of quantiles among S = `count` ordered samples, from 1 to S.

    Raises
    ------
    InputError
        If a q is no probability, or lies outside [1/(S + 1), S/(S + 1)].
    """
    found = []
    for q in probabilities:
        if not _real(q) or not 0.0 <= q <= 1.0:
            raise InputError(f"quantile {q!r} must be one number between 0 and 1.")
        rank = q * (count + 1)
        if abs(rank - round(rank)) < 1e-6:
            rank = float(round(rank))
        tail = min(q, 1.0 - q)
        if not 1.0 <= rank <= count and tail > 0.0:
            raise InputError(
                f"the {q:g} quantile needs at least {_ceil(1.0 / tail - 1.0)} samples; there "
                f"are {count}: draw more, or ask for one nearer to the middle."
            )
        if tail == 0.0:
            raise InputError(
                f"the {q:g} quantile needs infinitely many samples; with {count} ask for one "
                f"between {1 / (count + 1):.3g} and {count / (count + 1):.3g}."
            )
        found.append(rank)
    return found


def quantiles(samples: NDArray[np.float32], at: Sequence[float]) -> list[NDArray[np.float32]]:
    """Return values at ranks along the first axis, linear between order statistics.

    Parameters
    ----------
    samples : numpy.ndarray
        Shape (S, ...).
    at : sequence of float
        Ranks as `ranks` gives them.

    Returns
    -------
    list of numpy.ndarray
        float32, shape (...), one per rank; NaN where a sample is.
    """
    places = sorted({k for rank in at for k in (math.floor(rank) - 1, math.ceil(rank) - 1)})
    ordered = np.partition(samples, places, axis=0)
    # Partition sorts NaN last: without this a sampler that diverged would look fine.
    bad = np.isnan(samples).any(axis=0)
    found = []
    for rank in at:
        value = ordered[math.floor(rank) - 1].astype(np.float64)
        if rank != math.floor(rank):
            value += (rank - math.floor(rank)) * (ordered[math.ceil(rank) - 1] - value)
        found.append(np.where(bad, np.nan, value).astype(np.float32))
    return found


def _real(value: object) -> bool:
    return isinstance(value, Real)


def _ceil(value: float) -> int:
    # (1 + 0.9)/(1 - 0.9) is 19.000000000000004 in floating point; 19 is meant.
    return math.ceil(value * (1.0 - 1e-9))
