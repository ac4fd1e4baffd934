"""What a run will cost, told before it begins."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from napari_dps.memory import CPU_BATCH
from napari_dps.progress import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from napari_dps.core.prior import Prior
    from napari_dps.run import Run

__all__ = ["estimate_cost"]

SHORT = 0.5
"""Seconds below which a rehearsal is repeated."""


def estimate_cost(run: Run) -> Plan:
    """Return time, memory and calls of a bound run, from a timed call on a small tile."""
    import torch

    assert run._layout is not None
    shape = run._problem.operator.x_shape
    channels = shape[0] if run._colour else 1
    together = run.recipe.sampler.interacting
    at_once = run._layout.images(run._problem, run.recipe.sampler)
    pixels = math.prod(shape) // channels
    side = shape[2:] if run._planes else shape[1:]
    if run.recipe.prior.kind != "gaussian":
        side = tuple(min(n, 64) for n in side)
    # The batch of the run, since samples share its threads; small, since the plan is quick.
    images = shape[0] // channels * (shape[1] if run._planes else 1)
    batch = at_once if together else min(run._layout.batch * images, CPU_BATCH)
    x = torch.zeros((batch, channels, *side), dtype=run._problem.y.dtype, device=run.device)
    classical = run.recipe.sampler.classical
    forward, backward = (0.0, 0.0) if classical else _clocked(run._prior, x)
    per_step = run._sampler.calls_per_step()
    items = len(run._live) * run._sampler.images(run.recipe.samples)
    steps = run._sampler.likely_steps() * items
    if run._layout.tile is not None or run._layout.planes is not None:
        backward += forward
    ratio = pixels / math.prod(side) / batch
    search = len(run._live) * run._sampler.search_calls(run._problem.operator.operator.multimodal)
    seconds = steps * ratio * (per_step[0] * forward + per_step[1] * backward)
    seconds += search * ratio * forward
    at_once = at_once if together else min(at_once, CPU_BATCH, items)
    seconds += (steps + search) / at_once * _rehearsed(run, at_once)
    held = pixels * run._layout.batch
    if run._layout.planes is not None:
        held = run._layout.planes * math.prod(shape[2:])
    if run._layout.tile is not None:
        held = run._layout.tile**2 * (run._layout.planes or 1)
    need = held * run._prior.bytes_per_pixel() + 64 * pixels * run._layout.batch * 4
    need += 4 * pixels * items
    return Plan(
        seconds,
        int(need),
        run._layout.batch,
        run._layout.tile,
        0 if classical else int(steps * sum(per_step)) + search,
    )


def _rehearsed(run: Run, n: int) -> float:
    """Return the seconds that a step takes beside its calls; a short one is clocked twice."""
    least = math.inf
    for _ in range(2):  # the first time also pays for what later steps find ready
        begin = time.perf_counter()
        run._sampler.rehearse(run._sampled_problem([0] * n), n)
        least = min(least, time.perf_counter() - begin)
        if least > SHORT:
            break
    return least


def _clocked(prior: Prior, x: Tensor) -> tuple[float, float]:
    """Return the seconds of one forward pass and of one product."""
    import torch

    times = []
    for _ in range(2):
        begin = time.perf_counter()
        x0, vjp = prior.linearize(x, 1.0)
        middle = time.perf_counter()
        vjp(torch.ones_like(x0))
        times.append((middle - begin, time.perf_counter() - middle))
    return min(t[0] for t in times), min(t[1] for t in times)
