"""Phase retrieval from photon counts: ours against hybrid input-output, as JSON.

    python benchmarks/phase.py --data FOLDER [--images 10] [--totals 1e4 --totals 1e5] [--out FILE]

Objects: 64x64 crops of FOLDER/eval/clean and clean halves of FOLDER/eval/denoise, real and
non-negative; far field on 128x128 pixels; Poisson counts, ``total`` photons in all. Both methods
get as many restarts and rank them by misfit (chi-square per datum). PSNR after registration (flip,
shift) and one fitted gain; data range: the truth's maximum minus its minimum.
"""

from __future__ import annotations

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
    publish,
    read,
    say,
)
from cyclopts import App, Parameter

import napari_dps
from napari_dps.demo import fit_one_gain
from napari_dps.demo._baselines import counts_misfit, far_field_intensity, hio
from napari_dps.evaluate import psnr
from napari_dps.uncertainty.registration import register

SIDE, GOOD = 64, 25.0
FORWARD = {"kind": "phase-retrieval", "oversampling": 2.0}
app = App(help="Phase retrieval from photon counts, as JSON.")


def measure(
    image: Array, total: float, seed: int, crop_seed: int = 0, side: int = SIDE
) -> tuple[Array, Array]:
    """Return (counts, object) with ``total`` photons expected in all."""
    truth = best_crop(image, side, seed=crop_seed)
    low, high = np.percentile(truth, [0.5, 99.8])
    truth = np.clip((truth - low) / (high - low), 0, None)
    truth *= np.sqrt(total / (truth**2).sum())
    counts = napari_dps.simulate(truth, seed=seed, forward=FORWARD, noise="poisson")
    return counts.astype(np.float64), truth


def registered_psnr(estimate: Array, truth: Array) -> float:
    """Return the PSNR after registration and one fitted gain."""
    fitted = register(estimate.astype(np.float64), truth)
    return psnr(fit_one_gain(fitted, truth) * fitted, truth)


@app.default
def main(
    *,
    data: Path,
    images: int = 10,
    totals: Annotated[tuple[float, ...], Parameter(negative="", consume_multiple=True)] = (
        1e4,
        1e5,
        1e6,
    ),
    samples: int = 4,
    sampler: str = "auto",
    prior: str = "fluorescence",
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    data
        Folder with eval/clean and eval/denoise.
    images
        How many objects.
    totals
        Photons in all.
    samples
        Samples of ours, and restarts of hybrid input-output.
    sampler, prior
        Of ours; prior: a kind, or the folder of a checkpoint.
    out
        File for the JSON.
    """
    source: Any = {"kind": "checkpoint", "path": prior} if Path(prior).is_dir() else prior
    rows: list[dict[str, Any]] = []
    for total in totals:
        for number, path in enumerate(clean_images(data, images)):
            counts, truth = measure(read(path), total, seed=number)
            expected = far_field_intensity(truth, (2 * SIDE, 2 * SIDE))
            begin = time.perf_counter()
            result = napari_dps.reconstruct(
                counts,
                forward=FORWARD,
                noise="poisson",
                prior=source,
                sampler=sampler,
                samples=samples,
                on_step=Watcher(f"{path.stem}, {total:g} photons"),
            )
            seconds = time.perf_counter() - begin
            found, misfits = hio(counts, (SIDE, SIDE), restarts=samples, seed=number)
            # One misfit for both methods, computed here from the image that each gives.
            pattern = far_field_intensity(result.samples[0].astype(np.float64), counts.shape)
            row: dict[str, Any] = {
                "image": path.name,
                "total": total,
                "ours_chosen": registered_psnr(result.samples[0], truth),
                "ours_mean": registered_psnr(result.mean, truth),
                "ours_misfits": result.report["chi2"],
                "ours_chosen_misfit": float(counts_misfit(counts, pattern)),
                "hio_chosen": registered_psnr(found[0], truth),
                "hio_chosen_misfit": float(misfits[0]),
                "truth_misfit": float(counts_misfit(counts, expected)),
                "seconds": seconds,
            }
            row["misfit_over_noise"] = row["ours_chosen_misfit"] / row["truth_misfit"]
            rows.append(row)
            say(
                f"{path.name} at {total:g}: hybrid input-output {row['hio_chosen']:.1f}, ours "
                f"{row['ours_chosen']:.1f} chosen, {row['ours_mean']:.1f} mean (dB), misfit "
                f"{row['ours_chosen_misfit']:.2f}, {seconds:.0f} s"
            )
    summary = {}
    methods = ("hio_chosen", "ours_chosen", "ours_mean")
    for total in totals:
        part = [row for row in rows if row["total"] == total]
        summary[f"{total:g}"] = {
            "psnr": {name: mean_of(part, name) for name in methods},
            "above_25_db": {name: sum(r[name] > GOOD for r in part) for name in methods},
            "images": len(part),
            "gain_over_hio": paired(part, "ours_mean", "hio_chosen"),
            "largest_misfit_over_noise": max(r["misfit_over_noise"] for r in part),
            "seconds_per_image": mean_of(part, "seconds"),
        }
    publish(
        {
            "what": __doc__,
            "samples": samples,
            "sampler": sampler,
            "prior": prior,
            "summary": summary,
            "rows": rows,
            "machine": machine(),
        },
        out,
    )


if __name__ == "__main__":
    app()
