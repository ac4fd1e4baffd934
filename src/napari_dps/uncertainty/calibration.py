"""A calibration: factors that make a recipe's intervals cover, and what was measured on the way."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from napari_dps.arrays import ArrayRef, NumberOrArray
from napari_dps.components import Component
from napari_dps.errors import InputError
from napari_dps.recipe import Recipe
from napari_dps.uncertainty._kept import FORMAT, Kept
from napari_dps.uncertainty._noise_ratio import FACTOR, noise_ratio, other_noise, ratio_of_report
from napari_dps.uncertainty.conformal import scaled_interval, too_few
from napari_dps.units import to_micrometer

if TYPE_CHECKING:
    from napari_dps._posterior import Posterior
    from napari_dps.result import Result
    from napari_dps.run import Run

__all__ = [
    "Calibration", "applied", "calibrated_interval", "differences_of_run", "different_parts",
    "parts_of", "parts_of_result",
]  # fmt: skip

OF_THE_IMAGE = {"mask", "mask_seed", "flat_field", "full_scale"}
"""Fields of forward models that say which pixels count: each image has its own."""
TOLERANCE = 0.1
"""How far noise and pixel size may differ, relatively."""


class Calibration(Kept):
    """Factors lambda for intervals mean -+ lambda s, and how honest error bars were found to be.

    Made by :func:`napari_dps.calibrate`; used by :meth:`napari_dps.Result.calibrated`. Coverage
    is promised in expectation over images exchangeable with those of the calibration, not for one
    image, and not for bright, dark or otherwise chosen pixels (see ``docs/calibration.md``).
    """

    known_by: ClassVar[str] = "lambdas"
    stranger: ClassVar[str] = "is no calibration; `napari-dps calibrate` writes one"

    format: int = FORMAT
    """Of the file."""
    parts: dict[str, Any]
    """What it belongs to: forward, noise, sampler, prior, samples, pixel_size."""
    images: int
    """Number of crops that the factors rest on; each phantom and draw is an image of its own."""
    size: int
    """Side of their measurements in pixels."""
    sources: dict[str, int]
    """Where they came from: how many phantoms, draws of the prior, crops of images."""
    seed: int
    """Of crops, noise and samples."""
    photons: float
    """Brightness: the 99.8th percentile of an object, in photoelectrons (for Gaussian noise in the
    measurement's own units)."""
    background: float
    """Darkest value of an object, in the same units."""
    own_noise: float | None = None
    """Largest noise of their own that crops of images had, in the same units; None: any."""
    scales: tuple[float, float]
    """Smallest and largest contrast of the object map."""
    lambdas: dict[str, float]
    """Factor by level."""
    share: float = Field(0.0, ge=0, le=10)
    """Of an image's root-mean-square standard deviation, added to each pixel's in quadrature."""
    nominal_coverage: dict[str, float | None]
    """Share of pixels inside the intervals of order statistics, by level; None where there were
    too few samples."""
    calibrated_coverage: dict[str, float | None]
    """Share of pixels inside the scaled intervals, each crop judged by a factor fitted to those of
    other images (leave one out); None where these are too few."""
    bright_coverage: float | None
    """The latter at 90 %, of the brightest fifth of each image: not promised, but measured."""
    decile_coverage: tuple[float, ...] | None
    """The latter at 90 %, by tenths of each image's standard deviation, from small to large."""
    nominal_score: dict[str, float | None]
    """Interval score of the former, in the input's units: lower is better."""
    calibrated_score: dict[str, float | None]
    """Interval score of the latter."""
    crps: float
    """Continuous ranked probability score of the samples, in the input's units."""
    rmse: float
    """Root-mean-square error of the mean, in the input's units."""
    spread_skill: float | None
    """Spread of the samples over the error of their mean: 1 for honest error bars."""
    ranks: dict[str, tuple[float, ...]]
    """Share of the truth's ranks among the samples (flat for honest ones): of pixels (``pixel``),
    sums of 8 x 8 pixels (``region``), power in four bands of frequency (``band``) and chi-square
    of the data (``misfit``). Of antithetic pairs the first partners count."""
    calibrated_by: str = "leave-one-out"
    """How ``calibrated_coverage`` was measured."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Of what computed it."""
    seconds: float = 0.0
    """That it took."""
    distinct_images: int | None = None
    """Number of different images among the crops (a stack is one); None where it was not kept."""

    def __repr__(self) -> str:
        """Recipe and factors in one line."""
        factors = ", ".join(f"{float(k) * 100:g} %: {v:.2f}" for k, v in self.lambdas.items())
        return f"<Calibration on {self.basis}, {factors}>"

    @property
    def basis(self) -> str:
        """What the factors rest on: "100 images", or "100 crops of 3 images"."""
        number = self.distinct_images
        if number is None or number == self.images:
            return f"{self.images} images"
        return f"{self.images} crops of {number} image{'s' * (number != 1)}"

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels that were fitted."""
        return tuple(float(level) for level in self.lambdas)

    def factor(self, level: float) -> float:
        """Return lambda of a level.

        Raises
        ------
        InputError
            If it was not fitted; the sentence names those that were.
        """
        return _factor(self.lambdas, level)

    def matches(self, result: Result) -> list[str]:
        """Return how a result's recipe differs from the calibration's; empty where it does not.

        The prior's weights, the sampler with all its fields, the forward model, the noise and the
        number of samples must agree. What is read from each image need not: intensities, gain and
        offset (they only choose units), noise that was estimated, and which pixels count.

        Parameters
        ----------
        result : Result
            With its recipe.
        """
        found = parts_of_result(result)
        if found is None:
            return ["recipe: the result does not know its own"]
        return self.differences(found)

    def differences(self, parts: Mapping[str, Any]) -> list[str]:
        """Return how parts as :func:`parts_of` gives them differ from the calibration's."""
        return different_parts(parts, self.parts)


def different_parts(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Return how two recipes' parts, as :func:`parts_of` gives them, differ; a sentence each."""
    found = []
    for name in ("prior", "sampler", "forward", "noise", "samples"):
        found += _different(name, here[name], there[name])
    ours, theirs = here.get("object_axes") or "YX", there.get("object_axes") or "YX"
    if ours != theirs:
        found.append(_words("the object's axes", ours, theirs))
    pixel = there["pixel_size"]
    if pixel is not None and not _near(here["pixel_size"], pixel):
        found.append(_words("pixel size", here["pixel_size"], pixel))
    return found


def parts_of_result(result: Result) -> dict[str, Any] | None:
    """Return the parts of a result's recipe; None where it does not know its own."""
    if not isinstance(result.recipe, Recipe):
        return None
    return parts_of(result.recipe, result.report, len(result), _pixel_size(result))


def parts_of(
    recipe: Recipe,
    report: Mapping[str, Any],
    samples: int,
    pixel_size: tuple[float, ...] | None = None,
) -> dict[str, Any]:
    """Return the canonical parts of a resolved recipe that a calibration depends on.

    ``noise_ratio`` among them belongs to the image: it is warned of, and never refused.

    Parameters
    ----------
    recipe : Recipe
        Resolved by a run.
    report : dict
        Its report: ``prior``, ``noise``, ``scale`` and ``background`` are used.
    samples : int
        Samples drawn.
    pixel_size : tuple of float, optional
        Micrometres per pixel.
    """
    prior = dict(report.get("prior") or {}) or recipe.prior.identity()
    return {
        "forward": _fields(recipe.forward, OF_THE_IMAGE),
        "noise": _noise(recipe.noise, report.get("noise") or {}),
        "sampler": _fields(recipe.sampler, set()),
        "prior": {name: prior.get(name) for name in ("kind", "name", "hash")},
        "samples": samples,
        "pixel_size": None if pixel_size is None else list(pixel_size),
        "noise_ratio": ratio_of_report(recipe.noise.kind, report),
        "object_axes": report.get("object_axes"),
    }


def differences_of_run(run: Run, calibration: Calibration) -> list[str]:
    """Return how a planned run differs from a calibration, before anything is drawn."""
    recipe = run.recipe
    pixel = recipe.forward.object_pixel_size(run._grid)
    axes = run._datum.object_axes
    report = {"noise": run._noise_report, "prior": run._prior_facts, "object_axes": axes}
    found = parts_of(recipe, report, recipe.samples, pixel and tuple(pixel[-2:]))
    return calibration.differences(found)


def applied(result: Result, calibration: Calibration, *, flag: bool) -> dict[str, Any]:
    """Return the report of a result to which a calibration is applied.

    Raises
    ------
    InputError
        If it belongs to another recipe and ``flag`` is not set.
    """
    found = calibration.matches(result)
    text = f"calibrated on {calibration.basis}"
    # Of a calibration that was applied before nothing is left, its warnings neither.
    before = (result.report.get("intervals") or {}).get("warnings", [])
    told = [w for w in result.report.get("warnings") or [] if w not in before]
    loose = too_few(calibration.images)
    news = []
    if found and not flag:
        raise InputError(
            f"the calibration belongs to another recipe ({found[0]}); calibrate this one, or "
            "apply it all the same with flag=True"
        )
    if found:
        text += f" of another recipe: {'; '.join(found)}"
        news.append(f"intervals are {text}")
    unlike = _unlike(result, calibration)
    if unlike:
        news.append(f"the calibration saw {'; '.join(unlike)}: its intervals may not cover")
    for warning in news:
        warnings.warn(warning, stacklevel=3)
    # That crops are few was warned of when they were counted; it is only kept here.
    news = [*([loose] if loose else []), *news]
    return {
        **result.report,
        "warnings": [*told, *news],
        "calibration": text,
        "intervals": {
            "lambdas": dict(calibration.lambdas),
            "share": calibration.share,
            "images": calibration.images,
            "distinct_images": calibration.distinct_images,
            "size": calibration.size,
            "sources": dict(calibration.sources),
            "photons": calibration.photons,
            "differences": found,
            "warnings": news,
        },
    }


def _unlike(result: Result, calibration: Calibration) -> list[str]:
    """Return what a calibration saw and a result is beyond: contrast, noise beside it."""
    found = []
    low, high = calibration.scales
    scales = [s for s in np.ravel(result.report.get("scale") or []) if s is not None]
    if scales and (min(scales) < low / FACTOR or max(scales) > high * FACTOR):
        found.append(
            f"objects with a contrast of {low:.3g} to {high:.3g}, this result has "
            f"{min(scales):.3g} to {max(scales):.3g}"
        )
    here = parts_of_result(result)
    if here is not None:
        there = calibration.parts
        noise = there.get("noise")
        if "noise_ratio" not in there and noise is not None:  # made before it was kept
            strength = noise.get("sigma", noise.get("read_noise", 0.0))
            ratio = noise_ratio(noise["kind"], strength, (low, high), (calibration.background,) * 2)
            there = {**there, "noise_ratio": ratio}
        noisy = other_noise(here, there)
        found += [noisy] if noisy else []
    return found


def calibrated_interval(
    result: Posterior, level: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (low, high) of a result to which a calibration was applied.

    Raises
    ------
    InputError
        If the level was not fitted; the sentence names those that were.
    """
    told = result.report["intervals"]
    factor, share = _factor(told["lambdas"], level), told.get("share", 0.0)
    low, high = scaled_interval(result.mean, result.std, factor, share)
    return low.astype(np.float32), high.astype(np.float32)


def _factor(lambdas: Mapping[str, float], level: float) -> float:
    for name, value in lambdas.items():
        if isinstance(level, (int, float)) and abs(float(name) - level) < 1e-9:
            return value
    fitted = ", ".join(lambdas)
    raise InputError(f"the calibration has no level {level!r}; it was fitted at {fitted}")


def _pixel_size(result: Result) -> tuple[float, ...] | None:
    at = [result.axes.index(letter) for letter in "YX"]
    factors = [to_micrometer(result.units[k]) for k in at]
    if None in factors:
        return None
    return tuple(float(result.scale[k]) * f for k, f in zip(at, factors, strict=True) if f)


def _fields(value: Any, without: set[str]) -> Any:
    """Return a component as plain values, its arrays by what is in them."""
    if isinstance(value, NumberOrArray) and value.number is not None:
        return float(value.number)
    if isinstance(value, ArrayRef):
        # Not its digest, which is of the path where the values are in a file.
        array = np.ascontiguousarray(value.load())
        wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
        return f"{array.shape} {hashlib.sha256(wide.tobytes()).hexdigest()[:16]}"
    if isinstance(value, Component):
        names = [n for n in type(value).model_fields if n not in without]
        return {name: _fields(getattr(value, name), without) for name in names}
    if isinstance(value, BaseModel):
        return {n: _fields(getattr(value, n), without) for n in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(name): _fields(item, without) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_fields(item, without) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _noise(noise: Any, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return kind and strength of the noise; what was estimated from the image is None."""
    found: dict[str, Any] = {"kind": noise.kind}
    if noise.kind == "gaussian":
        found["sigma"] = None if report.get("sigma_error") else float(noise.sigma)
    elif noise.kind == "poisson-gaussian":
        estimated = "read_noise" in (report.get("estimated") or [])
        found["read_noise"] = None if estimated else float(report["read_noise"])
    elif noise.kind != "poisson":
        return {**found, **_fields(noise, set())}
    if hasattr(noise, "pixels_per_value"):
        told = report.get("sigma_error") or report.get("estimated")
        found["pixels_per_value"] = None if told else noise.pixels_per_value
    return found


def _different(name: str, here: Any, there: Any) -> list[str]:
    """Return the differences of two parts, field by field."""
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        if here.get("kind") != there.get("kind"):
            return [_words(name, here.get("kind"), there.get("kind"))]
        found = []
        for field in sorted({*here, *there}):
            found += _different(f"{name}.{field}", here.get(field), there.get(field))
        return found
    if isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        pairs = enumerate(zip(here, there, strict=True))
        return [d for k, (a, b) in pairs for d in _different(f"{name}.{k}", a, b)]
    if name.startswith("noise."):
        same = here is None or there is None or _near(here, there)
    else:
        same = here == there
    return [] if same else [_words(name, here, there)]


def _near(here: Any, there: Any) -> bool:
    """Whether numbers agree to the tolerance, and anything else exactly."""
    try:
        return bool(np.allclose(here, there, rtol=TOLERANCE, atol=0))
    except (TypeError, ValueError):
        return bool(here == there)


def _words(name: str, here: Any, there: Any) -> str:
    return f"{name} is {here!r} here and {there!r} in the calibration"
