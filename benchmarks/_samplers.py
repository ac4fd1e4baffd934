"""What benchmarks that compare samplers share: a cell of the table, and the step length of DPS."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _budget import DEFAULT, Counted
from _cases import MARGIN, POISSON, cases
from _common import Array, best_crop, clean_images, say
from _ledger import Ledger
from _scores import scores
from models import measured
from phase import FORWARD as FAR_FIELD
from phase import measure as diffraction
from restore import FORWARD as BLUR
from restore import measure as blurred

import napari_dps
from napari_dps.components import component_class, make
from napari_dps.errors import DPSError

TOTAL = 1e5
"""Photons of a diffraction pattern."""
FIRST_SCALES = (0.1, 1.0, 10.0)
SMALLEST_SCALE, LARGEST_SCALE = 1e-3, 1e3


@dataclass(frozen=True)
class Task:
    """An inverse problem with a truth.

    Attributes
    ----------
    title : str
        For tables and charts.
    forward, noise : dict
        As in a recipe.
    measure : callable
        (image, seed, place, side) to (measurement, truth): the place is the seed of the crop, or
        the margin around it where the image is cut already.
    symmetric : bool
        Whether flips and shifts of the object leave the measurement as it is.
    intensity : dict or None
        The object map where it is told rather than estimated.
    gray : bool
        Whether colours have to be given up, since the forward model takes none.
    """

    title: str
    forward: dict[str, Any]
    noise: dict[str, Any]
    measure: Callable[[Array, int, int, int], tuple[Array, Array]]
    symmetric: bool = False
    intensity: dict[str, float] | None = None
    gray: bool = False


def frontier_tasks() -> dict[str, Task]:
    """Return the tasks of benchmarks/frontier.py by name."""
    found: dict[str, Task] = {}
    for peak in (5, 30, 300):

        def blur(
            image: Array, seed: int, crop_seed: int, side: int, peak: int = peak
        ) -> tuple[Array, Array]:
            return blurred(image, float(peak), seed, crop_seed, side)

        found[f"deblur-{peak}"] = Task(f"Deblurring, {peak} photons", BLUR, POISSON, blur)
    rows = cases()
    for name, label, title in (
        ("super-resolution", "downsample-4x-binning", "Super-resolution 4x"),
        ("missing", "random-inpaint", "80 % of the pixels missing"),
    ):
        case = rows[label]

        def simulated(
            image: Array, seed: int, crop_seed: int, side: int, case: Any = case
        ) -> tuple[Array, Array]:
            truth, y, _ = measured(case, best_crop(image, side, MARGIN, crop_seed), seed)
            return y, truth

        found[name] = Task(title, case.forward, case.noise, simulated)

    def far(image: Array, seed: int, crop_seed: int, side: int) -> tuple[Array, Array]:
        return diffraction(image, TOTAL, seed, crop_seed, side)

    found["phase"] = Task("Phase retrieval, 1e5 photons", FAR_FIELD, POISSON, far, True)
    return found


def chosen_images(data: Path, count: int, *, diverse: bool) -> tuple[list[Path], Path, int]:
    """Return the images of the table, and one for tuning with the seed of its crop.

    Parameters
    ----------
    data : Path
        Folder with eval/clean, and eval/denoise where ``diverse``.
    count : int
        Images of the table.
    diverse : bool
        Many kinds of structures, as benchmarks/restore.py has them, rather than eval/clean alone.
    """
    paths = clean_images(data) if diverse else sorted((data / "eval" / "clean").glob("*.png"))
    if not paths:
        raise SystemExit(f"{data} has no eval/clean with PNG images")
    table = clean_images(data, count) if diverse else paths[:count]
    rest = [path for path in paths if path not in table]
    # Another image where there is one, else another crop.
    return table, (rest[0] if rest else table[-1]), (0 if rest else 1)


def cell(
    task: Task,
    y: Array,
    truth: Array,
    sampler: dict[str, Any],
    prior: Counted,
    samples: int,
    keep: Callable[[Any], None] | None = None,
    *,
    best: bool = False,
) -> dict[str, Any]:
    """Return the figures of one sampler on one measurement, or why there are none.

    ``refused`` is the sentence of a sampler that does not take the problem; ``failed`` that of
    an error nobody foresaw, which a later run tries again.

    Parameters
    ----------
    task : Task
        The problem.
    y, truth : ndarray
        Measurement and object.
    sampler : dict
        As in a recipe.
    prior : Counted
        The prior of all.
    samples : int
        Samples to draw.
    keep : callable or None
        Receives the result.
    best : bool
        Judge the first sample alone: of phase problems the one with the smallest misfit.
    """
    prior.counter.reset()
    begin = time.perf_counter()
    try:
        result = napari_dps.reconstruct(
            y,
            forward=task.forward,
            noise=task.noise,
            prior=prior,
            sampler=sampler,
            samples=samples,
            intensity=task.intensity,
            axes="CYX" if y.ndim == 3 else None,
        )
    except DPSError as error:
        return {"refused": str(error)}
    except Exception as error:  # one broken cell must not end hours of others; it is told
        say(traceback.format_exc())
        return {"failed": f"{type(error).__name__}: {error}"}
    seconds = time.perf_counter() - begin
    if keep is not None:
        keep(result)
    point = result.point_estimate
    found = scores(result.samples, truth, pairs=result.pairs, point=point, symmetric=task.symmetric)
    drawn = len(result.samples)
    counted = prior.counter
    return {
        **{k: None if v is None or not np.isfinite(v) else float(v) for k, v in found.items()},
        "seconds": seconds,
        "calls": (counted.forward + counted.vjp) / drawn,
        "forward": counted.forward / drawn,
        "vjp": counted.vjp / drawn,
        "misfit": result.report["misfit"],
        "sampler": result.report["sampler"],
        "point": point,
        "classical": component_class("sampler", result.report["sampler"]).classical,  # type: ignore[attr-defined]
        "samples": drawn,
    }


def tuned_scale(
    ledger: Ledger,
    where: dict[str, Any],
    task: Task,
    sampler: dict[str, Any],
    y: Array,
    truth: Array,
    prior: Counted,
) -> float | None:
    """Return the step length with which a sampler restores a measurement kept for tuning best.

    Step lengths 0.1, 1 and 10, going on by tens where the best is at an end; then the best times
    and over the root of ten. One sample, judged by its PSNR. None where the sampler refuses the
    problem.

    Parameters
    ----------
    ledger : Ledger
        Keeps every try as a row, its image named after the step length.
    where : dict
        What else names the row.
    task : Task
        The problem.
    sampler : dict
        As in a recipe, without the step length.
    y, truth : ndarray
        The measurement for tuning and its object.
    prior : Counted
        The prior.
    """
    found: dict[float, float] = {}

    def attempt(scale: float) -> None:
        row = {**where, "image": f"scale {scale:g}"}
        if row not in ledger:
            ledger.add(row | cell(task, y, truth, {**sampler, "scale": scale}, prior, 1))
            say(f"  {', '.join(row.values())}: {ledger[row].get('psnr')}")
        value = ledger[row].get("psnr")
        found[scale] = float("-inf") if value is None else value

    def best() -> float:
        return max(found, key=lambda scale: found[scale])

    waiting = list(FIRST_SCALES)
    while waiting:
        attempt(waiting.pop(0))
        if waiting or found[best()] == float("-inf"):
            continue
        if best() == max(found) and best() < LARGEST_SCALE:
            waiting.append(10 * best())
        elif best() == min(found) and best() > SMALLEST_SCALE:
            waiting.append(best() / 10)
    if found[best()] == float("-inf"):
        return None
    middle = best()
    for scale in (middle / 10**0.5, middle * 10**0.5):
        attempt(float(f"{scale:.4g}"))
    return best()


def has_scale(kind: str) -> bool:
    """Whether a kind has a step length to tune."""
    return "scale" in component_class("sampler", kind).model_fields


def named(kind: str, budget: str) -> str:
    """Return a row's name in tables."""
    return kind if budget == DEFAULT else f"{kind}, {budget}"


def counted_prior(prior: str, *, gray: bool = False) -> Counted:
    """Return a prior by kind, or the folder or file of a checkpoint, counting its calls.

    Parameters
    ----------
    prior : str
        A kind, or a path.
    gray : bool
        Whether it is to restore gray images though it knows colours.
    """
    source: Any = {"kind": "checkpoint", "path": prior} if Path(prior).exists() else prior
    if gray and isinstance(source, dict):
        source["channels"] = "gray"
    made: Any = make("prior", source)
    counted = Counted(source=made)
    # Weights, threads and imports are there before the first clock runs.
    quick = {"kind": "daps", "steps": 2}
    channels = {1: (), 3: (3,)}[made.image_channels()]
    napari_dps.reconstruct(
        np.full((*channels, 32, 32), 9.0) + np.arange(32) % 5,
        prior=counted,
        sampler=quick,
        samples=1,
        axes="CYX" if channels else None,
    )
    return counted
