"""What 20 images of a new structure teach the shipped prior, printed as JSON.

    python benchmarks/finetune.py DATA [--structures er mitochondria tubulin] [--minutes 15]

DATA holds one folder of PNG images a structure. Twenty images are learned from; the others that
are judged come from other movies or fields of view, whose names differ before their last numbers,
and never take part in the training. One denoiser call at each noise level (prior units), before
and after; PSNR for a range of 2.
"""

from __future__ import annotations

import re
import tempfile
import time
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from _common import machine, publish, say
from cyclopts import App, Parameter

from napari_dps.priors._folder import load_prior, prior_hash
from napari_dps.training.images import hash_share, load_images
from napari_dps.training.judge import LEVELS, add_noise, crops, denoise, psnr
from napari_dps.training.train import prior_folder, train

app = App(help="What 20 images of a new structure teach the shipped prior, as JSON.")


def field(path: Path) -> str:
    """Return the movie or field of view that an image was cut from: crops of one overlap."""
    name = re.sub(r"_h\d+_w\d+$", "", path.stem)
    return re.sub(r"(_frame_?|t)\d+.*$", "", name)


def split(folder: Path, count: int, judged: int) -> tuple[list[Path], list[Path]]:
    """Return files to learn from and files to judge by, of different fields, in turn from each."""
    fields: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.png")):
        fields.setdefault(field(path), []).append(path)
    names = sorted(fields, key=hash_share)
    if len(names) < 2:
        raise SystemExit(f"{folder} needs PNG images of two movies or fields at least")

    def take(part: list[str], number: int) -> list[Path]:
        rounds = zip_longest(*(fields[name] for name in part))
        return [path for row in rounds for path in row if path is not None][:number]

    half = len(names) // 2
    return take(names[:half], count), take(names[half:], judged)


def figures(prior: Path, truths: list[Any]) -> dict[str, list[float]]:
    """Return the PSNR of every image by noise level."""
    network = load_prior(prior)
    return {
        f"{level:g}": [
            psnr(denoise(network, add_noise(truth, level, k), level), truth)
            for k, truth in enumerate(truths)
        ]
        for level in LEVELS
    }


def compare(before: list[float], after: list[float]) -> dict[str, float]:
    """Return the means and the paired gain with its standard error."""
    gain = np.subtract(after, before)
    error = gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else 0.0
    return {
        "before": round(float(np.mean(before)), 3),
        "after": round(float(np.mean(after)), 3),
        "gain": round(float(gain.mean()), 3),
        "standard_error": round(float(error), 3),
        "worst": round(float(gain.min()), 3),
    }


@app.default
def main(
    data: Path,
    /,
    *,
    structures: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (
        "er",
        "mitochondria",
        "tubulin",
    ),
    minutes: float = 15.0,
    steps: int | None = None,
    images: int = 20,
    judged: int = 20,
    start: str = "fluorescence",
    rate: float | None = None,
    synthetic: float | None = None,
    threads: int = 0,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Fine-tune on each structure.

    Parameters
    ----------
    data
        Folder of folders.
    structures
        Which of them.
    minutes
        Minutes of training for each.
    steps
        Steps instead of minutes.
    images
        Images to learn from.
    judged
        Images to judge by at most.
    start
        Prior to go on from: a folder, or fluorescence.
    rate, synthetic
        Learning rate and share of synthetic patches, instead of the defaults.
    threads
        Threads; 0 means one for each core.
    seed
        Seed of patches and noise.
    out
        File for the JSON as well.
    """
    origin = prior_folder(start)
    settings: dict[str, Any] = {"threads": threads, "seed": seed, "held_out": 0.0, "judged": 0}
    if rate is not None:
        settings["rate"] = rate
    if synthetic is not None:
        settings.update(phantoms=0.75 * synthetic, textures=0.25 * synthetic)
    report: dict[str, Any] = {
        "prior": prior_hash(origin),
        "images": images,
        "minutes": minutes if steps is None else None,
        "steps": steps,
        "machine": machine(),
        "structures": {},
    }
    for name in structures:
        learned, held = split(data / name, images, judged)
        truths = crops(load_images(held), len(held))
        before = figures(origin, truths)
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as run:
            prior = train(
                learned,
                run,
                start=start,
                steps=steps,
                minutes=None if steps is not None else minutes,
                settings=settings,
                on_note=say,
            )
            after = figures(prior, truths)
        report["structures"][name] = {
            "learned_from": len(learned),
            "judged": len(truths),
            "seconds": round(time.perf_counter() - begin, 1),
            "psnr": {level: compare(before[level], after[level]) for level in before},
        }
        say(f"{name}: gain at noise 0.25: {report['structures'][name]['psnr']['0.25']}")
    publish(report, out)


if __name__ == "__main__":
    app()
