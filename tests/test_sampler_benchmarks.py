"""The benchmarks that compare samplers: budgets, scores, resuming, and what their tables say."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import _frontier
import _paper
import _perceptual
import _samplers
import frontier
import numpy as np
import paper_tables
import pytest
import scipy.linalg
import skimage.io
import torch
from _budget import DEFAULT, FULL, Counted, budgets, fields_for
from _ledger import Ledger
from _scores import interval_score, registered, scores

import napari_dps
from napari_dps.components import make, registry
from napari_dps.evaluate import psnr

ROOT = Path(__file__).resolve().parent.parent


def test_every_sampler_has_a_way_to_spend_a_budget() -> None:
    assert fields_for("dps", "50", 4) == {"steps": 25}
    assert fields_for("pigdm", "100", 4) == {"steps": 50}
    assert fields_for("daps", "20", 4) == {"steps": 20}
    assert fields_for("dps", FULL, 4) == {"steps": 1000}
    assert budgets("auto", (20, 50)) == [DEFAULT]
    assert budgets("dps", (20,)) == ["20", FULL]
    for kind, cls in registry("sampler").items():
        for budget in budgets(kind, (20, 250)):
            make("sampler", {"kind": kind, **fields_for(kind, budget, 4)})
        assert (budgets(kind, (20,)) == [DEFAULT]) == (kind == "auto" or cls.classical)


def test_calls_are_counted_image_by_image() -> None:
    budget = "20"
    prior = Counted(source=make("prior", {"kind": "gaussian", "std": 0.3}))
    y = np.random.default_rng(0).poisson(20.0, (16, 16))
    for kind, least in (("dps", 1.0), ("mmps", 0.4)):
        prior.counter.reset()
        sampler = {"kind": kind, **fields_for(kind, budget, 6)}
        result = napari_dps.reconstruct(y, prior=prior, sampler=sampler, samples=6)
        assert result.report["batch"] == 4  # so that the counts of batches would not do
        made = (prior.counter.forward + prior.counter.vjp) / 6
        assert least * 20 <= made <= 1.3 * 20
    assert prior.counter.forward == 6 * sampler["steps"]


def test_the_interval_score_is_that_of_gneiting_and_raftery() -> None:
    samples = np.array([1.0, 2.0, 3.0, 4.0])[:, None] * np.ones(3)
    truth = np.array([2.0, 0.0, 4.5])
    # Level 0.6, so 1 to 4; 1 below and 0.5 above cost 2/0.4 times that.
    assert interval_score(samples, truth, 0.6) == pytest.approx(3 + (0 + 5 + 2.5) / 3)
    rng = np.random.default_rng(0)
    truth, draws = rng.standard_normal(4000), rng.standard_normal((99, 4000))
    honest = interval_score(draws, truth, 0.6)
    assert honest < interval_score(0.5 * draws, truth, 0.6)
    assert honest < interval_score(2.0 * draws, truth, 0.6)


def test_phase_results_are_registered_together_and_keep_their_spread() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((24, 24))
    truth[6:15, 8:13] = rng.uniform(1, 4, (9, 5))
    draws = truth + 0.1 * rng.standard_normal((6, 24, 24))
    away = 0.5 * np.roll(draws[:, ::-1, ::-1], (3, -2), (1, 2))
    placed = registered(away, truth)
    assert psnr(placed.mean(0), truth) > 35
    assert placed.std(0).mean() == pytest.approx(draws.std(0).mean(), rel=0.1)
    found = scores(away, truth, pairs=False, point=False, symmetric=True)
    assert found["psnr"] == pytest.approx(psnr(placed.mean(0), truth))
    point = scores(truth[None] + 0.5, truth, pairs=False, point=True, symmetric=False)
    assert point["crps"] == pytest.approx(0.5)
    assert point["interval_score"] is None


def test_a_ledger_goes_on_where_it_was(tmp_path) -> None:
    path, settings = tmp_path / "cells.jsonl", {"side": 64, "calls": (20, 50)}
    book = Ledger(path, settings, ("kind",))
    book.add({"kind": "dps", "psnr": 20.0})
    book.add({"kind": "mmps", "failed": "KeyError: 'x'"})
    book.add({"kind": "daps", "refused": "no"})
    with path.open("a", encoding="utf-8") as file:
        file.write('{"kind": "pigdm", "ps')
    book = Ledger(path, settings, ("kind",))
    assert {"kind": "dps"} in book
    assert {"kind": "daps"} in book
    assert {"kind": "mmps"} not in book  # what failed is tried again
    assert {"kind": "pigdm"} not in book
    book.add({"kind": "pigdm", "psnr": 21.0})
    assert Ledger(path, settings, ("kind",))[{"kind": "pigdm"}]["psnr"] == 21.0
    with pytest.raises(SystemExit, match="other settings \\(side\\)"):
        Ledger(path, {**settings, "side": 32}, ("kind",))


def row(kind: str, budget: str, psnr: float, crps: float, seconds: float, **more: Any) -> Any:
    figures = {"ssim": 0.9, "interval_score": 1.0, "coverage": 0.6, "calls": 20.0, "misfit": 1.0}
    figures |= {"psnr": psnr, "psnr_one": psnr, "crps": crps, "seconds": seconds}
    figures |= {"sampler": kind, "point": False, "classical": False, "samples": 4}
    return {"task": "t", "kind": kind, "budget": budget, "image": "a", **figures, **more}


def test_the_gate_asks_for_quality_time_and_the_frontier() -> None:
    default = row("auto", DEFAULT, 30.0, 1.0, 5.0, sampler="mmps")
    dps = row("dps", FULL, 29.0, 1.1, 60.0)
    found = _frontier.gate([default, dps, row("daps", "20", 30.2, 1.0, 1.0)])
    assert found is not None
    assert found["reaches_dps"]
    assert found["in_a_tenth"]
    assert found["on_the_frontier"]
    slow = _frontier.gate([default, {**dps, "seconds": 40.0}])
    assert slow is not None
    assert slow["reaches_dps"]
    assert not slow["in_a_tenth"]
    worse = _frontier.gate([default, {**dps, "crps": 0.9}])
    assert worse is not None
    assert not worse["reaches_dps"]
    beaten = _frontier.gate(
        [
            *(default, dps),
            row("daps", "20", 30.4, 1.2, 1.0),
            row("pigdm", "50", 20.0, 0.94, 2.0),
            row("smc", "250", 33.0, 0.5, 6.0),  # better, and slower
            row("wiener", DEFAULT, 31.0, 1.5, 0.1, point=True),
        ]
    )
    assert beaten is not None
    assert [one["kind"] for one in beaten["beaten_by"]] == ["daps", "pigdm", "wiener"]
    assert beaten["beaten_by"][1]["better"] == {"crps": pytest.approx(0.06)}
    assert "0.4 dB" in _frontier.answer(beaten)
    assert "point estimate" in _frontier.answer(beaten)
    # Only what both have counts: the second image is the default's alone.
    more = _frontier.gate([default, {**default, "image": "b", "psnr": 0.0}, dps])
    assert more is not None
    assert more["psnr_over_dps"] == pytest.approx(1.0)


def test_labels_of_a_chart_keep_apart_and_inside() -> None:
    values = [1.0, 1.0, 1.01, 5.0, 0.0]
    places = _frontier.spread(values, 0.5, 0.0, 5.0)
    assert np.diff(np.sort(places)).min() > 0.499
    assert min(places) > -1e-9
    assert max(places) < 5 + 1e-9
    assert np.argsort(places, kind="stable").tolist() == [4, 0, 1, 2, 3]


def test_a_step_length_is_looked_for_beyond_the_first_ones(monkeypatch) -> None:
    tried: list[float] = []

    def cell(*given: Any) -> dict[str, Any]:
        tried.append(given[3]["scale"])
        return {"psnr": 30 - (np.log10(given[3]["scale"]) - 2.4) ** 2}

    monkeypatch.setattr(_samplers, "cell", cell)
    book = Ledger(None, {}, ("task", "image"))
    given: Any = (None, {"kind": "dps"}, None, None, None)
    assert _samplers.tuned_scale(book, {"task": "t"}, *given) == pytest.approx(316.2)
    assert tried == [0.1, 1.0, 10.0, 100.0, 1000.0, 31.62, 316.2]
    count = len(tried)
    assert _samplers.tuned_scale(book, {"task": "t"}, *given) == pytest.approx(316.2)
    assert len(tried) == count
    monkeypatch.setattr(_samplers, "cell", lambda *given: {"refused": "no"})
    assert _samplers.tuned_scale(book, {"task": "other"}, *given) is None


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "eval" / "clean"
    folder.mkdir(parents=True)
    rows, columns = np.mgrid[:40, :40]
    for k in range(2):
        spots = np.exp(-((rows - 14 - k) ** 2 + (columns - 20) ** 2) / 30)
        image = np.uint8(20 + 200 * spots)
        skimage.io.imsave(folder / f"{k}.png", image, check_contrast=False)
    return tmp_path


def test_the_frontier_runs_stops_and_goes_on(data, tmp_path, monkeypatch, capsys) -> None:
    options: dict[str, Any] = {
        "data": data, "ledger": tmp_path / "cells.jsonl", "tasks": ("missing", "super-resolution"),
        "kinds": ("dps", "daps", "pigdm"), "calls": (6,), "full": False, "images": 1, "side": 24,
        "prior": "gaussian", "scale": 1.0, "out": tmp_path / "frontier.json",
    }  # fmt: skip
    frontier.main(**options, minutes=0.0)
    assert json.loads(options["out"].read_text())["summary"] == {}
    ran: list[str] = []
    cell = frontier.cell

    def stopped(task: Any, y: Any, truth: Any, sampler: Any, *rest: Any) -> dict[str, Any]:
        ran.append(sampler["kind"])
        if len(ran) == 3:
            raise KeyboardInterrupt
        return cell(task, y, truth, sampler, *rest)

    monkeypatch.setattr(frontier, "cell", stopped)
    with pytest.raises(KeyboardInterrupt):
        frontier.main(**options)
    assert ran == ["dps", "daps", "pigdm"]
    monkeypatch.setattr(frontier, "cell", lambda *given: (ran.append("more"), cell(*given))[1])
    frontier.main(**options)
    assert ran[3:] == ["more"] * 4  # what was stopped, and the three of the other task
    report = json.loads(options["out"].read_text())
    missing, coarse = (report["summary"][name]["table"] for name in options["tasks"])
    assert [(r["kind"], r["budget"], r["images"]) for r in missing] == [
        (kind, "6", 1) for kind in options["kinds"]
    ]
    assert [r["calls"] for r in missing] == [6, 6, 6]
    assert missing[1]["psnr"] > missing[0]["psnr"]
    assert all("at least 8 x 8 are needed" in r["refused"] for r in coarse)
    text = _frontier.table(report)
    assert "- `daps` refused: 'image' has 6 x 6 pixels" in text
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- frontier -->\nold\n<!-- end of frontier -->\nb\n", encoding="utf-8")
    for _ in range(2):
        frontier.app(
            ["markdown", str(options["out"]), "--into", str(page)], result_action="return_value"
        )
        assert page.read_text(encoding="utf-8") == (
            f"a\n<!-- frontier -->\n\n{text}\n\n<!-- end of frontier -->\nb\n"
        )
    frontier.charts(options["out"], folder=tmp_path)
    assert 5000 < (tmp_path / "frontier-missing.png").stat().st_size < 60_000
    assert not (tmp_path / "frontier-super-resolution.png").exists()
    capsys.readouterr()


def test_an_error_nobody_foresaw_is_told_and_ends_in_failure(data, tmp_path, monkeypatch) -> None:
    def broken(*given: Any, **parts: Any) -> Any:
        raise ZeroDivisionError("by nothing")

    options: dict[str, Any] = {
        "data": data, "ledger": tmp_path / "cells.jsonl", "tasks": ("missing",),
        "kinds": ("daps",), "calls": (6,), "images": 1, "side": 24, "prior": "gaussian",
    }  # fmt: skip
    made = frontier.counted_prior("gaussian")
    monkeypatch.setattr(frontier, "counted_prior", lambda name: made)
    monkeypatch.setattr(napari_dps, "reconstruct", broken)
    with pytest.raises(SystemExit, match="1 cells failed"):
        frontier.main(**options)
    lines = [json.loads(line) for line in options["ledger"].read_text().splitlines()]
    assert lines[1]["failed"] == "ZeroDivisionError: by nothing"


def test_the_page_shows_the_figures_that_are_committed() -> None:
    results = ROOT / "benchmarks" / "results" / "frontier.json"
    text = (ROOT / "docs" / "samplers.md").read_text(encoding="utf-8")
    assert _frontier.table(json.loads(results.read_text(encoding="utf-8"))) in text


def test_paper_tables_run_and_go_on(data, tmp_path, monkeypatch, capsys) -> None:
    options: dict[str, Any] = {
        "data": data, "ledger": tmp_path / "cells.jsonl", "pictures": tmp_path / "pictures",
        "tasks": ("box", "super-resolution"), "noise": ("gaussian", "poisson"), "side": 24,
        "count": 1, "steps": 4, "scale": "1", "prior": "gaussian", "out": tmp_path / "tables.json",
    }  # fmt: skip
    monkeypatch.setattr(paper_tables, "METHODS", dict.fromkeys(options["tasks"], ("dps",)))
    paper_tables.main(**options, kinds=("auto", "dps"))
    report = json.loads(options["out"].read_text())
    assert report["tuned_on"] == "1.png"
    assert len(report["rows"]) == 8
    assert {r["fields"]["steps"] for r in report["rows"] if r["kind"] == "dps"} == {4}
    restored, truth = (
        skimage.io.imread(tmp_path / "pictures" / "gaussian" / "box" / name / "0.png")
        for name in ("auto", "truth")
    )
    cell = {"noise": "gaussian", "task": "box", "kind": "auto"}
    (shown,) = (r["psnr"] for r in report["rows"] if r.items() >= cell.items())
    assert psnr(restored, truth) > shown - 0.1  # clipped to the truth's range
    monkeypatch.setattr(paper_tables, "cell", None)  # nothing is left to compute
    paper_tables.main(**options)
    text = _paper.table(report)
    assert "**Linear problems, poisson noise**" in text
    assert "DPS is beaten in PSNR by `auto`" in text
    assert "- `dps` refused: 'image' has 6 x 6 pixels" in text
    capsys.readouterr()


def test_tables_mark_the_best_and_say_what_beats_dps() -> None:
    def mean(kind: str, psnr: float | None, **more: Any) -> dict[str, Any]:
        figures = {
            "psnr": psnr,
            "ssim": 0.5,
            "fid": None,
            "lpips": None,
            "images": int(psnr is not None),
        }
        return {"noise": "gaussian", "task": "box", "kind": kind, **figures, **more}

    rows = [mean("dps", 20.0), mean("ddrm", 22.0), mean("mcg", None, refused="no")]
    text = _paper.table({"table": rows})
    assert "| `ddrm` | **22.00** / **0.500** |" in text
    assert "| `mcg` | refused |" in text
    assert text.endswith("gaussian noise: DPS is beaten in PSNR by `ddrm` (by 2.0 dB).")
    assert "Nothing beats DPS" in _paper.rivals([mean("dps", 20.0), mean("ddrm", 19.0)])[0]


def test_colours_keep_their_axis_and_the_middle_is_taken(tmp_path) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[14:26, 24:36] = (255, 51, 0)
    skimage.io.imsave(tmp_path / "a.png", picture, check_contrast=False)
    image, margin = _paper.unit_image(tmp_path / "a.png", 16, stretched=False)
    assert (image.shape, margin) == ((3, 40, 40), 12)
    assert image[:, 20, 20].tolist() == [1.0, 0.2, 0.0]
    tasks = _paper.paper_tasks("poisson", 16, stretched=False)
    y, truth = tasks["gaussian"].measure(image, 0, margin, 16)
    assert y.shape == truth.shape == (3, 16, 16)
    assert truth.max() == 255
    y, truth = tasks["super-resolution"].measure(image, 0, margin, 16)
    assert (y.shape, truth.shape) == ((3, 4, 4), (3, 16, 16))
    y, truth = tasks["phase"].measure(image, 0, margin, 16)
    assert (y.shape, truth.shape) == ((32, 32), (16, 16))
    assert (truth**2).sum() == pytest.approx(25 * 256)


def test_the_frechet_distance_is_the_textbook_one() -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((50, 6)) @ rng.standard_normal((6, 6))
    second = rng.standard_normal((40, 6)) + 1
    c1, c2 = np.cov(first.T), np.cov(second.T)
    root = scipy.linalg.sqrtm(c1 @ c2).real
    apart = ((first.mean(0) - second.mean(0)) ** 2).sum()
    expected = apart + np.trace(c1 + c2 - 2 * root)
    assert _perceptual.frechet(first, second) == pytest.approx(expected)
    assert _perceptual.frechet(first, first) == pytest.approx(0, abs=1e-9)
    with pytest.raises(SystemExit, match="FID needs the package nobody_has_this"):
        _perceptual.package("nobody_has_this", "FID")


def test_weights_of_the_user_reach_the_networks(tmp_path, monkeypatch) -> None:
    class Inception(torch.nn.Module):
        def __init__(self, name: str, features: list[str], **given: str) -> None:
            super().__init__()
            assert features == ["2048"]
            assert given == {"feature_extractor_weights_path": str(tmp_path / "inception.pth")}

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            assert (x.dtype, x.shape[1]) == (torch.uint8, 3)
            return (x.float().mean((2, 3)),)

    class Distance(torch.nn.Module):
        def __init__(self, **given: Any) -> None:
            super().__init__()
            assert given["pnet_rand"]  # nothing is downloaded
            self.net = torch.nn.Module()
            for k in range(1, 6):
                part = torch.nn.Sequential()
                part.add_module(str(k), torch.nn.Linear(1, 1, bias=False))
                self.net.add_module(f"slice{k}", part)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            weight = sum(p for part in self.net.children() for p in part.parameters())
            return (weight * (a - b).abs().mean()).reshape(1, 1, 1, 1)

    fidelity = SimpleNamespace(FeatureExtractorInceptionV3=Inception)
    found = {"lpips": SimpleNamespace(LPIPS=Distance)}
    found["torch_fidelity.feature_extractor_inceptionv3"] = fidelity
    monkeypatch.setattr(_perceptual, "package", lambda name, what: found[name])
    state = {f"features.{k}.weight": torch.full((1, 1), float(k)) for k in range(1, 6)}
    torch.save({**state, "classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg.pth")
    cell, rows = {"noise": "gaussian", "task": "box", "kind": "dps"}, []
    for name, restored, truth in (("a", 26, 0), ("b", 71, 51)):
        for kind, value in (("dps", restored), ("truth", truth)):
            path = tmp_path / "gaussian" / "box" / kind / f"{name}.png"
            _perceptual.save_picture(np.full((8, 8), value / 255), 1.0, path)
        rows.append({**cell, "image": f"{name}.tif", "psnr": 20.0})
    rows.append({**cell, "kind": "mcg", "image": "a.tif", "refused": "no"})
    said = paper_tables.perceived(rows, tmp_path, tmp_path / "inception.pth", tmp_path / "vgg.pth")
    assert [row.get("lpips") for row in said if row["kind"] == "mcg"] == [None]
    (first, second) = (row for row in said if row["kind"] == "dps")
    assert first["lpips"] == pytest.approx(15 * 26 / 127.5)  # the weights 1 to 5 sum to 15
    # In each of three equal channels: means 23 apart, spreads of 45 and 51 over the root of two.
    assert second["fid"] == pytest.approx(3 * (23**2 + (51 - 45) ** 2 / 2))
