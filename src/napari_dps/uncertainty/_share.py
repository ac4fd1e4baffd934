"""Which share of an image's standard deviation is added to each pixel's: the one of least score.

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

__all__ = ["Fit", "Judged"]

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


class Fit:
    """Intervals fitted to crops: the share of least interval score, and factors by level.

    Parameters
    ----------
    errors, means, stds : sequence of ndarray
        Absolute error of the mean, mean and standard deviation of each crop, flat.
    images : sequence
        What the image of each crop is known by.
    level : float
        Of the score that chooses.
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
        each = np.array([self._scores(share, level) for share in SHARES])
        self.share = SHARES[int(each.sum(1).argmin())]
        same = [[other == image for other in images] for image in images]
        self._without = [
            SHARES[int((each.sum(1) - each[:, np.array(of)].sum(1)).argmin())] for of in same
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

    def _scores(self, share: float, level: float) -> list[float]:
        """Return the interval score of each crop under the factor of all."""
        factor = fit_scale(self._ratios(share), level)
        halves = (factor * spread for spread in self._spreads[share])
        return [
            interval_score(-half, half, error, level)
            for half, error in zip(halves, self._errors, strict=True)
        ]
