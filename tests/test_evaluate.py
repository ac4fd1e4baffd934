"""The metrics mean what they say: against closed forms and exact posteriors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_dps._quantiles import samples_needed
from napari_dps.cli import main
from napari_dps.errors import InputError
from napari_dps.evaluate import (
    bias,
    compare,
    coverage,
    crps,
    fit_gain,
    mae,
    psnr,
    rmse,
    spread_skill,
    ssim,
)
from napari_dps.result import Result


def posterior(rng: np.random.Generator, count: int, spread: float = 1.0):
    """Samples and truth drawn from the same normal law in each of many pixels."""
    centre = rng.normal(size=(100, 100))
    return centre + spread * rng.normal(size=(count, 100, 100)), centre + rng.normal(
        size=(100, 100)
    )


def test_errors_of_a_known_shift() -> None:
    truth = np.arange(64.0).reshape(8, 8)
    assert rmse(truth + 3, truth) == pytest.approx(3)
    assert mae(truth - 3, truth) == pytest.approx(3)
    assert bias(truth - 3, truth) == pytest.approx(-3)
    assert psnr(truth + 6.3, truth) == pytest.approx(20)
    assert psnr(truth, truth) == np.inf
    assert ssim(truth, truth) == pytest.approx(1)
    assert ssim(truth[::-1], truth) < 0.9


def test_constant_truth_has_no_peak() -> None:
    flat = np.ones((8, 8))
    assert np.isnan(psnr(flat + 1, flat))
    assert np.isnan(ssim(flat + 1, flat))


def test_psnr_is_scikit_images(rng: np.random.Generator) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    truth, estimate = rng.normal(size=(2, 16, 16))
    expected = peak_signal_noise_ratio(truth, estimate, data_range=np.ptp(truth))
    assert psnr(estimate, truth) == pytest.approx(expected)


def test_ssim_of_a_stack_is_the_mean_over_frames(rng: np.random.Generator) -> None:
    truth, estimate = rng.normal(size=(2, 3, 16, 16))
    frames = [ssim(e, t, data_range=np.ptp(truth)) for e, t in zip(estimate, truth, strict=True)]
    assert ssim(estimate, truth) == pytest.approx(np.mean(frames))


def test_gain_is_found(rng: np.random.Generator) -> None:
    truth = rng.normal(size=(16, 16))
    assert fit_gain((truth - 5) / 2, truth) == pytest.approx((2, 5))
    assert fit_gain(np.ones((16, 16)), truth) == pytest.approx((0, truth.mean()))


@pytest.mark.parametrize(("level", "count"), [(0.5, 3), (0.8, 9), (0.9, 19)])
def test_coverage_of_the_right_posterior_at_the_fewest_samples(rng, level, count) -> None:
    assert samples_needed(level) == count
    samples, truth = posterior(rng, count)
    assert coverage(samples, truth, level) == pytest.approx(level, abs=0.02)
    with pytest.raises(InputError, match=f"needs at least {count} samples"):
        coverage(samples[:-1], truth, level)


@pytest.mark.parametrize("count", [2, 5, 40])
def test_crps_of_a_normal_law(rng, count) -> None:
    """Expected CRPS of N(0, 1) for a draw of the same law is 1 / sqrt(pi), for any S."""
    samples, truth = posterior(rng, count)
    assert crps(samples, truth) == pytest.approx(1 / np.sqrt(np.pi), abs=0.02)


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_spread_over_skill(rng, count, spread) -> None:
    samples, truth = posterior(rng, count, spread)
    expected = spread * np.sqrt((1 + 1 / count) / (1 + spread**2 / count))
    assert spread_skill(samples, truth) == pytest.approx(expected, abs=0.03)


def antithetic(rng: np.random.Generator, count: int, shared: float = 0.5):
    """Posterior of unit variance; partners share that part of it and mirror the rest."""
    centre = rng.normal(size=(100, 100))
    even, odd = rng.normal(size=(2, count // 2, 100, 100))
    even, odd = even * np.sqrt(shared), odd * np.sqrt(1 - shared)
    samples = np.stack([even + odd, even - odd], axis=1).reshape(-1, 100, 100)
    return centre + samples, centre + rng.normal(size=(100, 100))


@pytest.mark.parametrize("count", [4, 8, 40])
@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_scores_of_antithetic_pairs(rng, count, shared) -> None:
    """Right error bars score as right although partners depend on each other."""
    samples, truth = antithetic(rng, count, shared)
    assert spread_skill(samples, truth, pairs=True) == pytest.approx(1, abs=0.03)
    assert crps(samples, truth, pairs=True) == pytest.approx(1 / np.sqrt(np.pi), abs=0.02)
    both = compare(samples.mean(axis=0), truth, samples, pairs=True)
    assert both["spread_skill"] == spread_skill(samples, truth, pairs=True)
    assert both["crps"] == crps(samples, truth, pairs=True)


def test_a_sample_without_a_partner_is_left_out_of_the_pairs(rng) -> None:
    samples, truth = antithetic(rng, 8)
    odd = np.concatenate([samples, samples[:1] + 100])
    assert spread_skill(odd, truth, pairs=True) == spread_skill(samples, truth, pairs=True)


def test_compare_takes_what_the_samples_allow(rng) -> None:
    samples, truth = posterior(rng, 10)
    few = compare(samples.mean(axis=0), truth, samples)
    assert few["coverage"]["0.9"] is None
    assert few["coverage"]["0.8"] == pytest.approx(0.8, abs=0.03)
    none = compare(samples[0], truth)
    assert none["crps"] is None and none["samples"] == 0


def test_a_calibrated_result_is_judged_by_its_own_intervals_too(rng) -> None:
    """Samples of a third of the spread cover too little; scaled by three they cover."""
    samples, truth = posterior(rng, 20, spread=1 / 3)
    mean = samples.mean(axis=0)
    plain = compare(mean, truth, samples)
    assert plain["calibrated_coverage"] is None
    found = compare(mean, truth, samples, lambdas={"0.9": 3 * 1.645, "0.95": 3 * 1.96})
    assert found["nominal_coverage"] == found["coverage"] == plain["coverage"]
    assert found["nominal_coverage"]["0.9"] < 0.5
    assert found["calibrated_coverage"]["0.9"] == pytest.approx(0.9, abs=0.02)
    assert found["calibrated_coverage"]["0.95"] == pytest.approx(0.95, abs=0.02)
    # Of a result without its samples the deviation serves; a fitted gain scales it.
    held = {"lambdas": {"0.9": 3 * 1.645}, "std": samples.std(axis=0, ddof=1) / 2}
    without = compare(mean / 2, truth, fit=True, **held)["calibrated_coverage"]["0.9"]
    gain = fit_gain(mean / 2, truth)[0]
    same = compare(gain * mean / 2, truth, lambdas=held["lambdas"], std=gain * held["std"])
    assert without == pytest.approx(same["calibrated_coverage"]["0.9"], abs=0.02)
    assert compare(mean, truth, lambdas={"0.9": 1.0})["calibrated_coverage"] is None


def test_the_command_tells_nominal_and_calibrated_coverage_apart(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(32, 32)).astype(np.float32)
    np.save("truth.npy", truth)
    report = {
        "intervals": {"lambdas": {"0.9": 5.5, "0.875": 5.0}},
        "calibration": "calibrated on 100 images",
    }
    result = Result(0.3 * rng.normal(size=(20, 32, 32)), report=report)
    low, high = result.interval(0.9)
    covered = np.mean((low <= truth) & (truth <= high))
    for write in (("mean", "std", "samples"), ("mean", "std")):
        result.save("o.tif", write=write)
        assert main("evaluate o.tif truth.npy --json".split()) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["calibrated_coverage"]["0.9"] == pytest.approx(covered, abs=2e-3)
        nominal = answer["nominal_coverage"]["0.9"]
        assert nominal is None if "samples" not in write else nominal < 0.5
    assert main("evaluate o.tif truth.npy".split()) == 0
    out = capsys.readouterr().out
    assert "coverage of nominal 90% intervals" in out
    assert "coverage of calibrated 87.5% intervals" in out


def test_compare_fits_only_when_asked(rng) -> None:
    truth = rng.normal(size=(16, 16))
    dark = truth / 10 - 3
    plain, fitted = compare(dark, truth), compare(dark, truth, dark[None], fit=True)
    assert plain["gain"] == pytest.approx(10)
    assert plain["rmse"] > 1
    assert fitted["rmse"] < 1e-9 and fitted["fitted"]


def test_shapes_and_values_that_do_not_compare() -> None:
    with pytest.raises(InputError, match=r"\(8, 8\).*\(8, 9\)"):
        rmse(np.ones((8, 8)), np.ones((8, 9)))
    with pytest.raises(InputError, match="finite"):
        rmse(np.full((8, 8), np.nan), np.ones((8, 8)))
    with pytest.raises(InputError, match="2 samples"):
        crps(np.ones((1, 8, 8)), np.ones((8, 8)))
