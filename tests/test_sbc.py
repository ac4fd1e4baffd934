"""Simulation-based calibration: ranks are uniform where all is right, and show where it is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sbc
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Images this small take many times longer where threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows_of(ranks):
    return [{"ranks": {"pixel": int(rank)}} for rank in ranks]


def test_uniform_ranks_pass_and_a_narrow_or_shifted_posterior_does_not(rng):
    truth, draws = rng.normal(size=400), rng.normal(size=(400, 19))

    def judged(samples):
        return sbc.judge(rows_of((samples < truth[:, None]).sum(1)), 19)["pixel"]

    right = judged(draws)
    assert right["p"] > 0.01 and right["inside_90"] == pytest.approx(0.9, abs=0.05)
    assert sum(right["histogram"]) == 400 and len(right["histogram"]) == 20
    narrow = judged(0.7 * draws)
    assert narrow["p"] < 1e-4 and narrow["inside_90"] < 0.82
    shifted = judged(draws + 0.5)
    assert shifted["p"] < 1e-4 and shifted["mean_rank"] < 0.42


def test_statistics_are_what_they_are_called():
    setup = sbc.Setup(32, "gaussian", "gaussian")
    rows = np.arange(32)[:, None] * np.ones((1, 32))
    image = 10 + np.cos(2 * np.pi * 3 * rows / 32)  # 0.094 cycles per pixel
    found = sbc.statistics(image, np.zeros((32, 32)), *setup.physics)
    assert found["sum, all"] == pytest.approx(10 * 32**2)
    assert found["pixel, centre"] == image[16, 16]
    bands = {k: v for k, v in found.items() if k.startswith("power")}
    assert max(bands, key=bands.get) == "power, 0.06 to 0.12 /px"
    assert sum(bands.values()) == pytest.approx((32**2 / 2) ** 2 * 2)
    operator, likelihood = setup.physics
    expected = operator(torch.as_tensor(image)[None, None])
    best = sbc.statistics(image, expected[0, 0].numpy(), operator, likelihood)
    assert best["misfit"] < found["misfit"]


def test_a_run_that_was_ended_goes_on_and_gives_the_same(tmp_path, capsys):
    """With the closed-form prior, for which it takes a second; the last line was cut off."""
    log, chart = tmp_path / "log.jsonl", tmp_path / "ranks.png"
    options = {"size": 16, "noise": "gaussian", "prior": "gaussian", "budget": 20}

    def run(draws):
        sbc.main(log=log, draws=draws, chart=chart, **options)
        return json.loads(capsys.readouterr().out)

    first = run(2)
    assert first["draws"] == {"default": 2, "20 calls": 2} and not first["antithetic"]
    assert first["settings"]["default"]["antithetic"] is False
    whole = log.read_text()
    assert len(whole.splitlines()) == 2 + 4
    log.write_text(whole[:-20])
    second = run(2)
    assert second["results"] == first["results"]
    before = log.stat().st_size
    assert run(1)["draws"] == {"default": 1, "20 calls": 1}
    assert log.stat().st_size == before
    assert chart.stat().st_size > 1000
    out = tmp_path / "ranks.json"
    out.write_text(json.dumps(second))
    sbc.app(["markdown", str(out)], result_action="return_value")
    table = capsys.readouterr().out.splitlines()
    found = second["results"]["20 calls"]["misfit"]
    assert table[0].count("|") == table[-1].count("|") == 6
    assert table[-1].startswith("| misfit |")
    assert table[-1].endswith(f"| {found['p']:.2g} | {found['inside_90']:.2f} |")
    with pytest.raises(SystemExit, match="other settings"):
        sbc.main(log=log, draws=1, **{**options, "budget": 30})
