"""Do calibrated intervals cover real images that the calibration never saw? As JSON.

    python benchmarks/intervals.py --data FOLDER [--train FOLDER ...] [--crops 100] [--per-image 2]
        [--no-synthetic] [--clean 0.25] [--samples 20] [--size 64] [--tasks blur-5 ...]
        [--calibrations DIR] [--work DIR] [--out FILE]
    python benchmarks/intervals.py shipped --data FOLDER [--tasks blur-5 ...] [--work DIR]
        [--out FILE]
    python benchmarks/intervals.py join FILE... --out FILE

Each task is calibrated as ``napari-dps calibrate`` does it: on phantoms and draws of the prior
(``synthetic``), where ``--train`` names folders of clean images also on crops of those
(``train``), and on both together (``both``); with ``--no-synthetic`` on the images alone. Images
have noise of their own, which no restoration finds again: with ``--clean`` a crop's may be at most
that share of the root-mean-square standard deviation that synthetic crops have. Judged
are crops of all clean images in FOLDER/eval/clean and FOLDER/eval/denoise, seeded, none of them
used in fitting. Tasks: deblurring (Gaussian PSF of sigma 2 px) at 5, 30 and 300 photons, 80 % of
the pixels missing and denoising at 30 photons; the 99.8th percentile of a crop is at so many
photons over a background of 1; Poisson noise.

Reported of the 90 % interval, mean over crops: its coverage; that of the brightest fifth of each
crop's mean; that of each tenth of its standard deviation; its interval score and that of the
samples' own interval; the samples' CRPS, and that of a normal distribution of one width for all
pixels around the same mean, the width fitted to the calibration's crops. Gate: coverage 0.87 to
0.94, brightest fifth 0.84 to 0.96, every tenth 0.83 to 0.96, interval score no worse than the
uncalibrated, CRPS below that of the constant width.

What was restored is kept in ``--work``; the same command goes on from there. ``--calibrations``
receives each task's fit, on all populations together, as the file that ``napari-dps calibrate``
writes: those in the package are made so. ``join`` puts tasks that were run apart into one file.

``shipped`` fits nothing: it judges a crop of every image by the calibrations in the package, each
image by the one of its recipe that is nearest in brightness, as results take it. The constant width
is then the one of lowest CRPS for the judged crops themselves, which nobody can know.
"""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from _common import Array, clean_images, machine, publish, say
from cyclopts import App, Parameter
from scipy.stats import norm

from napari_dps.recipe import Recipe
from napari_dps.uncertainty.calibrate import CalibrationStep, calibrate, summary
from napari_dps.uncertainty.calibration import Calibration
from napari_dps.uncertainty.conformal import interval_score, widened
from napari_dps.uncertainty.scoring import bright_and_deciles, combine, unpack
from napari_dps.uncertainty.shipped import nearest, shipped_calibrations

LEVEL, BACKGROUND = 0.9, 1.0
BLUR = {"kind": "gaussian-blur", "sigma": 2.0}
TASKS: dict[str, tuple[Any, float]] = {
    "blur-5": (BLUR, 5.0),
    "blur-30": (BLUR, 30.0),
    "blur-300": (BLUR, 300.0),
    "missing-80": ({"kind": "random-inpaint", "missing": 0.8}, 30.0),
    "denoise": ({"kind": "identity"}, 30.0),
}
GATE = {"coverage": (0.87, 0.94), "bright": (0.84, 0.96), "tenths": (0.83, 0.96)}
Words = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)]
app = App(help="Coverage of calibrated intervals on images never seen, as JSON.")


def normal_crps(error: Array, width: float) -> float:
    """Return the CRPS of a normal distribution of one standard deviation, in closed form."""
    z = error / width
    score = z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi)
    return float(np.mean(width * score))


def best_width(errors: Array) -> float:
    """Return the constant width of the smallest CRPS."""
    typical = float(np.sqrt(np.mean(errors**2))) + 1e-12
    widths = typical * np.geomspace(0.1, 2, 40)
    return float(min(widths, key=lambda w: normal_crps(errors, w)))


def judge(rows: list[dict[str, Any]], fitted: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of crops under the factor and the constant width fitted to others."""
    fit = combine(fitted)
    factor, share = fit["lambdas"][f"{LEVEL:g}"], fit["share"]
    width = best_width(np.concatenate([unpack(r["error"]) for r in fitted]))
    found = figures(rows, [(factor, share)] * len(rows), width)
    return {"crops_fitted": len(fitted), "lambda": factor, "share": share, **found}


def figures(
    rows: list[dict[str, Any]], factors: list[tuple[float, float]], width: float
) -> dict[str, Any]:
    """Return the figures of crops, each under its factor and share, and under a constant width."""
    covered, bright, tenths, scores, constant = [], [], [], [], []
    for row, (factor, share) in zip(rows, factors, strict=True):
        error, std, mean = (unpack(row[name]) for name in ("error", "std", "mean"))
        half = factor * widened(mean[None], std[None], share)[0]
        inside = error <= half
        top, parts = bright_and_deciles(inside, mean, std)
        covered.append(inside.mean())
        bright.append(top)
        tenths.append(parts)
        scores.append(interval_score(-half, half, error, LEVEL))
        constant.append(normal_crps(error, width))
    own = [row["nominal_score"][f"{LEVEL:g}"] for row in rows]
    found = {
        "coverage": float(np.mean(covered)),
        "coverage_error": float(np.std(covered) / np.sqrt(len(covered))),
        "bright": float(np.mean(bright)),
        "tenths": np.mean(tenths, axis=0).tolist(),
        "interval_score": float(np.mean(scores)),
        "interval_score_uncalibrated": None if None in own else float(np.mean(own)),
        "crps": float(np.mean([row["crps"] for row in rows])),
        "crps_constant": float(np.mean(constant)),
    }
    return {**found, "passed": passed(found)}


def nominal_coverage(rows: list[dict[str, Any]]) -> float | None:
    """Return the mean coverage of the samples' own intervals; None where they are too few."""
    own = [row["nominal_coverage"][f"{LEVEL:g}"] for row in rows]
    return None if None in own else float(np.mean(own))


def passed(found: dict[str, Any]) -> dict[str, bool]:
    """Return which parts of the gate are met."""
    met = {}
    for name, (low, high) in GATE.items():
        met[name] = bool(low <= np.min(found[name]) and np.max(found[name]) <= high)
    own = found["interval_score_uncalibrated"]
    met["interval_score"] = own is not None and found["interval_score"] <= own
    met["crps"] = found["crps"] < found["crps_constant"]
    return met


def teller(label: str) -> Callable[[CalibrationStep], None]:
    """Return what tells on stderr when a crop is done."""

    def tell(step: CalibrationStep) -> None:
        if step.share == 0 and step.done:
            left = "" if step.seconds_left is None else f", {step.seconds_left:.0f} s left"
            say(f"  {label}: {step.done} of {step.total}{left}")

    return tell


def restored(
    keep: Path, label: str, run: Callable[..., Calibration], crops: int
) -> tuple[Calibration, list[dict[str, Any]]]:
    """Return the fit and the records of crops, restored now or kept from before."""
    fit = run(crops=crops, keep=keep, on_step=teller(label))
    rows = [json.loads(line) for line in keep.read_text(encoding="utf-8").splitlines()[1:]]
    return fit, sorted((r for r in rows if r["crop"] < crops), key=lambda r: r["crop"])


def typical_std(rows: list[dict[str, Any]]) -> float:
    """Return the median over crops of the root-mean-square standard deviation, in photons."""
    return float(np.median([np.sqrt(np.mean(unpack(row["std"]) ** 2)) for row in rows]))


def pooled(found: list[Calibration], rows: dict[str, list[dict[str, Any]]]) -> Calibration:
    """Return the calibration of all populations' crops together."""
    if len(found) == 1:
        return found[0]
    return found[0].model_copy(update=summary(rows["both"]))


@app.default
def main(
    *,
    data: Path,
    train: Words = (),
    synthetic: bool = True,
    clean: float | None = None,
    crops: int = 100,
    per_image: int = 2,
    images: int | None = None,
    size: int = 64,
    samples: int = 20,
    tasks: Words = tuple(TASKS),
    prior: str = "fluorescence",
    sampler: str = "auto",
    device: str = "auto",
    calibrations: Path | None = None,
    work: Path = Path("intervals-work"),
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    data
        Folder with eval/clean and eval/denoise.
    train
        Folders of clean images to fit on beside phantoms and draws.
    synthetic
        Fit on phantoms and draws of the prior.
    clean
        Largest noise of their own that crops of ``train`` have, as a share of the synthetic crops'
        root-mean-square standard deviation; any where left out.
    crops
        Crops a fit, 19 or more.
    per_image
        Crops of each image that is judged.
    images
        How many images to judge; all where left out.
    size
        Side of the crops.
    samples
        Posterior samples a crop.
    tasks
        Which of blur-5, blur-30, blur-300, missing-80, denoise.
    prior
        A kind, or the folder of a checkpoint.
    sampler
        Sampler.
    device
        Device.
    calibrations
        Folder for each task's fit on all populations together.
    work
        Folder for what was restored.
    out
        File for the JSON.
    """
    source: Any = {"kind": "checkpoint", "path": prior} if Path(prior).is_dir() else prior
    if not (synthetic or train):
        raise SystemExit("nothing to fit on: name folders with --train, or leave --synthetic")
    if clean is not None and not (synthetic and train):
        raise SystemExit("--clean chooses among --train by what synthetic crops have: give both")
    judged = clean_images(data, images)
    report: dict[str, Any] = {}
    begin = time.perf_counter()
    for task in tasks:
        forward, photons = TASKS[task]
        recipe = Recipe(
            forward=forward, noise="poisson", prior=source, sampler=sampler, samples=samples
        )
        common: Any = {
            "size": size, "photons": photons, "background": BACKGROUND, "device": device,
        }  # fmt: skip
        fits: dict[str, list[dict[str, Any]]] = {}
        fitted: dict[str, Calibration] = {}
        populations: dict[str, Any] = {"synthetic": None} if synthetic else {}
        if train:
            populations["train"] = list(train)
        for name, given in populations.items():
            run = partial(calibrate, recipe, given, **common)
            if name == "train" and clean is not None:
                run = partial(run, own_noise=clean * typical_std(fits["synthetic"]))
            keep = work / f"{task}-{name}.jsonl"
            fitted[name], fits[name] = restored(keep, f"{task}, {name}", run, crops)
        if len(fits) > 1:
            fits["both"] = [*fits["synthetic"], *fits["train"]]
        if calibrations is not None:
            calibrations.mkdir(parents=True, exist_ok=True)
            pooled(list(fitted.values()), fits).save(calibrations / f"{task}.json")
        # Judged crops are simulated and restored by the same code, under another seed.
        run = partial(calibrate, recipe, judged, seed=1, **common)
        count = max(19, per_image * len(judged))
        _, rows = restored(work / f"{task}-judged.jsonl", f"{task}, judged", run, count)
        report[task] = {
            "photons": photons,
            "judged_crops": len(rows),
            "judged_images": sorted({row["name"] for row in rows}),
            "sampler": rows[0]["parts"]["sampler"],
            "own_noise": fitted["train"].own_noise if train else None,
            "nominal_coverage": nominal_coverage(rows),
            "seconds_per_crop": float(np.mean([row["seconds"] for row in rows])),
            **{name: judge(rows, fit) for name, fit in fits.items()},
        }
        for name in fits:
            found = report[task][name]
            say(f"{task}, {name}: {found['coverage']:.3f}, {found['passed']}")
    publish(
        {
            "what": __doc__,
            "level": LEVEL,
            "size": size,
            "samples": samples,
            "prior": prior,
            "gate": GATE,
            "tasks": report,
            "seconds": time.perf_counter() - begin,
            "machine": machine(),
        },
        out,
    )


@app.command
def shipped(
    *,
    data: Path,
    tasks: Words = tuple(TASKS),
    images: int | None = None,
    device: str = "auto",
    work: Path = Path("intervals-work"),
    out: Path | None = None,
) -> None:
    """Judge the calibrations in the package.

    Parameters
    ----------
    data
        Folder with eval/clean and eval/denoise.
    tasks
        Which of blur-5, blur-30, blur-300, missing-80, denoise.
    images
        How many images to judge; all where left out.
    device
        Device.
    work
        Folder for what was restored.
    out
        File for the JSON.
    """
    judged = clean_images(data, images)
    report: dict[str, Any] = {}
    begin = time.perf_counter()
    for task in tasks:
        forward, photons = TASKS[task]
        fitting = [
            c for c in shipped_calibrations() if c.parts["forward"]["kind"] == forward["kind"]
        ]
        samples, size = fitting[0].parts["samples"], fitting[0].size
        recipe = Recipe(forward=forward, noise="poisson", samples=samples)
        run = partial(
            calibrate, recipe, judged, seed=1, size=size, photons=photons, background=BACKGROUND,
            device=device,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fewer crops than a fit needs: nothing is fitted
            _, rows = restored(work / f"{task}-shipped.jsonl", task, run, max(19, len(judged)))
        taken = [nearest(fitting, row["scale"]) for row in rows]
        width = best_width(np.concatenate([unpack(row["error"]) for row in rows]))
        factors = [(c.lambdas[f"{LEVEL:g}"], c.share) for c in taken]
        report[task] = {
            "photons": photons,
            "judged_crops": len(rows),
            "judged_images": len({row["name"] for row in rows}),
            "sampler": rows[0]["parts"]["sampler"],
            "by_calibration_of": dict(Counter(f"{c.photons:g} photons" for c in taken)),
            "nominal_coverage": nominal_coverage(rows),
            **figures(rows, factors, width),
        }
        say(f"{task}: {report[task]['coverage']:.3f}, {report[task]['passed']}")
    publish(
        {
            "what": __doc__,
            "level": LEVEL,
            "gate": GATE,
            "tasks": report,
            "seconds": time.perf_counter() - begin,
            "machine": machine(),
        },
        out,
    )


@app.command
def join(sources: list[Path], /, *, out: Path | None = None) -> None:
    """Put the results of tasks that were run apart into one.

    Parameters
    ----------
    sources
        JSON files of this benchmark with the same settings; of a task in several the last counts.
    out
        File for the JSON.
    """
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in sources]
    for name in ("level", "size", "samples", "prior", "gate"):
        if any(part[name] != parts[0][name] for part in parts):
            raise SystemExit(f"the files differ in {name!r}; join runs with the same settings")
    tasks = {task: found for part in parts for task, found in part["tasks"].items()}
    ordered = {task: tasks[task] for task in TASKS if task in tasks}
    seconds = sum(part["seconds"] for part in parts)
    publish({**parts[0], "what": __doc__, "tasks": ordered, "seconds": seconds}, out)


if __name__ == "__main__":
    app()
