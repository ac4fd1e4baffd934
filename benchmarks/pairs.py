"""Real noisy images against their clean halves: ours against BM3D with Anscombe, as JSON.

    python benchmarks/pairs.py --data FOLDER [--images N] [--crop 256] [--samples 8] [--out FILE]

Pairs fmd_*_noisy.png and fmd_*_clean.png of FOLDER/eval/denoise (one frame, and the mean of 50).
Gain, offset and read noise are estimated from the noisy crop alone, once, and both methods are
told the same. PSNR and SSIM against the clean half; data range: its maximum minus its minimum.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import Array, Watcher, machine, mean_of, paired, publish, read, say
from cyclopts import App

import napari_dps
from napari_dps.errors import DPSError
from napari_dps.evaluate import psnr, ssim

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


def bm3d_anscombe(noisy: Array, gain: float, offset: float, read_noise: float) -> Array:
    """Return BM3D's denoised image, in the input's unit."""
    import bm3d

    values = anscombe((noisy - offset) / gain, read_noise)
    low, span = float(values.min()), float(np.ptp(values))
    denoised = bm3d.bm3d((values - low) / span, 1 / span)
    return gain * inverse_anscombe(denoised * span + low, read_noise) + offset


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
        try:
            result = napari_dps.reconstruct(
                noisy,
                forward="identity",
                noise="poisson-gaussian",
                prior=source,
                sampler=sampler,
                samples=samples,
                on_step=Watcher(path.stem),
            )
        except DPSError as error:
            say(f"{path.name}: {error}")
            refused.append({"image": path.name, "reason": str(error)})
            continue
        seconds = time.perf_counter() - begin
        noise = result.recipe.noise
        classical = bm3d_anscombe(noisy, noise.gain, noise.offset, noise.read_noise)
        row: dict[str, Any] = {"image": path.name, "seconds": seconds}
        row["noise"] = {n: getattr(noise, n) for n in ("gain", "offset", "read_noise")}
        for name, image in (("input", noisy), ("bm3d", classical), ("ours", result.mean)):
            row[name], row[f"{name}_ssim"] = psnr(image, clean), ssim(image, clean)
        row["chi2"] = result.report["misfit"]
        rows.append(row)
        say(
            f"{path.name}: input {row['input']:.2f}, BM3D {row['bm3d']:.2f}, ours "
            f"{row['ours']:.2f} dB, {seconds:.0f} s"
        )
    methods = ("input", "bm3d", "ours")
    publish(
        {
            "what": __doc__,
            "crop": crop,
            "samples": samples,
            "prior": prior,
            "psnr": {name: mean_of(rows, name) for name in methods},
            "ssim": {name: mean_of(rows, f"{name}_ssim") for name in methods},
            "gain_over": {n: paired(rows, "ours", n) for n in methods[:2]} if rows else {},
            "rows": rows,
            "refused": refused,
            "machine": machine(),
        },
        out,
    )


if __name__ == "__main__":
    app()
