"""Conformal factors: as defined, covering on average, and refusing what they cannot give."""

from __future__ import annotations

import numpy as np
import pytest

from napari_dps.errors import InputError
from napari_dps.uncertainty._share import Fit
from napari_dps.uncertainty.conformal import (
    crops_needed,
    fit_scale,
    fit_without_each,
    floored,
    interval_score,
    scaled_interval,
    widened,
)
from napari_dps.uncertainty.scoring import bright_and_deciles


def brute(scores: list[np.ndarray], level: float) -> float:
    """Return the smallest candidate that meets the bound as it is written."""
    n, alpha = len(scores), 1 - level
    for factor in np.unique(np.concatenate([[0.0], *[s.ravel() for s in scores]])):
        risk = np.mean([np.mean(s > factor) for s in scores])
        if n / (n + 1) * risk + 1 / (n + 1) <= alpha + 1e-12:
            return float(factor)
    raise AssertionError("no factor")


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("count", [19, 31])
def test_factor_is_the_smallest_that_meets_the_bound(level, count) -> None:
    rng = np.random.default_rng(count)
    # Of different sizes, with ties and zeros.
    scores = [np.abs(rng.standard_normal(rng.integers(3, 12))).round(1) for _ in range(count)]
    assert fit_scale(scores, level) == brute(scores, level)
    if count > crops_needed(level):
        others = [brute(scores[:k] + scores[k + 1 :], level) for k in range(count)]
        assert fit_without_each(scores, level) == others
    if count - 2 >= crops_needed(level):
        # Two crops of one image are left out together, though they lie apart.
        of = ["one", *range(1, count - 1), "one"]
        without = fit_without_each(scores, level, of)
        assert without[0] == without[-1] == brute(scores[1:-1], level)
        assert without[1:-1] == others[1:-1]


def test_a_mean_that_is_exact_needs_no_width() -> None:
    assert fit_scale([np.zeros(4)] * 10, 0.9) == 0.0


def test_exchangeable_images_are_covered_on_average() -> None:
    """Whole images are off together, so that pixels are far from independent."""
    rng = np.random.default_rng(0)
    for level, count in ((0.9, 20), (0.8, 10), (0.5, 15)):
        covered = []
        for _ in range(600):
            wrong = rng.lognormal(0, 0.7, (count + 1, 1))
            scores = np.abs(rng.standard_normal((count + 1, 30))) * wrong
            factor = fit_scale(list(scores[:-1]), level)
            covered.append(np.mean(scores[-1] <= factor))
        error = np.std(covered) / len(covered) ** 0.5
        # Never less than promised; never more than by 2/(n + 1) and the jump of a pixel.
        assert level - 3 * error < np.mean(covered) < level + 2 / (count + 1) + 0.01 + 3 * error


@pytest.mark.parametrize(("level", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19)])
def test_too_few_images_are_told_how_many_are_needed(level, needed) -> None:
    assert crops_needed(level) == needed
    scores = [np.arange(5.0)] * needed
    assert fit_scale(scores, level) >= 0
    if needed > 1:
        with pytest.raises(InputError, match=f"at least {needed} calibration images"):
            fit_scale(scores[1:], level)
    with pytest.raises(InputError, match=r"between 0 and 1"):
        crops_needed(1.0)
    with pytest.raises(InputError, match="finite"):
        fit_scale([np.array([np.nan])] * needed, level)


def test_where_samples_agree_the_deviation_has_a_floor() -> None:
    std = np.array([[0.0, 2.0], [2.0, 0.0]])
    found = floored(np.ones((2, 2)), std)
    assert found[0, 1] == 2 and found[0, 0] == pytest.approx(1e-3 * np.sqrt(2))
    assert floored(np.full((2, 2), 5.0), np.zeros((2, 2))).min() > 0
    low, high = scaled_interval(np.ones((2, 2)), std, 3.0)
    assert (low < 1).all() and (high > 1).all() and high[0, 1] == 7
    # A floor of its own for each plane of a stack.
    stack = floored(np.ones((2, 2, 2)), np.stack([std, 100 * std]))
    assert stack[1, 0, 0] == pytest.approx(100 * stack[0, 0, 0])


def test_a_share_of_the_image_widens_what_is_surest() -> None:
    std = np.array([[0.1, 1.0], [2.0, 3.0]])
    typical = np.sqrt(np.mean(std**2))
    found = widened(np.zeros((2, 2)), std, 0.3)
    np.testing.assert_allclose(found, np.hypot(std, 0.3 * typical))
    np.testing.assert_array_equal(widened(np.zeros((2, 2)), std, 0.0), std)
    low, high = scaled_interval(np.zeros((2, 2)), std, 2.0, 0.3)
    np.testing.assert_allclose(high - low, 4 * found)
    # Errors that samples do not know of: covered alike in every tenth only with the share.
    rng = np.random.default_rng(2)
    stds = rng.uniform(0.02, 1.0, (40, 16, 16))
    errors = np.abs(rng.normal(0, np.hypot(stds, 0.2)))
    covered = {}
    for share in (0.0, 0.3):
        wide = widened(np.zeros_like(stds), stds, share)
        factor = fit_scale(list(errors / wide), 0.9)
        inside = errors <= factor * wide
        tenths = [bright_and_deciles(i, s, s)[1] for i, s in zip(inside, stds, strict=True)]
        covered[share] = np.mean(tenths, axis=0)
    assert covered[0.0].min() < 0.6 < 0.8 < covered[0.3].min()


@pytest.mark.parametrize(("noise", "share"), [(0.18, 0.3), (0.58, 1.0)])
def test_the_share_is_the_one_that_errors_ask_for(noise: float, share: float) -> None:
    rng = np.random.default_rng(3)
    stds = rng.uniform(0.02, 1.0, (60, 256))  # of root mean square 0.58
    errors = np.abs(rng.normal(0, np.hypot(stds, noise)))
    fit = Fit(list(errors), list(0 * stds), list(stds), range(60), 0.9)
    assert fit.share == share
    judged = fit.judged(0.9)
    assert judged is not None
    assert np.mean([i.mean() for i in judged.inside]) == pytest.approx(0.91, abs=0.01)
    # The factor of each crop is that of the others: images of their own, or all of one.
    assert Fit(list(errors), list(0 * stds), list(stds), [0] * 60, 0.9).judged(0.9) is None


def test_choosing_the_share_costs_no_coverage_worth_mention() -> None:
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(60):
        stds = rng.uniform(0.02, 1.0, (20, 64))
        errors = np.abs(rng.normal(0, np.hypot(stds, 0.3)))
        fit = Fit(list(errors[:19]), list(0 * stds[:19]), list(stds[:19]), range(19), 0.9)
        half = fit.factor(0.9) * widened(0 * stds[19:], stds[19:], fit.share)[0]
        covered.append(np.mean(errors[19] <= half))
    # 19 crops cover 5 % more than they promise, if the form of the interval is fixed.
    assert np.mean(covered) > 0.9


def test_interval_score_rewards_the_right_width() -> None:
    rng = np.random.default_rng(1)
    truth = rng.standard_normal(20_000)
    scores = {w: interval_score(-w + 0 * truth, w + 0 * truth, truth, 0.9) for w in (1, 1.645, 3)}
    assert min(scores, key=lambda w: scores[w]) == 1.645
    assert interval_score(np.zeros(1), np.ones(1), np.array([1.5]), 0.9) == pytest.approx(11)
