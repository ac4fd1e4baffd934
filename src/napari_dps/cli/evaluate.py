"""``napari-dps evaluate``: a result against the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from napari_dps.cli._options import Chosen
from napari_dps.cli._terminal import print_json, print_table
from napari_dps.errors import DPSError, InputError

GROUPS: tuple[str, ...] = ()
Flag = Annotated[bool, Parameter(negative=())]


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command."""
    return evaluate


def evaluate(
    result: Path,
    truth: Path,
    /,
    *,
    fit: Flag = False,
    register: Flag = False,
    json: Flag = False,
) -> None:
    """Compare a result with the truth: PSNR, SSIM, errors, and how honest its error bars are.

    Parameters
    ----------
    result
        What reconstruct wrote, or any image of the truth's shape.
    truth
        The image that it should be, in the same unit.
    fit
        Apply the gain and offset that fit the truth best before comparing.
    register
        Flip and shift the result onto the truth first (phase retrieval).
    json
        Print one JSON object.
    """
    from napari_dps.evaluate import compare

    known = _gray(truth)
    mean, samples, std, report = _load(result)
    if register:
        mean, samples = _register(mean, samples, known)
        std = None  # of samples that were not moved
    pairs = bool(report.get("antithetic", False))
    told = report.get("intervals") or {}
    metrics = compare(
        mean, known, samples, fit=fit, pairs=pairs, std=std,
        lambdas=told.get("lambdas"), share=told.get("share", 0.0),
    )  # fmt: skip
    metrics["residual"] = report.get("chi2")
    metrics["registered"] = register
    metrics["point_estimate"] = bool(report.get("point_estimate", False))
    if json:
        print_json({"result": str(result), "truth": str(truth), **metrics})
        return
    rows = [
        ("PSNR [dB]", metrics["psnr"]),
        ("SSIM", metrics["ssim"]),
        ("RMSE", metrics["rmse"]),
        ("mean absolute error", metrics["mae"]),
        ("bias", metrics["bias"]),
        ("best gain", metrics["gain"]),
        ("best offset", metrics["offset"]),
        *_error_bars(metrics),
        ("residual chi2 per datum", _mean(metrics["residual"])),
    ]
    print_table(f"{result} against {truth}", ("metric", "value"), rows)


def _error_bars(metrics: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the rows about error bars; a point estimate has none to judge."""
    if metrics["point_estimate"]:
        return [("error bars", "none: a point estimate")]
    found = [("nominal", metrics["nominal_coverage"])]
    found += [("calibrated", metrics["calibrated_coverage"] or {})]
    return [
        ("samples", metrics["samples"]),
        *(
            (f"coverage of {kind} {float(level) * 100:g}% intervals", share)
            for kind, shares in found
            for level, share in shares.items()
        ),
        ("CRPS", metrics["crps"]),
        ("spread / error of the mean", metrics["spread_skill"]),
    ]


def _mean(values: Any) -> float | None:
    numbers = np.ravel(np.asarray([] if values is None else values, dtype=np.float64))
    return float(numbers.mean()) if numbers.size else None


def _gray(path: Path) -> np.ndarray:
    from napari_dps.io import read_image

    image = read_image(path)
    if image.is_rgb:
        raise InputError(f"'{path}' is a colour (RGB) image, which cannot be compared; give gray")
    return np.asarray(image.data, dtype=np.float64)


def _load(path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, dict[str, Any]]:
    """Read mean, samples, deviation and report; of a plain image there is the first alone."""
    from napari_dps.result import Result

    try:
        found = Result.load(path)
    except DPSError:
        return _gray(path), None, None, {}
    return found.mean, _held(found, "samples"), _held(found, "std"), found.report


def _held(result: Any, what: str) -> np.ndarray | None:
    return np.asarray(getattr(result, what)) if result.holds(what) else None


def _register(
    mean: np.ndarray, samples: np.ndarray | None, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    from napari_dps.uncertainty.registration import register

    if mean.ndim != 2 or mean.shape != truth.shape:
        raise InputError(
            f"--register takes two 2D images of one shape; the result has {mean.shape}, the truth "
            f"{truth.shape}"
        )
    moved = np.asarray(register(mean, truth))
    if samples is None:
        return moved, None
    # To the moved mean, not to the truth: a sample must not gain by looking at the truth itself.
    return moved, np.stack([register(sample, moved) for sample in samples])
