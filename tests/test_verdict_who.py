"""Which of noise, optics and sampler the verdict blames where one of them mimics another."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import ndimage
from verdict_cases import blurred, judge, scene

import napari_dps

BLUR = {"kind": "gaussian-blur", "sigma": 1.5}
PRIOR = {"kind": "gaussian", "std": 0.5, "correlation_length": 2.0, "exponent": 3}


def faint(seed: int = 0) -> np.ndarray:
    return blurred(scene(peak=30.0), 1.5) + 5 * np.random.default_rng(seed).normal(size=(48, 48))


@pytest.mark.parametrize("smoothness", [1.0, 2.0])
def test_a_sigma_too_large_is_no_correlation_though_samples_are_too_smooth(smoothness) -> None:
    left = ndimage.gaussian_filter(blurred(scene(peak=30.0), 1.5), smoothness)
    found = judge(faint(), left[None], noise={"kind": "gaussian", "sigma": 10.0})
    assert found.numbers["suspects"] == ["sigma"] and "Neighbouring" not in found.sentence
    told = re.search(r"take sigma about ([\d.]+\d)", found.sentence)
    assert told is not None and float(told[1]) == pytest.approx(5, rel=0.15)
    shared = ndimage.gaussian_filter(faint(), 0.6, mode="wrap")
    found = judge(shared, left[None], noise={"kind": "gaussian", "sigma": 5.0})
    assert "correlation" in found.numbers["suspects"] and "smoothed" in found.sentence


@pytest.mark.parametrize("width", [1.0, 2.0])
def test_a_psf_twice_too_wide_is_no_gain(width: float) -> None:
    truth = scene(peak=300.0)
    measured = napari_dps.simulate(truth, forward=BLUR, noise="poisson", seed=0)
    result = napari_dps.reconstruct(
        measured,
        forward={**BLUR, "sigma": 1.5 * width},
        noise="poisson",
        prior=PRIOR,
        sampler={"kind": "mmps", "steps": 10},
        samples=2,
        device="cpu",
    )
    told = result.report["verdict"]["findings"]["data_fit"]
    suspects = told["numbers"]["suspects"]
    assert ("psf" in suspects) == (width == 2.0) and not {"gain", "noise", "sigma"} & set(suspects)
    assert told["alarm"] == (width == 2.0)


def test_a_gain_too_large_may_be_an_offset_where_the_data_cannot_tell() -> None:
    z = 40.0 + 2.0 * np.sin(np.arange(48)) * np.ones((48, 1))
    y = np.random.default_rng(0).poisson(z / 2) + 20.0
    found = judge(y, z[None], forward="identity")
    assert found.numbers["suspects"] == ["gain"] and "offset is not told in full" in found.sentence
    clear = blurred(scene(peak=600.0), 1.5)
    found = judge(np.random.default_rng(0).poisson(2 * clear) / 2.0, clear[None])
    assert found.numbers["suspects"] == ["gain"] and "offset" not in found.sentence


def test_a_gain_too_large_is_told_where_read_noise_is_too() -> None:
    z = blurred(scene(peak=600.0), 1.5)
    rng = np.random.default_rng(2)
    # In electrons of the assumed gain of 4: half as many of half the read noise, gain 2.
    y = rng.poisson(2 * z) / 2.0 + 1.5 * rng.normal(size=z.shape)
    noise = {"kind": "poisson-gaussian", "gain": 4.0, "offset": 100.0, "read_noise": 3.0}
    found = judge(y, z[None], noise=noise)
    assert found.numbers["suspects"] == ["gain"]
    told = re.search(r"about ([\d.]+) in place of 4 ADU", found.sentence)
    assert told is not None and float(told[1]) == pytest.approx(2, rel=0.2)


def test_samples_that_do_not_follow_say_nothing_of_noise_or_optics() -> None:
    z = blurred(scene(), 2.0)
    y = np.random.default_rng(2).poisson(z).astype(float)
    off = ndimage.gaussian_filter(z, 3.0)[None]
    assert "samples" not in judge(y, off).numbers["suspects"]
    found = judge(y, off, restarts=0.9)
    assert found.numbers["suspects"] == ["samples"] and "best start" in found.sentence
    assert "gain" not in found.sentence and found.alarm
    assert "samples" not in judge(y, off, restarts=40.0).numbers["suspects"]
    assert not judge(y, z[None], restarts=0.9).alarm


def test_a_step_length_that_threw_the_samples_off_is_named() -> None:
    truth = scene(peak=1e4)[:20, :20]
    measured = napari_dps.simulate(truth, forward=BLUR, noise="poisson", seed=0)
    common = {"forward": BLUR, "noise": "poisson", "prior": PRIOR, "samples": 2, "device": "cpu"}
    result = napari_dps.reconstruct(measured, sampler={"kind": "dps", "steps": 60}, **common)
    assert min(result.report["chi2"]) > 10
    assert sum("lower `scale` (now 1)" in w for w in result.report["warnings"]) == 1
    told = result.report["verdict"]
    assert told["alarm"] and "lower its scale (now 1)" in told["sentence"]
