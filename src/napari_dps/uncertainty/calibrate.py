"""Calibrate a recipe: simulate, restore and score known objects, then fit factors that cover."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_dps.errors import InputError
from napari_dps.recipe import Recipe
from napari_dps.uncertainty._kept import FORMAT
from napari_dps.uncertainty._noise_ratio import joined
from napari_dps.uncertainty.calibration import Calibration, _pixel_size, parts_of
from napari_dps.uncertainty.conformal import LEVELS, crops_needed, too_few
from napari_dps.uncertainty.scenes import Bench, Scene, seed_of
from napari_dps.uncertainty.scoring import combine, image_of, score

__all__ = ["CalibrationStep", "calibrate"]

FEWEST_SAMPLES = 4
SMALLEST = 16


@dataclass(frozen=True)
class CalibrationStep:
    """How far a calibration is.

    Attributes
    ----------
    done, total : int
        Crops.
    share : float
        Share of the crop at work that is done.
    source : str
        What it shows: ``"phantoms"``, ``"prior"`` or ``"images"``.
    seconds_left : float or None
        Estimated from the crops restored so far.
    """

    done: int
    total: int
    share: float
    source: str
    seconds_left: float | None


def calibrate(
    recipe: Any,
    images: Any = None,
    *,
    crops: int = 100,
    size: int = 64,
    seed: int = 0,
    samples: int | None = None,
    photons: float | None = None,
    background: float | None = None,
    pixel_size: float | tuple[float, ...] | None = None,
    device: str = "auto",
    on_step: Callable[[CalibrationStep], object] | None = None,
    keep: str | Path | None = None,
    own_noise: float | None = None,
) -> Calibration:
    """Measure how honest a recipe's error bars are, and fit intervals that cover.

    Parameters
    ----------
    recipe : Recipe, dict or path
        What is to be calibrated. Its noise must be given in numbers.
    images : path, array, or sequence of them, optional
        Clean images (or folders) like those to be restored; seeded crops are taken in turn. Crops
        of one image count as crops, not as images: the more images the better.
        Without, one half of the objects are phantoms, the other draws of the prior itself.
    crops : int
        How many; 100 or more for use (fewer are warned of), 19 at least.
    size : int
        Side of a crop in pixels.
    seed : int
        Of crops, noise and samples.
    samples : int, optional
        Posterior samples a crop, in place of the recipe's.
    photons : float, optional
        Brightness: the 99.8th percentile of an object in photoelectrons (for Gaussian noise in the
        measurement's units). Left out: of the recipe's intensity, background + scale.
    background : float, optional
        Darkest value of an object. Left out: of the recipe's intensity, else 1 where photons are
        counted and 0 under Gaussian noise.
    pixel_size : float or tuple of float, optional
        Micrometres, for forward models that need it.
    device : str
        As in :func:`napari_dps.reconstruct`.
    on_step : callable, optional
        Called with a :class:`CalibrationStep`.
    keep : path, optional
        JSON-lines file that receives each crop's figures, and gives those of an earlier call that
        was stopped.
    own_noise : float, optional
        In photons: crops of images whose own noise is estimated to be larger are passed over. No
        restoration can foretell the noise of a truth, and intervals fitted to noisy ones are too
        wide for others; a quarter of the standard deviations that the recipe finds does no harm.

    Returns
    -------
    Calibration
        Intervals that it scales cover in expectation over images exchangeable with these, not for
        each image or pixel.

    Raises
    ------
    InputError
        If such a recipe cannot be calibrated, or ``keep`` belongs to another calibration.
    """
    chosen = Recipe.parse(recipe, samples=samples)
    _check(chosen, crops, size, seed)
    loose = too_few(crops)
    if loose:
        warnings.warn(loose, stacklevel=2)
    given = _listed(images)
    bench = Bench(
        chosen, given, size=size, seed=seed, photons=photons, background=background,
        pixel_size=pixel_size, device=device, own_noise=own_noise,
    )  # fmt: skip
    head: dict[str, Any] = {
        "format": FORMAT,
        "recipe": hashlib.sha256(chosen.to_json().encode()).hexdigest()[:16],
        "prior": chosen.prior.identity().get("hash"),
        "images": None if given is None else [_name(item) for item in given],
        "size": size,
        "seed": seed,
        "photons": bench.photons,
        "background": bench.background,
        "pixel_size": None if pixel_size is None else np.ravel(pixel_size).tolist(),
    }
    if own_noise is not None:
        head["own_noise"] = own_noise
    found = _kept(Path(keep), head) if keep is not None else {}
    begin, fresh = time.perf_counter(), 0

    def tell(done: int, share: float, source: str) -> None:
        if on_step is not None:
            worked = fresh + share
            spent = time.perf_counter() - begin
            left = spent / worked * (crops - done - share) if worked > 0 else None
            on_step(CalibrationStep(done, crops, share, source, left))

    for index in range(crops):
        if index in found:
            continue
        done = sum(k < crops for k in found)
        scene = bench.scene(index)
        tell(done, 0.0, scene.source)
        record = _record(
            bench, scene, index, pixel_size, device, partial(tell, done, source=scene.source)
        )
        found[index] = record
        fresh += 1
        if keep is not None:
            _append(Path(keep), record)
        tell(done + 1, 0.0, scene.source)
    return _calibration([found[k] for k in range(crops)], bench)


def _check(recipe: Recipe, crops: int, size: int, seed: int) -> None:
    """Refuse what cannot be calibrated, before anything heavy begins."""
    if recipe.sampler.point_estimate:
        raise InputError(
            f"the sampler {recipe.sampler.kind!r} gives a point estimate, which has no error bars "
            "to calibrate; take a sampler that draws samples, such as 'auto'"
        )
    if recipe.samples < FEWEST_SAMPLES:
        raise InputError(
            f"{recipe.samples} samples tell too little of the spread; a calibration needs at least "
            f"{FEWEST_SAMPLES}, and 19 to compare with nominal 90 % intervals"
        )
    least = crops_needed(max(LEVELS))
    for what, value, low in (("crops", crops, least), ("size", size, SMALLEST), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
            why = f", which a {max(LEVELS):g} interval needs" if what == "crops" else ""
            raise InputError(
                f"{what} = {value!r} is not allowed, give a whole number of {low} or more{why}"
            )
    if recipe.valid is not None:
        raise InputError(
            "the recipe's `valid` mask belongs to one image; leave it out to calibrate (results "
            "with a mask take the calibration all the same)"
        )
    noise = recipe.noise
    names = [n for n in type(noise).model_fields if n not in noise.derived]
    names = [n for n in names if getattr(noise, n) == "auto" and n != "pixels_per_value"]
    if names:
        raise InputError(
            f"a calibration needs numbers for {', '.join(names)} of the noise {noise.kind!r}, with "
            "which it simulates; 'auto' is for reconstruction only"
        )


def _listed(images: Any) -> list[Any] | None:
    if images is None:
        return None
    if isinstance(images, (str, Path)) or getattr(images, "ndim", None) == 2:
        return [images]
    try:
        listed = list(images)
    except TypeError:
        raise InputError(
            f"images = {images!r} is no image; give a path, an array of two axes, or a list of them"
        ) from None
    if not listed:
        raise InputError("there is no clean image; give some, or leave them out altogether")
    return listed


def _name(item: Any) -> str:
    """Return a file's path, or a hash of an array."""
    if isinstance(item, (str, Path)):
        return str(Path(item).expanduser().resolve())
    return hashlib.sha256(np.ascontiguousarray(item).tobytes()).hexdigest()[:16]


def _record(
    bench: Bench,
    scene: Scene,
    index: int,
    pixel_size: float | tuple[float, ...] | None,
    device: str,
    tell: Callable[[float], None],
) -> dict[str, Any]:
    """Restore a scene and return its figures."""
    import torch

    from napari_dps.run import Run

    begin = time.perf_counter()
    recipe = bench.recipe.with_parts(seed=seed_of(bench.seed, index, 1))
    run = Run(scene.measured, recipe, device=device, axes="YX", pixel_size=pixel_size)
    for step in run:
        tell(step.done / max(step.total, 1) if step.stage == "sample" else 0.0)
    result = run.result()
    problem = run._problem
    with torch.no_grad():
        x = scene.wide.to(device=problem.y.device, dtype=problem.y.dtype)
        misfit = float(problem.misfit(problem.operator.operator(x))[0])
    return {
        "crop": index,
        "source": scene.source,
        "name": scene.name,
        "parts": parts_of(result.recipe, result.report, len(result), _pixel_size(result)),
        "versions": result.report["versions"],
        "seconds": time.perf_counter() - begin,
        **score(result, scene.truth, misfit, seed_of(bench.seed, index, 2)),
    }


def _calibration(records: list[dict[str, Any]], bench: Bench) -> Calibration:
    return Calibration(
        size=bench.size,
        seed=bench.seed,
        photons=bench.photons,
        background=bench.background,
        own_noise=bench.own_noise,
        **summary(records),
    )


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what crops together say, by the names of a Calibration's fields."""
    sources = [r["source"] for r in records]
    return {
        "parts": joined([r["parts"] for r in records]),
        "images": len(records),
        "distinct_images": len({image_of(r, k) for k, r in enumerate(records)}),
        "sources": {name: sources.count(name) for name in sorted(set(sources))},
        "versions": records[0]["versions"],
        "seconds": sum(r["seconds"] for r in records),
        **combine(records),
    }


def _kept(path: Path, head: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return the crops that an earlier call has left, and begin the file where there is none."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(head) + "\n", encoding="utf-8")
            return {}
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the file of crops {str(path)!r} cannot be used ({error})") from error
    rows = []
    for number, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines) - 1 or number == 0:
                raise InputError(
                    f"{str(path)!r} is damaged in line {number + 1}; delete it to begin anew"
                ) from None
    if not rows or rows[0] != head:
        raise InputError(
            f"{str(path)!r} holds crops of another calibration (recipe, images, size, seed or "
            "brightness differ); delete it, or choose another output"
        )
    if len(rows) < len(lines):  # the last line was cut off when the program was killed
        whole = "".join(line + "\n" for line in lines[:-1])
        path.write_text(whole, encoding="utf-8")
    return {row["crop"]: row for row in rows[1:]}


def _append(path: Path, record: dict[str, Any]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be written ({error.strerror or error}); nothing more is kept"
        ) from error
