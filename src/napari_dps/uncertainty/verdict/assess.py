"""The verdict of a run: what every run finds out, and what a closer look adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.uncertainty.verdict.evidence import Finding
from napari_dps.uncertainty.verdict.finders import COSTLY, load

if TYPE_CHECKING:
    from napari_dps.result import Result
    from napari_dps.run import Run

__all__ = ["assess", "verdict"]

Maps = dict[str, NDArray[np.float32]]
FEW = 3
"""Of a stack of more planes than this, a map shows the plane that fits worst."""


def verdict(run: Run, done: Sequence[int]) -> tuple[dict[str, Any], Maps]:
    """Return what the residuals of a run say, for its report, and the maps of it.

    Costs no network call. Of a stack of frames, the findings and maps of the worst one are told,
    maps of the first one as well (``name@0``), and a line for each.

    Parameters
    ----------
    run : Run
        One sample of every frame at least is finished.
    done : sequence of int
        Samples of which every frame is finished.
    """
    from napari_dps.uncertainty.verdict._fit import fit
    from napari_dps.uncertainty.verdict.datafit import data_fit, severity

    problem, live = run._problem, run._live
    totals = _totals(run, done)
    found: list[list[Finding]] = []
    lines = []
    searched = run._fields.get("restart_misfits") or [None] * len(live)
    for k, frame in enumerate(live):
        fitted = fit(run._residuals.frames[k], problem.select([k]))
        restarts = min(searched[k]) if searched[k] else None
        findings = [data_fit(fitted, run.recipe, restarts)]
        if totals is not None:
            findings.append(totals[k])
        found.append(findings)
        first = findings[0].numbers
        lines.append(
            {
                "frame": frame,
                "alarm": any(f.alarm for f in findings),
                "suspects": first["suspects"],
                "chi2": first["chi2"]["value"],
                "severity": severity(findings[0]),
            }
        )
    worst = int(np.argmax([line["severity"] for line in lines]))
    maps = _maps_of(run, worst, found[worst], "")
    if worst != 0:
        maps |= _maps_of(run, 0, found[0], f"@{live[0]}")
    told = {
        "frame": live[worst],
        "frames": lines,
        "error_bars": not run.recipe.sampler.point_estimate,
        "findings": {f.name: _told(f) for f in found[worst]},
        "notes": [],
    }
    return summed_up(told), maps


def summed_up(told: dict[str, Any]) -> dict[str, Any]:
    """Return a verdict with what its findings say together."""
    findings = told["findings"]
    alarms = [f for f in findings.values() if f["alarm"]]
    first = alarms[0] if alarms else findings["data_fit"]
    return {**told, "alarm": bool(alarms), "sentence": first["sentence"]}


def _told(finding: Finding) -> dict[str, Any]:
    return {
        "title": finding.title,
        "sentence": finding.sentence,
        "alarm": finding.alarm,
        "told": finding.told,
        "numbers": finding.numbers,
    }


def _totals(run: Run, done: Sequence[int]) -> list[Finding] | None:
    """Return the finding on each frame's light; None where there is no light to conserve."""
    from napari_dps.report import flux_of
    from napari_dps.uncertainty.verdict.flux import flux

    if run.recipe.noise.kind == "gaussian":
        return None
    told = flux_of(run, done)
    rows = zip(told["measured"], told["expected"], told["error"], strict=True)
    return [flux(*row, told["unit"]) for row in rows]


def _maps_of(run: Run, k: int, findings: list[Finding], suffix: str) -> Maps:
    """Return the maps of a frame, the measurement among them."""
    maps = {f"{n}{suffix}": m for f in findings for n, m in f.maps.items()}
    residual = findings[0].maps["whitened_residual"]
    measured = np.asarray(run._prepared.frames[run._live[k]], dtype=np.float32)
    plane = worst_plane(residual)
    maps[f"whitened_residual{suffix}"] = as_map(residual, plane)
    maps[f"measurement{suffix}"] = as_map(measured.reshape(residual.shape), plane)
    return maps


def worst_plane(residual: NDArray[np.float32]) -> int:
    """Return the plane with the largest residual."""
    planes = residual.reshape(-1, *residual.shape[-2:])
    return int(np.argmax((planes.astype(np.float64) ** 2).mean((1, 2))))


def as_map(array: NDArray[np.float32], plane: int) -> NDArray[np.float32]:
    """Return a picture, a few of them, or one plane of many."""
    planes: NDArray[np.float32] = array.reshape(-1, *array.shape[-2:])
    if len(planes) == 1 or len(planes) > FEW:
        return np.array(planes[plane])
    return np.array(planes)


# A closer look -------------------------------------------------------------------------------


def assess(
    result: Result,
    image: Any,
    *,
    device: str = "auto",
    axes: str | None = None,
    pixel_size: float | tuple[float, ...] | None = None,
) -> Result:
    """Look at a result more closely: findings that need the prior and some more computing.

    Parameters
    ----------
    result : Result
        With its samples; as `reconstruct` gave it, or loaded.
    image : array, Image or path
        The measurement that it was restored from.
    device : str
        As in :func:`napari_dps.reconstruct`.
    axes, pixel_size
        Of the image, as they were given to :func:`napari_dps.reconstruct`.

    Returns
    -------
    Result
        The same samples; ``report["verdict"]`` and ``maps`` hold all findings, of a stack those of
        its worst frame.

    Raises
    ------
    InputError
        If the image does not belong to the result, its recipe is not understood here, or it was
        saved without samples.

    Notes
    -----
    Samples of a saved result end at the field. Beyond it they are continued by reflection; where a
    result without a verdict of its own (an older file) is judged, data that depend on what lies
    beyond by more than a few percent do not count.
    """
    from napari_dps.uncertainty.verdict._bound import Bound

    bound = Bound(result, image, device=device, axes=axes, pixel_size=pixel_size)
    told, maps = result.report.get("verdict"), dict(result.maps)
    if told is None:
        told, maps = verdict(bound.judged(), range(len(result)))
        told["notes"].append(
            "Judged afterwards: data close to the border do not count, for what lies beyond it is "
            "not in the file."
        )
    told = {**told, "findings": dict(told["findings"]), "notes": list(told["notes"])}
    told["closer"] = True
    if result.point_estimate:
        told["notes"].append(
            "A point estimate has no error bars: only the data side can be judged."
        )
    else:
        evidence = bound.evidence(told["frame"])
        for name in COSTLY:
            finding = load(name)(evidence)
            if finding is not None:
                told["findings"][finding.name] = _told(finding)
                maps |= finding.maps
    return result.with_maps(maps, summed_up(told))
