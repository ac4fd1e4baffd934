"""From finished samples to a Result: assembled frames, registration, and the report."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dps.datum import with_datum_last
from napari_dps.image import Image
from napari_dps.memory import is_out_of_memory
from napari_dps.result import Result
from napari_dps.uncertainty.registration import register
from napari_dps.uncertainty.verdict.assess import verdict

if TYPE_CHECKING:
    from torch import Tensor

    from napari_dps.run import Run

__all__ = ["assemble", "share_beyond"]

DARK, RARE = -1.5, 1e-3
"""Prior units, where the darkest of clean images is about -1 and the brightest of most about 1;
share of pixels that may be darker. Bright points may well exceed the range: they are rare."""
RANGE = (
    "are darker, by a quarter of the object's contrast, than anything that the prior knows: the "
    "noise may be stated too small, or the forward model may not be that of the data"
)


def share_beyond(x0: Tensor) -> Tensor:
    """Return the share of a sample's pixels that are too dark for the prior, shape (B,)."""
    return (x0 < DARK).double().flatten(1).mean(1)


def _warn_of_range(run: Run, done: list[int]) -> None:
    """Warn where samples left what the prior knows: it does not hold them back there."""
    complex_parts = run._problem.operator.x_shape[0] == 2
    if run.recipe.sampler.classical or complex_parts or not run._problem.prior.learned:
        return
    shares = run._fields["beyond"]
    share = max(float(np.mean([shares[s, f] for s in done])) for f in range(len(run._live)))
    told = any(text.endswith(RANGE) for text in run.warnings)
    if share > RARE and not told:
        run.warnings.append(f"{100 * share:.2g} % of the samples' pixels {RANGE}")


def assemble(run: Run, count: int) -> Result:
    """Return the result of the first ``count`` samples of a run."""
    image, live = with_datum_last(run.image, run._datum.axes), run._live
    frames = len(run._prepared.frames)
    done = [s for s in range(run.recipe.samples) if (s, len(live) - 1) in run._finished][:count]
    shape = run._finished[done[0], 0].shape
    samples = np.empty((len(done), frames, *shape), dtype=np.float32)
    symmetric = run._problem.operator.operator.symmetric
    phase_free = run._problem.operator.operator.phase_free
    chi2 = np.array([[run._chi2[s, f] for f in range(len(live))] for s in done])
    order = np.argsort(chi2.mean(1), kind="stable") if symmetric else np.arange(len(done))
    for k, s in enumerate(order):
        for f, frame in enumerate(live):
            value = run._finished[done[s], f]
            if symmetric and k > 0:
                value = register(value, samples[0, frame]).astype(np.float32)
            elif phase_free and k > 0:
                value = register(value, samples[0, frame], phase_only=True).astype(np.float32)
            samples[k, frame] = value
    valid = run._prepared.valid
    for frame in run._prepared.constant:
        flat = run._prepared.frames[frame]
        samples[:, frame] = flat.flat[0] if valid is None else flat[valid[frame]][0]
    coordinates = object_coordinates(image, run, shape)
    data = samples.reshape(len(done), *coordinates.shape)
    axes = run.image.axes
    if sorted(coordinates.axes) == sorted(axes):  # in the order in which the image came
        data = data.transpose(0, *(1 + coordinates.axes.index(letter) for letter in axes))
        coordinates = coordinates.with_axes(axes)
    _warn_of_range(run, done)
    for found in run._details.values():
        warning = found.get("warning")
        if warning is not None and warning not in run.warnings:
            run.warnings.append(warning)
    told, maps = _verdict(run, done)
    found = {**report(run, done, chi2[order]), "verdict": told}
    return Result.from_image(data, coordinates, run.recipe, found).with_maps(maps)


def _verdict(run: Run, done: list[int]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the verdict and its maps; without it, and a warning, where memory runs out."""
    try:
        return verdict(run, done)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        run.warnings.append(
            "memory ran out while the samples were judged, so this result has no verdict; save it, "
            "and judge it with napari_dps.assess where more memory is free"
        )
        return None, {}


def object_coordinates(image: Image, run: Run, shape: tuple[int, ...]) -> Image:
    """Return the coordinates of the object, on a grid of its own where that differs.

    Parameters
    ----------
    image : Image
        The measurement, the axes of one measurement last.
    run : Run
        Its run, bound.
    shape : tuple of int
        Of the object, along the run's ``object_axes``.
    """
    datum = run._datum
    lead, axes = len(image.axes) - len(datum.axes), datum.object_axes
    data = np.zeros((*image.shape[:lead], *shape), dtype=np.float32)
    if axes == datum.axes and shape == image.shape[lead:]:
        return image.with_data(data)
    scale, units, translate = _pitch(image, run, len(axes.replace("C", "")))
    channels = "C" in axes
    return Image(
        data,
        image.axes[:lead] + axes,
        (*image.scale[:lead], *[1.0] * channels, *scale),
        (*image.units[:lead], *["pixel"] * channels, *units),
        (*image.translate[:lead], *[0.0] * channels, *translate),
        image.name,
    )


def _pitch(
    image: Image, run: Run, count: int
) -> tuple[tuple[float, ...], tuple[str, ...], tuple[float, ...]]:
    """Return scale, units and translate of an object's ``count`` spatial axes."""
    model, grid = run.recipe.forward, run._grid
    size, ones = model.object_pixel_size(grid), (1.0,) * count
    if count == len(grid.shape):  # the object's axes are the measurement's
        begin = len(image.axes) - count
        at = model.object_axes_from(count)
        known = grid.pixel_size is not None and bool(np.isfinite(grid.pixel_size).all())
        pixel = grid.pixel_size if known and grid.pixel_size is not None else ones
        found = size if known else model.object_pixel_size(replace(grid, pixel_size=ones))
        if found is not None:
            scale = tuple(
                image.scale[begin + k] * (f / pixel[k]) for k, f in zip(at, found, strict=True)
            )
            offset = model.object_offset(grid)
            translate = tuple(
                image.translate[begin + k] + o * s
                for k, o, s in zip(at, offset, scale, strict=True)
            )
            return scale, tuple(image.units[begin + k] for k in at), translate
    if size is not None:
        return size[-count:], ("micrometer",) * count, (0.0,) * count
    return ones, ("pixel",) * count, (0.0,) * count


def report(run: Run, done: list[int], chi2: Any) -> dict[str, Any]:
    """Return the report: does it explain the data, what was assumed, what did it cost."""
    problem, live = run._problem, run._live
    classical = run.recipe.sampler.classical
    start = problem.start
    return {
        "complete": len(done) == run.recipe.samples,
        "samples": len(done),
        "samples_asked": run.recipe.samples,
        "chi2": chi2.mean(1).tolist(),
        "misfit": float(chi2.mean()),
        "chi2_per_frame": chi2.mean(0).tolist(),
        "scale": None if classical else problem.operator.scale.flatten().tolist(),
        "background": None if classical else problem.operator.background.flatten().tolist(),
        "flux": flux_of(run, done),
        "start": None if start is None else {"error": start.error},
        "restart_misfits": run._fields.get("restart_misfits"),
        "seconds": run._seconds,
        "network_calls": dict(problem.calls),
        "steps": run._sampler.total_steps(),
        "sampler": run.recipe.sampler.kind,
        "details": [
            {"sample": s, "frame": live[f], **found}
            for (s, f), found in sorted(run._details.items())
        ],
        "prior": dict(run._prior_facts),
        # Samples of phase retrieval are ranked by misfit, so that partners do not stay together.
        "antithetic": run.recipe.sampler.pairs and not problem.operator.operator.symmetric,
        "device": run.device,
        "batch": run._layout.batch if run._layout else None,
        "tile": run._layout.tile if run._layout else None,
        "versions": versions(),
        "warnings": list(run.warnings),
        "noise": run._noise_report,
        "forward": run._fields.get("forward", {}),
        "saturated": dict(run._prepared.saturated),
        "frames_constant": list(run._prepared.constant),
        "object_axes": run._datum.object_axes,
        "calibration": "nominal",
        "point_estimate": run.recipe.sampler.point_estimate,
    }


def versions() -> dict[str, str]:
    """Return the versions that decide what comes out."""
    found = {"python": platform.python_version()}
    for name in ("napari-dps", "torch", "numpy", "diffusers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def flux_of(run: Run, done: Sequence[int]) -> dict[str, Any]:
    """Return the light of every frame, measured and (mean over samples) expected, in electrons."""
    problem, flux = run._problem, run._fields["flux"]
    measured = problem.y if problem.valid is None else problem.y * problem.valid
    return {
        "measured": measured.double().flatten(1).sum(1).tolist(),
        "expected": [float(np.mean([flux[s, f] for s in done])) for f in range(len(run._live))],
        "error": _flux_error(problem),
        "unit": "electrons",
    }


def _flux_error(problem: Any) -> list[float]:
    """Return the standard deviation of each frame's total, by its noise alone."""
    variance = problem.likelihood.variance(problem.y).expand_as(problem.y)
    if problem.valid is not None:
        variance = variance * problem.valid
    return [float(v) for v in variance.double().flatten(1).sum(1).clamp_min(0).sqrt()]
