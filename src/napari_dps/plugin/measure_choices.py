"""The measurements that the dock offers, each from layers to numbers; no window in here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Layer
from numpy.typing import NDArray

from napari_dps._quantiles import check_level
from napari_dps.errors import InputError
from napari_dps.plugin.layers import source_data
from napari_dps.plugin.measure_sources import (
    intensity_unit,
    line_in_pixels,
    region_labels,
    result_of,
    same_place,
    shown_frame,
)
from napari_dps.result import Result
from napari_dps.uncertainty.measure import Measurement, measure

if TYPE_CHECKING:
    from napari_dps.uncertainty.regions import RegionMean

__all__ = ["CHOICES", "Choice", "Inputs", "prepare"]


@dataclass(frozen=True)
class Choice:
    """One entry of the list.

    Attributes
    ----------
    key : str
        Its name in code.
    title : str
        Its name in the dock.
    needs : str
        ``"regions"``, ``"line"``, ``"second"`` (another result) or nothing.
    fields : tuple of str
        Settings that it knows.
    tip : str
        What it is, in a sentence.
    """

    key: str
    title: str
    needs: str
    fields: tuple[str, ...]
    tip: str


CHOICES = (
    Choice("mean", "Region mean", "regions", (), "Mean intensity of each region"),
    Choice(
        "sum", "Region sum", "regions", ("background",),
        "Summed intensity of each region above a background",
    ),
    Choice(
        "objects", "Objects: count, area, intensity", "", ("threshold", "smallest", "split"),
        "Connected objects above a threshold, found in every sample anew",
    ),
    Choice(
        "profile", "Line profile", "line", ("width",),
        "Intensity along a line, averaged over a band",
    ),
    Choice(
        "fwhm", "FWHM", "line", ("width",),
        "Full width at half maximum of the highest peak along a line",
    ),
    Choice(
        "distance", "Distance of two maxima", "line", ("width",),
        "Distance between the two highest maxima along a line",
    ),
    Choice(
        "separation", "Separation of two equal points", "line", (),
        "Distance of two points that may be one spot, from how long it is; the disc whose diameter "
        "is the line must hold nothing else",
    ),
    Choice(
        "colocalisation", "Colocalisation (Pearson, Manders)", "second", (),
        "With a second result of the same shape; thresholds by Otsu's method in every sample",
    ),
    Choice(
        "frc", "Fourier ring correlation", "", (),
        "Agreement of the samples by spatial frequency: how fine is what the data fix",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """What the dock says.

    Attributes
    ----------
    samples : Image layer
        Of the result.
    point : sequence of float
        Where the viewer's sliders stand, see `world_point`: which frame is on display.
    level : float
        Probability inside the interval.
    where : Layer or None
        Regions or line.
    second : Image layer or None
        Samples of another result.
    settings : dict
        By the names of `Choice.fields`.
    """

    samples: ImageLayer
    point: Any
    level: float
    where: Layer | None
    second: ImageLayer | None
    settings: dict[str, Any]


def prepare(choice: Choice, inputs: Inputs) -> Callable[[], tuple[Measurement, Any]]:
    """Check what is cheap, and return what reads the data and measures, for a thread.

    Returns
    -------
    measure : callable
        Without arguments; returns the measurement and, of regions, the rows of their layer's
        features (else None). Raises `InputError` for what only the data tell.

    Raises
    ------
    InputError
        One sentence about what cannot be measured.
    """
    samples = inputs.samples
    count = int(source_data(samples).shape[0])
    check_level(inputs.level, count, each=2 if choice.key == "frc" else 1)
    if choice.needs == "regions":
        return _regions(choice, inputs)
    if choice.needs == "line":
        function = _line(choice, inputs)
    elif choice.needs == "second":
        function = _second(inputs)
    else:
        function = _rings(inputs) if choice.key == "frc" else _objects(inputs)
    return lambda: (function(), None)


def _where(inputs: Inputs, what: str) -> Layer:
    if inputs.where is None:
        raise InputError(f"there is no layer with {what}; add one and choose it")
    return inputs.where


def _frame(inputs: Inputs, keep: int) -> Result:
    """Return the result, of stacks the frame on display: the last ``keep`` axes."""
    whole = result_of(inputs.samples)
    at = shown_frame(inputs.samples, inputs.point, keep)
    if not at:
        return whole
    n = len(at)
    place: Any = (slice(None), *at)
    return Result(
        whole.samples[place],
        whole.axes[n:],
        whole.scale[n:],
        whole.units[n:],
        whole.translate[n:],
        whole.name,
        whole.recipe,
        whole.report,
    )


def _pixel(result: Result, axes: int = 2) -> tuple[NDArray[np.float64], str]:
    """Return the steps of the last axes and their unit; pixels where one has none."""
    if all(unit == "micrometer" for unit in result.units[-axes:]):
        return np.array(result.scale[-axes:], dtype=np.float64), "µm"
    return np.ones(axes), "px"


def _regions(choice: Choice, inputs: Inputs) -> Callable[[], tuple[Measurement, Any]]:
    from napari_dps.uncertainty.regions import RegionMean, RegionSum

    where = _where(inputs, "regions (Labels or Shapes)")
    background = float(inputs.settings.get("background") or 0.0)

    def run() -> tuple[Measurement, Any]:
        rows, images = region_labels(where, inputs.samples, inputs.point)
        result = result_of(inputs.samples)
        unit = intensity_unit(result.recipe)

        def of(labels: NDArray[np.int64]) -> RegionMean:
            if choice.key == "sum":
                return RegionSum(labels, unit, background=background)
            return RegionMean(labels, unit)

        parts = [_by_frame(of, labels, result.axes) for labels in images]

        def every(image: NDArray[Any]) -> dict[str, float]:
            found = [pair for part in parts for pair in part(image).items()]
            return dict(sorted(found, key=lambda pair: _number(pair[0])))

        return measure(result, every, level=inputs.level, unit=unit), rows

    return run


def _by_frame(
    of: Callable[[NDArray[np.int64]], RegionMean], labels: NDArray[np.int64], axes: str
) -> Callable[[NDArray[Any]], dict[str, float]]:
    """Return what measures the labels of each frame in that frame; along Z they are one region."""
    others = [k for k, letter in enumerate(axes) if letter not in "ZYX"]
    if labels.ndim == 2 or not others:
        return of(labels)
    moved = np.moveaxis(labels, others, range(len(others)))
    frames = moved.reshape(-1, *moved.shape[len(others) :])
    parts = [(f, of(frame)) for f, frame in enumerate(frames) if frame.any()]

    def every(image: NDArray[Any]) -> dict[str, float]:
        placed = np.moveaxis(image, others, range(len(others))).reshape(frames.shape)
        return {
            f"{name}, frame {f}": value
            for f, part in parts
            for name, value in part(placed[f]).items()
        }

    return every


def _number(name: str) -> int:
    """Return the region's number in the name of its value: 3 of "mean 3, frame 1"."""
    return int(name.split(",")[0].rsplit(" ", 1)[1])


def _objects(inputs: Inputs) -> Callable[[], Measurement]:
    from napari_dps.uncertainty.regions import Objects

    volume = 3 if _has_depth(inputs.samples) else 2
    threshold = inputs.settings.get("threshold")

    def run() -> Measurement:
        result = _frame(inputs, volume)
        steps, length = _pixel(result, volume)
        function = Objects(
            threshold="otsu" if threshold is None else float(threshold),
            smallest=int(inputs.settings.get("smallest") or 1),
            pixel=float(steps.prod()),
            split=inputs.settings.get("split"),
        )
        light = intensity_unit(result.recipe)
        power = f"{length}{'³' if volume == 3 else '²'}"
        names = {"count": "", "area": power, "intensity": light}
        names |= {"mean area": power, "mean intensity": light}

        def told(image: NDArray[Any]) -> dict[str, float]:
            found = function(image)
            return {f"{k} ({names[k]})" if names[k] else k: v for k, v in found.items()}

        return measure(result, told, level=inputs.level)

    return run


def _has_depth(layer: ImageLayer) -> bool:
    return layer.ndim > 3 and str(layer.axis_labels[-3]).lower() == "z"


def _line(choice: Choice, inputs: Inputs) -> Callable[[], Measurement]:
    from napari_dps.uncertainty.profiles import FWHM, LineProfile, PairSeparation, PeakDistance

    samples = inputs.samples
    line = line_in_pixels(_where(inputs, "a line (Shapes, or two points)"), samples)
    _need_square(samples, "lengths along a line")
    width = int(inputs.settings.get("width") or 1)

    def run() -> Measurement:
        result = _frame(inputs, 2)
        steps, length = _pixel(result)
        unit = intensity_unit(result.recipe)
        profile = LineProfile(line.start, line.end, width, float(steps[-1]), length, unit)
        functions: dict[str, Any] = {
            "profile": profile,
            "fwhm": FWHM(profile),
            "distance": PeakDistance(profile),
            "separation": PairSeparation(profile),
        }
        return measure(result, functions[choice.key], level=inputs.level)

    LineProfile(line.start, line.end, width)  # refuses what is too short, before the thread
    return run


def _need_square(samples: ImageLayer, what: str) -> None:
    from napari_dps.uncertainty.resolution import square

    step = np.abs(np.asarray(samples.scale)[-2:])
    if not square(step):
        raise InputError(
            f"pixels of {samples.name!r} are {step[0]:.4g} by {step[1]:.4g}: {what} need square "
            "ones; resample the image first"
        )


def _second(inputs: Inputs) -> Callable[[], Measurement]:
    from napari_dps.uncertainty.colocalisation import colocalise

    first, second = inputs.samples, inputs.second
    if second is None or second is first:
        raise InputError("colocalisation needs a second result; restore the other channel too")
    shapes = [tuple(int(n) for n in source_data(v).shape) for v in (first, second)]
    if shapes[0][1:] != shapes[1][1:]:
        raise InputError(
            f"{first.name!r} has images of shape {shapes[0][1:]}, but {second.name!r} of "
            f"{shapes[1][1:]}: choose two results of one shape"
        )
    if not same_place(first, second):
        raise InputError(
            f"{first.name!r} and {second.name!r} do not lie on each other, by their pixel size, "
            "translation or rotation: choose two results of one field, or resample one of them"
        )
    count = min(shapes[0][0], shapes[1][0])
    check_level(inputs.level, count)
    keep = 3 if _has_depth(first) else 2

    def run() -> Measurement:
        one = _frame(inputs, keep)
        two = _frame(replace(inputs, samples=second), keep)
        return colocalise(one, two, level=inputs.level)

    return run


def _rings(inputs: Inputs) -> Callable[[], Measurement]:
    from napari_dps.uncertainty.resolution import fourier_ring_correlation

    _need_square(inputs.samples, "rings of spatial frequency")

    def run() -> Measurement:
        result = _frame(inputs, 2)
        steps, length = _pixel(result)
        return fourier_ring_correlation(
            result, pixel_size=float(steps[-1]), length_unit=length, level=inputs.level
        )

    return run
