"""Ready measurements of two channels, for :func:`napari_dps.measure`."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError
from napari_dps.uncertainty.regions import otsu

__all__ = ["Colocalisation"]


@dataclass(frozen=True)
class Colocalisation:
    """Pearson's and Manders' coefficients of an image with another one, or of two channels.

    Manders et al., "Measurement of co-localization of objects in dual-colour confocal images",
    Journal of Microscopy 169, 1993: M1 is the share of the first channel's light that lies where
    the second is above its threshold, M2 the reverse.

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
