"""The demo: two restorations of sample data from start to end, with a figure and verdicts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError
from napari_dps.evaluate import coverage, psnr, spread_skill, ssim
from napari_dps.io import read_image
from napari_dps.recipe import Recipe
from napari_dps.result import Result
from napari_dps.run import Plan, Progress, Run

__all__ = ["Case", "fit_one_gain", "run_demo"]

Array = NDArray[np.float64]
REGISTERED_DB = 25.0
"""What the object behind its diffraction pattern must reach."""


@dataclass
class Case:
    """One finished case: what was measured, what came out, what is true.

    Attributes
    ----------
    name, title, unit : str
        File name, heading, unit of the object's values.
    measured, truth, baseline : ndarray
        The measurement, the object, and what a method of today makes of it.
    baseline_name : str
        Which method.
    result : Result
        In the truth's frame, for phase retrieval: registered and with one fitted gain.
    report : dict
        The figures and the verdict.
    """

    name: str
    title: str
    unit: str
    measured: Array
    truth: Array
    baseline: Array
    baseline_name: str
    result: Result
    report: dict[str, Any]


def run_demo(
    out: Path,
    progress: Callable[[Progress], object] | None = None,
    *,
    prior: Any = None,
    samples: int | None = None,
) -> dict[str, Any]:
    """Restore two samples, compare with today's methods, and write images, figure and report.

    Parameters
    ----------
    out : Path
        Folder; made if it is missing.
    progress : callable, optional
        Called with a Progress at every step; its steps and its time left are those of the whole
        demo.
    prior : component, dict or kind, optional
        Another prior than the samples' own.
    samples : int, optional
        Another number of posterior samples than the samples' own.

    Returns
    -------
    dict
        ``passed``, ``seconds``, ``files``, ``cases`` (their names), and per case ``psnr_input``,
        ``psnr_baseline``, ``psnr``, ``ssim``, ``threshold``, ``passed``, ``seconds``, ...; PSNR in
        dB against the truth's maximum minus its minimum. Also written to ``report.json``.
    """
    from napari_dps.demo._figure import draw

    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {str(out)!r} cannot be made ({error.strerror or error}); name another one"
        ) from error
    begin = time.perf_counter()
    with as_file(files("napari_dps") / "sample_data") as folder:
        runs = {name: _open(Path(folder), name, prior, samples) for name in _JUDGES}
        clock = _Clock([run.plan() for run, _ in runs.values()], progress)
        cases = []
        for number, (name, (run, truth)) in enumerate(runs.items()):
            for step in run:
                clock.show(number, step)
            clock.finished(number)
            cases.append(_JUDGES[name](name, run, truth))
    written = []
    for case in cases:
        written += _write(case, out)
    draw(cases, out / "demo.png")
    written += [out / "demo.png", out / "report.json"]
    report: dict[str, Any] = {
        "passed": all(case.report["passed"] for case in cases),
        "seconds": round(time.perf_counter() - begin, 1),
        "cases": [case.name for case in cases],
        **{case.name: case.report for case in cases},
        "files": [str(path) for path in written],
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


class _Clock:
    """One progress out of the progress of several runs, weighted by what they will cost."""

    STEPS = 1000

    def __init__(self, plans: list[Plan], tell: Callable[[Progress], object] | None) -> None:
        self._cost = [max(plan.seconds, 1e-3) for plan in plans]
        self._tell = tell
        self._begin = time.perf_counter()
        self._spent: list[float] = []

    def finished(self, number: int) -> None:
        """Note that a run has ended."""
        self._spent.append(time.perf_counter() - self._begin - sum(self._spent))

    def show(self, number: int, step: Progress) -> None:
        """Pass a step of run ``number`` on."""
        if self._tell is None:
            return
        part = step.done / max(step.total, 1)
        share = (sum(self._cost[:number]) + part * self._cost[number]) / sum(self._cost)
        seconds = time.perf_counter() - self._begin
        left = None
        if step.seconds_left is not None:
            # What is still to come costs as much more than planned as what was done already.
            own = (step.seconds + step.seconds_left) / self._cost[number]
            left = step.seconds_left + own * sum(self._cost[number + 1 :])
        self._tell(
            replace(
                step,
                done=round(share * self.STEPS),
                total=self.STEPS,
                seconds=seconds,
                seconds_left=left,
            )
        )


def _open(folder: Path, name: str, prior: Any, samples: int | None) -> tuple[Run, Array]:
    recipe = Recipe.parse(folder / f"{name}.json", prior=prior, samples=samples)
    truth = read_image(folder / f"{name}_truth.tif").data.astype(np.float64)
    return Run(folder / f"{name}.tif", recipe), truth


def fit_one_gain(estimate: Array, truth: Array) -> float:
    """Return the factor, without offset, that brings an estimate nearest to the truth."""
    power = float((estimate**2).sum())
    return float((estimate * truth).sum()) / power if power > 0 else 0.0


def _figures(result: Result, truth: Array) -> dict[str, Any]:
    """Return how good a result is, and whether its error bars are honest."""
    count = len(result.samples)
    level = (count - 1) / (count + 1)
    return {
        "psnr": psnr(result.mean, truth),
        "ssim": ssim(result.mean, truth),
        "chi2": result.report["misfit"],
        "interval": level if count > 1 else None,
        "coverage": coverage(result.samples, truth, level) if count > 1 else None,
        "spread_over_error": spread_skill(result.samples, truth, pairs=result.pairs)
        if count > 1
        else None,
        "samples": count,
        "seconds": result.report["seconds"],
    }


def _blurred(name: str, run: Run, truth: Array) -> Case:
    """Judge the deblurring against Richardson-Lucy at its best iteration."""
    from napari_dps.demo._baselines import Blur, best_by
    from napari_dps.forward.gaussian_blur import GaussianBlur

    result = run.result()
    measured = run.image.data.astype(np.float64)
    forward = run.recipe.forward
    assert isinstance(forward, GaussianBlur)
    blur = Blur(forward.psf(), (measured.shape[0], measured.shape[1]))
    baseline, iterations = best_by(measured, blur, truth)
    classical = psnr(baseline, truth)
    figures = _figures(result, truth)
    report = {
        "passed": figures["psnr"] > classical,
        "psnr_input": psnr(measured, truth),
        "baseline": f"Richardson-Lucy, best iteration ({iterations})",
        "psnr_baseline": classical,
        "ssim_baseline": ssim(baseline, truth),
        "threshold": classical,
        **figures,
        "report": result.report,
    }
    title = "Fluorescent nuclei: blur and photon noise"
    return Case(
        name, title, "photons", measured, truth, baseline, "Richardson-Lucy (best)", result, report
    )


def _diffracted(name: str, run: Run, truth: Array) -> Case:
    """Judge the phase retrieval: registered to the truth, with one fitted gain."""
    from napari_dps.demo._baselines import hio
    from napari_dps.uncertainty.registration import register

    raw = run.result()
    measured = run.image.data.astype(np.float64)
    mean = raw.mean.astype(np.float64)
    gain = fit_one_gain(register(mean, truth).astype(np.float64), truth)
    turned = [register(s, truth).astype(np.float64) for s in raw.samples]
    registered: Array = gain * np.stack(turned)
    result = Result(
        registered, raw.axes, raw.scale, raw.units, raw.translate, raw.name, raw.recipe, raw.report
    )
    found, misfits = hio(measured, (truth.shape[0], truth.shape[1]), restarts=len(raw.samples))
    baseline = register(found[0], truth).astype(np.float64)
    baseline = fit_one_gain(baseline, truth) * baseline
    figures = _figures(result, truth)
    report = {
        "passed": figures["psnr"] > REGISTERED_DB,
        "psnr_input": None,
        "baseline": f"hybrid input-output, best of {len(found)} restarts",
        "psnr_baseline": psnr(baseline, truth),
        "ssim_baseline": ssim(baseline, truth),
        "chi2_baseline": float(misfits[0]),
        "threshold": REGISTERED_DB,
        **figures,
        "gain": gain,
        "report": raw.report,
    }
    title = "An object from the photons of its diffraction pattern"
    return Case(
        name,
        title,
        "root photons",
        measured,
        truth,
        baseline,
        "Hybrid input-output",
        result,
        report,
    )


_JUDGES: dict[str, Callable[[str, Run, Array], Case]] = {
    "nuclei_blur": _blurred,
    "diffraction": _diffracted,
}


def _write(case: Case, out: Path) -> list[Path]:
    """Write a case's images as OME-TIFF."""
    import tifffile

    paths = [case.result.save(out / f"{case.name}.ome.tif")]
    others = {"measured": case.measured, "truth": case.truth, "baseline": case.baseline}
    for kind, image in others.items():
        path = out / f"{case.name}_{kind}.ome.tif"
        about: dict[str, Any] = {"axes": "YX", "Name": f"{case.name} {kind}"}
        same_grid = image.shape == case.result.mean.shape
        if same_grid and case.result.units[-1] == "micrometer":
            for axis, step in zip("YX", case.result.scale[-2:], strict=True):
                about[f"PhysicalSize{axis}"] = step
                about[f"PhysicalSize{axis}Unit"] = "µm"
        tifffile.imwrite(path, image.astype(np.float32), ome=True, metadata=about)
        paths.append(path)
    return paths
