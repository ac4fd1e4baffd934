"""Hostile and damaged priors: one sentence each, and no memory before the shapes are compared."""

from __future__ import annotations

import json
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler
from test_checkpoints import SCHEDULER, Trap, edited, guided, network, save

from napari_dps.cli import main
from napari_dps.errors import DPSError, InputError, PriorError, RecipeError
from napari_dps.priors._folder import NetworkConfig, PriorInfo, load_prior, save_prior
from napari_dps.priors._formats import describe, find
from napari_dps.priors._load import load
from napari_dps.priors._network import DenoiserNetwork
from napari_dps.priors._weights import read_shapes, read_weights
from napari_dps.priors.checkpoint import Checkpoint
from napari_dps.recipe import Recipe
from napari_dps.training.train import train
from napari_dps.training.trainer import read_checkpoint

STATE = {"a.weight": torch.ones(4, 4), "b": torch.arange(5)}


def refused(call: Any, *words: str) -> str:
    """Return the one sentence that a call ends in."""
    with pytest.raises(DPSError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text
    return text


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of ours."""
    info = PriorInfo(name="tiny", network=NetworkConfig())
    return save_prior(tmp_path / "own", DenoiserNetwork((4,), groups=4), info)


def table(steps: int) -> Any:
    return network(time_embedding_type="learned", num_train_timesteps=steps)


def test_a_table_of_timesteps_reaches_as_far_as_the_schedule(tmp_path: Path) -> None:
    short = save(tmp_path / "short", DDPMScheduler(), table(100))
    for call in (lambda: load(find(short)), lambda: describe(find(short))):
        refused(call, "table of 100 timesteps", "1000 steps")
    betas = edited(short, SCHEDULER, num_train_timesteps=100, trained_betas=[0.01] * 101)
    refused(lambda: load(find(betas)), "101 steps")
    edited(short, SCHEDULER, trained_betas=None)
    prior = load(find(short), tile=0)
    assert torch.isfinite(prior(torch.randn(1, 3, 16, 16), prior.sigma_max)).all()
    edm = save(tmp_path / "edm", EDMEulerScheduler(), table(1000))
    refused(lambda: load(find(edm)), "no whole numbers")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sigma_min": 5, "sigma_max": 1}, "sigma_min = 5 is not below sigma_max = 1"),
        ({"sigma_min": 1, "sigma_max": 1}, "not below"),
    ],
)
def test_noise_levels_of_edm_rise(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = edited(save(tmp_path / "p", EDMEulerScheduler()), SCHEDULER, **changes)
    refused(lambda: describe(find(folder)), words)
    refused(lambda: load(find(folder)), words)


@pytest.mark.parametrize("beta", [2.0, -0.1, float("nan"), float("inf")])
def test_every_trained_beta_is_bounded(tmp_path: Path, beta: float) -> None:
    betas = [0.1, 0.1, beta]
    folder = edited(save(tmp_path / "p", DDPMScheduler()), SCHEDULER, trained_betas=betas)
    refused(lambda: load(find(folder)), "trained_betas.2")


def test_a_schedule_of_no_levels_is_described_in_a_sentence(tmp_path: Path) -> None:
    folder = edited(save(tmp_path / "p", DDPMScheduler()), SCHEDULER, trained_betas=[1.0, 1.0])
    refused(lambda: describe(find(folder)), "does not rise")


def test_cut_torch_files_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 3):
        path.write_bytes(whole[:cut])
        for read in (read_weights, read_shapes):
            # Cut within the name of what rebuilds a tensor, it asks for what is not allowed.
            with pytest.raises(PriorError, match=r"a\.pt' (are damaged|is refused)") as caught:
                read(path)
            assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    assert read_shapes(path) == {"a.weight": (4, 4), "b": (5,)}


@pytest.mark.parametrize(
    "error",
    [
        zipfile.BadZipFile("bad magic number"),
        struct.error("unpack requires 4 bytes"),
        IndexError("pop from empty list"),
        AssertionError("expected bytes"),
        OverflowError("too large"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_reading_raises_is_damage(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(torch, "load", fail)
    torch.save(STATE, tmp_path / "a.pt")
    refused(lambda: read_weights(tmp_path / "a.pt"), "damaged", "copy the file again", str(error))


def test_a_cut_file_ends_the_command_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for cut in (len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:cut])
        assert main(["priors", "inspect", str(path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("header", [b'{"a":' * 10**5, b'{"a":{"shape":[1e999]}}', b"[1]"])
def test_headers_of_safetensors_that_lead_astray(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    for read in (read_weights, read_shapes):
        refused(lambda read=read: read(path), "damaged")


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(1).expand(10**6, 10**6), torch.empty(2, device="meta"), torch.eye(2).to_sparse()],
    ids=["one value for many", "no values", "sparse"],
)
def test_tensors_that_claim_what_the_file_does_not_hold(
    tmp_path: Path, tensor: torch.Tensor
) -> None:
    torch.save({"a": tensor}, tmp_path / "a.pt")
    refused(lambda: read_weights(tmp_path / "a.pt"), "no plain ones")


def test_attention_of_an_odd_width(tmp_path: Path) -> None:
    path = guided(tmp_path, "paper")
    state = torch.load(path, weights_only=True)
    name = "middle_block.1.qkv.weight"
    torch.save({**state, name: state[name][:-1]}, path)
    refused(lambda: load(find(path)), "qkv of shape")


@pytest.mark.parametrize(
    "text",
    ['{"format": 1, "name":' * 10**5, '{"surprise": ' + "[" * 900 + "]" * 900 + ', "format": 1}'],
    ids=["beyond the parser", "within it"],
)
def test_a_nested_configuration_is_one_sentence(own: Path, text: str) -> None:
    (own / "config.json").write_text(text)
    for call in (lambda: load_prior(own), lambda: find(own)):
        assert len(refused(call, "config.json")) < 400


def test_a_configuration_without_end_is_not_parsed(own: Path) -> None:
    config = own / "config.json"
    config.write_text(config.read_text() + " " * 2**20)
    refused(lambda: load_prior(own), "longer than 1 MiB")


def test_our_folders_take_no_memory_before_the_shapes_fit(own: Path) -> None:
    path = own / "config.json"
    told = json.loads(path.read_text())
    told["network"]["channels"] = [64] * 3
    path.write_text(json.dumps(told))
    made: list[int] = []
    empty = torch.empty

    def counted(*size: Any, **how: Any) -> torch.Tensor:
        tensor = empty(*size, **how)
        made.append(0 if tensor.device.type == "meta" else tensor.numel())
        return tensor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", counted)
        refused(lambda: load_prior(own), "do not fit", "tensors differ")
    assert made and not sum(made)


def test_weights_are_not_even_read_where_their_shapes_differ(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own / "config.json"
    path.write_text(path.read_text().replace('"stem": 2', '"stem": 4'))
    monkeypatch.setattr("napari_dps.priors._folder.read_weights", lambda path: pytest.fail("read"))
    refused(lambda: load_prior(own), "do not fit", "(4, 16, ")


class System:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("exit 1",))


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_is_refused_by_what_it_would_call(tmp_path: Path, new: bool) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"a": System()}, path, _use_new_zipfile_serialization=new)
    refused(lambda: read_weights(path), "refused", f"call '{os.name}.system'", "any code")
    torch.save({"a": Trap(tmp_path / "ran")}, path, _use_new_zipfile_serialization=new)
    refused(lambda: read_weights(path), "refused", "call 'eval'", "any code")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [0, 4, 5])
@pytest.mark.parametrize("whole", [True, False])
def test_another_protocol_is_told_in_our_sentence(
    tmp_path: Path, protocol: int, whole: bool
) -> None:
    path = tmp_path / "a.pt"
    if whole:
        torch.save({"a": Trap(tmp_path / "ran")}, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps({"a": Trap(tmp_path / "ran")}, protocol))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = refused(lambda: read_weights(path), "refused", "protocol", "any code")
    assert "http" not in text
    assert not (tmp_path / "ran").exists()


def test_a_program_of_torchscript_is_no_damage(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "a.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(lambda: read_weights(tmp_path / "a.pt"), "refused", "TorchScript")


@pytest.mark.parametrize("held", [{}, [1], {"network": {}}, torch.zeros(2)])
def test_a_checkpoint_of_something_else(tmp_path: Path, held: Any) -> None:
    torch.save(held, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="no state of a training run"):
        read_checkpoint(tmp_path)
    with pytest.raises(InputError, match="no state of a training run"):
        train([], tmp_path, resume=True)


def test_a_damaged_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": System()}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="cannot be read"):
        read_checkpoint(tmp_path)

    def fail(*_: Any, **__: Any) -> Any:
        raise zipfile.BadZipFile("bad magic number")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(InputError, match="cannot be read"):
        read_checkpoint(tmp_path)


def test_the_folder_of_a_run_points_to_its_prior(own: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoint.pt").touch()
    (run / "log.jsonl").touch()
    early = "has written no prior yet"
    refused(lambda: find(run), early)
    own.rename(run / "prior")
    words = ("folder of a training run", f"lies in {str(run / 'prior')!r}")
    refused(lambda: Checkpoint(path=str(run)).identity(), *words)
    refused(lambda: train([], tmp_path / "next", start=run), *words)
    assert not (tmp_path / "next").exists()


def test_a_tile_is_said_to_be_too_small() -> None:
    for side in (1, 7):
        with pytest.raises(RecipeError, match=f"tile = {side} is not allowed.*at least 8 pixels"):
            Recipe(prior={"kind": "checkpoint", "path": "p", "tile": side})
    for side in (0, 8, "auto"):
        assert Checkpoint(path="p", tile=side).tile == side
