"""Presets and settings; scores, draws, the memorisation test, figures, the model card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_dps.core.prior import Prior
from napari_dps.errors import InputError
from napari_dps.training import figures, judge, textures
from napari_dps.training.images import Source, collect, normalise
from napari_dps.training.look import Looker
from napari_dps.training.nearest import memorisation, nearest, unseen_patches
from napari_dps.training.settings import PRESETS, Settings, choose, settings_from
from napari_dps.training.train import train

MACHINE = {"patches": 5000.0, "gpu": False, "cores": 2, "tuning": False, "given": {}}


@pytest.mark.parametrize(
    ("machine", "preset", "reason"),
    [
        ({}, "standard", "60 minutes on 2 cores, and 5000 patches"),
        ({"given": {"minutes": 10.0}}, "small", "10 minutes on 2 cores are too few"),
        ({"given": {"steps": 900}}, "small", "900 steps are too few"),
        ({"patches": 100.0}, "small", "only 100 patches"),
        ({"gpu": True}, "standard", "a GPU, but only 5000"),
        ({"gpu": True, "patches": 1e5}, "large", "a GPU, and 100000"),
    ],
)
def test_auto_chooses_by_data_and_machine(machine, preset: str, reason: str) -> None:
    chosen, told = choose("auto", **{**MACHINE, **machine})
    assert chosen.channels == PRESETS[preset][0]
    assert f"preset {preset}" in told
    assert reason in told
    assert chosen.batch == (64 if machine.get("gpu") else 8)


def test_presets_yield_to_what_is_given() -> None:
    chosen, told = choose("large", **{**MACHINE, "given": {"batch": 32, "channels": (8, 16)}})
    assert chosen.channels == (8, 16)
    assert "it was asked for" in told
    # Four times the patches, twice the rate; a rate that is given stays.
    assert chosen.rate == pytest.approx(2 * PRESETS["large"][1])
    given = {"batch": 32, "rate": 1e-4}
    assert choose("large", **{**MACHINE, "given": given})[0].rate == 1e-4
    many = choose("standard", **{**MACHINE, "cores": 16})[0]
    assert many.batch == 64


def test_a_short_run_warms_up_shortly() -> None:
    assert choose("small", **{**MACHINE, "given": {"steps": 50}})[0].warmup == 5


def test_fine_tuning_is_gentle() -> None:
    fresh, _ = choose("standard", **MACHINE)
    tuned, told = choose("auto", **{**MACHINE, "tuning": True})
    assert tuned.rate < fresh.rate
    assert tuned.phantoms + tuned.textures < fresh.phantoms + fresh.textures
    assert tuned.phantoms > 0  # it must not forget the rest
    assert told.startswith("fine-tuning")


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="preset 'smal' is unknown; did you mean 'small'"):
        choose("smal", **MACHINE)
    with pytest.raises(InputError, match=r"no setting 'bach'; did you mean 'batch'"):
        settings_from({"bach": 3})
    for values, words in (
        ({"batch": 0}, "batch = 0"),
        ({"held_out": 0.7}, "held_out = 0.7"),
        ({"precision": "half"}, "auto or float32"),
        ({"size": 20}, "multiple of 8"),
        ({"phantoms": 0.8, "textures": 0.4}, "1.2 of all patches"),
    ):
        with pytest.raises(InputError, match=words):
            Settings(**values)


class Halving(Prior):
    """Pulls every pixel half-way to its mean: no denoiser, but one with known errors."""

    sigma_max = 80.0

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        return x / 2


def image(seed: int, side: int = 96) -> Source:
    pixels = 200 * textures.dead_leaves(np.random.default_rng(seed), side)
    source = normalise(pixels, "leaves", f"leaves/{seed}")
    assert source is not None
    return source


@pytest.fixture
def without_bm3d(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "find_spec", lambda name: None)


def test_scores_and_table(without_bm3d: None) -> None:
    prior, held = Halving(), [image(k) for k in range(3)]
    truths = judge.crops(held, 2, side=64)
    assert [t.shape for t in truths] == [(64, 64)] * 2
    noisy = [judge.add_noise(t, 0.1, k) for k, t in enumerate(truths)]
    expected = np.mean([judge.psnr(y / 2, t) for y, t in zip(noisy, truths, strict=True)])
    assert judge.scores(prior, truths, (0.1,)) == {"0.1": pytest.approx(expected, abs=1e-3)}
    found = judge.table(prior, held, 1, start=prior)
    assert found["images"] == 1
    assert list(found["psnr"]) == ["input", "this prior", "before", found["classical"]]
    assert found["psnr"]["before"] == found["psnr"]["this prior"]
    assert found["psnr"]["input"]["0.1"] == pytest.approx(10 * np.log10(4 / 0.01), abs=0.2)
    assert found["psnr"][found["classical"]]["0.5"] > found["psnr"]["input"]["0.5"] + 3


def test_bm3d_is_told_the_noise() -> None:
    pytest.importorskip("bm3d")
    name, method = judge.classical_denoiser()
    truth = image(0).patch(0, 0, 32).astype(float)
    noisy = judge.add_noise(truth, 0.25, 0)
    assert name == "BM3D"
    assert judge.psnr(method(noisy, 0.25), truth) > judge.psnr(noisy, truth) + 2


def test_without_bm3d_another_stands_in(without_bm3d: None) -> None:
    name, method = judge.classical_denoiser()
    assert name == "non-local means"
    truth = image(0).patch(0, 0, 64).astype(float)
    noisy = judge.add_noise(truth, 0.25, 0)
    assert judge.psnr(method(noisy, 0.25), truth) > judge.psnr(noisy, truth) + 3


def test_draws_are_seeded() -> None:
    first = judge.draw(Halving(), 3, side=16, steps=4)
    assert first.shape == (3, 16, 16)
    np.testing.assert_array_equal(first, judge.draw(Halving(), 3, side=16, steps=4))
    assert not np.array_equal(first[0], first[1])


def test_a_copy_of_a_training_patch_is_found() -> None:
    sources = [image(k) for k in range(4)]
    cut = sources[2].patch(13, 22, 32)
    # Turned, brighter and a little noisy, as a prior that learnt it by heart would draw it.
    copied = 0.6 * np.rot90(cut)[::-1] + 0.1 + np.random.default_rng(0).normal(0, 0.02, cut.shape)
    whole = sources[1].patch(8, 4, 64).reshape(32, 2, 32, 2).mean(axis=(1, 3))
    flat = np.full((32, 32), -1.0)
    found = nearest(np.stack([copied, whole, flat]).astype(np.float32), sources)
    assert [m.name for m in found[:2]] == ["leaves/2", "leaves/1"]
    assert found[0].correlation > 0.97
    np.testing.assert_allclose(found[0].patch, np.rot90(cut)[::-1], atol=1e-5)
    assert found[1].correlation > 0.99
    assert abs(found[2].correlation) < 0.01  # nothing matches what has no structure


def test_memorisation_is_measured_against_unseen_images() -> None:
    sources, held = [image(k) for k in range(4)], [image(k) for k in range(10, 14)]
    copies = np.stack([s.patch(5, 7, 32) for s in sources])
    fresh = unseen_patches([image(k) for k in range(20, 24)], 4, 32)
    numbers, _ = memorisation(copies, sources, held)
    assert numbers["nearer"] == 4
    assert numbers["searched"] == 4
    honest, matches = memorisation(fresh, sources, held)
    assert honest["nearer"] < 4
    assert max(honest["samples"]) < 0.95
    assert len(matches) == 4
    alone, _ = memorisation(copies, sources, [])
    assert alone["nearer"] is None


def test_figures_are_written(tmp_path: Path) -> None:
    log = [
        {"step": 0, "held_out": {"0.25": 20.0}},
        {"step": 25, "loss": 1.0, "loss<0.3": 0.9, "rate": 1e-3, "norm": 2.0, "waiting": 0.01},
        {"step": 50, "loss": 0.5, "loss<0.3": 0.4, "rate": 1e-3, "norm": 2.0},
    ]
    for name, lines in (("full", log), ("empty", [])):
        figures.curves(lines, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    from skimage.io import imread

    ramp = np.broadcast_to(np.linspace(-1, 1, 16, dtype=np.float32), (10, 16, 16))
    figures.sheet(ramp, tmp_path / "sheet.png", "ramps")
    shown = imread(tmp_path / "sheet.png")[..., 0]
    assert 0.2 < (shown < 255).mean() < 0.9  # ten of sixteen places hold a picture
    (tmp_path / "log.jsonl").write_text(json.dumps(log[0]) + '\n{"step": 2')
    assert figures.read_log(tmp_path / "log.jsonl") == log[:1]


def test_looks_keep_to_their_budget() -> None:
    class Clock:
        minutes, seconds = 0.0, 0.0

    class Run:
        settings = Settings(look=1.0)
        clock = Clock()
        mean = torch.nn.Module()
        mean.sigma_data, mean.multiple = 0.5, 4

    looker = Looker(Run(), [], 1)  # type: ignore[arg-type]
    assert not looker.due()
    Clock.minutes, Clock.seconds = 1.1, 66.0
    assert looker.due()
    looker.last, looker.spent, looker.cost = 1.1, 3.0, 3.0  # a look of three seconds
    Clock.minutes, Clock.seconds = 1.9, 114.0
    assert not looker.due()  # too soon
    Clock.minutes, Clock.seconds = 1.99, 119.0
    looker.last = 0.5
    assert not looker.due()  # six seconds are more than 5 % of 119
    Clock.seconds = 121.0
    assert looker.due()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other over tiny images make a busy machine crawl."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_run_ends_with_a_model_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_bm3d: None, one_thread: None
) -> None:
    monkeypatch.setattr("napari_dps.training.card.SHEET", 2)
    for k in range(6):
        np.save(tmp_path / f"{k}.npy", image(k, 64).pixels)
    images = sorted(tmp_path.glob("*.npy"))
    tiny = {"batch": 2, "size": 16, "channels": (8,), "workers": 0, "threads": 1, "judged": 1}
    first = train(images, tmp_path / "a", steps=2, settings={**tiny, "precision": "float32"})
    second = train(
        images,
        tmp_path / "b",
        steps=2,
        start=first,
        settings={**tiny, "precision": "bfloat16"},
        credits_text="Leaves, CC0.",
    )
    assert {p.name for p in second.iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "report.json"),
        *("samples.png", "curves.png", "nearest.png"),
    }
    report = json.loads((second / "report.json").read_text())
    held = collect(images).held_out
    assert report["held_out"]["images"] == len(held) == 1
    assert "before" in report["held_out"]["psnr"]
    assert report["memorisation"]["searched"] == 5
    text = (second / "README.md").read_text(encoding="utf-8")
    for words in (
        "Leaves, CC0.",
        "| noise | 0.05",
        "| before |",
        "nearest.png",
        "BM3D",
        "by heart",
    ):
        assert words in text, words
    assert "| before |" not in (first / "README.md").read_text(encoding="utf-8")
    # A line before the first step tells what the prior could do already.
    looks = [line["step"] for line in figures.read_log(tmp_path / "b" / "log.jsonl")]
    assert looks == [0, 2]
