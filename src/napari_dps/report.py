"""From finished samples to a Result: assembled frames, registration, and the report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dps.colours import picture_last
from napari_dps.image import Image
from napari_dps.result import Result
from napari_dps.uncertainty.registration import register

if TYPE_CHECKING:
    from napari_dps.run import Run

__all__ = ["assemble"]


def assemble(run: Run, count: int) -> Result:
    """Return the result of the first ``count`` samples of a run."""
    image, live = picture_last(run.image, run._colour), run._live
    frames = len(run._prepared.frames)
    done = [s for s in range(run.recipe.samples) if (s, len(live) - 1) in run._finished][:count]
    shape = run._finished[done[0], 0].shape
    samples = np.empty((len(done), frames, *shape), dtype=np.float32)
    symmetric = run._problem.operator.operator.symmetric
    chi2 = np.array([[run._chi2[s, f] for f in range(len(live))] for s in done])
    order = np.argsort(chi2.mean(1), kind="stable") if symmetric else np.arange(len(done))
    for k, s in enumerate(order):
        for f, frame in enumerate(live):
            value = run._finished[done[s], f]
            if symmetric and k > 0:
                value = register(value, samples[0, frame]).astype(np.float32)
            samples[k, frame] = value
    for frame in run._prepared.constant:
        samples[:, frame] = run._prepared.frames[frame][..., : shape[-2], : shape[-1]]
    shape = shape[-2:]
    data = samples.reshape(len(done), *image.data.shape[:-2], *shape)
    axes = run.image.axes
    return Result.from_image(
        data.transpose(0, *(1 + image.axes.index(letter) for letter in axes)),
        _coordinates(image, shape).with_axes(axes),
        run.recipe,
        report(run, done, chi2[order]),
    )


def _coordinates(image: Image, shape: tuple[int, ...]) -> Image:
    """Return the image's coordinates, on a grid of its own where the object's differs."""
    if image.data.shape[-2:] == shape:
        return image
    # The object behind a diffraction pattern lies in another plane: its pitch is not known here.
    data = np.zeros((*image.data.shape[:-2], *shape), dtype=np.float32)
    leading = len(image.axes) - 2
    return Image(
        data,
        image.axes,
        (*image.scale[:leading], 1.0, 1.0),
        (*image.units[:leading], "pixel", "pixel"),
        (*image.translate[:leading], 0.0, 0.0),
        image.name,
    )


def report(run: Run, done: list[int], chi2: Any) -> dict[str, Any]:
    """Return the report: does it explain the data, what was assumed, what did it cost."""
    problem, live = run._problem, run._live
    flux = run._fields.get("flux", {})
    expected = [float(np.mean([flux[s, f] for s in done])) for f in range(len(live))]
    measured = problem.y if problem.valid is None else problem.y * problem.valid
    start = problem.start
    return {
        "complete": len(done) == run.recipe.samples,
        "samples": len(done),
        "samples_asked": run.recipe.samples,
        "chi2": chi2.mean(1).tolist(),
        "misfit": float(chi2.mean()),
        "chi2_per_frame": chi2.mean(0).tolist(),
        "scale": problem.operator.scale.flatten().tolist(),
        "background": problem.operator.background.flatten().tolist(),
        "flux": {
            "measured": measured.double().flatten(1).sum(1).tolist(),
            "expected": expected,
            "unit": "electrons",
        },
        "start": None if start is None else {"error": start.error},
        "restart_misfits": run._fields.get("restart_misfits"),
        "seconds": run._seconds,
        "network_calls": dict(problem.calls),
        "steps": run._sampler.total_steps(),
        "sampler": run.recipe.sampler.kind,
        "prior": dict(run._prior_facts),
        # Samples of phase retrieval are ranked by misfit, so that partners do not stay together.
        "antithetic": run.recipe.sampler.pairs and not problem.operator.operator.symmetric,
        "device": run.device,
        "batch": run._layout.batch if run._layout else None,
        "tile": run._layout.tile if run._layout else None,
        "versions": versions(),
        "warnings": list(run.warnings),
        "noise": run._noise_report,
        "saturated": dict(run._prepared.saturated),
        "frames_constant": list(run._prepared.constant),
        "calibration": "nominal",
        "point_estimate": run._sampler.point_estimate,
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
