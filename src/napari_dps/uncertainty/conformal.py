"""Intervals scaled to cover: conformal risk control on the share of pixels left outside.

Angelopoulos, Bates, Fisch, Lei & Schuster, "Conformal Risk Control" (ICLR 2024), applied to
intervals mean +- lambda s, with s^2 = std^2 + (share x root mean square of the image's std)^2. With
n calibration images, R(lambda) the mean over them of the share of their pixels outside, and
alpha = 1 - level, lambda is the smallest that meets

    n/(n + 1) R(lambda) + 1/(n + 1) <= alpha.

Then the expected share of pixels outside, in a further image that is exchangeable with the n, is
at most alpha. The promise is one of expectation: over images and over the calibration images
themselves. It is not made for one image, one kind of structure, bright or dark pixels, one pixel.

The share is there because samples are surest where an image is dark and flat, and wrong there by
more than they differ: what a prior takes for nothing is in part something. Of a few shares a fit
takes the best (:mod:`._share`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError

__all__ = [
    "LEVELS",
    "crops_needed",
    "fit_scale",
    "fit_without_each",
    "floored",
    "interval_score",
    "scaled_interval",
    "too_few",
    "widened",
]

Array = NDArray[np.float64]

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Levels that a calibration fits."""
FLOOR = 1e-3
"""Least standard deviation of a pixel, over the root-mean-square one of its image."""
ENOUGH = 100
"""Crops below which the factors are told to be loose."""
SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Shares of an image's root-mean-square standard deviation that a fit may add to each pixel's,
squared: see :mod:`._share` for which.

On a hundred phantoms and draws of the shipped prior in each of five tasks it is 0.3 or so, and
every tenth of the pixels by standard deviation is covered alike (0.86 to 0.95 at 90 %; 0.80 to 0.96
without). Truths with noise of their own, which is as strong where an image is dark and flat, ask
for more."""


def crops_needed(level: float) -> int:
    """Return how many calibration images a level needs: the smallest n with 1/(n + 1) <= alpha.

    Parameters
    ----------
    level : float
        Above 0 and below 1.

    Returns
    -------
    int
        9 for 0.9, 19 for 0.95.

    Raises
    ------
    InputError
        If `level` is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"level {level!r} must lie between 0 and 1, for example 0.9.")
    # 1/(1 - 0.9) - 1 is 9.000000000000002 in floating point; 9 is meant.
    return max(1, math.ceil(level / (1.0 - level) * (1.0 - 1e-9)))


def too_few(crops: int) -> str | None:
    """Return a warning where crops are so few that the bound is loose, else None."""
    if crops >= ENOUGH:
        return None
    return (
        f"{crops} crops make a calibration's bound loose: on average its intervals cover up to "
        f"{100 / (crops + 1):.2g} % more than they promise, and chance moves that; take {ENOUGH} "
        "or more"
    )


def floored(mean: Any, std: Any) -> Array:
    """Return the standard deviation, no pixel's below a thousandth of its image's.

    Where all samples agree the standard deviation is zero, and no factor would widen the interval.
    The floor is ``FLOOR`` times the root mean square over the image (the last two axes), and the
    rounding of the mean where that is zero too.

    Parameters
    ----------
    mean, std : array-like, shape (..., Y, X)
        Of the samples.
    """
    spread = np.asarray(std, dtype=np.float64)
    centre = np.abs(np.asarray(mean, dtype=np.float64))
    typical = np.sqrt(np.mean(spread**2, axis=(-2, -1), keepdims=True))
    rounding = np.finfo(np.float32).eps * centre.max(axis=(-2, -1), keepdims=True)
    least = np.maximum(np.maximum(FLOOR * typical, rounding), np.finfo(np.float32).tiny)
    return np.asarray(np.maximum(spread, least))


def widened(mean: Any, std: Any, share: float) -> Array:
    """Return the standard deviation with a share of its image's added to each pixel's, squared.

    Parameters
    ----------
    mean, std : array-like, shape (..., Y, X)
        Of the samples.
    share : float
        Of the root mean square over the image.
    """
    spread = floored(mean, std)
    typical = np.mean(spread**2, axis=(-2, -1), keepdims=True)
    return np.asarray(np.sqrt(spread**2 + share**2 * typical))


def fit_scale(scores: Sequence[Array], level: float) -> float:
    """Return the smallest lambda whose intervals meet the bound of conformal risk control.

    Parameters
    ----------
    scores : sequence of ndarray
        One array per calibration image: the absolute error of the mean over the (widened) standard
        deviation, of its pixels. Images count alike, whatever their size.
    level : float
        1 - alpha.

    Raises
    ------
    InputError
        If there are fewer images than the level needs; the sentence names the number.
    """
    order = _Order(scores)
    return order.smallest(level, order.weights)


def fit_without_each(
    scores: Sequence[Array], level: float, images: Sequence[Any] | None = None
) -> list[float]:
    """Return, for each crop, the lambda fitted to those of all other images (leave one out).

    Parameters
    ----------
    scores, level
        As in :func:`fit_scale`, which the other images must suffice for.
    images : sequence, optional
        What the image of each crop is known by; each its own where left out.
    """
    order = _Order(scores)
    of = list(range(order.count) if images is None else images)
    factors = {
        image: order.smallest(level, order.without([k for k, v in enumerate(of) if v == image]))
        for image in dict.fromkeys(of)
    }
    return [factors[image] for image in of]


class _Order:
    """Scores of all images in ascending order, with the weight of each."""

    def __init__(self, scores: Sequence[Array]) -> None:
        self.count = len(scores)
        flat = [np.asarray(s, dtype=np.float64).ravel() for s in scores]
        if not flat or any(s.size == 0 for s in flat):
            raise InputError("there is no calibration image; give some")
        values = np.concatenate(flat)
        if not np.isfinite(values).all():
            raise InputError("scores of calibration images must be finite")
        owner = np.repeat(np.arange(self.count), [s.size for s in flat])
        share = np.repeat([1.0 / s.size for s in flat], [s.size for s in flat])
        place = np.argsort(values, kind="stable")
        self.values, self._owner, self._share = values[place], owner[place], share[place]
        self.weights = self._share

    def without(self, crops: Sequence[int]) -> Array:
        """Return the weights once some are left out."""
        return np.where(np.isin(self._owner, crops), 0.0, self._share)

    def smallest(self, level: float, weights: Array) -> float:
        """Return lambda; ``weights`` of each image sum to one, of one left out to zero."""
        images = round(float(weights.sum()))
        needed = crops_needed(level)
        if images < needed:
            raise InputError(
                f"a {level:g} interval needs at least {needed} calibration images; there are "
                f"{images}: give more, or ask for a lower level"
            )
        # The sum over images of the share outside may be at most alpha (n + 1) - 1.
        allowed = (1.0 - level) * (images + 1) - 1.0 + 1e-9
        outside = np.append(np.cumsum(weights[::-1])[::-1][1:], 0.0)  # strictly above each value
        if float(weights[self.values > 0].sum()) <= allowed:
            return 0.0
        return float(self.values[int(np.argmax(outside <= allowed))])


def scaled_interval(mean: Any, std: Any, scale: float, share: float = 0.0) -> tuple[Array, Array]:
    """Return (low, high) = mean -+ scale times the :func:`widened` standard deviation."""
    centre, half = np.asarray(mean, dtype=np.float64), scale * widened(mean, std, share)
    return centre - half, centre + half


def interval_score(low: Any, high: Any, truth: Any, level: float) -> float:
    """Return the interval score (Gneiting & Raftery 2007), averaged: narrow and right is low.

    The width, plus 2/alpha times how far the truth lies outside.
    """
    known, below, above = (np.asarray(v, dtype=np.float64) for v in (truth, low, high))
    missed = np.maximum(below - known, 0) + np.maximum(known - above, 0)
    return float(np.mean(above - below + 2.0 / (1.0 - level) * missed))
