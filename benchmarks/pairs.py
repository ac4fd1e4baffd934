"""Real noisy images against their clean halves: ours against BM3D with Anscombe, as JSON.

    python benchmarks/pairs.py --data FOLDER [--images N] [--crop 256] [--samples 8] [--out FILE]

Pairs fmd_*_noisy.png and fmd_*_clean.png of FOLDER/eval/denoise (one frame, and the mean of 50).
Gain, offset and read noise are estimated from the noisy crop alone, once, and both methods are
told the same; where the crop cannot tell them, its noise counts as Gaussian, and BM3D runs without
the transform. PSNR and SSIM against the clean half; data range: its maximum minus its minimum.
BM3D takes noise for white, and that of most of these images is correlated: ``bm3d_best`` is BM3D
at the noise level, from 1 to 4 times the estimate, that brings it closest to the clean half.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import Array, Watcher, machine, mean_of, paired, publish, read, say
from cyclopts import App

import napari_dps
from napari_dps.components import make
from napari_dps.errors import InputError
from napari_dps.evaluate import psnr, ssim

METHODS = ("input", "bm3d", "bm3d_best", "ours")
app = App(help="Real noisy images against their clean halves, as JSON.")


def anscombe(electrons: Array, read_noise: float) -> Array:
    """Return the generalised Anscombe transform: noise of standard deviation one."""
    return 2 * np.sqrt(np.maximum(electrons + 3 / 8 + read_noise**2, 0))


def inverse_anscombe(values: Array, read_noise: float) -> Array:
    """Return the exact unbiased inverse (Makitalo and Foi 2013), in its closed form."""
    v = np.maximum(values, 2 * np.sqrt(3 / 8))
    root = np.sqrt(3 / 2)
    electrons = v**2 / 4 + root / (4 * v) - 11 / (8 * v**2) + 5 * root / (8 * v**3) - 1 / 8
    return np.maximum(electrons, 0) - read_noise**2


def denoised(values: Array, sigma: float) -> Array:
    """Return BM3D's estimate of an image in white noise."""
    import bm3d

    low, span = float(values.min()), float(np.ptp(values))
    return np.asarray(bm3d.bm3d((values - low) / span, sigma / span) * span + low)


def classical(noisy: Array, noise: Any, factor: float = 1.0) -> Array:
    """Return BM3D's image in the input's unit, told ``factor`` times the resolved noise."""
    if noise.kind == "gaussian":
        return denoised(noisy, factor * noise.sigma)
    values = anscombe((noisy - noise.offset) / noise.gain, noise.read_noise)
    electrons = inverse_anscombe(denoised(values, factor), noise.read_noise)
    return noise.gain * electrons + noise.offset


@app.default
def main(
    *,
    data: Path,
    images: int | None = None,
    crop: int = 256,
    samples: int = 8,
    sampler: str = "auto",
    prior: str = "fluorescence",
    pattern: str = "fmd_*_noisy.png",
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    data
        Folder with eval/denoise.
    images
        How many pairs; all where left out.
    crop
        Side of the central crop.
    samples, sampler, prior
        Of ours; prior: a kind, or the folder of a checkpoint.
    pattern
        Which noisy images.
    out
        File for the JSON.
    """
    source: Any = {"kind": "checkpoint", "path": prior} if Path(prior).is_dir() else prior
    rows: list[dict[str, Any]] = []
    refused = []
    for path in sorted((data / "eval" / "denoise").glob(pattern))[:images]:
        noisy, clean = read(path), read(path.with_name(path.name.replace("_noisy", "_clean")))
        top, left = ((n - min(crop, n)) // 2 for n in noisy.shape)
        part = (slice(top, top + crop), slice(left, left + crop))
        noisy, clean = noisy[part], clean[part]
        begin = time.perf_counter()
        kind = "poisson-gaussian"
        try:
            make("noise", kind).resolve(noisy[None], {})
        except InputError as error:
            say(f"{path.name}: {error}")
            refused.append({"image": path.name, "reason": str(error)})
            kind = "gaussian"
        result = napari_dps.reconstruct(
            noisy,
            forward="identity",
            noise=kind,
            prior=source,
            sampler=sampler,
            samples=samples,
            on_step=Watcher(path.stem),
        )
        seconds = time.perf_counter() - begin
        noise = result.recipe.noise
        row: dict[str, Any] = {"image": path.name, "seconds": seconds}
        row["noise"] = noise.model_dump(mode="json")
        bm3d = classical(noisy, noise)
        louder = [classical(noisy, noise, factor) for factor in (1.5, 2.0, 3.0, 4.0)]
        best = max([bm3d, *louder], key=lambda image: psnr(image, clean))
        for name, image in zip(METHODS, (noisy, bm3d, best, result.mean), strict=True):
            row[name], row[f"{name}_ssim"] = psnr(image, clean), ssim(image, clean)
        row["chi2"] = result.report["misfit"]
        rows.append(row)
        say(
            f"{path.name}: input {row['input']:.2f}, BM3D {row['bm3d']:.2f} "
            f"({row['bm3d_best']:.2f} at best), ours {row['ours']:.2f} dB, {seconds:.0f} s"
        )
    publish(
        {
            "what": __doc__,
            "crop": crop,
            "samples": samples,
            "prior": prior,
            "psnr": {name: mean_of(rows, name) for name in METHODS},
            "ssim": {name: mean_of(rows, f"{name}_ssim") for name in METHODS},
            "gain_over": {n: paired(rows, "ours", n) for n in METHODS[:-1]} if rows else {},
            "rows": rows,
            "taken_for_gaussian": refused,
            "machine": machine(),
        },
        out,
    )


if __name__ == "__main__":
    app()
