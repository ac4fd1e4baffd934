"""Training: phantoms, data, clocks, loss, resuming, the command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from napari_dps.cli import main
from napari_dps.errors import InputError, PriorError
from napari_dps.priors._folder import load_prior, prior_hash, prior_info
from napari_dps.priors._network import DenoiserNetwork
from napari_dps.priors.fluorescence import FOLDER
from napari_dps.training import phantoms, textures
from napari_dps.training.engine import Pieces, Whole
from napari_dps.training.export import export
from napari_dps.training.figures import read_log
from napari_dps.training.loop import FINISH
from napari_dps.training.loss import denoising_loss, draw_sigma
from napari_dps.training.schedule import ActiveClock, Cooldown
from napari_dps.training.settings import Settings
from napari_dps.training.train import train
from napari_dps.training.trainer import read_checkpoint

IMAGES = {
    **{name: make for name, (make, _) in phantoms.STRUCTURES.items()},
    "phantom": phantoms.phantom,
    "dead leaves": textures.dead_leaves,
    "power law": textures.power_law_image,
}
TINY = Settings(
    **{"steps": 6, "batch": 4, "size": 16, "piece": 2, "warmup": 2, "threads": 2, "seed": 3},
    **{"save": 0.005, "export": 0.005, "channels": (8, 8), "workers": 0, "judged": 0},
    precision="float32",
)


@pytest.mark.parametrize("name", IMAGES)
def test_synthetic_images_are_seeded_and_in_range(name: str) -> None:
    first = IMAGES[name](np.random.default_rng(5), 40)
    again = IMAGES[name](np.random.default_rng(5), 40)
    other = IMAGES[name](np.random.default_rng(6), 40)
    assert first.shape == (40, 40)
    assert np.isfinite(first).all()
    assert first.min() >= 0
    assert 0.2 < first.max() < 8
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_clock_leaves_pauses_out() -> None:
    moments = iter([0.0, *range(1, 11), 1000.0, 1001.0])
    clock = ActiveClock(lambda: next(moments))
    clock.start()
    for _ in range(12):
        clock.tick()
    assert clock.seconds == pytest.approx(10 + 4 + 1)


def test_cooldown() -> None:
    plan = Cooldown(total=10, share=0.4, short=2)
    assert [plan.factor(t) for t in (0, 5.9, 8, 10, 12)] == pytest.approx([1, 1, 0.5, 0, 0])
    plan.finish(8.0)
    assert plan.factor(8.0) == pytest.approx(0.5)
    assert plan.factor(9.0) == pytest.approx(0.25)
    plan.finish(9.0)
    assert plan.over(10.0)
    early = Cooldown(total=100, share=0.4, short=2)
    early.finish(5.0)
    assert early.factor(6.0) == pytest.approx(0.5)
    other = Cooldown(total=50, share=0.4, short=2)
    other.restore(early.state(), minutes=6.0)
    assert other.over(7.0)
    assert not other.over(6.9)
    longer = Cooldown(total=50, share=0.4, short=2)
    longer.restore(early.state(), minutes=7.0)  # it had ended: a longer plan goes on
    assert longer.factor(10.0) == 1.0


def test_sigma_stays_above_the_noise_and_in_range() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.cat([torch.zeros(4000), torch.full((4000,), 0.1)])
    sigma = draw_sigma(noise, generator)
    assert (sigma >= noise).all()
    assert 0.002 <= sigma.min()
    assert sigma.max() <= 160
    assert 0.005 < (sigma[:4000] < 0.01).float().mean() < 0.1
    assert 0.05 < (sigma[:4000] > 10).float().mean() < 0.15
    assert (sigma[4000:] == 0.1).float().mean() < 0.01


def batch(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(5, 1, 16, 16, dtype=dtype)
    return x, torch.tensor([0.1, 0.2, 0.5, 1.0, 50.0], dtype=dtype), torch.randn_like(x)


def test_pieces_on_threads_give_the_gradient_of_the_batch() -> None:
    x, sigma, unit = batch()
    network = DenoiserNetwork((8, 8), groups=4).double()
    denoising_loss(network, x, sigma, unit, network.sigma_data).mean().backward()
    whole = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    losses = Pieces(network, threads=2, piece=2)(x, sigma, unit)
    assert losses.shape == (5,)
    for expected, parameter in zip(whole, network.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_whole_batches_step_as_pieces_do(dtype: torch.dtype) -> None:
    """The accelerator's path, run on the CPU: the same step, to the precision asked for."""
    x, sigma, unit = batch(torch.float32)
    torch.manual_seed(1)
    first, second = DenoiserNetwork((8, 8)), DenoiserNetwork((8, 8))
    second.load_state_dict(first.state_dict())
    engines = (Pieces(first, 1, 5), Whole(second, torch.device("cpu"), dtype))
    norms, losses = [], []
    for network, engine in zip((first, second), engines, strict=True):
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
        losses.append(engine(x, sigma, unit))
        norms.append(engine.apply(optimiser, 1.0))
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.02}
    torch.testing.assert_close(losses[0], losses[1].float(), **close)
    torch.testing.assert_close(norms[0], norms[1], **close)
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, **close)
    restored = Whole(second, torch.device("cpu"), dtype)
    restored.restore(engines[1].state())
    assert restored.state() == engines[1].state()


@pytest.mark.parametrize("kind", ["pieces", "whole"])
def test_a_gradient_that_is_not_finite_changes_nothing(kind: str) -> None:
    x, sigma, unit = batch(torch.float32)
    network = DenoiserNetwork((8, 8))
    before = [p.detach().clone() for p in network.parameters()]
    engine: Pieces | Whole
    if kind == "pieces":
        engine = Pieces(network, 1, 5)
    else:
        engine = Whole(network, torch.device("cpu"), torch.float32)
    optimiser = torch.optim.AdamW(network.parameters())
    engine(x * torch.inf, sigma, unit)
    assert not torch.isfinite(engine.apply(optimiser))
    for mine, theirs in zip(before, network.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=0, atol=0)


def right(call: DenoiserNetwork, dynamic: bool) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, sigma: call(x, sigma)


def wrong(call: DenoiserNetwork, dynamic: bool) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, sigma: 0.5 * (call(x, sigma) + call(x, sigma).detach())


def none(call: DenoiserNetwork, dynamic: bool) -> Callable[[Tensor, Tensor], Tensor]:
    raise_it = RuntimeError("no compiler\nwas found")

    def fail(x: Tensor, sigma: Tensor) -> Tensor:
        raise raise_it

    return fail


@pytest.mark.parametrize(
    ("compiler", "words"),
    [(right, None), (wrong, r"gradients come out wrong"), (none, r"failed: no compiler was")],
)
def test_what_is_compiled_must_give_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch, compiler: Callable[..., object], words: str | None
) -> None:
    """The compiler of torch 2.13 for CPUs loses gradients of this very network."""
    monkeypatch.setattr(torch, "compile", compiler)
    network = DenoiserNetwork((8, 8))
    engine = Whole(network, torch.device("cpu"), torch.float32)
    told = engine.compile([(4, 1, 16, 16)])
    assert all(p.grad is None for p in network.parameters())
    if words is None:
        assert told is None
        assert engine.call is not network
    else:
        assert re.search(words, told or "")
        assert engine.call is network
    x, sigma, unit = batch(torch.float32)
    assert torch.isfinite(engine(x, sigma, unit)).all()


def with_(**values: object) -> Settings:
    return replace(TINY, **values)  # type: ignore[arg-type]


def test_train_resume_and_export(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    lines: list[dict[str, object]] = []
    notes: list[str] = []
    prior = train(
        [image_folder],
        out,
        settings=with_(held_out=0.0),
        on_step=lines.append,
        on_note=notes.append,
        name="cells",
    )
    info = prior_info(prior)
    assert prior == out / "prior"
    assert info.name == "cells"
    assert info.training["steps"] == 6
    assert info.training["real_images"] == 5
    assert info.training["groups"]["nuclei"]["images"] == 3
    assert info.spectrum is not None
    assert 0.1 < info.network.sigma_data < 1.0
    assert load_prior(prior)(torch.zeros(1, 1, 16, 16), 0.5).shape == (1, 1, 16, 16)
    assert any(note.startswith("nuclei: 3 images to learn from") for note in notes)
    assert any(note.startswith("device cpu") for note in notes)
    assert "grey levels" in (prior / "README.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="holds a run already: add --resume"):
        train([image_folder], out, settings=TINY)
    # What is not given again stays as it was.
    train([image_folder], out, steps=30, resume=True, licence="CC0", on_step=lines.append)
    info = prior_info(prior)
    assert (info.training["steps"], info.licence, info.name) == (30, "CC0", "cells")
    assert info.training["batch"] == 4
    assert [line["step"] for line in lines] == [25]
    assert [line["step"] for line in read_log(out / "log.jsonl")] == [25]
    assert 0 <= read_log(out / "log.jsonl")[0]["waiting"] <= 1
    copy = export(out, tmp_path / "copy", name="mine")
    assert (prior_info(copy).name, prior_info(copy).licence) == ("mine", "CC0")
    assert (copy / "model.safetensors").read_bytes() == (prior / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="name them again"):
        train([], out, resume=True)
    with pytest.raises(InputError, match="keeps its preset"):
        train([image_folder], out, resume=True, preset="small")


def test_a_kill_loses_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "run"
    code = (
        "import sys, torch; from napari_dps.training.train import train; "
        "from napari_dps.training.settings import Settings; torch.set_num_threads(1); "
        "train([], sys.argv[1], settings=Settings(steps=10**7, batch=2, size=8, piece=2, "
        "channels=(8,), workers=0, threads=1, precision='float32', save=1e-9))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(out)])
    try:
        for _ in range(2400):
            if len(read_log(out / "log.jsonl")) >= 2 or process.poll() is not None:
                break
            time.sleep(0.05)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    step = read_checkpoint(out)["step"]
    assert step >= 49  # one is written after every step here
    with open(out / "log.jsonl", "a", encoding="utf-8") as log:
        log.write(json.dumps({"step": step + 1000, "loss": 1.0}) + "\n" + '{"step": 99')
    train([], out, steps=step + 3, resume=True, settings={"judged": 0})
    assert read_checkpoint(out)["step"] == step + 3
    assert max(line["step"] for line in read_log(out / "log.jsonl")) <= step + 3
    (out / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"checkpoint\.pt' cannot be read"):
        train([], out, resume=True)


def test_training_goes_on_from_a_prior(tmp_path: Path) -> None:
    first = train([], tmp_path / "a", settings=TINY)
    still = with_(steps=1, rate=0.0, channels=(16,))
    second = train([], tmp_path / "b", settings=still, start=first)
    info = prior_info(second)
    assert info.network == prior_info(first).network
    assert info.training["start"]["hash"] == prior_hash(first)
    assert (second / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()
    assert f"went on from the prior {prior_hash(first)}" in (second / "README.md").read_text()
    with pytest.raises(PriorError, match="nowhere"):
        train([], tmp_path / "c", settings=TINY, start=tmp_path / "nowhere")
    assert not (tmp_path / "c").exists()


def test_the_shipped_prior_is_named(tmp_path: Path) -> None:
    shown: list[str] = []
    quick = {"batch": 1, "size": 16, "workers": 0, "judged": 0, "precision": "float32", "rate": 0.0}
    prior = train(
        [], tmp_path / "a", steps=1, start="fluorescence", settings=quick, on_note=shown.append
    )
    assert prior_info(prior).network == prior_info(FOLDER).network
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (prior, FOLDER))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert any(line.startswith("fine-tuning") for line in shown)


def test_training_is_repeatable(tmp_path: Path) -> None:
    once = with_(threads=1, steps=3, channels=(8,))
    weights = []
    for name in ("a", "b"):
        prior = train([], tmp_path / name, settings=once)
        weights.append((prior / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_finish_file_ends_a_long_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    long = with_(steps=None, minutes=600.0, save=9.0, finish=0.001, channels=(8,))
    prior = train([], out, settings=long, on_step=lambda line: (out / FINISH).touch())
    assert prior_info(prior).training["steps"] < 200


def test_finish_file_of_an_earlier_run_ends_no_later_one(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / FINISH).touch()
    # Once seen, at step 25, it would end the run within that step.
    prior = train([], out, settings=with_(steps=40, finish=0.0, channels=(8,)))
    assert prior_info(prior).training["steps"] == 40
    assert not (out / FINISH).exists()


def test_resuming_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without --resume"):
        train([], tmp_path, settings=TINY, resume=True)


def test_several_processes_without_accelerate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(InputError, match=r"napari-dps\[train\]"):
        train([], tmp_path / "run", settings=with_(device="cpu"))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    quick = "--batch 2 --size 16 --workers 0 --judged 0 --channels 8,8 --precision float32"
    words = ["train", "--synthetic", "-o", str(out), "--steps", "25", *quick.split()]
    assert main([*words, "--json", "--licence", "CC0"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"prior": str(out / "prior")}
    assert "synthetic images alone" in told.err
    assert "preset small" in told.err
    assert "waiting for data" in told.err
    assert prior_info(out / "prior").licence == "CC0"
    assert main(["train", "-o", str(out), "--finish"]) == 0
    assert (out / FINISH).exists()
    assert main([*words, "--resume", "--quiet"]) == 0
    assert not (out / FINISH).exists()
    (tmp_path / "photos").mkdir()
    for name in ("none", "photos"):
        assert main(["train", "-o", str(tmp_path / name), "--finish"]) == 2
        assert "there is no run" in capsys.readouterr().err
    assert not (tmp_path / "photos" / FINISH).exists()
