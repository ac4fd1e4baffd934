"""Ready measurements of regions and of objects, for :func:`napari_dps.measure`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError

__all__ = ["Objects", "RegionMean", "RegionSum", "otsu"]


def otsu(values: NDArray[Any]) -> float:
    """Return Otsu's threshold of an image.

    Raises
    ------
    InputError
        If values are not finite.
    """
    import skimage.filters

    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise InputError(
            f"Otsu's threshold needs finite values, but {bad} of {values.size} are not; give the "
            "threshold as a number, or cut them out"
        )
    found: Any = skimage.filters.threshold_otsu
    return float(found(values))


def _labels(values: Any) -> NDArray[np.int64]:
    if isinstance(values, (str, Path)):
        from napari_dps.io import read_image

        values = read_image(values).data
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise InputError(
            f"labels must be whole numbers, 0 outside; got {array.dtype} ({type(values).__name__})"
        )
    if array.dtype.kind not in "bui" and not np.array_equal(array, np.round(array)):
        raise InputError(f"labels must be whole numbers, 0 outside; got {array.dtype}")
    labels: NDArray[np.int64] = array.astype(np.int64)
    if labels.min(initial=0) < 0 or labels.max(initial=0) == 0:
        raise InputError(
            "labels must hold one region at least: 0 outside, 1, 2, ... inside; got values from "
            f"{labels.min(initial=0)} to {labels.max(initial=0)}"
        )
    return labels


@dataclass(frozen=True)
class RegionMean:
    """Mean intensity of each region.

    Parameters
    ----------
    labels : array of int, or path
        0 outside, 1, 2, ... inside; the shape of the image or of its last axes. Each image along
        further leading axes is measured by itself.
    unit : str
        Of the image.

    Raises
    ------
    InputError
        If there is no region, the file cannot be read, or the shape does not fit an image.
    """

    labels: Any
    unit: str = ""
    name: str = field(default="mean", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _labels(self.labels))

    def __call__(self, image: NDArray[Any]) -> dict[str, float]:
        """Return the mean of each region, and of each frame where there are several."""
        totals, counts = self._totals(image)
        return {name: total / counts[name] for name, total in totals.items()}

    def _totals(self, image: NDArray[Any]) -> tuple[dict[str, float], dict[str, int]]:
        labels: NDArray[np.int64] = self.labels
        if image.ndim < labels.ndim or image.shape[image.ndim - labels.ndim :] != labels.shape:
            raise InputError(
                f"labels have shape {labels.shape}, but the image has {image.shape}: give labels "
                "of the image's shape, or of its last axes"
            )
        # Not by the labels themselves: one of two billion would take as many bins.
        present, flat = np.unique(labels, return_inverse=True)
        flat = flat.ravel()
        frames = image.reshape(-1, labels.size).astype(np.float64)
        sizes = np.bincount(flat)
        totals, counts = {}, {}
        for f, frame in enumerate(frames):
            sums = np.bincount(flat, frame)
            for label, total, size in zip(present.tolist(), sums, sizes, strict=True):
                name = f"{self.name} {label}" + (f", frame {f}" if len(frames) > 1 else "")
                if label:
                    totals[name], counts[name] = float(total), int(size)
        return totals, counts


@dataclass(frozen=True)
class RegionSum(RegionMean):
    """Summed intensity of each region above a background; parameters as :class:`RegionMean`.

    Parameters
    ----------
    background : float
        Level of a pixel outside, subtracted from each.
    """

    background: float = 0.0
    name: str = field(default="sum", init=False)

    def __call__(self, image: NDArray[Any]) -> dict[str, float]:
        """Return the sum of each region, and of each frame where there are several."""
        totals, counts = self._totals(image)
        return {name: total - self.background * counts[name] for name, total in totals.items()}


@dataclass(frozen=True)
class Objects:
    """Number, area and intensity of the connected objects above a threshold.

    Parameters
    ----------
    threshold : float or "otsu"
        Intensity above which a pixel belongs to an object; "otsu" finds it in each sample.
    smallest : int
        Objects of fewer pixels do not count.
    pixel : float
        Area (volume) of one pixel, in ``area_unit``.
    split : float or None
        Separate touching objects whose centres are at least so many pixels apart, by watershed of
        the distance to the background.

    Returns
    -------
    dict
        ``count``; of all objects together ``area`` and ``intensity`` (sum); ``mean area`` and
        ``mean intensity`` (mean over objects of their summed intensity), NaN where there is none.

    Raises
    ------
    InputError
        If a parameter is not as said, or "otsu" meets values that are not finite.

    Notes
    -----
    All axes of an image count as space. Of a result, the frames along time and channels are
    measured each by itself: :func:`napari_dps.measure` knows them.
    """

    threshold: float | Literal["otsu"] = "otsu"
    smallest: int = 1
    pixel: float = 1.0
    split: float | None = None
    by_frame: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        told: Any = self.threshold
        if told != "otsu" and not (isinstance(told, Real) and math.isfinite(told)):
            raise InputError(f'threshold = {told!r} is not allowed; give a number, or "otsu"')
        apart: Any = self.split
        if apart is not None and not (isinstance(apart, Real) and 0 < float(apart) < math.inf):
            raise InputError(
                f"split = {apart!r} is no distance; give pixels above 0, or None to leave touching "
                "objects together"
            )
        for name, value in (("pixel", self.pixel), ("smallest", self.smallest)):
            given: Any = value
            if not (isinstance(given, Real) and 0 <= float(given) < math.inf):
                raise InputError(f"{name} = {given!r} is not allowed; give a number, not negative")

    def __call__(self, image: NDArray[Any]) -> dict[str, float]:
        """Return the values of one image."""
        import skimage.measure

        properties: Any = skimage.measure.regionprops
        found = properties(self.label(image), intensity_image=image)
        areas = np.array([p.area for p in found], dtype=np.float64)
        light = np.array([p.area * p.intensity_mean for p in found], dtype=np.float64)
        nothing = float("nan")
        return {
            "count": float(len(found)),
            "area": float(areas.sum()) * self.pixel,
            "intensity": float(light.sum()),
            "mean area": float(areas.mean()) * self.pixel if len(areas) else nothing,
            "mean intensity": float(light.mean()) if len(light) else nothing,
        }

    def label(self, image: NDArray[Any]) -> NDArray[np.int64]:
        """Return the objects of one image as labels."""
        import skimage.measure

        label: Any = skimage.measure.label
        mask = image > (otsu(image) if self.threshold == "otsu" else float(self.threshold))
        labels = label(mask) if self.split is None else _watershed(mask, self.split)
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        kept = np.flatnonzero(sizes >= max(self.smallest, 1))
        number = np.zeros(len(sizes), dtype=np.int64)
        number[kept] = np.arange(1, len(kept) + 1)
        return np.asarray(number[labels], dtype=np.int64)


def _watershed(mask: NDArray[np.bool_], distance: float) -> NDArray[np.int64]:
    import skimage.feature
    import skimage.measure
    import skimage.segmentation
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    label: Any = skimage.measure.label
    peak_local_max: Any = skimage.feature.peak_local_max
    watershed: Any = skimage.segmentation.watershed
    depth = gaussian_filter(distance_transform_edt(mask), 1.0)
    parts = label(mask)
    # Not the default border: it is as wide as the distance, and objects within it had no marker.
    apart = max(1, round(distance))
    peaks = peak_local_max(depth, min_distance=apart, labels=parts, exclude_border=False)
    markers = np.zeros(mask.shape, dtype=np.int64)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-depth, markers, mask=mask), dtype=np.int64)
