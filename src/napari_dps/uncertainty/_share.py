"""Which share of an image's standard deviation is added to each pixel's.

Of those whose interval score is within a hundredth of the lowest, the one that covers tenths of the
pixels, from the smallest to the largest standard deviation, most evenly: what a score hardly tells
apart may cover what is surest far less than what is not.

Conformal risk control promises its coverage for intervals whose form is fixed beforehand. Of a few
forms the best is taken on the same crops that give the factor, which the promise does not count;
so each crop is judged by a form *and* a factor that the crops of other images have chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.uncertainty.conformal import (
    SHARES,
    crops_needed,
    fit_scale,
    fit_without_each,
    interval_score,
    widened,
)

__all__ = ["Fit", "Judged", "tenths"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Crops under intervals that those of other images have chosen.

    Attributes
    ----------
    inside : list of ndarray of bool
        Pixels that the interval of each crop covers.
    scores : list of float
        Interval score of each crop.
    """

    inside: list[NDArray[np.bool_]]
    scores: list[float]


SLACK = 0.01
"""How far above the lowest interval score a share may be, relatively."""


def tenths(values: NDArray[Any], std: Array) -> list[float]:
    """Return the mean of values over each tenth of the pixels, from small std to large.

    Parameters
    ----------
    values, std : ndarray
        Of one crop, of one size.
    """
    ordered = values.ravel()[np.argsort(std, axis=None, kind="stable")]
    return [float(part.mean()) for part in np.array_split(ordered, 10)]


class Fit:
    """Intervals fitted to crops: a share, and factors by level.

    Parameters
    ----------
    errors, means, stds : sequence of ndarray
        Absolute error of the mean, mean and standard deviation of each crop, flat.
    images : sequence
        What the image of each crop is known by.
    level : float
        Whose score and coverage choose the share.
    """

    def __init__(
        self,
        errors: Sequence[Array],
        means: Sequence[Array],
        stds: Sequence[Array],
        images: Sequence[Any],
        level: float,
    ) -> None:
        self._errors, self._images = list(errors), list(images)
        self._spreads = {
            share: [widened(m[None], s[None], share)[0] for m, s in zip(means, stds, strict=True)]
            for share in SHARES
        }
        told = [self._told(share, level, stds) for share in SHARES]
        scores, parts = (np.array([t[k] for t in told]) for k in (0, 1))
        self.share = _evenest(scores, parts)
        others = [np.array([other != image for other in images]) for image in images]
        self._without = [
            _evenest(scores[:, of], parts[:, of]) if of.any() else self.share for of in others
        ]

    def factor(self, level: float) -> float:
        """Return lambda of a level, fitted to all crops."""
        return fit_scale(self._ratios(self.share), level)

    def judged(self, level: float) -> Judged | None:
        """Return how the crops fare under fits to those of other images; None where too few."""
        left = len(self._images) - max(self._images.count(image) for image in set(self._images))
        if left < crops_needed(level):
            return None
        factors = {
            share: fit_without_each(self._ratios(share), level, self._images)
            for share in set(self._without)
        }
        inside, scores = [], []
        for k, (share, error) in enumerate(zip(self._without, self._errors, strict=True)):
            half = factors[share][k] * self._spreads[share][k]
            inside.append(error <= half)
            scores.append(interval_score(-half, half, error, level))
        return Judged(inside, scores)

    def _ratios(self, share: float) -> list[Array]:
        return [e / s for e, s in zip(self._errors, self._spreads[share], strict=True)]

    def _told(
        self, share: float, level: float, stds: Sequence[Array]
    ) -> tuple[list[float], list[list[float]]]:
        """Return interval score and coverage by tenths of each crop under the factor of all."""
        factor = fit_scale(self._ratios(share), level)
        scores, parts = [], []
        for spread, error, std in zip(self._spreads[share], self._errors, stds, strict=True):
            half = factor * spread
            scores.append(interval_score(-half, half, error, level))
            parts.append(tenths(error <= half, std))
        return scores, parts


def _evenest(scores: Array, covered: Array) -> float:
    """Return the share of the most even coverage among those of a good score.

    Parameters
    ----------
    scores : ndarray, shape (shares, crops)
        Interval scores.
    covered : ndarray, shape (shares, crops, 10)
        Coverage by tenths of the standard deviation.
    """
    total = scores.sum(1)
    uneven = np.ptp(covered.mean(1), axis=1)
    return SHARES[int(np.where(total <= (1 + SLACK) * total.min(), uneven, np.inf).argmin())]
