"""The prior-side findings of the verdict, judged where the answer is known."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_dps.core.covariance import power_law_spectrum
from napari_dps.core.likelihood import GaussianLikelihood, Likelihood, PoissonLikelihood
from napari_dps.core.operator import LinearOperator, MappedOperator
from napari_dps.core.problem import Problem
from napari_dps.core.streams import Streams
from napari_dps.errors import PriorError
from napari_dps.priors._folder import (
    NetworkConfig,
    PriorInfo,
    build_network,
    load_prior,
    prior_hash,
    save_prior,
)
from napari_dps.priors._gaussian import GaussianPrior
from napari_dps.priors.fluorescence import FOLDER
from napari_dps.recipe import Recipe
from napari_dps.training.phantoms import phantom
from napari_dps.uncertainty.verdict import (
    appearance,
    familiarity,
    jensen,
    stability,
    support,
)
from napari_dps.uncertainty.verdict.beside import facts_beside
from napari_dps.uncertainty.verdict.evidence import Evidence

SIDE, SIGMA = 8, 0.5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On images this small threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Filter(LinearOperator):
    """A periodic blur with a given transfer function."""

    def __init__(self, transfer: Tensor) -> None:
        super().__init__((1, *transfer.shape), (1, *transfer.shape))
        self.transfer = transfer

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(x) * self.transfer).real

    def transpose(self, v: Tensor) -> Tensor:
        return self(v)


SPECTRUM = power_law_spectrum((SIDE, SIDE), 0.5, 3.0, 2.0)
TRANSFER = 1 / (1 + torch.fft.fftfreq(SIDE).double().square()[:, None] * 40) + torch.zeros(SIDE)


def problem_of(
    transfer: Tensor = TRANSFER, scale: float = 2.0, likelihood: Likelihood | None = None
) -> Problem:
    """Return a problem of closed form: Gaussian prior, filter, Gaussian noise."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    operator = MappedOperator(Filter(transfer), scale * one, -scale / 2 * one)
    prior = GaussianPrior(0.0, SPECTRUM)
    truth = drawn(SPECTRUM, 1, 0)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(5)).double()
    y = operator(truth) + SIGMA * scale / 2 * noise
    return Problem(y, prior, operator, likelihood or GaussianLikelihood(SIGMA * scale / 2))


def drawn(spectrum: Tensor, count: int, seed: int) -> Tensor:
    """Return periodic Gaussian fields of zero mean."""
    white = torch.randn(
        (count, 1, *spectrum.shape), generator=torch.Generator().manual_seed(seed)
    ).double()
    return torch.fft.ifft2(torch.fft.fft2(white) * spectrum.sqrt()).real


def posterior(problem: Problem, count: int, seed: int = 1) -> Tensor:
    """Return exact posterior samples of :func:`problem_of` at scale 2."""
    gain = SPECTRUM * TRANSFER / (SPECTRUM * TRANSFER**2 + SIGMA**2)
    mean = torch.fft.ifft2(torch.fft.fft2(problem.y) * gain).real
    return mean + drawn(SPECTRUM * (1 - gain * TRANSFER), count, seed)


def evidence_of(problem: Problem, x: Tensor, pairs: bool = False) -> Evidence:
    samples = problem.operator.to_object(x)[:, 0].numpy().astype(np.float32)
    return Evidence(problem, x, samples, Recipe(), 0, pairs)


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


def test_the_finding_speaks_up_for_copies_and_lone_restarts() -> None:
    spread = np.linspace(0.2, 3, SIDE)[:, None]
    good = stable(spread * (2 + paired(-0.5, 16, (SIDE, SIDE))), pairs=True)
    assert not good.alarm and good.maps["error_of_the_mean"].shape == (SIDE, SIDE)
    few = stable(paired(0.0, 1, (SIDE, SIDE)))
    assert not few.alarm and "too few" in few.sentence
    same = paired(0.0, 10, (SIDE, SIDE))
    same[4:] = same[0]
    rival = stable(spread * (2 + paired(-0.5, 16, (SIDE, SIDE))), restarts=(1.0, 1.6, 2.0))
    assert rival.alarm and "no second one" in rival.sentence
    alike = stable(spread * (2 + paired(-0.5, 16, (SIDE, SIDE))), restarts=(1.0, 1.02, 2.0))
    assert not alike.alarm and "2 of 3 restarts" in alike.sentence
    copies = stable(same)
    assert copies.alarm and "4 samples differ" in copies.sentence
    assert stable(paired(0.0, 1, (SIDE, SIDE))[:1]) is None


# -- support -----------------------------------------------------------------------------------


def test_under_a_gaussian_prior_the_share_is_that_of_the_closed_form() -> None:
    problem, recipe = problem_of(), Recipe(prior={"kind": "gaussian", "std": 0.5})
    x = posterior(problem, 400)
    finding = support.find(Evidence(problem, x, x[:, 0].numpy(), recipe))
    gain = SPECTRUM * TRANSFER / (SPECTRUM * TRANSFER**2 + SIGMA**2)
    exact = float((SPECTRUM * (1 - gain * TRANSFER)).mean()) / 0.25
    assert finding is not None
    share = finding.maps["prior_share"]
    assert share.shape == (SIDE, SIDE) and share.dtype == np.float32
    assert share.mean() == pytest.approx(exact, rel=0.1)
    assert finding.numbers["median_ratio"] == pytest.approx(exact, rel=0.1)
    assert "closed form" in finding.sentence


def test_what_was_not_measured_is_not_supported_and_what_was_seen_well_is() -> None:
    problem, recipe = problem_of(), Recipe(prior={"kind": "gaussian", "std": 0.5})
    rng = np.random.default_rng(0)
    spread = np.where(np.arange(SIDE) < 4, 0.05, 0.5)
    x = torch.as_tensor(0.3 + spread * rng.standard_normal((40, 1, SIDE, SIDE)))
    finding = support.find(Evidence(problem, x, x[:, 0].numpy(), recipe))
    assert finding is not None
    mask = finding.maps["unsupported"]
    assert mask[:, :2].max() == 0 and mask[:, 6:].min() == 1
    assert finding.numbers["unsupported_share"] == pytest.approx(mask.mean())
    assert support.find(Evidence(problem, x[:1], x[:1, 0].numpy(), recipe)) is None


def test_the_spread_of_a_prior_follows_the_local_intensity() -> None:
    rng = np.random.default_rng(0)
    level = np.linspace(-1, 1, 96)[None, :, None]
    images = level + (0.1 + 0.2 * (level + 1)) * rng.standard_normal((8, 96, 96))
    found = support.Spread.measured(images)
    expected = 0.1 + 0.2 * (np.array(found.intensity) + 1)
    np.testing.assert_allclose(found.std[2:-2], expected[2:-2], rtol=0.1)
    again = support.Spread.from_json(found.to_json())
    flat = np.full((1, 20, 20), 0.5)
    np.testing.assert_allclose(again.at(flat, 2), 0.4, rtol=0.1)


def test_the_shipped_table_was_made_with_the_shipped_weights() -> None:
    source = Recipe(prior="fluorescence").prior
    found = facts_beside(source, support.FILE)
    assert found is not None, "run tools/prior_spread.py: the weights have changed"
    spread = support.Spread.from_json(found)
    assert list(spread.intensity) == sorted(spread.intensity)
    # Structure is bright: where a neighbourhood is dark, pixels lie closer to it.
    assert 0 < spread.std[0] < 0.1 * max(spread.std)


def test_a_prior_without_a_table_is_drawn_from_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = partial(support.draw, count=3, side=16, steps=4)
    monkeypatch.setattr(support, "draw", fewer)
    monkeypatch.setattr(support, "DRAWS", 3)
    network = build_network(NetworkConfig(channels=(4,), groups=2))
    info = PriorInfo(network=NetworkConfig(channels=(4,), groups=2))
    folder = save_prior(tmp_path / "own", network, info)
    recipe = Recipe(prior={"kind": "checkpoint", "path": str(folder)})
    problem = problem_of()
    problem.prior = load_prior(folder)
    x = posterior(problem, 4).float()
    evidence = Evidence(problem, x, x[:, 0].numpy(), recipe)
    finding = support.find(evidence)
    assert finding is not None and "from 3 draws" in finding.sentence
    monkeypatch.setattr(support, "draw", None)
    again = support.find(evidence)
    assert again is not None and again.numbers == finding.numbers


def test_facts_of_other_weights_do_not_count(tmp_path: Path) -> None:
    network = build_network(NetworkConfig(channels=(4,), groups=2))
    info = PriorInfo(network=NetworkConfig(channels=(4,), groups=2))
    folder = save_prior(tmp_path / "own", network, info)
    source = Recipe(prior={"kind": "checkpoint", "path": str(folder)}).prior
    (folder / "facts.json").write_text(json.dumps({"prior": prior_hash(folder), "n": 1}))
    assert facts_beside(source, "facts.json") == {"prior": prior_hash(folder), "n": 1}
    (folder / "facts.json").write_text(json.dumps({"prior": "another", "n": 1}))
    assert facts_beside(source, "facts.json") is None
    (folder / "facts.json").write_text("{")
    with pytest.raises(PriorError, match="delete it, or make it again"):
        facts_beside(source, "facts.json")


# -- familiarity -------------------------------------------------------------------------------


def plain(image: np.ndarray, sigma: float) -> np.ndarray:
    """Stand for a prior: a denoiser that smooths."""
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(image, 2 * sigma))


def nuclei(seed: int, side: int = 96) -> np.ndarray:
    return phantom(np.random.default_rng(seed), side, "nuclei").astype(np.float64)


def test_looks_do_not_depend_on_brightness_and_offset() -> None:
    image = nuclei(0)
    one, other = (
        appearance.looks(appearance.normalised(i), plain) for i in (image, 300 * image + 40)
    )
    assert one == pytest.approx(other, abs=1e-6)
    turned = appearance.looks(appearance.normalised(-image), plain)
    assert one["skew2"] > 0.2 > -0.2 > turned["skew2"]
    assert one["follow2"] > 0.3 > -0.3 > turned["follow2"]


def test_the_parts_that_show_most_are_judged() -> None:
    planes = np.zeros((1, 200, 300))
    planes[0, 100:190, 200:290] = nuclei(1, 90)
    found = appearance.tiles(planes, side=96, most=2)
    assert len(found) == 2 and found[0].shape == (96, 96)
    assert found[0].var() == max(part.var() for part in appearance.tiles(planes, 96, 99))
    assert appearance.tiles(np.ones((1, 40, 50)))[0].shape == (40, 50)


def test_a_score_is_kept_and_read_as_it_was() -> None:
    model = familiarity.Model(
        ("mean", "std"), (0.0, 1.0), (1.0, 0.5), (2.0, -1.0), (0.0, 0.5), 0.25, 1.5
    )
    assert familiarity.Model.from_json(json.loads(json.dumps(model.to_json()))) == model
    assert model.of({"mean": 0.5, "std": 1.5, "skew": 9.0}) == pytest.approx(0.25 + 1.0 - 1.0 + 0.5)
    # One feature far outside of all that was fitted to does not decide alone.
    assert model.of({"mean": 1e6, "std": 1.0}) == pytest.approx(0.25 + 8.0)


@pytest.fixture(scope="module")
def shipped() -> Any:
    return load_prior(FOLDER)


@pytest.mark.parametrize("inverted", [False, True])
def test_nuclei_are_familiar_and_their_negative_is_not(shipped: Any, inverted: bool) -> None:
    image = appearance.normalised(nuclei(3))
    image = appearance.normalised(-image) if inverted else image
    problem = problem_of()
    problem.prior = shipped
    x = torch.as_tensor(image, dtype=torch.float32).expand(2, 1, 96, 96)
    problem.operator = MappedOperator(
        Filter(torch.ones(96, 96)), problem.operator.scale, problem.operator.background
    )
    finding = familiarity.find(Evidence(problem, x, x[:, 0].numpy(), Recipe(prior="fluorescence")))
    assert finding is not None and finding.alarm is inverted
    assert finding.numbers["familiar"] is not inverted
    assert (finding.numbers["score"] > finding.numbers["threshold"]) is inverted


def test_a_prior_without_a_score_says_so() -> None:
    recipe = Recipe(prior={"kind": "gaussian", "std": 0.5})
    problem = problem_of()
    x = posterior(problem, 3)
    finding = familiarity.find(Evidence(problem, x, x[:, 0].numpy(), recipe))
    assert finding is not None and not finding.alarm
    assert "no score for the prior 'gaussian'" in finding.sentence


def test_the_shipped_score_was_fitted_to_the_shipped_weights() -> None:
    found = facts_beside(Recipe(prior="fluorescence").prior, familiarity.FILE)
    assert found is not None, "run tools/familiarity_fit.py: the weights have changed"
    assert found["flagged_when_unseen"]["fluorescence"] <= 0.05
    assert found["flagged_when_unseen"]["other"] >= 0.8
