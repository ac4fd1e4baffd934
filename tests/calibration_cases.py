"""Results whose spread is wrong by a known factor, and calibrations of them; in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_dps.image import Image
from napari_dps.recipe import Recipe
from napari_dps.result import Result
from napari_dps.uncertainty.calibration import Calibration, parts_of
from napari_dps.uncertainty.scoring import combine, score

SIDE, SIGMA, SAMPLES = 16, 0.4, 20
RECIPE = Recipe(
    noise={"kind": "gaussian", "sigma": SIGMA},
    prior={"kind": "gaussian", "std": 0.5},
    sampler={"kind": "pigdm", "steps": 12},
    samples=SAMPLES,
    intensity={"scale": 2.0, "background": -1.0},
)
QUICK = RECIPE.with_parts(sampler={"kind": "pigdm", "steps": 5}, samples=4)
REPORT = {
    "chi2": [1.0] * SAMPLES,
    "scale": [2.0],
    "noise": {"sigma": SIGMA, "sigma_error": 0.0},
    "prior": RECIPE.prior.identity(),
    "sampler": "pigdm",
}


def drawn(rng: np.random.Generator, wrong: float = 0.5) -> tuple[Result, np.ndarray]:
    """Return a result whose spread is wrong by a factor, and its truth; in closed form.

    White prior of mean 0, identity, Gaussian noise: each pixel has the same posterior variance.
    """
    truth = 0.5 * rng.standard_normal((SIDE, SIDE))
    y = truth + SIGMA * rng.standard_normal((SIDE, SIDE))
    gain = 0.25 / (0.25 + SIGMA**2)
    std = (gain * SIGMA**2) ** 0.5
    samples = gain * y + wrong * std * rng.standard_normal((SAMPLES, SIDE, SIDE))
    return Result.from_image(samples, Image.from_array(y), RECIPE, REPORT), truth


def fitted(count: int, wrong: float = 0.5, **changed: Any) -> Calibration:
    rng = np.random.default_rng(0)
    records = [score(*drawn(rng, wrong), misfit=1.0, seed=k) for k in range(count)]
    parts = parts_of(RECIPE, REPORT, SAMPLES) | changed
    return Calibration(
        parts=parts, images=count, size=SIDE, sources={"prior": count}, seed=0, photons=1.0,
        background=-1.0, **combine(records),
    )  # fmt: skip
