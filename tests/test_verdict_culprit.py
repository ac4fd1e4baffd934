"""The verdict names the right culprit, and a value that would mend it only where it is one."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import ndimage
from verdict_cases import blurred, judge, scene

Z = blurred(scene(), 2.0)


def counts(z: np.ndarray = Z, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).poisson(z).astype(np.float64)


def suspects(found) -> list[str]:
    assert found.alarm
    return found.numbers["suspects"]


def test_an_offset_that_is_not_told_is_named_with_its_value_and_the_gain_is_not():
    # Electrons of a camera of 2 ADU per electron, 100 ADU too high.
    found = judge(counts() + 50, (Z + 50)[None], noise={"kind": "poisson", "gain": 2.0})
    assert suspects(found) == ["offset"] and "gain is" not in found.sentence
    told = re.search(r"about ([\d.]+) in place of 0 ADU", found.sentence)
    assert told is not None and float(told[1]) == pytest.approx(100, rel=0.1)
    line = found.numbers["variance_line"]
    assert line["slope"] == pytest.approx(1, abs=0.15) and line["dark"] < line["bright"] < 1


def test_the_gain_is_read_off_the_slope_where_dark_and_bright_agree():
    found = judge(counts() / 2, Z[None] / 2, noise={"kind": "poisson", "gain": 2.0})
    assert suspects(found) == ["gain"]
    assert "where it is dark as where it is bright" in found.sentence
    told = re.search(r"about ([\d.]+) in place of 2 ADU", found.sentence)
    assert told is not None and float(told[1]) == pytest.approx(1, rel=0.15)


def test_read_noise_that_is_missing_is_told_in_electrons():
    z = 20 + 400 * (scene(peak=1.0) > 10.4)
    y = counts(z) + 6 * np.random.default_rng(6).standard_normal(z.shape)
    found = judge(y, z[None], forward="identity")
    assert suspects(found) == ["read_noise"]
    told = re.search(r"about ([\d.]+) electrons is missing", found.sentence)
    assert told is not None and float(told[1]) == pytest.approx(6, rel=0.2)


def test_a_background_that_is_off_is_not_taken_for_a_gain_nor_for_hot_pixels():
    z = blurred(scene(peak=600.0) - 8, 2.0)
    # What is dark lies at another level than the model can reach, here and there by a lot.
    reached = np.where(np.random.default_rng(5).random(z.shape) < 0.02, 0.05, 1.0)
    found = judge(counts(z), np.where(z < np.median(z), reached, z)[None])
    assert "background" in suspects(found) and "not the gain" in found.sentence
    assert "their level is off" in found.sentence
    assert not {"gain", "pixels"} & set(suspects(found)) and "would mend it" not in found.sentence
    assert abs(found.numbers["bright"]["value"] - 1) < 0.25 < found.numbers["dark"]["value"] - 1


def test_stripes_are_a_pattern_and_no_psf():
    stripes = 25 * (np.arange(48) % 6 == 0)
    found = judge(counts() + stripes, Z[None] + stripes.mean())
    assert suspects(found)[-1] == "pattern" and "gain" not in found.numbers["suspects"]
    assert "regular pattern" in found.sentence and "too wide" not in found.sentence
    assert found.numbers["structure"]["peak"] > 40


def test_data_that_were_smoothed_share_their_noise():
    found = judge(ndimage.uniform_filter(counts(), 2), ndimage.uniform_filter(Z, 2)[None])
    assert suspects(found) == ["correlation"] and "pixels_per_value" in found.sentence
    assert "gain" not in found.sentence and "too wide" not in found.sentence


def test_structure_that_is_no_narrower_psf_is_not_called_one():
    rng = np.random.default_rng(4)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(48), np.fft.fftfreq(48)))
    texture = np.fft.ifft2(np.fft.fft2(rng.standard_normal((48, 48))) * ((f > 0.2) & (f < 0.27)))
    z = np.full((48, 48), 100.0)
    found = judge(counts(z) + 9 * texture.real / texture.real.std(), z[None])
    assert "structure" in suspects(found) and "psf" not in found.numbers["suspects"]
    assert found.numbers["psf_width"]["z"] < 2 and "too wide" not in found.sentence


def test_a_level_that_is_off_is_no_structure():
    z = np.full((48, 48), 100.0)
    found = judge(counts(z) + 3, z[None])
    assert suspects(found) == ["background"] and "level is off" in found.sentence
    assert "Structure" not in found.sentence


def test_hot_pixels_are_not_taken_for_a_gain():
    y, rng = counts(), np.random.default_rng(3)
    y[tuple(rng.integers(0, 48, (2, 15)))] += 150
    assert suspects(judge(y, Z[None])) == ["pixels"]


def test_noise_that_grows_with_light_is_not_mended_by_a_sigma():
    sigma = float(np.sqrt(Z.mean())) / 1.5
    found = judge(counts(), Z[None], noise={"kind": "gaussian", "sigma": sigma})
    assert suspects(found) == ["noise"] and "poisson-gaussian" in found.sentence


@pytest.mark.parametrize("samples", [1, 8])
def test_ranks_are_as_uneven_as_chance_has_it_for_any_number_of_samples(samples):
    rng = np.random.default_rng(samples)
    values = []
    for seed in range(6):
        # Under a flat prior the posterior is the measurement, give or take its noise.
        y = 5 * rng.standard_normal((24, 24))
        z = y + 5 * rng.standard_normal((samples, 24, 24))
        noise = {"kind": "gaussian", "sigma": 5.0}
        values.append(judge(y, z, noise=noise, seed=seed).numbers["pit"]["value"])
    assert 0.7 < np.mean(values) < 1.35
