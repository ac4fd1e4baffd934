"""The judge: a Gaussian prior, a linear operator and Gaussian noise have a known posterior."""

import exactness
import numpy as np
import pytest

import napari_dps

# Measured over many seeds; a sampler whose spread is wrong by 15 % fails every one of these.
TOLERANCE = {
    "mmps": {"error": 1.25, "spread": (0.93, 1.1)},
    "pigdm": {"error": 2.2, "spread": (0.9, 1.15)},
    "daps": {"error": 1.25, "spread": (0.93, 1.1)},
}


@pytest.mark.parametrize("informed", [False, True])
@pytest.mark.parametrize("task", ["half", "blur"])
@pytest.mark.parametrize("kind", list(TOLERANCE))
def test_default_samplers_draw_from_the_exact_posterior(kind, task, informed):
    row = exactness.study(kind, task, 0.1, samples=48, truths=1, informed=informed)
    limits = TOLERANCE[kind]
    assert row["error"] < limits["error"]
    low, high = limits["spread"]
    assert low < row["spread"] < high
    assert 0.87 <= row["coverage"] <= 0.93
    if row["coverage_unmeasured"] is not None:
        assert 0.86 <= row["coverage_unmeasured"] <= 0.94


def test_small_noise_keeps_its_spread():
    row = exactness.study("mmps", "half", 0.02, samples=48, truths=1, informed=True, steps=50)
    assert 0.87 <= row["coverage_measured"] <= 0.93


def test_dps_misses_the_spread_as_its_authors_sampler_does():
    row = exactness.study("dps", "half", 0.1, samples=16, truths=1, informed=False, steps=200)
    assert row["coverage"] < 0.87


@pytest.mark.parametrize("kind", ["mmps", "pigdm", "daps"])
def test_antithetic_pairs_sharpen_the_mean_and_keep_each_sample(kind, rng):
    """Identity, white Gaussian prior N(0, 0.5^2), noise 0.4: mean and variance in closed form."""
    truth = 0.5 * rng.normal(size=(48, 48))
    y = truth + 0.4 * rng.normal(size=truth.shape)
    variance = 1 / (1 / 0.5**2 + 1 / 0.4**2)
    exact = variance * y / 0.4**2

    def run(antithetic):
        return napari_dps.reconstruct(
            y,
            {"intensity": {"scale": 2.0, "background": -1.0}},
            forward="identity",
            noise={"kind": "gaussian", "sigma": 0.4},
            prior={"kind": "gaussian", "mean": 0.0, "spectrum": np.full(y.shape, 0.25)},
            sampler={"kind": kind, "antithetic": antithetic},
            samples=8,
        )

    pairs, alone = run(True), run(False)
    assert pairs.pairs and not alone.pairs

    def error(result):
        return float(np.sqrt(np.mean((result.mean - exact) ** 2) / variance))

    assert error(alone) == pytest.approx(8**-0.5, rel=0.1)
    assert error(pairs) < 0.2 * error(alone)
    for sample in pairs.samples:
        assert np.std(sample - exact) == pytest.approx(variance**0.5, rel=0.08)
    np.testing.assert_array_equal(pairs.samples[0], alone.samples[0])


def test_partners_are_the_same_in_any_number_of_samples(rng):
    y = rng.normal(size=(16, 16))
    given = {"forward": "identity", "noise": {"kind": "gaussian", "sigma": 0.4}}
    prior = {"kind": "gaussian", "std": 0.5}
    three = napari_dps.reconstruct(y, **given, prior=prior, samples=3)
    six = napari_dps.reconstruct(y, **given, prior=prior, samples=6)
    np.testing.assert_allclose(three.samples, six.samples[:3], atol=1e-5)
