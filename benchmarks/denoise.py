"""One denoiser call against BM3D: PSNR on clean images at four noise levels, printed as JSON.

    python benchmarks/denoise.py IMAGES... [--prior FOLDER] [--crop 256] [--no-bm3d] [--out JSON]
    python benchmarks/denoise.py markdown JSON [--into PAGE.md]

Each image is scaled like a training image (0.5 and 99.8 percentiles to -1 and 1), its centre is
cropped, white Gaussian noise of the stated standard deviation in prior units is added, and both
methods are told that standard deviation. PSNR: peak-to-peak 2, the width of [-1, 1]. Structures are
read off the files' names; the second command writes the gain over BM3D of each as a table.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from _common import publish, structure_of
from _pages import markdown_command
from cyclopts import App, Parameter
from numpy.typing import NDArray

import napari_dps
from napari_dps.priors._folder import load_prior, prior_hash
from napari_dps.training.images import load_images

Array = NDArray[np.float64]
app = App(help="One denoiser call against BM3D, as JSON.")
SHIPPED = Path(napari_dps.__file__).parent / "priors" / "weights" / "fluorescence"


def psnr(estimate: Array, truth: Array) -> float:
    """Return the peak signal-to-noise ratio in dB for a range of 2."""
    return float(10 * np.log10(4.0 / np.mean((estimate - truth) ** 2)))


@app.default
def main(
    images: list[Path],
    /,
    *,
    prior: Path = SHIPPED,
    crop: int = 256,
    noise: Annotated[tuple[float, ...], Parameter(negative="")] = (0.05, 0.1, 0.25, 0.5),
    bm3d: bool = True,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Compare on images.

    Parameters
    ----------
    images
        Clean images, files or folders.
    prior
        Prior folder.
    crop
        Side of the central crop in pixels.
    noise
        Standard deviations in prior units.
    bm3d
        Run BM3D as well (extra 'bench').
    seed
        Seed of the noise.
    out
        File for the JSON; it is printed as well.
    """
    network = load_prior(prior)
    rows = []
    seconds = 0.0
    for index, source in enumerate(load_images([*images])):
        height, width = source.pixels.shape
        side = min(crop, height, width) // 8 * 8
        truth = source.patch((height - side) // 2, (width - side) // 2, side).astype(np.float64)
        for level in noise:
            rng = np.random.default_rng((seed, index, round(level * 1e6)))
            noisy = truth + level * rng.standard_normal(truth.shape)
            begin = time.perf_counter()
            with torch.no_grad():
                found = network(torch.as_tensor(noisy, dtype=torch.float32)[None, None], level)
            seconds += time.perf_counter() - begin
            row = {
                "image": index,
                "name": source.name,
                "structure": structure_of(source.name),
                "noise": level,
                "input": psnr(noisy, truth),
                "prior": psnr(found[0, 0].double().numpy(), truth),
            }
            if bm3d:
                row["bm3d"] = psnr(_bm3d(noisy, level), truth)
            rows.append(row)
    publish(
        {
            "prior": "fluorescence" if prior == SHIPPED else str(prior),
            "hash": prior_hash(prior),
            "seconds_per_call": round(seconds / len(rows), 4),
            "mean_psnr_db": summary(rows),
            "rows": rows,
        },
        out,
    )


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean PSNR of each method at each noise level."""
    methods = [key for key in ("input", "prior", "bm3d") if key in rows[0]]
    return {
        str(level): {
            method: round(float(np.mean([r[method] for r in rows if r["noise"] == level])), 2)
            for method in methods
        }
        for level in sorted({row["noise"] for row in rows})
    }


def table(report: dict[str, Any]) -> str:
    """Return the gain over BM3D in dB, by structure and noise level, as Markdown."""
    rows = report["rows"]
    levels = sorted({row["noise"] for row in rows})
    kinds = sorted({row["structure"] for row in rows})
    lines = [
        "| structure | images | " + " | ".join(f"noise {level:g}" for level in levels) + " |",
        "|---" * (2 + len(levels)) + "|",
    ]
    for kind in [*kinds, None]:
        chosen = [row for row in rows if kind in (None, row["structure"])]
        gains = [
            np.mean([row["prior"] - row["bm3d"] for row in chosen if row["noise"] == level])
            for level in levels
        ]
        count = len({row["name"] for row in chosen})
        cells = " | ".join(f"{gain:+.2f}" for gain in gains)
        lines.append(f"| {kind or '**all**'} | {count} | {cells} |")
    return "\n".join(lines)


markdown_command(app, table, "denoise")


def _bm3d(noisy: Array, level: float) -> Array:
    from bm3d import bm3d

    # BM3D's own constants assume a range of [0, 1].
    return np.asarray(bm3d((noisy + 1) / 2, sigma_psd=level / 2)) * 2 - 1


if __name__ == "__main__":
    app()
