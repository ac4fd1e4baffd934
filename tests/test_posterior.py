"""The judge: a Gaussian prior, a linear operator and Gaussian noise have a known posterior."""

import exactness
import pytest

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
