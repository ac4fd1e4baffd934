"""Before the samples: the object map of each frame, and where its samples begin."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_dps.errors import InputError, OutOfMemoryError
from napari_dps.memory import is_out_of_memory, layout
from napari_dps.recipe import Intensity

if TYPE_CHECKING:
    from torch import Tensor

    from napari_dps.core.problem import Problem
    from napari_dps.run import Run

__all__ = ["find_start"]

LEVEL = "the mean level comes from the prior alone"
MANY = 64
"""Images that a search may hold at once, memory allowing."""


def find_start(run: Run) -> Iterator[tuple[int, int]]:
    """Give a run's problem its object map and its start; yield (done, total) of a search."""
    import torch

    from napari_dps.core.interrupt import listening
    from napari_dps.core.operator import MappedOperator
    from napari_dps.core.problem import Start

    problem = run._problem
    operator = problem.operator.operator
    if run.recipe.sampler.classical:
        # Its own unknown is the object itself: prior units are photoelectrons.
        one = torch.ones_like(problem.operator.scale)
        problem.operator = MappedOperator(operator, 2 * one, -one)
        return
    found, scales, backgrounds = [], [], []
    for k in range(len(run._live)):
        with listening(run._check_cancel):
            estimate = _classical(run, k)
        a, b = _object_map(run, estimate)
        found.append(estimate)
        scales.append(a)
        backgrounds.append(b)
    mapped = MappedOperator(operator, torch.cat(scales), torch.cat(backgrounds))
    problem.operator = mapped
    errors = [
        float((e.error.max() * 2 / a.max()).item()) for e, a in zip(found, scales, strict=True)
    ]
    estimate = mapped.from_object(torch.cat([e.image for e in found]))
    problem.start = Start(estimate, max(errors), errors=errors)
    problem.noise_levels = problem.find_noise_levels()
    problem.noise_level = problem.noise_levels and min(problem.noise_levels)
    problem.reference = mapped(problem.start.estimate) if operator.is_affine else None
    problem.precisions = problem.find_precisions()
    _warn_of_little_noise(run)
    if not all(e.details.get("level_shown", True) for e in found) and LEVEL not in " ".join(
        run.warnings
    ):
        run.warnings.append(f"the forward model shows nothing of a flat object, so {LEVEL}")
    run._fields["restart_misfits"] = [e.details.get("restart_misfits") for e in found]
    starts: list[Start] = []
    for k, estimate in enumerate(found):
        for step in _searched(run, k, estimate.candidates):
            if isinstance(step, Start):
                starts.append(step)
            else:
                done, total = step
                yield k * total + done, total * len(found)
    if starts:
        together = torch.cat([s.estimate for s in starts])
        problem.start = replace(starts[0], estimate=together)
        run._fields["restart_misfits"] = [s.misfits for s in starts]
    if len(found) == 1 and run.recipe.intensity == "auto":
        intensity = Intensity(scale=float(scales[0].item()), background=float(backgrounds[0]))
        run.recipe = run.recipe.with_parts(intensity=intensity)


def _warn_of_little_noise(run: Run) -> None:
    """Warn where the data are more exact than the prior's noise levels can follow."""
    from napari_dps.core.sampler import least_noise

    level, prior = run._problem.noise_level, run._problem.prior
    least = least_noise(prior)
    if level is None or not prior.learned or run.recipe.sampler.point_estimate or level >= least:
        return
    run.warnings.append(
        f"the noise of the data is {level / 2:.1g} of the object's contrast, and a learned prior "
        f"follows it down to {least / 2:.1g}: the error bars may be too narrow"
    )


def _classical(run: Run, k: int) -> Any:
    """Return the classical estimate of the live frame ``k``, or say that memory ran out."""
    try:
        return _estimate(run, k)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        shape = " x ".join(map(str, run._problem.operator.x_shape))
        raise OutOfMemoryError(
            f"memory ran out in the first estimate of an object of {shape}, which is not tiled; "
            "free some memory, use another device, or restore a smaller region"
        ) from error


def _estimate(run: Run, k: int) -> Any:
    """Return the classical estimate of the live frame ``k``."""
    from napari_dps.core.estimate import gaussian_field_estimate
    from napari_dps.core.streams import Streams

    problem: Problem = run._problem
    operator: Any = problem.operator.operator
    y = problem.y[k : k + 1]
    valid = None if problem.valid is None else problem.valid[k : k + 1]
    streams = Streams(run.recipe.seed, [("estimate", run._live[k])], run.device, y.dtype)
    if hasattr(operator, "classical_estimate"):
        return operator.classical_estimate(y, problem.likelihood, valid, streams)
    positive = run.recipe.noise.kind != "gaussian"
    if run._colour:
        return _of_colours(run, k, y, valid, positive)
    return gaussian_field_estimate(
        operator, y, problem.likelihood, valid, streams, positive=positive
    )


def _of_colours(run: Run, k: int, y: Tensor, valid: Tensor | None, positive: bool) -> Any:
    """Return the estimate of a colour frame: each channel's own, and the worst of their errors."""
    import torch

    from napari_dps.core.contrast import contrast
    from napari_dps.core.estimate import Estimate, gaussian_field_estimate
    from napari_dps.core.streams import Streams

    found: list[Estimate] = []
    for c in range(y.shape[1]):
        label = ("estimate", run._live[k], c)
        streams = Streams(run.recipe.seed, [label], run.device, y.dtype)
        part = None if valid is None else valid[:, c : c + 1]
        found.append(
            gaussian_field_estimate(
                run._problem.operator.operator.single,
                y[:, c : c + 1],
                run._problem.likelihood,
                part,
                streams,
                positive=positive,
            )
        )

    def most(values: list[Tensor]) -> Tensor:
        return torch.stack(values).amax(0)

    def span(e: Estimate) -> float:
        low, high = contrast(e.image)
        return float(high - low)

    return Estimate(
        torch.cat([e.image for e in found], dim=1),
        most([e.error for e in found]),
        most([e.noise for e in found]),
        {},
        # The channel of the largest contrast sets the scale of all.
        lost=max(found, key=span).lost,
    )


def _object_map(run: Run, estimate: Any) -> tuple[Tensor, Tensor]:
    """Return scale and background of a frame, as asked or as its estimate suggests."""
    import torch

    from napari_dps.core.estimate import object_map
    from napari_dps.core.linalg import column

    operator = run._problem.operator.operator
    if isinstance(run.recipe.intensity, Intensity):
        a = column(estimate.image.new_full((1,), run.recipe.intensity.scale), estimate.image)
        return a, torch.full_like(a, run.recipe.intensity.background)
    lost = None if estimate.lost is None else estimate.lost()
    a, b = object_map(operator.crop(estimate.image), estimate.noise, lost)
    if not bool((a.isfinite() & b.isfinite()).all()):
        raise InputError(
            f"the object's brightness cannot be told from the image (scale {float(a.max()):g}, "
            f"background {float(b.max()):g}): its values are too large or too small for the "
            "noise's gain or sigma; give those of the camera, or rescale the image"
        )
    if operator.symmetric and operator.x_shape[0] == 1:
        # A diffraction pattern has no flat background: zero stays zero.
        return a + b, torch.zeros_like(b)
    return a, b


def _searched(run: Run, k: int, candidates: Tensor | None) -> Iterator[Any]:
    """Let the sampler look for a better start of the live frame ``k``."""
    problem = run._sampled_problem([k])
    others = problem.start.estimate
    if candidates is not None:
        others = problem.operator.from_object(candidates[0])
    shape, need = problem.operator.x_shape[-2:], run._prior.bytes_per_pixel()
    need *= math.prod(problem.operator.x_shape[:-2])
    at_once = layout(MANY, shape, need, run.device, run._prior.trained_side).batch
    while True:
        try:
            yield from run._sampler.search(problem, others, run._live[k], run.recipe.seed, at_once)
        except (RuntimeError, MemoryError) as error:
            if at_once == 1 or not is_out_of_memory(error):
                run._shrink(error)
                problem = run._sampled_problem([k])
            at_once = max(1, at_once // 2)
        else:
            return
