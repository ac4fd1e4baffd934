"""Deblurring photon-starved images: ours against Wiener, Richardson-Lucy and DPS, as JSON.

    python benchmarks/restore.py --data FOLDER [--images N] [--peaks 5 --peaks 30] [--samples 8]
        [--sampler KIND] [--prior KIND_OR_FOLDER] [--dps] [--ledger FILE] [--out FILE]
    python benchmarks/restore.py join FILE... --out FILE

FOLDER holds eval/clean and eval/denoise. One seeded crop of 128x128 pixels an image; its 99.8th
percentile is at ``peak`` photons over a background of 1; Gaussian PSF of sigma 2 px, simulated on
a larger crop so that light from outside the field comes in; Poisson noise. PSNR and SSIM against
the crop; data range: the crop's maximum minus its minimum. Every image is a line of the ledger: a
run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from _common import (
    Array,
    Watcher,
    best_crop,
    clean_images,
    machine,
    mean_of,
    paired,
    photons,
    publish,
    read,
    say,
    stopped_richardson_lucy,
    wiener_filters,
)
from _ledger import Ledger
from cyclopts import App, Parameter

import napari_dps
from napari_dps.demo._baselines import Blur, best_by
from napari_dps.evaluate import coverage, psnr, spread_skill, ssim
from napari_dps.forward.gaussian_blur import GaussianBlur
from napari_dps.recipe import Recipe
from napari_dps.result import Result

SIDE, SIGMA, BACKGROUND = 128, 2.0, 1.0
MARGIN = 16
INNER = (slice(MARGIN, -MARGIN),) * 2
FORWARD = {"kind": "gaussian-blur", "sigma": SIGMA}
SCALES = (0.1, 0.3, 1.0)
SMALLEST_SCALE, LARGEST_SCALE = 1e-3, 100.0
app = App(help="Deblurring photon-starved images, as JSON.")


def measure(
    image: Array, peak: float, seed: int, crop_seed: int = 0, side: int = SIDE
) -> tuple[Array, Array]:
    """Return (counts, truth) of an image's crop."""
    wide = photons(best_crop(image, side, MARGIN, crop_seed), peak, BACKGROUND, INNER)
    counts = napari_dps.simulate(wide, seed=seed, forward=FORWARD, noise="poisson")
    return counts[INNER].astype(np.float64), wide[INNER]


def score(row: dict[str, Any], name: str, image: Array, truth: Array) -> None:
    """Put a method's figures into a row."""
    row[name] = psnr(image, truth)
    row[f"{name}_ssim"] = ssim(image, truth)


def restore(counts: Array, label: str, samples: int, sampler: Any, prior: Any) -> Result:
    """Return our restoration."""
    return napari_dps.reconstruct(
        counts,
        forward=FORWARD,
        noise="poisson",
        prior=prior,
        sampler=sampler,
        samples=samples,
        on_step=Watcher(label),
    )


def classical(row: dict[str, Any], counts: Array, truth: Array) -> None:
    """Put the figures of input, Wiener and Richardson-Lucy into a row."""
    blur = Blur(GaussianBlur(sigma=SIGMA).psf(), (SIDE, SIDE))
    score(row, "input", counts, truth)
    filters = wiener_filters(counts, blur)
    fitting = [image for _, image, chi2 in filters if chi2 <= 1]
    score(row, "wiener", fitting[0] if fitting else filters[-1][1], truth)
    score(row, "wiener_best", max((f[1] for f in filters), key=lambda i: psnr(i, truth)), truth)
    image, row["rl_iterations"], row["rl_chi2"] = stopped_richardson_lucy(counts, blur)
    score(row, "rl_stopped", image, truth)
    image, row["rl_best_iterations"] = best_by(counts, blur, truth)
    score(row, "rl_best", image, truth)


def ours(
    row: dict[str, Any], counts: Array, truth: Array, *, samples: int, sampler: Any, prior: Any
) -> None:
    """Put the figures of our restoration into a row."""
    begin = time.perf_counter()
    label = f"{Path(row['image']).stem}, {row['peak']:g} photons"
    result = restore(counts, label, samples, sampler, prior)
    row["seconds"] = time.perf_counter() - begin
    score(row, "ours", result.mean.astype(np.float64), truth)
    row["ours_one_sample"] = psnr(result.samples[0], truth)
    row["chi2"] = result.report["misfit"]
    row["network_calls"] = result.report["network_calls"]
    if samples > 1:
        row["coverage"] = coverage(result.samples, truth, (samples - 1) / (samples + 1))
        row["spread_over_error"] = spread_skill(result.samples, truth, pairs=result.pairs)


def tuned_scale(
    image: Array, peak: float, steps: int, prior: Any, likelihood: str, scales: tuple[float, ...]
) -> float:
    """Return the DPS step length that restores a crop kept for tuning best, with one sample.

    Where the best is the largest or the smallest tried, a three times larger or smaller follows.
    """
    counts, truth = measure(image, peak, seed=999, crop_seed=1)
    found: dict[float, float] = {}
    waiting = list(scales)
    while waiting:
        scale = waiting.pop(0)
        choice = {"kind": "dps", "steps": steps, "scale": scale, "likelihood": likelihood}
        try:
            result = restore(counts, f"tuning {steps} steps, scale {scale}", 1, choice, prior)
        except napari_dps.errors.DPSError as error:
            say(f"  scale {scale}: {error}")
            found[scale] = float("-inf")
        else:
            found[scale] = psnr(result.mean, truth)
            say(f"  {steps} steps, scale {scale}: {found[scale]:.2f} dB")
        if not waiting:
            best = max(found, key=lambda scale: found[scale])
            if best == max(found) and best < LARGEST_SCALE:
                waiting.append(3 * best)
            elif best == min(found) and best > SMALLEST_SCALE:
                waiting.append(best / 3)
    return max(found, key=lambda scale: found[scale])


@app.default
def main(
    *,
    data: Path,
    images: int | None = None,
    peaks: Annotated[tuple[float, ...], Parameter(negative="", consume_multiple=True)] = (
        5.0,
        30.0,
        300.0,
    ),
    samples: int = 8,
    sampler: str = "auto",
    prior: str = "fluorescence",
    dps: bool = False,
    dps_steps: Annotated[tuple[int, ...], Parameter(negative="", consume_multiple=True)] = (
        100,
        1000,
    ),
    dps_samples: int = 8,
    dps_images: int | None = None,
    dps_scales: Annotated[
        tuple[float, ...], Parameter(negative="", consume_multiple=True)
    ] = SCALES,
    dps_likelihood: str = "auto",
    ledger: Path | None = None,
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    data
        Folder with eval/clean and eval/denoise.
    images
        How many images; all where left out.
    peaks
        Photons at the 99.8th percentile.
    samples
        Posterior samples of ours.
    sampler
        Sampler of ours.
    prior
        Prior of all: a kind, or the folder of a checkpoint.
    dps
        Run DPS as published beside it, its scale tuned on another crop of the first image.
    dps_steps, dps_samples, dps_likelihood
        Its steps, samples and likelihood.
    dps_images
        Run it on so many images only; a thousand steps take minutes each.
    dps_scales
        Step lengths to begin the choice with.
    ledger
        File that keeps each image's figures.
    out
        File for the JSON.
    """
    source: Any = {"kind": "checkpoint", "path": prior} if Path(prior).is_dir() else prior
    paths = clean_images(data, images)
    recipe = Recipe(forward=FORWARD, noise="poisson", prior=source, sampler=sampler)
    settings = {
        "samples": samples,
        "sampler": recipe.sampler.model_dump(mode="json"),
        "prior": recipe.prior.identity(),
        "dps": [dps_steps, dps_scales, dps_likelihood, dps_samples, dps_images] if dps else None,
    }
    done = Ledger(ledger, settings, ("image", "peak"))
    scales: dict[str, float] = {}
    for peak in peaks:
        for steps in dps_steps if dps else ():
            best = tuned_scale(read(paths[0]), peak, steps, source, dps_likelihood, dps_scales)
            scales[f"{peak:g} photons, {steps} steps"] = best
        for number, path in enumerate(paths):
            row: dict[str, Any] = {"image": path.name, "peak": peak}
            if row in done:
                continue
            counts, truth = measure(read(path), peak, seed=number)
            classical(row, counts, truth)
            ours(row, counts, truth, samples=samples, sampler=sampler, prior=source)
            wanted = dps and (dps_images is None or number < dps_images)
            for steps in dps_steps if wanted else ():
                choice = {
                    "kind": "dps",
                    "steps": steps,
                    "scale": scales[f"{peak:g} photons, {steps} steps"],
                    "likelihood": dps_likelihood,
                }
                other = restore(counts, f"dps {steps}", dps_samples, choice, source)
                score(row, f"dps_{steps}", other.mean.astype(np.float64), truth)
            done.add(row)
            say(
                f"{path.name} at {peak:g}: input {row['input']:.2f}, Richardson-Lucy "
                f"{row['rl_stopped']:.2f} stopped, {row['rl_best']:.2f} best, ours "
                f"{row['ours']:.2f} dB, {row['seconds']:.0f} s"
            )
    rows = [done[{"image": path.name, "peak": peak}] for peak in peaks for path in paths]
    methods = ["input", "wiener", "wiener_best", "rl_stopped", "rl_best", "ours"]
    methods += [f"dps_{steps}" for steps in dps_steps] if dps else []
    publish(
        {
            "what": __doc__,
            "interval": (samples - 1) / (samples + 1) if samples > 1 else None,
            "samples": samples,
            "sampler": sampler,
            "prior": prior,
            "psf_sigma_px": SIGMA,
            "dps_scales": scales,
            "summary": summary(rows, methods),
            "rows": rows,
            "machine": machine(),
        },
        out,
    )


def summary(rows: list[dict[str, Any]], methods: list[str]) -> dict[str, Any]:
    """Return what the rows of each peak say together."""
    found = {}
    for peak in sorted({row["peak"] for row in rows}):
        part = [row for row in rows if row["peak"] == peak]
        found[f"{peak:g}"] = {
            "psnr": {name: mean_of(part, name) for name in methods},
            "ssim": {name: mean_of(part, f"{name}_ssim") for name in methods},
            "gain_over": {n: paired(part, "ours", n) for n in methods if n != "ours"},
            "seconds_per_image": mean_of(part, "seconds"),
            "coverage": mean_of(part, "coverage"),
            "spread_over_error": mean_of(part, "spread_over_error"),
            "chi2": mean_of(part, "chi2"),
        }
    return found


@app.command
def join(sources: list[Path], /, *, out: Path | None = None) -> None:
    """Put the results of several peaks, run at the same time, into one.

    Parameters
    ----------
    sources
        JSON files of this benchmark with the same settings.
    out
        File for the JSON.
    """
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in sources]
    same = ("interval", "samples", "sampler", "prior", "psf_sigma_px")
    for name in same:
        if any(part[name] != parts[0][name] for part in parts):
            raise SystemExit(f"the files differ in {name!r}; join runs with the same settings")
    rows = [row for part in parts for row in part["rows"]]
    methods = list(next(iter(parts[0]["summary"].values()))["psnr"])
    publish({**parts[0], "summary": summary(rows, methods), "rows": rows}, out)


if __name__ == "__main__":
    app()
