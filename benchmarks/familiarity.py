"""Does the score of unfamiliar images tell fluorescence from other images? As JSON.

    python benchmarks/familiarity.py --data FOLDER [--others NAME=FOLDER ...] [--photons 30]
        [--size 192] [--restore 24] [--samples 2]
        [--sampler diffpir] [--steps 40] [--work DIR] [--out FILE]

Fluorescence: a crop of each clean image in FOLDER/eval/clean and FOLDER/eval/denoise; natural
images: one of each in FOLDER/eval/natural; further kinds from folders of PNG or JPEG. Colours are
averaged. None was used in fitting the score (tools/familiarity_fit.py). Each crop is judged as it
is, and some restored: its 99.8th percentile at so many photons over a background of 1, blurred by a
Gaussian PSF of sigma 2 px, Poisson noise.

Gate: at most 5 % of the fluorescence is flagged, at least 90 % of the other kinds together.

For the committed figures: ``em``, the even-numbered test images of the ISBI 2012 challenge (serial
section electron microscopy of a fly's nerve cord; in github.com/zhixuhao/unet, data/membrane/test);
``brightfield``, the twelve colour images (stained tissue) of the Data Science Bowl 2018, stage 1
test (github.com/yuanqing811/DSB2018_stage1_test).

What was restored is kept in ``--work``; the same command goes on from there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import skimage.io
import torch
from _common import Array, best_crop, clean_images, machine, photons, publish, say
from cyclopts import App, Parameter

import napari_dps
from napari_dps.recipe import Recipe

GATE = {"fluorescence": 0.05, "others": 0.9}
BACKGROUND = 1.0
Words = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)]
app = App(help="Share of images flagged as unfamiliar, by kind, as JSON.")


def gray(path: Path) -> Array:
    """Return an image as floats, colours averaged."""
    image = skimage.io.imread(path)
    image = image[..., :3].mean(-1) if image.ndim == 3 else image
    return image.astype(np.float64)


def listed(folder: Path) -> list[Path]:
    """Return the images of a folder."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg"))


def restored(crop: Array, recipe: Recipe, peak: float, seed: int, keep: Path) -> Array:
    """Return the samples that restore a blurred and noisy crop, now or from before."""
    if keep.exists():
        return np.asarray(np.load(keep), dtype=np.float64)
    scene = photons(crop, peak, BACKGROUND, (slice(None), slice(None)))
    measured = napari_dps.simulate(scene, recipe, seed=seed)
    result = napari_dps.reconstruct(measured, recipe)
    keep.parent.mkdir(parents=True, exist_ok=True)
    np.save(keep, result.samples)
    return np.asarray(result.samples, dtype=np.float64)


@app.default
def main(
    *,
    data: Path,
    others: Words = (),
    photons: float = 30.0,
    size: int = 192,
    samples: int = 2,
    sampler: str = "diffpir",
    steps: int = 40,
    restore: int = 24,
    work: Path = Path("familiarity-work"),
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    data
        Folder with eval/clean, eval/denoise and eval/natural.
    others
        Further kinds, each NAME=FOLDER.
    photons
        Of the brightest pixels, in what is restored.
    size
        Side of the crops.
    samples
        Posterior samples a crop.
    sampler
        Sampler.
    steps
        Its steps.
    restore
        How many crops of fluorescence to restore, and half as many of every other kind.
    work
        Folder for what was restored.
    out
        File for the JSON.
    """
    from napari_dps.priors._folder import load_prior
    from napari_dps.priors.fluorescence import FOLDER
    from napari_dps.uncertainty.verdict.familiarity import Model, asked

    kinds = {"fluorescence": clean_images(data), "natural": listed(data / "eval" / "natural")}
    kinds |= {name: listed(Path(folder)) for name, folder in (o.split("=", 1) for o in others)}
    recipe = Recipe(
        forward={"kind": "gaussian-blur", "sigma": 2.0},
        noise="poisson",
        sampler={"kind": sampler, "steps": steps},
        samples=samples,
    )
    begin = time.perf_counter()
    crops, draws = [], {}
    for kind, paths in kinds.items():
        most = restore if kind == "fluorescence" else restore // 2
        wanted = np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int).tolist()
        for k, path in enumerate(paths):
            crop = best_crop(gray(path), size, seed=k)
            crops.append((kind, path.stem, crop))
            if k in wanted:
                name = f"{kind}-{path.stem}-{photons:g}-{size}-{sampler}{steps}x{samples}.npy"
                draws[kind, path.stem] = restored(crop, recipe, photons, k, work / name)
                say(f"  restored {kind} {path.stem}")
    model = Model.load(Recipe(prior="fluorescence").prior)
    if model is None:
        raise SystemExit(f"{FOLDER} has no score for these weights: tools/familiarity_fit.py")
    denoise = asked(load_prior(FOLDER), torch.zeros(1, 1, size, size))
    rows = []
    for kind, name, crop in crops:
        row: dict[str, Any] = {"kind": kind, "name": name}
        row["clean"] = model.score(crop[None], denoise)
        if (kind, name) in draws:
            row["restored"] = model.score(draws[kind, name].mean(0)[None], denoise)
        rows.append(row)
    hows = ("clean", "restored") if draws else ("clean",)
    publish(
        {
            "what": __doc__,
            "photons": photons,
            "size": size,
            "sampler": {"kind": sampler, "steps": steps, "samples": samples},
            "threshold": model.threshold,
            "gate": GATE,
            "flagged": {how: flagged(rows, how, model.threshold) for how in hows},
            "rows": rows,
            "seconds": time.perf_counter() - begin,
            "machine": machine(),
        },
        out,
    )


def flagged(rows: list[dict[str, Any]], how: str, threshold: float) -> dict[str, Any]:
    """Return the share flagged by kind, and whether the gate is met."""
    judged = [row for row in rows if how in row]
    shares: dict[str, Any] = {}
    for kind in dict.fromkeys(row["kind"] for row in judged):
        scores = np.array([row[how] for row in judged if row["kind"] == kind])
        shares[kind] = {"images": len(scores), "flagged": float((scores > threshold).mean())}
    rest = [row[how] > threshold for row in judged if row["kind"] != "fluorescence"]
    shares["others"] = {"images": len(rest), "flagged": float(np.mean(rest))}
    shares["passed"] = bool(
        shares["fluorescence"]["flagged"] <= GATE["fluorescence"]
        and shares["others"]["flagged"] >= GATE["others"]
    )
    return shares


if __name__ == "__main__":
    app()
