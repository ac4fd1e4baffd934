"""The variance of samples whose partners were drawn with opposite noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["between_within", "variance"]

Array = NDArray[np.float64]


def between_within(samples: Array, pairs: bool) -> tuple[Array, Array] | None:
    """Return the variance of the pairs' means and that within pairs, per pixel.

    Parameters
    ----------
    samples : ndarray, shape (S, ...)
        Of the posterior.
    pairs : bool
        Whether samples 0 and 1, 2 and 3, ... were drawn with opposite noise.

    Returns
    -------
    tuple of ndarray or None
        Their sum is the variance of one sample, without bias whatever the correlation of partners
        is; a last sample without a partner does not count. None without pairs, or with fewer than
        two: the same rule as in :func:`napari_dps.evaluate.spread_skill`.
    """
    if not pairs or len(samples) < 4:
        return None
    whole = len(samples) // 2 * 2
    first, second = samples[0:whole:2], samples[1:whole:2]
    centres, halves = (first + second) / 2, (first - second) / 2
    return centres.var(axis=0, ddof=1), (halves**2).mean(axis=0)


def variance(samples: Array, pairs: bool) -> Array:
    """Return the posterior variance of every pixel, shape (...), without bias.

    The plain formula takes samples for independent: of opposite partners it gives S/(S - 1) times
    the variance.
    """
    found = between_within(samples, pairs)
    out: Array = samples.var(axis=0, ddof=1) if found is None else found[0] + found[1]
    return out
