"""Does the verdict notice what is wrong, and is it silent where nothing is? Printed as JSON.

Each case restores ten crops of clean images, blurred by a Gaussian PSF of 2 pixels and measured
with Poisson noise, under a recipe that is right or wrong in one thing:

- ``right``: nothing. At most 1 of 10 may raise an alarm.
- ``gain``: the gain is held at twice the truth. Always noticed, and named.
- ``wide``: the PSF is taken 30 % too wide. Noticed in at least 8 of 10, and named.
- ``narrow``: the PSF is taken 30 % too narrow. A blurrier object explains the data as well, so
  nothing can be noticed; the verdict must say so.

The images are binned to pixels near Nyquist's, as cameras are set up, and have detail at the scale
of the PSF. Of an object without any, a PSF 30 % too wide predicts the same measurement within the
noise: ``refit`` is the chi-square that is left if a non-negative object is refitted to noise-free
data under the wrong PSF, with all the freedom that non-negativity leaves. Where it is not far above
ten, no look at the residual can tell; ``--any-image`` takes images as they come.

What was restored is kept in ``--work``; the same command goes on from there, and judges anew.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from _common import Array, best_crop, clean_images, machine, photons, publish, read, say
from _ledger import Ledger
from cyclopts import App, Parameter
from scipy.ndimage import gaussian_filter

from napari_dps.api import Run
from napari_dps.core.problem import Problem
from napari_dps.grid import Grid
from napari_dps.recipe import Recipe
from napari_dps.uncertainty.verdict._fit import fit
from napari_dps.uncertainty.verdict._residuals import Residuals
from napari_dps.uncertainty.verdict.datafit import data_fit

SIGMA, PEAK, BACKGROUND, REACH = 2.0, 300.0, 1.0, 12
CASES: dict[str, tuple[float, float]] = {
    "wide": (1.3, 1.0),
    "right": (1.0, 1.0),
    "gain": (1.0, 2.0),
    "narrow": (1 / 1.3, 1.0),
}
"""Assumed over true width of the PSF, and gain."""
DETAILED = (
    "bbbc007_A9p7d",
    "acsn_microtubules_clean",
    "bacteria_cv7_clean",
    "bacteria_cv9_clean",
    "fmd_confocal_fish3_clean",
    "fmd_widefield_bpae_G_clean",
    "hagen_actin-20x-noise1_clean",
    "nuctrack_clean",
    "rcan3d_actin_clean",
    "rcan3d_tomm20_mito_clean",
)
"""All images whose ``refit`` is above 25."""
Words = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)]
app = App(help="What the verdict notices, as JSON.")


def binned(image: Array, factor: int) -> Array:
    """Return the means of blocks of pixels."""
    rows, columns = (n // factor * factor for n in image.shape)
    cut = image[:rows, :columns]
    return cut.reshape(rows // factor, factor, columns // factor, factor).mean((1, 3))


def scene(path: Path, factor: int, size: int) -> Array:
    """Return an object in photoelectrons, `REACH` pixels larger than the field on each side."""
    wide = best_crop(binned(read(path), factor), size, REACH, seed=0)
    inner = (slice(REACH, -REACH),) * 2
    return photons(wide, PEAK, BACKGROUND, inner)


def blurred(scene: Array, sigma: float) -> Array:
    """Return the expected measurement of a scene, on its own grid."""
    return np.asarray(gaussian_filter(scene, sigma, truncate=5.0))


def refit(scene: Array, assumed: float, iterations: int = 600) -> float:
    """Return the chi-square that a refitted non-negative object leaves in noise-free data."""
    inner = (slice(REACH, -REACH),) * 2
    z, seen = blurred(scene, SIGMA), np.zeros_like(scene)
    seen[inner] = 1
    x, norm = z.copy(), np.maximum(blurred(seen, assumed), 1e-3)
    for _ in range(iterations):
        x *= blurred(seen * z / np.maximum(blurred(x, assumed), 1e-9), assumed) / norm
    return float(((z - blurred(x, assumed)) ** 2 / z)[inner].sum())


def recipe_of(case: str, samples: int, seed: int) -> Recipe:
    """Return the recipe of a case, as it is handed to a run."""
    width, gain = CASES[case]
    return Recipe(
        forward={"kind": "gaussian-blur", "sigma": SIGMA * width},
        noise={"kind": "poisson", "gain": gain},
        samples=samples,
        seed=seed,
    )


def restored(scene: Array, case: str, number: int, samples: int) -> dict[str, Any]:
    """Restore a scene; return the measurement and the expectations of the samples."""
    z = blurred(scene, SIGMA)[REACH:-REACH, REACH:-REACH]
    y = np.random.default_rng(100 + number).poisson(z).astype(np.float32)
    begin = time.perf_counter()
    run = Run(y, recipe_of(case, samples, number), device="cpu")
    kept: list[torch.Tensor] = []
    add = Residuals.add

    def keep(self: Residuals, problem: Any, z: torch.Tensor, items: Any) -> None:
        kept.append(z.float())
        add(self, problem, z, items)

    Residuals.add = keep  # type: ignore[method-assign]
    try:
        for _ in run:
            pass
    finally:
        Residuals.add = add  # type: ignore[method-assign]
    result = run.result()
    return {
        "seconds": time.perf_counter() - begin,
        "sampler": result.report["sampler"],
        "y": pack(run._problem.y[0, 0].numpy()),
        "z": [pack(image[0].numpy()) for image in torch.cat(kept)],
        "sentence": result.report["verdict"]["findings"]["data_fit"]["sentence"],
    }


def pack(array: Any) -> str:
    """Return an array as text, in single precision."""
    return base64.b64encode(np.asarray(array, dtype="<f4").tobytes()).decode()


def unpack(text: str, size: int) -> torch.Tensor:
    """Return the picture in a text of :func:`pack`."""
    flat = np.frombuffer(base64.b64decode(text), dtype="<f4").reshape(1, 1, size, size)
    return torch.from_numpy(flat.copy())


def judged(row: dict[str, Any], size: int, samples: int) -> dict[str, Any]:
    """Return the verdict on what was restored, as a run itself gives it."""
    recipe = recipe_of(row["case"], samples, row["number"])
    likelihood = recipe.noise.bind(Grid((size, size), None, "cpu", "float32"))
    unused: Any = None
    problem = Problem(unpack(row["y"], size), unused, unused, likelihood)
    residuals = Residuals(recipe.seed)
    z = torch.cat([unpack(text, size) for text in row["z"]])
    residuals.add(problem, z, [(s, 0) for s in range(len(z))])
    found = data_fit(fit(residuals.frames[0], problem), recipe)
    numbers = found.numbers
    return {
        "case": row["case"],
        "image": row["image"],
        "alarm": found.alarm,
        "suspects": numbers["suspects"],
        "sentence": found.sentence,
        "chi2": numbers["chi2"]["value"],
        "noise_variance": numbers["noise_variance"]["value"],
        "structure": numbers["structure"],
        "psf_width": numbers["psf_width"]["z"],
        "seconds": row["seconds"],
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how often each case was noticed and named, and whether the gate is met."""
    found: dict[str, Any] = {}
    for case in CASES:
        own = [row for row in rows if row["case"] == case]
        if own:
            named = {"gain": "gain", "wide": "psf"}.get(case)
            found[case] = {
                "runs": len(own),
                "alarms": sum(row["alarm"] for row in own),
                "named": sum(named in row["suspects"] for row in own) if named else None,
                "says_blind": sum("cannot be seen" in row["sentence"] for row in own),
            }
    gate: dict[str, bool] = {}
    if "right" in found:
        gate["right"] = found["right"]["alarms"] <= 0.1 * found["right"]["runs"]
    if "gain" in found:
        gate["gain"] = found["gain"]["named"] == found["gain"]["runs"]
    if "wide" in found:
        gate["wide"] = found["wide"]["alarms"] >= 0.8 * found["wide"]["runs"]
    if "narrow" in found:
        quiet = found["narrow"]["runs"] - found["narrow"]["alarms"]
        gate["narrow"] = found["narrow"]["says_blind"] >= quiet
    return {"cases": found, "passed": gate}


@app.default
def main(
    *,
    data: Path,
    cases: Words = tuple(CASES),
    images: int = 10,
    any_image: bool = False,
    size: int = 64,
    samples: int = 4,
    work: Path = Path("verdict-work"),
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    data
        Folder with eval/clean and eval/denoise.
    cases
        Which of right, gain, wide, narrow.
    images
        How many.
    any_image
        Take images spread over all, not binned, whether they have detail or not.
    size
        Side of the crops.
    samples
        Posterior samples a run.
    work
        Folder for what was restored.
    out
        File for the JSON.
    """
    torch.set_num_threads(1)
    every = clean_images(data)
    chosen = [p for name in DETAILED for p in every if p.stem == name][:images]
    if any_image:
        chosen = [every[k * len(every) // images] for k in range(images)]
    factor = 1 if any_image else 2
    settings = {"size": size, "samples": samples, "binned": factor, "sigma": SIGMA, "peak": PEAK}
    ledger = Ledger(work / f"verdict-{factor}.jsonl", settings, ("case", "image"))
    scenes = [scene(path, factor, size) for path in chosen]
    for number, path in enumerate(chosen):
        for case in cases:
            cell = {"case": case, "image": path.stem, "number": number}
            if cell not in ledger:
                ledger.add({**cell, **restored(scenes[number], case, number, samples)})
                say(f"{case}, {path.stem}: {ledger[cell]['seconds']:.0f} s")
    cells = [{"case": c, "image": p.stem} for c in cases for p in chosen]
    rows = [judged(ledger[cell], size, samples) for cell in cells]
    publish(
        {
            "what": __doc__,
            "settings": settings,
            "any_image": any_image,
            "sampler": ledger[cells[0]]["sampler"],
            "refit": {p.stem: refit(s, 1.3 * SIGMA) for p, s in zip(chosen, scenes, strict=True)},
            **summary(rows),
            "runs": rows,
            "machine": machine(),
        },
        out,
    )


if __name__ == "__main__":
    app()
