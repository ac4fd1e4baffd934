"""A prior that is surer than it should be does not override the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_dps import reconstruct, simulate
from napari_dps.components import make
from napari_dps.core.likelihood import GaussianLikelihood
from napari_dps.core.operator import MappedOperator
from napari_dps.core.prior import Prior
from napari_dps.core.problem import Problem
from napari_dps.core.streams import Streams
from napari_dps.forward.identity import Identity
from napari_dps.grid import Grid

SIDE, NOISE, TAU = 16, 0.02, 0.3
DTYPE = torch.float64
ONE = torch.ones(1, 1, 1, 1, dtype=DTYPE)


class TooSure(Prior):
    """Sees through little noise, but takes for noise what varies by ``TAU`` under more of it."""

    data_std = TAU

    def __init__(self, learned: bool) -> None:
        super().__init__()
        self.learned = learned

    def forward(self, x, sigma):
        spread = TAU if sigma < 2 * NOISE else NOISE
        return x * spread**2 / (spread**2 + sigma**2)


def misfit(learned: bool) -> float:
    truth = TAU * Streams(0, [0], dtype=DTYPE).normal((1, SIDE, SIDE))
    y = truth + NOISE * Streams(1, [0], dtype=DTYPE).normal((1, SIDE, SIDE))
    operator = MappedOperator(Identity().bind(Grid((SIDE, SIDE), dtype="float64")), 2 * ONE, -ONE)
    problem = Problem(y, TooSure(learned), operator, GaussianLikelihood(NOISE), noise_level=NOISE)
    sampler = make("sampler", "mmps").bind(Grid((SIDE, SIDE), dtype="float64"))
    *_, last = sampler.sample(problem, 4, Streams(2, [0, 1, 2, 3], dtype=DTYPE))
    return float(last.misfit.mean())


def test_a_learned_prior_leaves_the_data_some_say() -> None:
    learned, at_its_word = misfit(True), misfit(False)
    assert at_its_word > 1.4  # 1.62: the data are not explained
    assert abs(learned - 1) < 0.5 * (at_its_word - 1)  # 1.21


@pytest.mark.parametrize(("sigma", "told"), [(0.1, True), (1.0, False)])
def test_noise_below_what_a_learned_prior_follows_is_told(sigma, told) -> None:
    rows, columns = np.mgrid[:24, :24]
    image = 20 + 100 * np.exp(-((rows - 11) ** 2 + (columns - 13) ** 2) / 20)
    recipe = {"forward": "identity", "noise": {"kind": "gaussian", "sigma": sigma}, "samples": 1}
    y = simulate(image, recipe)
    found = {}
    for prior in ("fluorescence", "gaussian"):
        parts = {**recipe, "prior": prior, "sampler": {"kind": "mmps", "steps": 3}}
        warnings = reconstruct(y, parts, device="cpu").report["warnings"]
        found[prior] = any("follows it down to 0.005" in w for w in warnings)
    assert found == {"fluorescence": told, "gaussian": False}


@pytest.mark.parametrize(("sigma", "told"), [(1.0, False), (3.0, True)])
def test_samples_darker_than_all_that_the_prior_knows_are_told(sigma: float, told: bool) -> None:
    rows, columns = np.mgrid[:32, :32]
    disc = 1 + 200.0 * (np.hypot(rows - 15, columns - 16) < 7)
    blurred = {"kind": "gaussian-blur", "sigma": 1.0}
    counts = simulate(disc, seed=0, forward=blurred, noise="poisson")
    result = reconstruct(
        counts,
        forward=blurred | {"sigma": sigma},
        noise="poisson",
        sampler={"kind": "daps", "steps": 10},
        samples=1,
    )
    assert any("darker" in text and "prior" in text for text in result.report["warnings"]) == told
