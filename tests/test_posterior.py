"""The judge: a Gaussian prior, a linear operator and Gaussian noise have a known posterior."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import exactness
import numpy as np
import pytest
import torch
from _closed_form import TASKS, Case

import napari_dps
from napari_dps.core.sampler import SecondOrderMove, finest_level
from napari_dps.core.schedule import karras_ladder
from napari_dps.errors import DPSError, RecipeError

Range = tuple[float, float]


@dataclass(frozen=True)
class Stated:
    """What a sampler holds on every task, measured with 79 samples; the default: calibrated.

    Error of the mean over the Monte-Carlo floor; spread over the exact one and coverage of the
    90 % interval, of measured and of missing pixels; spread of well, partly and not measured
    modes, of which there may be few; tasks that it takes, the others it must refuse; its fields
    where not the default's.
    """

    error: float = 1.2
    spread: Range = (0.95, 1.05)
    coverage: Range = (0.87, 0.93)
    modes: Range = (0.9, 1.1)
    tasks: tuple[str, ...] = TASKS
    fields: dict[str, Any] = field(default_factory=dict)


# One line a kind. Whoever adds a sampler measures with benchmarks/exactness.py and states here.
STATED = {
    "mmps": Stated(),
    "daps": Stated(),
    "pigdm": Stated(error=2.2, modes=(0.85, 1.1)),
    "dps": Stated(4.7, (0.45, 0.9), (0.5, 0.87), (0.15, 0.95), fields={"steps": 200}),
    "pnp-dm": Stated(error=2.2),
    "diffpir": Stated(2.7, (0.9, 1.08), (0.86, 0.93), (0.88, 1.08)),
    "ddrm": Stated(3.1, (0.5, 0.97), (0.6, 0.87), (0.38, 0.92)),
    "mcg": Stated(7.8, (0.55, 1.05), (0.63, 0.9), (0.35, 1.0), fields={"steps": 200}),
    "ilvr": Stated(7.7, (0.7, 1.1), (0.65, 0.91), (0.38, 1.1), fields={"steps": 200}),
}
# For small problems only: judged on images of a few pixels in a file of its own.
ELSEWHERE = {"smc": "tests/test_smc.py"}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Images this small take many times longer where threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def figures(kind: str, task: str, informed: bool) -> dict[str, Any]:
    """Return the study's figures at noise 0.1."""
    return exactness.study(
        kind, task, 0.1, 79, 1, informed, size=16, **STATED.get(kind, Stated()).fields
    )


def inside(found: dict[str, Any], limits: Stated) -> None:
    """Fail where a figure is outside of what was stated."""
    assert found["error"] < limits.error
    for name in ("spread", "spread_unmeasured"):
        if found[name] is not None:
            assert limits.spread[0] < found[name] < limits.spread[1], name
    for name in ("coverage", "coverage_measured", "coverage_unmeasured"):
        if found[name] is not None:
            assert limits.coverage[0] <= found[name] <= limits.coverage[1], name
    for name, value in found["mode_spread"].items():
        assert limits.modes[0] < value < limits.modes[1], name


@pytest.mark.parametrize("kind", exactness.drawing_kinds())
def test_every_sampler_that_draws_states_what_it_holds(kind):
    assert kind in STATED or kind in ELSEWHERE, (
        f"the sampler {kind!r} draws samples but states no tolerance: measure it with `python "
        f"benchmarks/exactness.py --kinds {kind}` and add its line to STATED in {__file__}"
    )


def test_nothing_is_stated_for_a_sampler_that_does_not_exist():
    assert set(STATED) <= set(exactness.drawing_kinds())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", list(STATED))
def test_samplers_draw_from_the_exact_posterior_within_what_they_state(kind, task):
    if task not in STATED[kind].tasks:
        with pytest.raises(RecipeError):
            figures(kind, task, True)
        return
    inside(figures(kind, task, True), STATED[kind])


@pytest.mark.parametrize("task", ["half", "blur"])
@pytest.mark.parametrize("kind", ["mmps", "daps"])
def test_the_informed_start_is_not_needed(kind, task):
    """From pure noise the ladder is longer, and as many steps spread by up to 3 % more."""
    inside(figures(kind, task, False), STATED[kind])


@pytest.mark.parametrize("spectrum", ["white", "steep"])
@pytest.mark.parametrize("noise", [0.02, 0.4])
def test_the_default_holds_for_weak_and_strong_noise_and_rough_and_smooth_objects(noise, spectrum):
    inside(exactness.study("mmps", "half", noise, 79, 1, True, size=16, spectrum=spectrum),
           Stated(error=1.3, modes=(0.85, 1.1)))  # fmt: skip


def test_the_default_covers_what_it_says_at_about_fifty_calls():
    found = exactness.study("mmps", "half", 0.1, 79, 1, True, size=16)
    assert 40 <= sum(found["calls"].values()) <= 55
    inside(found, STATED["mmps"])


@pytest.mark.parametrize(("kind", "tolerance"), [("mmps", 0.05), ("pigdm", 0.05), ("pnp-dm", 0.15)])
def test_noise_far_below_the_image_keeps_its_error_bars(kind, tolerance):
    """Half of the pixels measured to a two-thousandth, as images of 16 bits have it."""
    found = exactness.study(kind, "half", 0.0005, 79, 1, True, size=16)
    assert found["spread"] == pytest.approx(1.0, abs=tolerance)


@pytest.mark.parametrize("sigma_max", [0.3, 1.0])
def test_a_ladder_that_begins_low_begins_at_the_classical_estimate(sigma_max):
    """From noise alone, as low as the prior's spread, the mean errs by six times the floor."""
    found = exactness.study("mmps", "half", 0.1, 79, 1, True, size=16, sigma_max=sigma_max)
    assert found["error"] < 1.2 and found["spread"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("kind", ["dps", "mcg"])
def test_the_step_of_dps_does_not_depend_on_the_unit_of_a_measurement(kind, blurred_counts):
    def restored(unit):
        found = napari_dps.reconstruct(
            unit * blurred_counts,
            forward={"kind": "gaussian-blur", "sigma": 1.0},
            noise={"kind": "gaussian", "sigma": 0.1 * unit},
            prior="gaussian",
            sampler={"kind": kind, "steps": 30},
            intensity={"scale": 2.0 * unit, "background": -unit},
            samples=1,
        )
        return found.mean / unit

    np.testing.assert_allclose(restored(1e4), restored(1.0), atol=1e-3)


@pytest.fixture
def blurred_counts():
    """A smooth scene between -1 and 1."""
    y, x = np.mgrid[:16, :16]
    return np.sin(y / 3) * np.cos(x / 4)


@pytest.mark.parametrize("kind", ["mmps", "pigdm", "daps", "diffpir", "ddrm"])
def test_a_ladder_that_would_rise_is_refused(kind):
    with pytest.raises(
        RecipeError, match=r"not below the one .*, 0\.001 .*: lower its sigma_min, or"
    ):
        exactness.study(kind, "half", 0.1, 3, 1, True, size=16, sigma_max=0.001, sigma_min=0.005)


def test_the_study_keeps_within_its_budget_and_tells_what_misses_the_gate():
    case = Case("half", 0.1, "smooth", 16)
    rows = exactness.rows_of(case, "mmps", (30,), 39, 1)
    assert [row["setting"] for row in rows] == ["default", "30 calls"]
    assert sum(rows[1]["calls"].values()) <= 30 and rows[1]["steps"] >= 6
    assert not exactness.missed(rows[0])
    poor = exactness.rows_of(case, "dps", (20,), 39, 1)[1]
    assert any(text.startswith("measured pixels 0.") for text in exactness.missed(poor))
    assert any(text.startswith("error") for text in exactness.missed(poor))


@pytest.mark.parametrize(("steps", "tolerance"), [(8, 0.07), (12, 0.04), (25, 0.02)])
def test_long_steps_of_the_second_order_move_keep_the_spread_of_a_gaussian(steps, tolerance):
    """The exact denoiser of N(0, s^2), from the noise 1 to 0.002."""
    generator = torch.Generator().manual_seed(0)

    def noise() -> torch.Tensor:
        return torch.randn(40_000, generator=generator, dtype=torch.float64)

    ladder = karras_ladder(steps, 1.0, 0.002)
    for s in (0.02, 0.1, 0.3):
        x, move = (1 + s**2) ** 0.5 * noise(), SecondOrderMove()
        for sigma, lower in pairwise(ladder):
            x = move(x, s**2 / (s**2 + sigma**2) * x, sigma, lower, noise)
        assert float(x.std()) / s == pytest.approx(1.0, abs=tolerance)


def test_the_ladder_ends_where_the_prior_does():
    case = Case("half", 0.1, "smooth", 16)
    problem = case.problem(case.draw(0), informed=False)
    assert finest_level(problem, None) == 0.01
    assert finest_level(problem, None, 0.002) == 0.002
    assert finest_level(problem, 0.005, 0.002) == 0.005
    problem.prior.sigma_min = 0.006
    assert finest_level(problem, None, 0.002) == 0.006
    problem.prior.sigma_min = 0.03
    assert finest_level(problem, None, 0.002) == 0.01


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


def test_runs_of_single_samplers_are_joined(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # other tests have theirs
    given = {"tasks": ["half"], "spectra": ["smooth"], "noise": [0.1], "budgets": [20]}
    files = [tmp_path / f"{kind}.json" for kind in ("ddrm", "diffpir")]
    for path in files:
        exactness.main(**given, kinds=[path.stem], samples=39, truths=1, size=8, out=path)
    out, table = tmp_path / "both.json", tmp_path / "both.md"
    exactness.join(files, out=out, table=table)
    parts, both = [json.loads(f.read_text()) for f in files], json.loads(out.read_text())
    assert both["rows"] == [row for part in parts for row in part["rows"]]
    assert both["summary"] == [entry for part in parts for entry in part["summary"]]
    assert "| diffpir | 20 calls |" in table.read_text()
    # The later run of a sampler counts.
    exactness.join([out, files[0]], out=out)
    assert len(json.loads(out.read_text())["rows"]) == len(both["rows"])
    exactness.main(**given, kinds=["ddrm"], samples=39, truths=2, size=8, out=files[0])
    with pytest.raises(SystemExit, match="other settings"):
        exactness.join([out, files[0]])
    capsys.readouterr()


def test_a_budget_that_a_sampler_finds_too_small_is_a_row_of_its_own(monkeypatch):
    def refuse(*_: object) -> None:
        raise DPSError("too few steps")

    monkeypatch.setattr(exactness, "within", refuse)
    monkeypatch.setattr(exactness, "examine", lambda *_: {"calls": {}, "seconds": 0.0})
    case = Case("blur", 0.1, "smooth", 8)
    default, small = exactness.rows_of(case, "smc", (20,), 39, 1)
    assert default["setting"] == "default" and "refused" not in default
    assert (small["setting"], small["refused"]) == ("20 calls", "too few steps")
    assert exactness.summary([small])[0]["refused"] == ["too few steps"]
