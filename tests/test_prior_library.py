"""The user's own priors: what may be added, under which name, and what the hub is asked for."""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from diffusers import DDPMScheduler
from test_checkpoints import Trap, save

from napari_dps.cli import main
from napari_dps.errors import PriorError
from napari_dps.priors._folder import NetworkConfig, PriorInfo, prior_hash, prior_info, save_prior
from napari_dps.priors._library import VARIABLE, add, entries, remove, resolve
from napari_dps.priors._network import DenoiserNetwork
from napari_dps.priors.checkpoint import Checkpoint
from napari_dps.priors.fluorescence import FOLDER
from napari_dps.training.settings import Settings
from napari_dps.training.train import prior_folder, train

ID = "someone/something"


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own, empty."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "library"))
    return tmp_path / "library"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of ours."""
    info = PriorInfo(name="tiny", network=NetworkConfig())
    return save_prior(tmp_path / "own", DenoiserNetwork((8,)), info)


@pytest.mark.parametrize("kind", ["code", "garbage", "another network"])
def test_what_cannot_be_loaded_is_not_added(tmp_path: Path, library: Path, kind: str) -> None:
    folder = save(tmp_path / "p", DDPMScheduler())
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if kind == "code":
        weights.unlink()
        torch.save({"a": Trap(tmp_path / "ran")}, weights.with_suffix(".bin"))
    elif kind == "garbage":
        weights.write_bytes(b"garbage")
    else:
        config = folder / "unet" / "config.json"
        text = config.read_text()
        config.write_text(text.replace('"layers_per_block": 1', '"layers_per_block": 2'))
    words = {"code": "any code", "garbage": "damaged", "another network": "tensors differ"}[kind]
    with pytest.raises(PriorError, match=words):
        add(folder)
    assert not library.exists()
    assert not (tmp_path / "ran").exists()


def test_our_folders_are_loaded_before_they_are_added(own: Path, library: Path) -> None:
    (own / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(PriorError, match="damaged"):
        add(own)
    assert not library.exists()


@pytest.mark.parametrize("name", ["x.json", "x.JSON", "fluorescence"])
def test_names_that_hide_a_prior(
    own: Path, library: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["priors", "add", str(own), "--name", name]) == 2
    err = capsys.readouterr().err
    assert f"cannot be called '{name}'" in err
    assert "--name" in err
    assert err.count("\n") == 1
    assert not library.exists()
    if name == "fluorescence":  # nor by the name that it has
        with pytest.raises(PriorError, match="another --name"):
            add(own.rename(own.with_name(name)))


def test_a_folder_that_is_called_like_a_card_is_seen_and_removed(own: Path, library: Path) -> None:
    shutil.copytree(own, library / "x.json")
    (library / "faces.json").write_text("{}")
    assert list(entries()) == ["x.json"]
    assert resolve("x.json") == library / "x.json"
    remove("x.json")
    assert entries() == {}


def test_training_goes_on_from_a_name(own: Path, tmp_path: Path) -> None:
    add(own, "ab")
    still = Settings(
        **{"steps": 1, "batch": 1, "size": 16, "piece": 1, "rate": 0.0, "threads": 1},
        **{"workers": 0, "judged": 0, "precision": "float32"},
    )
    made = train([], tmp_path / "run", settings=still, start="ab")
    assert prior_info(made).training["start"]["hash"] == prior_hash(own)
    assert prior_folder("fluorescence") == FOLDER
    with pytest.raises(PriorError, match=r"no prior 'abc'.*\(ab\)"):
        train([], tmp_path / "next", settings=still, start="abc")
    assert not (tmp_path / "next").exists()


class Hub:
    """A repository, and the part of it that is on this machine."""

    def __init__(self, files: Path, here: Path) -> None:
        self.files, self.here = files, here
        self.fetched: list[str] = []
        self.calls = 0

    def __call__(
        self, name: str, *, revision: Any, allow_patterns: Any, local_files_only: bool = False
    ) -> str:
        self.calls += not local_files_only
        wanted = [
            path.relative_to(self.files).as_posix()
            for path in sorted(self.files.rglob("*"))
            if path.is_file()
        ]
        wanted = [n for n in wanted if any(fnmatch(n, pattern) for pattern in allow_patterns)]
        if local_files_only:
            if not self.here.exists():
                raise huggingface_hub.errors.LocalEntryNotFoundError("nothing here")
            lacking = [n for n in wanted if not (self.here / n).exists()]
            if lacking:  # as the library does where it knows the list of files
                raise huggingface_hub.errors.LocalEntryNotFoundError(f"incomplete: {lacking}")
            return str(self.here)
        for n in wanted:
            if not (self.here / n).exists():
                (self.here / n).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.files / n, self.here / n)
                self.fetched.append(n)
        return str(self.here)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub(tmp_path / "repository", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    return fake


def test_our_own_folder_from_the_hub_is_fetched_once(own: Path, hub: Hub) -> None:
    own.rename(hub.files)
    (hub.files / "other.safetensors").touch()
    with pytest.raises(PriorError, match="agree with `download`"):
        resolve(ID)
    assert hub.calls == 0
    assert resolve(ID, download=True) == hub.here
    assert sorted(hub.fetched) == ["README.md", "config.json", "model.safetensors"]
    hub.calls = 0
    (hub.here / "README.md").unlink()  # nobody needs all of it
    assert resolve(ID) == resolve(ID, download=True) == hub.here
    assert hub.calls == 0
    assert Checkpoint(path=ID).identity()["hash"] == prior_hash(hub.files)


def test_of_a_diffusers_repository_the_best_weights_alone_are_fetched(hub: Hub) -> None:
    save(hub.files, DDPMScheduler())
    unet = hub.files / "unet"
    for name in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors"):
        (unet / name).write_bytes(b"large")
    for name in ("tokenizer/vocab.json", "vae/diffusion_pytorch_model.safetensors"):
        (hub.files / name).parent.mkdir()
        (hub.files / name).write_bytes(b"large")
    assert resolve(ID, download=True) == hub.here
    assert sorted(hub.fetched) == [
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    shutil.rmtree(hub.here)
    hub.fetched.clear()
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    (unet / "diffusion_pytorch_model.fp16.safetensors").unlink()
    assert resolve(ID, download=True) == hub.here
    assert [n for n in hub.fetched if not n.endswith(".json")] == [
        "unet/diffusion_pytorch_model.bin"
    ]


def latent(files: Path) -> None:
    """Write what the repository of a text-to-image model has."""
    for name in ("unet", "vae", "text_encoder"):
        (files / name).mkdir(parents=True)
        (files / name / "diffusion_pytorch_model.safetensors").write_bytes(b"large")
        (files / name / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    (files / "base.safetensors").write_bytes(b"large")
    (files / "scheduler").mkdir()
    DDPMScheduler().save_pretrained(files / "scheduler")
    index = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    (files / "model_index.json").write_text(json.dumps(index))


def test_what_is_no_prior_is_refused_before_its_weights_are_fetched(hub: Hub) -> None:
    latent(hub.files)
    with pytest.raises(PriorError, match="UNet2DConditionModel"):
        resolve(ID, download=True)
    assert hub.fetched
    assert all(name.endswith(".json") for name in hub.fetched)
    # Where all of it is here already, the same is said.
    shutil.copytree(hub.files, hub.here, dirs_exist_ok=True)
    with pytest.raises(PriorError, match="UNet2DConditionModel"):
        Checkpoint(path=ID).identity()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"README.md": "# None"}, "holds no prior"),
        ({"config.json": '{"model_type": "bert"}'}, "format None"),
    ],
)
def test_other_repositories(hub: Hub, files: dict[str, str], words: str) -> None:
    hub.files.mkdir()
    for name, text in {**files, "model.safetensors": "large"}.items():
        (hub.files / name).write_text(text)
    with pytest.raises(PriorError, match=words):
        resolve(ID, download=True)
    assert hub.fetched == list(files)


def test_a_repository_without_weights_that_can_be_read(own: Path, hub: Hub) -> None:
    own.rename(hub.files)
    (hub.files / "model.safetensors").rename(hub.files / "model.pt")
    with pytest.raises(PriorError, match="no weights that can be read"):
        resolve(ID, download=True)
    assert "model.pt" not in hub.fetched
