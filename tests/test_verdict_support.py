"""What comes from the prior, and does it know such images: two findings of the verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from verdict_cases import SIDE, SIGMA, SPECTRUM, TRANSFER, Filter, posterior, problem_of

from napari_dps.core.operator import MappedOperator
from napari_dps.errors import PriorError
from napari_dps.priors._folder import (
    NetworkConfig,
    PriorInfo,
    build_network,
    load_prior,
    prior_hash,
    save_prior,
)
from napari_dps.priors.fluorescence import FOLDER
from napari_dps.recipe import Recipe
from napari_dps.training.phantoms import phantom
from napari_dps.uncertainty.verdict import appearance, familiarity, support
from napari_dps.uncertainty.verdict.beside import facts_beside
from napari_dps.uncertainty.verdict.evidence import Evidence
from napari_dps.uncertainty.verdict.pairs import variance


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On images this small threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def opposite(pairs: int, spread: float) -> torch.Tensor:
    """Return pairs at mean +- spread, whose variance is spread squared whatever their number."""
    signs = torch.ones(pairs, 1, SIDE, SIDE).double()
    signs[:, :, ::2] = -1
    return torch.stack([spread * signs, -spread * signs], 1).reshape(2 * pairs, 1, SIDE, SIDE)


@pytest.mark.parametrize("count", [2, 4])
def test_opposite_pairs_have_the_variance_that_more_of_them_have(count: int) -> None:
    problem, recipe = problem_of(), Recipe(prior={"kind": "gaussian", "std": 0.5})
    x = 0.3 + opposite(count, 0.5 * 0.4**0.5)
    x[..., :2] += torch.linspace(0, 1, 2)
    finding = support.find(Evidence(problem, x, x[:, 0].numpy(), recipe, pairs=True))
    assert finding is not None and not finding.alarm
    # Taken for independent, two pairs would seem to have 4/3 of it, more than one half.
    assert finding.numbers["median_ratio"] == pytest.approx(0.4)
    assert finding.maps["unsupported"].max() == 0 and "left 40 %" in finding.sentence


def test_one_pair_does_not_know_its_variance() -> None:
    problem, recipe = problem_of(), Recipe(prior={"kind": "gaussian", "std": 0.5})
    x = opposite(1, 0.5)
    finding = support.find(Evidence(problem, x, x[:, 0].numpy(), recipe, pairs=True))
    assert finding is not None and not finding.told and not finding.alarm
    assert not finding.maps and "draw 4" in finding.sentence


def test_no_more_than_all_of_the_variance_is_left() -> None:
    problem, recipe = problem_of(), Recipe(prior={"kind": "gaussian", "std": 0.5})
    x = opposite(2, 0.6)
    finding = support.find(Evidence(problem, x, x[:, 0].numpy(), recipe, pairs=True))
    assert finding is not None and finding.numbers["median_ratio"] > 1
    assert "have left all of the prior's variance" in finding.sentence


@pytest.mark.parametrize("correlation", [-1.0, -0.5, 0.0])
def test_the_variance_of_pairs_has_no_bias(correlation: float) -> None:
    rng = np.random.default_rng(1)
    one, other = rng.standard_normal((2, 3, 40_000))
    second = correlation * one + (1 - correlation**2) ** 0.5 * other
    samples = np.stack([one, second], 1).reshape(6, -1)
    assert variance(samples, True).mean() == pytest.approx(1, rel=0.03)
    odd = np.concatenate([samples, 9 + samples[:1]])
    assert np.array_equal(variance(odd, True), variance(samples, True))
    assert np.array_equal(variance(samples, False), samples.var(0, ddof=1))


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
    assert finding is not None and not finding.alarm and not finding.told
    assert "no score for the prior 'gaussian'" in finding.sentence


def test_the_shipped_score_was_fitted_to_the_shipped_weights() -> None:
    found = facts_beside(Recipe(prior="fluorescence").prior, familiarity.FILE)
    assert found is not None, "run tools/familiarity_fit.py: the weights have changed"
    assert found["flagged_when_unseen"]["fluorescence"] <= 0.05
    assert found["flagged_when_unseen"]["other"] >= 0.8
