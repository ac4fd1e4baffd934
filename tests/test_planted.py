"""The benchmark of planted objects: scenes hold what they say, and verdicts follow from rows."""

import json
import math

import numpy as np
import planted
import pytest


@pytest.mark.parametrize("number", range(4))
def test_scenes_hold_what_was_planted(number):
    rng = np.random.default_rng(number)
    scene, distance, function = planted.points(rng)
    light = (scene - planted.BACKGROUND).sum()
    assert 1000 <= light <= 10000 and 0.5 <= distance / planted.FWHM <= 2
    if distance > 4:  # sharp points of width 0.7 are two maxima then
        assert function(scene)["distance"] == pytest.approx(distance, abs=0.35)
    assert function(scene)["separation"] == pytest.approx(distance, rel=0.02)
    scene, photons, function = planted.one_spot(rng)
    assert function(scene)["sum 1"] == pytest.approx(photons, rel=1e-3)
    scene, count, function = planted.nuclei(rng)
    assert 1 <= count <= 6 and function(scene)["count"] == count


def rows(count, *, narrow=1.0, apart=True):
    """Return rows of spots whose draws are as wide as they should be, or narrower by a factor."""
    rng = np.random.default_rng(5)
    found = []
    for k in range(count):
        truth = rng.uniform(100, 1000)
        centre = truth + 10 * rng.normal()
        draws = list(centre + 10 * narrow * rng.normal(size=20))
        row = {"kind": "spot", "case": k, "truth": truth, "draws": {"spot": draws}, "seconds": 1.0}
        found.append(row | {"calls": {"forward": 1}})
    if not apart:
        found[0]["draws"]["spot"] = [None] * 20
    return found


def test_verdict_of_honest_and_of_narrow_draws():
    honest = planted.judge("spot", rows(60))
    assert honest["nominal"] > 0.8 and honest["passed"]
    narrow = planted.judge("spot", rows(60, narrow=0.2))
    assert narrow["nominal"] < 0.5 < 0.82 <= narrow["calibrated"] <= 0.97
    assert narrow["width_calibrated"] > 2 * narrow["width_nominal"]
    part = planted.judge("spot", rows(60, apart=False))
    assert (part["cases"], part["with_value"]) == (60, 59)
    few = planted.judge("spot", rows(30))
    assert few["passed"] is None and few["nominal_passed"]  # a half is too few to judge by
    assert planted.judge("spot", rows(10)) == {"cases": 10, "with_value": 10, "passed": None}


def test_values_by_distance_are_counted():
    truths = [f * planted.FWHM for f in (0.6, 0.7, 1.2, 1.9)]
    draws = [{"maxima": [None if t < 4 else t] * 20} for t in truths]
    found = [planted.remade({"draws": d}, "maxima") for d in draws]
    assert planted.by_truth("maxima", truths, found, 0.5) == {
        "0.5 to 1 FWHM": "0 of 2",
        "1 to 1.5 FWHM": "1 of 1",
        "1.5 to 2 FWHM": "1 of 1",
    }
    assert planted.by_truth("spot", truths, found, 0.5) is None


def test_a_run_goes_on_from_its_ledger(monkeypatch, tmp_path, capsys):
    made = []

    def case(kind, number, recipe, device):
        made.append((kind, number))
        return rows(30)[number] | {"kind": kind, "case": number}

    monkeypatch.setattr(planted, "case", case)
    ledger, out = tmp_path / "l.jsonl", tmp_path / "o.json"
    planted.main(ledger=ledger, cases=5, kinds=("spot",))
    assert made == [("spot", k) for k in range(5)]
    planted.main(ledger=ledger, cases=25, kinds=("spot",), out=out)
    assert made == [("spot", k) for k in range(25)]
    report = json.loads(out.read_text(encoding="utf-8"))["kinds"]["spot"]
    assert report["cases"] == 25 and math.isfinite(report["rmse"])
    with pytest.raises(SystemExit, match="other settings"):
        planted.main(ledger=ledger, cases=25, kinds=("spot",), steps=9)
    planted.main(ledger=ledger, cases=30, kinds=("spot",), seconds=0)
    assert len(made) == 25
    capsys.readouterr()
