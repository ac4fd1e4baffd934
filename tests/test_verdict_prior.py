"""Stability and the Jensen gap, two findings of the verdict, judged where the answer is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from verdict_cases import SIDE, SIGMA, SPECTRUM, TRANSFER, evidence_of, posterior, problem_of

from napari_dps.core.likelihood import PoissonLikelihood
from napari_dps.core.problem import Problem
from napari_dps.core.streams import Streams
from napari_dps.recipe import Recipe
from napari_dps.uncertainty.verdict import jensen, stability
from napari_dps.uncertainty.verdict.evidence import Evidence


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On images this small threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- the Jensen gap ----------------------------------------------------------------------------


def exact_gap(problem: Problem, noisy: Tensor, level: float) -> float:
    """Return log E[p(y | x0) | x_t] - log p(y | E[x0 | x_t]), mode by mode."""
    left = SPECTRUM * level**2 / (SPECTRUM + level**2)
    residual = torch.fft.fft2(
        problem.y - problem.operator(problem.prior(noisy, level)), norm="ortho"
    )
    power = residual.abs().square()[0, 0]
    wide = TRANSFER**2 * left + SIGMA**2
    gap = -0.5 * (power * (1 / wide - 1 / SIGMA**2) + (wide / SIGMA**2).log())
    return float(gap.sum())


@pytest.mark.parametrize("level", [0.2, 1.0])
def test_the_estimated_gap_is_the_closed_form_one(level: float) -> None:
    problem, count = problem_of(), 6
    x = posterior(problem, count)
    found = jensen.estimate(problem, x, level, 3, draws=40, steps=8)
    exact = []
    for k in range(count):
        noise = Streams(3, [("jensen", k)], "cpu", torch.float64).normal(x.shape[1:])
        exact.append(exact_gap(problem, x[k : k + 1] + level * noise, level))
    truth = float(np.mean(exact))
    assert truth != pytest.approx(0.0, abs=0.1)
    assert found["low"] < truth < found["high"]
    # The logarithm of a mean over few draws is too low where it rests on three of them.
    assert -1.0 < found["gap"] - truth < 0.2
    assert found["low"] < found["gap"] and 1 <= found["weight"] <= 40
    assert problem.calls == {"forward": 0, "vjp": 0}, "the report counts the run's calls alone"


def test_power_iteration_finds_the_largest_singular_value_and_leaves_masked_data_out() -> None:
    problem = problem_of(scale=6.0)
    at = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)
    largest = 3 * float(TRANSFER.max())
    assert jensen.operator_norm(problem, at) == pytest.approx(largest, rel=1e-3)
    problem.valid = torch.zeros_like(problem.y, dtype=torch.bool)
    problem.valid[..., :2, :2] = True
    matrix = torch.stack(
        [problem.operator.linearize(at)[1](row.reshape(at.shape)) for row in torch.eye(64).double()]
    )
    matrix = torch.where(problem.valid[0], matrix[:, 0], 0.0).reshape(64, 64)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    assert jensen.operator_norm(problem, at, iterations=200) == pytest.approx(exact, rel=1e-3)


def test_the_bounds_are_the_stated_expressions_and_hold_where_they_can_be_computed() -> None:
    found = jensen.log_bounds(1, 0.8, 2.0, 0.3)
    paper = 1 / math.sqrt(2 * math.pi * 0.64) * math.exp(-1 / 1.28) * 2 * 0.3
    lipschitz = (2 * math.pi * 0.64) ** -0.5 * math.exp(-0.5) / 0.8 * 2 * 0.3
    assert found["paper"] == pytest.approx(math.log(paper))
    assert found["lipschitz"] == pytest.approx(math.log(lipschitz))
    # One datum, A = 2: the gap of a Gaussian x0 of standard deviation s is known.
    s = 0.3 * math.sqrt(math.pi / 2)  # E|x0 - mean| = 0.3
    wide = math.sqrt(0.64 + 4 * s**2)
    for residual in np.linspace(0, 4, 41):
        mean_of = math.exp(-(residual**2) / (2 * wide**2)) / (wide * math.sqrt(2 * math.pi))
        of_mean = math.exp(-(residual**2) / 1.28) / (0.8 * math.sqrt(2 * math.pi))
        assert abs(mean_of - of_mean) <= lipschitz


def test_the_finding_does_not_depend_on_the_units_of_the_data() -> None:
    told = []
    for scale in (2.0, 200.0):
        problem = problem_of(scale=scale)
        x = posterior(problem_of(), 6)
        finding = jensen.find(evidence_of(problem, x))
        assert finding is not None and not finding.numbers["equivalent_sigma"]
        told.append(finding.numbers)
        assert "per datum" in finding.sentence
    assert told[0]["sigma"] == pytest.approx(SIGMA)
    assert told[0]["bounds"] == pytest.approx(told[1]["bounds"])
    assert told[0]["levels"][0]["low"] == pytest.approx(told[1]["levels"][0]["low"], rel=1e-6)


def test_counts_have_an_equivalent_noise_and_say_so() -> None:
    problem = problem_of(scale=200.0, likelihood=PoissonLikelihood())
    problem.y = (problem.y + 100).clamp_min(0).round()
    problem.operator.background = problem.operator.background + 100
    finding = jensen.find(evidence_of(problem, posterior(problem_of(), 4)))
    assert finding is not None and "geometric mean" in finding.sentence
    # Expectations scatter about 100 electrons, each worth 1/100 of half the object's range.
    assert finding.numbers["sigma"] == pytest.approx(0.1, rel=0.2)


def test_one_sample_has_no_gap() -> None:
    assert jensen.find(evidence_of(problem_of(), torch.zeros(1, 1, SIDE, SIDE).double())) is None


def test_the_mean_distance_of_pairs_has_no_bias() -> None:
    for correlation in (-1.0, -0.5, 0.0):
        x = torch.as_tensor(paired(correlation, 2, (100, 100)))
        # Of 10000 standard normal pixels; two pairs and two more independent samples alike.
        assert jensen.mean_distance(x, True) == pytest.approx(100, rel=0.03)
    assert jensen.mean_distance(x[:, None], False) == pytest.approx(100, rel=0.03)


# -- stability ---------------------------------------------------------------------------------


def paired(correlation: float, pairs: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    one, other = rng.standard_normal((2, pairs, *shape))
    second = correlation * one + math.sqrt(1 - correlation**2) * other
    return np.stack([one, second], axis=1).reshape(2 * pairs, *shape)


@pytest.mark.parametrize("correlation", [-0.9, -0.4, 0.0])
def test_partners_are_worth_what_their_correlation_says(correlation: float) -> None:
    samples = paired(correlation, 10, (40, 40))
    found = stability.effective_samples(samples, pairs=True)
    assert found["correlation"] == pytest.approx(correlation, abs=0.05)
    assert found["effective_std"] == pytest.approx(20 / (1 + correlation**2), rel=0.05)
    # What it claims of the mean is what the mean does: its variance over that of a sample.
    assert found["effective_mean"] == pytest.approx(1 / samples.mean(0).var(), rel=0.2)


def test_independent_samples_count_in_full_and_copies_once() -> None:
    samples = paired(0.0, 10, (24, 24))
    assert stability.effective_samples(samples)["effective_std"] == 20
    copied = samples.copy()
    copied[10:] = copied[:10] + 1e-3 * samples[10:]
    assert stability.effective_samples(copied)["distinct"] == 10


def test_halves_agree_where_the_maps_have_content_and_not_where_they_are_noise() -> None:
    noise = paired(0.0, 10, (32, 32))
    spread = np.linspace(0.2, 3, 32)[:, None]
    clear = stability.split_half(noise * spread + 5 * spread)
    assert clear["std_reliability"] > 0.8 and clear["mean_reliability"] > 0.99
    flat = stability.split_half(noise)
    assert flat["std_reliability"] < 0.3 and flat["mean_reliability"] < 0.3
    # Means of halves of ten differ by sqrt(2/10) of the spread.
    assert flat["mean_difference"] == pytest.approx(math.sqrt(0.2), rel=0.1)


def stable(samples: np.ndarray, **changed: Any) -> Any:
    x = torch.as_tensor(samples)[:, None]
    problem = problem_of()
    return stability.find(Evidence(problem, x, samples.astype(np.float32), Recipe(), **changed))


def test_the_error_of_the_mean_knows_that_partners_are_opposite() -> None:
    samples = paired(-1.0, 2, (SIDE, SIDE))
    found = stable(np.sign(samples), pairs=True)
    # Every partner lies one away from its pair's mean: that is the deviation, not sqrt(4/3).
    error = found.maps["error_of_the_mean"] * found.numbers["effective_mean"] ** 0.5
    assert np.allclose(error, 1)


def test_the_finding_speaks_up_for_copies_and_lone_restarts() -> None:
    spread = np.linspace(0.2, 3, SIDE)[:, None]
    good = stable(spread * (2 + paired(-0.5, 16, (SIDE, SIDE))), pairs=True)
    assert not good.alarm and good.maps["error_of_the_mean"].shape == (SIDE, SIDE)
    few = stable(paired(0.0, 1, (SIDE, SIDE)))
    assert not few.alarm and not few.told and good.told and "too few" in few.sentence
    same = paired(0.0, 10, (SIDE, SIDE))
    same[4:] = same[0]
    rival = stable(spread * (2 + paired(-0.5, 16, (SIDE, SIDE))), restarts=(1.0, 1.6, 2.0))
    assert rival.alarm and "no second one" in rival.sentence
    alike = stable(spread * (2 + paired(-0.5, 16, (SIDE, SIDE))), restarts=(1.0, 1.02, 2.0))
    assert not alike.alarm and "2 of 3 restarts" in alike.sentence
    copies = stable(same)
    assert copies.alarm and "4 samples differ" in copies.sentence
    assert stable(paired(0.0, 1, (SIDE, SIDE))[:1]) is None
