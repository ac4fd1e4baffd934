"""What one simulated and restored image says of error bars, and what many of them say together."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps._quantiles import quantiles, ranks, samples_needed
from napari_dps.evaluate import crps, rmse, spread_skill
from napari_dps.uncertainty._share import Fit, tenths
from napari_dps.uncertainty.conformal import LEVELS, floored, interval_score

__all__ = ["bright_and_deciles", "combine", "image_of", "score", "unpack"]

Array = NDArray[np.float64]

BLOCK, BANDS = 8, 4
CONDITIONAL = 0.9
"""Level whose coverage is told apart for bright pixels and by standard deviation, and whose
interval score and coverage by tenths choose the share."""


def score(result: Any, truth: Array, misfit: float, seed: int) -> dict[str, Any]:
    """Return what a result says, as a JSON-able record.

    Parameters
    ----------
    result : Result
        Of a single plane.
    truth : ndarray, shape (Y, X)
        In the result's units.
    misfit : float
        Chi-square per datum of the truth.
    seed : int
        Breaks ties between truth and samples.
    """
    samples = np.asarray(result.samples, dtype=np.float64)
    mean, std = samples.mean(0), floored(result.mean, result.std)
    nominal: dict[str, float | None] = {}
    scored: dict[str, float | None] = {}
    for level in LEVELS:
        name = f"{level:g}"
        nominal[name] = scored[name] = None
        if len(samples) >= samples_needed(level):
            at = ranks([(1 - level) / 2, (1 + level) / 2], len(samples))
            low, high = quantiles(result.samples, at)
            nominal[name] = float(np.mean((low <= truth) & (truth <= high)))
            scored[name] = interval_score(low, high, truth, level)
    return {
        "nominal_coverage": nominal,
        "nominal_score": scored,
        "crps": crps(samples, truth, pairs=result.pairs),
        "rmse": rmse(mean, truth),
        "spread_skill": spread_skill(samples, truth, pairs=result.pairs),
        "ranks": rank_histograms(result, truth, misfit, seed),
        "scale": [float(v) for v in result.report["scale"]],
        "error": pack(np.abs(truth - np.asarray(result.mean, dtype=np.float64))),
        "std": pack(std),
        "mean": pack(mean),
    }


def pack(array: Array) -> str:
    """Return an array as text, in single precision."""
    return base64.b64encode(array.astype("<f4").tobytes()).decode()


def unpack(text: str) -> Array:
    """Return the flat array in a text of :func:`pack`."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float64)


def rank_histograms(result: Any, truth: Array, misfit: float, seed: int) -> dict[str, list[int]]:
    """Return how often the truth has each rank among the samples, by what is ranked."""
    # Partners of a pair lie on both sides of the mean: among them ranks are not evenly spread.
    take = slice(None, None, 2 if result.pairs else 1)
    samples = np.asarray(result.samples, dtype=np.float64)[take]
    misfits = np.asarray(result.report["chi2"], dtype=np.float64)[take]
    rng = np.random.default_rng(seed)
    pairs = {
        "pixel": (samples, truth),
        "region": (_regions(samples), _regions(truth)),
        "band": (_bands(samples), _bands(truth)),
        "misfit": (misfits[:, None], np.array([misfit])),
    }
    found = {}
    for name, (draws, known) in pairs.items():
        below, tied = (draws < known).sum(0), (draws == known).sum(0)
        rank = below + rng.integers(0, tied + 1)
        found[name] = np.bincount(rank.ravel(), minlength=len(draws) + 1).tolist()
    return found


def _regions(images: Array) -> Array:
    """Return the sums of blocks of pixels, of what fits into the image."""
    rows, columns = (n // BLOCK * BLOCK for n in images.shape[-2:])
    cut = images[..., :rows, :columns]
    blocks = cut.reshape(*images.shape[:-2], rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    return np.asarray(blocks.sum((-3, -1)))


def _bands(images: Array) -> Array:
    """Return the power of images in rings of spatial frequency, from low to high."""
    power = np.abs(np.fft.fft2(images - images.mean((-2, -1), keepdims=True))) ** 2
    axes = [np.fft.fftfreq(n) for n in images.shape[-2:]]
    radius = np.hypot(axes[0][:, None], axes[1][None])
    ring = np.minimum((radius * 2 * BANDS).astype(int), BANDS - 1)
    return np.stack([power[..., ring == k].sum(-1) for k in range(BANDS)], axis=-1)


def bright_and_deciles(
    inside: NDArray[np.bool_], mean: Array, std: Array
) -> tuple[float, list[float]]:
    """Return the covered share of an image's brightest fifth, and of each tenth by std.

    Parameters
    ----------
    inside : ndarray of bool
        Which pixels the interval covers.
    mean, std : ndarray
        Of the samples; tenths go from the smallest std to the largest.
    """
    bright = inside.ravel()[mean.ravel() >= np.quantile(mean, 0.8)]
    return float(bright.mean()), tenths(inside, std)


def image_of(record: dict[str, Any], number: int) -> Any:
    """Return what a crop's image is known by: its file, else (phantoms, draws) its own number."""
    if record.get("source") != "images":
        return number
    # Planes of one stack resemble each other, so that a stack is one image.
    return str(record["name"]).partition(" plane ")[0]


def combine(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return factors and figures of many records, by the names of a Calibration's fields.

    Raises
    ------
    InputError
        If they are too few for the levels.
    """
    means, own = ([unpack(r[name]) for r in records] for name in ("mean", "std"))
    images = [image_of(r, k) for k, r in enumerate(records)]
    fit = Fit([unpack(r["error"]) for r in records], means, own, images, CONDITIONAL)
    found: dict[str, Any] = {
        "share": fit.share,
        "bright_coverage": None,
        "decile_coverage": None,
        "lambdas": {},
        "nominal_coverage": {},
        "nominal_score": {},
        "calibrated_coverage": {},
        "calibrated_score": {},
    }
    for level in LEVELS:
        name = f"{level:g}"
        found["lambdas"][name] = fit.factor(level)
        for what in ("nominal_coverage", "nominal_score"):
            found[what][name] = _mean([r[what][name] for r in records])
        judged = fit.judged(level)
        found["calibrated_coverage"][name] = found["calibrated_score"][name] = None
        if judged is None:
            continue
        found["calibrated_coverage"][name] = float(np.mean([i.mean() for i in judged.inside]))
        found["calibrated_score"][name] = float(np.mean(judged.scores))
        if level == CONDITIONAL:
            parts = [
                bright_and_deciles(i, m, s)
                for i, m, s in zip(judged.inside, means, own, strict=True)
            ]
            found["bright_coverage"] = float(np.mean([b for b, _ in parts]))
            found["decile_coverage"] = tuple(np.mean([d for _, d in parts], axis=0).tolist())
    root = math.sqrt(np.mean([r["rmse"] ** 2 for r in records]))
    spread = [r["spread_skill"] * r["rmse"] for r in records if r["rmse"] > 0]
    found["crps"] = float(np.mean([r["crps"] for r in records]))
    found["rmse"] = root
    found["spread_skill"] = math.sqrt(np.mean(np.square(spread))) / root if spread else None
    scales = [s for r in records for s in r["scale"]]
    found["scales"] = (min(scales), max(scales))
    found["ranks"] = {}
    for name in records[0]["ranks"]:
        counts = np.sum([r["ranks"][name] for r in records], axis=0)
        found["ranks"][name] = tuple((counts / counts.sum()).tolist())
    return found


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
