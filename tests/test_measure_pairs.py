"""Antithetic pairs: an interval counts as many draws as there are different ones."""

import numpy as np
import pytest

import napari_dps
from napari_dps.result import Result
from napari_dps.uncertainty.measure import from_draws
from napari_dps.uncertainty.resolution import fourier_ring_correlation, ring_correlation


def mirrored(rng, count, deviation, side=8):
    """Return a result of antithetic pairs around a posterior mean, as samplers draw them."""
    half = rng.normal(size=(count // 2, side, side))
    mean = deviation[0] * rng.normal(size=(side, side))
    samples = np.stack([mean + deviation[1] * half, mean - deviation[1] * half], 1)
    return mean, Result(samples.reshape(-1, side, side), report={"antithetic": True})


def test_even_functions_count_antithetic_pairs_once(rng):
    _, result = mirrored(rng, 20, (0.05, 1.0))
    found = napari_dps.measure(result, lambda image: {"mean": image.mean(), "var": image.var()})
    # Means of partners lie on opposite sides: nothing is missing.
    assert np.isfinite(found.low[0]) and np.isfinite(found.value[1])
    assert np.isnan(found.low[1]) and np.isnan(found.high[1])
    told = "nominal; partners are alike, 10 pairs count, 19 are needed"
    assert found.notes == ("nominal", told)
    assert found.note == "nominal; var: " + told.removeprefix("nominal; ")
    lower = found.at(0.5)  # knows of the pairs as well
    first = np.sort(found.draws[::2, 1])
    assert lower.low[1] == pytest.approx(np.interp(0.25 * 11 - 1, range(10), first), rel=1e-6)
    assert lower.notes[1] == "nominal; partners are alike, 10 pairs count"
    # The same draws without partners are as many as they are.
    free = napari_dps.measure(result.samples, lambda image: image.var())
    assert np.isfinite(free.low[0]) and free.note == "nominal"
    told = napari_dps.measure(result.samples, lambda image: image.var(), pairs=True)
    assert np.isnan(told.low[0]) and told.note.startswith("nominal; partners are alike")


def test_a_lost_partner_is_made_up_for_by_the_other():
    pairs = np.repeat(np.arange(20.0), 2)[:, None]
    pairs[0], pairs[3], pairs[4:6] = np.nan, np.nan, np.nan
    found = from_draws(pairs, ["a"], level=0.9, pairs=True)
    assert found.note.endswith("19 pairs count")
    assert (found.low[0], found.high[0]) == (0, 19)  # the ends of 19
    few = from_draws(np.arange(4.0)[:, None], ["a"], level=0.3, pairs=True)
    assert few.note == "nominal"  # two pairs tell nothing of a correlation


def test_intervals_of_a_variance_cover_with_pairs_too():
    """40 draws in mirrored pairs: those that are alike are 20, and the interval knows."""
    rng = np.random.default_rng(2)
    inside, blind = [], []
    for _ in range(300):
        mean, result = mirrored(rng, 40, (0.1, 1.0))
        truth = (mean + rng.normal(size=mean.shape)).var()
        for found, flags in ((inside, None), (blind, False)):
            m = napari_dps.measure(result, lambda image: image.var(), pairs=flags)
            found.append(m.low[0] <= truth <= m.high[0])
    assert np.mean(inside) == pytest.approx(0.9, abs=0.035)
    assert np.mean(blind) < np.mean(inside)


def test_no_two_correlated_pairs_are_each_others_mirror(rng):
    """Around a mean of zero a mirrored pair correlates as the pair itself does."""
    for count in (20, 18, 7):
        _, result = mirrored(rng, count, (0.0, 1.0), 16)
        draws = fourier_ring_correlation(result, level=0.3).draws[:, 5]
        assert len(np.unique(draws.round(5))) == len(draws) == count // 2


def test_rings_of_antithetic_pairs_cover_a_further_pair():
    rng = np.random.default_rng(3)
    radius = np.hypot(np.fft.fftfreq(16)[:, None], np.fft.fftfreq(16))
    inside = []
    for _ in range(400):
        mean, result = mirrored(rng, 20, (1.0, 0.3), 16)
        smooth = np.fft.ifft2(np.fft.fft2(mean) * np.exp(-((radius / 0.15) ** 2))).real
        result = Result(result.samples - mean + smooth, report=result.report)
        found = fourier_ring_correlation(result)
        one, two = smooth + 0.3 * rng.normal(size=(2, 16, 16))
        further = ring_correlation(one, two)[1]
        inside.append((found.low <= further) & (further <= found.high))
    # 0.74 with pairs of which each has its mirror.
    assert np.mean(inside) == pytest.approx(0.8, abs=0.025)
