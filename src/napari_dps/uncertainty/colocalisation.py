"""Ready measurements of two channels, for :func:`napari_dps.measure`."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError
from napari_dps.uncertainty.measure import Measurement, _samples, measure
from napari_dps.uncertainty.regions import otsu

if TYPE_CHECKING:
    from napari_dps.result import Result

__all__ = ["Colocalisation", "colocalise"]

FEWEST = 4
"""Samples of two results: of fewer, each would meet itself or its antithetic partner."""


@dataclass(frozen=True)
class Colocalisation:
    """Pearson's and Manders' coefficients of an image with another one, or of two channels.

    Manders et al., "Measurement of co-localization of objects in dual-colour confocal images",
    Journal of Microscopy 169, 1993: M1 is the share of the first channel's light above its
    threshold that lies where the second is above its own, M2 the reverse. Light below the threshold
    counts in neither: there it is background.

    Parameters
    ----------
    other : array or None
        The second image, of the shape of the first; None: the image has two channels, along
        ``axis``.
    axis : int
        Axis of the channels.
    thresholds : (float, float) or "otsu"
        Intensities above which a pixel of the first and of the second channel is bright.
    mask : array of bool or None
        Pixels that count; the shape of a channel, or of its last axes.

    Raises
    ------
    InputError
        If thresholds or mask cannot be used, or "otsu" meets values that are not finite.
    """

    other: Any = None
    axis: int = 0
    thresholds: tuple[float, float] | Literal["otsu"] = "otsu"
    mask: Any = None

    def __post_init__(self) -> None:
        told: Any = self.thresholds
        pair = isinstance(told, (tuple, list)) and len(told) == 2
        if told != "otsu" and not (pair and all(isinstance(v, Real) for v in told)):
            raise InputError(f'thresholds = {told!r} are not allowed; give two numbers, or "otsu"')

    def __call__(self, image: NDArray[Any]) -> dict[str, float]:
        """Return ``pearson``, ``M1`` and ``M2`` of one sample.

        NaN where a channel is flat; M1 and M2 need no contrast where thresholds were given.
        """
        first, second = self._channels(image)
        if self.mask is not None:
            inside = self._inside(first.shape)
            first, second = first[inside], second[inside]
        if self.thresholds == "otsu" and min(np.ptp(first), np.ptp(second)) == 0:
            return dict.fromkeys(("pearson", "M1", "M2"), float("nan"))
        one, two = self._levels(first, second)
        a, b = first - first.mean(), second - second.mean()
        size = float(np.sqrt((a**2).sum() * (b**2).sum()))
        return {
            "pearson": float((a * b).sum()) / size if size > 0 else float("nan"),
            "M1": _share(first, (first > one), second > two),
            "M2": _share(second, (second > two), first > one),
        }

    def _inside(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        mask = np.asarray(self.mask, dtype=bool)
        if mask.shape != shape[len(shape) - mask.ndim :]:
            raise InputError(
                f"the mask has shape {mask.shape}, but a channel has {shape}: give one of the "
                "channel's shape, or of its last axes"
            )
        if not mask.any():
            raise InputError("the mask holds no pixel; mark those that count with True")
        return np.broadcast_to(mask, shape)

    def _channels(self, image: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        if self.other is not None:
            other = np.asarray(self.other, dtype=np.float64)
            if other.shape != image.shape:
                raise InputError(
                    f"the other image has shape {other.shape}, but the sample has {image.shape}: "
                    "give two images of one shape"
                )
            return image.astype(np.float64), other
        if image.ndim < 3 or image.shape[self.axis] != 2:
            raise InputError(
                f"colocalisation needs two channels along axis {self.axis}, but the image has "
                f"shape {image.shape}: name another axis, or give the second image as `other`"
            )
        first, second = np.moveaxis(image.astype(np.float64), self.axis, 0)
        return first, second

    def _levels(self, first: NDArray[Any], second: NDArray[Any]) -> tuple[float, float]:
        if self.thresholds != "otsu":
            return self.thresholds
        return otsu(first), otsu(second)


def _share(light: NDArray[Any], bright: NDArray[Any], where: NDArray[Any]) -> float:
    """Return the share of the bright pixels' light that lies where ``where`` is true."""
    total = float(light[bright].sum())
    return float(light[bright & where].sum()) / total if total > 0 else float("nan")


def colocalise(
    first: Result | NDArray[Any],
    second: Result | NDArray[Any],
    function: Colocalisation | None = None,
    *,
    level: float = 0.9,
) -> Measurement:
    """Return the colocalisation of two results that were restored apart.

    A sample of the one is set beside one of the other, so that the spread of both posteriors
    counts. Not beside the one of its own number: runs of one seed draw sample k from the same
    random numbers, so that what the prior fills in is alike in both channels and would correlate.

    Parameters
    ----------
    first, second : Result, or array of shape (S, ...)
        Posterior samples of two channels on one grid. Of unlike numbers of samples the first of the
        longer count.
    function : Colocalisation, optional
        Thresholds and mask; its ``axis`` must be 0 and its ``other`` None.
    level : float
        Probability inside the interval.

    Raises
    ------
    InputError
        If the shapes differ, or there are fewer than 4 samples or too few for the level.
    """
    chosen = function or Colocalisation()
    if chosen.other is not None or chosen.axis != 0:
        raise InputError(
            "two results are set beside each other along axis 0; give a Colocalisation without "
            f"`other` and with axis 0, not {chosen.axis}"
        )
    one, two = _samples(first), _samples(second)
    if one.shape[1:] != two.shape[1:]:
        raise InputError(
            f"the results have images of shape {one.shape[1:]} and {two.shape[1:]}: give two of "
            "one shape"
        )
    count = min(len(one), len(two))
    if count < FEWEST:
        raise InputError(
            f"colocalisation of two results needs at least {FEWEST} samples of each; there are "
            f"{len(one)} and {len(two)}: draw more"
        )
    # By two: neighbours are antithetic partners, and pairs must stay together.
    beside = np.roll(two[:count], -2, axis=0)
    pairs = bool(getattr(first, "pairs", False) or getattr(second, "pairs", False))
    return measure(np.stack([one[:count], beside], axis=1), chosen, level=level, pairs=pairs)
