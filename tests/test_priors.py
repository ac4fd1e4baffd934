"""Priors in use: colours, names, the hub, the report; and the verb `priors`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel

from napari_dps import reconstruct, sample_prior
from napari_dps.api import Run
from napari_dps.cli import main
from napari_dps.errors import InputError, PriorError
from napari_dps.image import Image
from napari_dps.memory import layout
from napari_dps.priors._folder import NetworkConfig, PriorInfo, prior_hash, save_prior
from napari_dps.priors._formats import describe, find
from napari_dps.priors._library import VARIABLE, entries, library, resolve
from napari_dps.priors._network import DenoiserNetwork
from napari_dps.priors.checkpoint import Checkpoint
from napari_dps.priors.fluorescence import FOLDER
from napari_dps.result import Result

NOISE = {"kind": "gaussian", "sigma": 4.0}
SAMPLER = {"kind": "pigdm", "steps": 8}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own, empty."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "library"))
    return tmp_path / "library"


@pytest.fixture
def colour(tmp_path: Path) -> Path:
    """A diffusers folder of a tiny network for colours that knows N(0, 1), exactly.

    Where it puts out zero for v, the denoised image is x / (1 + sigma^2).
    """
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(4,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
    )
    with torch.no_grad():
        unet.conv_out.weight.zero_()
        unet.conv_out.bias.zero_()
    folder = tmp_path / "colours"
    unet.save_pretrained(folder / "unet")
    DDPMScheduler(prediction_type="v_prediction").save_pretrained(folder / "scheduler")
    return folder


@pytest.fixture
def gray(tmp_path: Path) -> Path:
    """A folder of ours, trained at 0.2 micrometres a pixel."""
    torch.manual_seed(0)
    network = DenoiserNetwork((4,), groups=4)
    info = PriorInfo(name="tiny", network=NetworkConfig(), pixel_size=0.2, licence="CC0")
    return save_prior(tmp_path / "gray", network, info)


def picture() -> np.ndarray:
    yy, xx = np.mgrid[:16, :18]
    rng = np.random.default_rng(0)
    blobs = [np.exp(-((yy - y) ** 2 + (xx - 9) ** 2) / 12) for y in (4, 8, 12)]
    return 20 + 90 * np.stack(blobs, -1) + rng.normal(0, 4, (16, 18, 3))


def restored(image: Any, prior: Any, **more: Any) -> Any:
    more = {"sampler": SAMPLER, "samples": 2, **more}
    return reconstruct(image, noise=NOISE, prior=prior, device="cpu", **more)


def test_colours_are_restored_together(colour: Path) -> None:
    prior = {"kind": "checkpoint", "path": str(colour)}
    image = picture()
    result = restored(image, prior)
    assert (result.axes, result.shape) == ("CYX", (3, 16, 18))
    assert len(result.report["scale"]) == 1  # one map for all three, so that hues stay
    assert np.abs(np.moveaxis(result.mean, 0, -1) - image).mean() < 8
    assert result.report["prior"]["hash"] == describe(find(colour)).hash
    # The same as channels; in another order of axes; and with opaque transparency.
    channels = np.moveaxis(image, -1, 0)
    assert np.array_equal(restored(channels, prior, axes="CYX").samples, result.samples)
    with_rows_first = restored(channels.transpose(1, 0, 2), prior, axes="YCX")
    assert with_rows_first.axes == "YCX"
    assert np.array_equal(with_rows_first.samples, result.samples.transpose(0, 2, 1, 3))
    stack = Image(np.stack([channels, channels[:, ::-1]], 1), "CZYX")
    deep = restored(stack, prior)
    assert deep.shape == (3, 2, 16, 18)
    assert np.allclose(deep.samples[:, :, 0], result.samples, atol=0.5)
    rgba = np.concatenate([image, np.full((16, 18, 1), 255.0)], -1)
    assert np.array_equal(restored(rgba, prior).samples, result.samples)
    # As gray images every channel has a map of its own.
    each = restored(channels, {**prior, "channels": "gray"}, axes="CYX")
    assert len(each.report["scale"]) == 3
    assert not np.array_equal(each.samples, result.samples)


def test_gray_images_go_through_a_prior_of_colours(colour: Path) -> None:
    result = restored(picture()[..., 0], {"kind": "checkpoint", "path": str(colour)})
    assert result.axes == "YX"
    assert np.isfinite(result.samples).all()


def test_missing_pixels_of_one_colour(colour: Path) -> None:
    image = np.moveaxis(picture(), -1, 0)
    image[1, 3:6, 3:6] = np.nan
    prior = {"kind": "checkpoint", "path": str(colour)}
    result = restored(image, prior, axes="CYX", valid=np.isfinite(image))
    assert np.isfinite(result.samples).all()


@pytest.mark.parametrize(
    ("shape", "axes", "more", "words"),
    [
        ((16, 16, 4), "YXS", {}, "without transparency"),
        ((2, 16, 16, 3), "CYXS", {}, "colours .* and channels"),
        ((16, 16, 3), "YXS", {"forward": "phase-retrieval"}, "gray images"),
    ],
)
def test_colours_that_cannot_be_used(
    colour: Path, shape: tuple[int, ...], axes: str, more: dict[str, Any], words: str
) -> None:
    image = np.random.default_rng(0).uniform(1, 9, shape)
    with pytest.raises(InputError, match=words) as caught:
        restored(image, {"kind": "checkpoint", "path": str(colour)}, axes=axes, **more)
    assert "\n" not in str(caught.value)


def test_draws_of_a_prior_of_colours(colour: Path, tmp_path: Path) -> None:
    prior = {"kind": "checkpoint", "path": str(colour)}
    assert sample_prior(prior, 2, (8, 9), steps=2).shape == (2, 3, 8, 9)
    out = str(tmp_path / "o.tif")
    words = ["sample", "--prior", "checkpoint", "--prior.path", str(colour), "-n", "1"]
    assert main([*words, "--shape", "8", "8", "--steps", "2", "-o", out]) == 0


def test_every_report_names_the_prior_by_its_hash(gray: Path) -> None:
    image = picture()[..., 0]
    report = restored(image, {"kind": "checkpoint", "path": str(gray)}).report["prior"]
    assert report["kind"] == "checkpoint"
    assert report["hash"] == prior_hash(gray)
    assert (report["name"], report["licence"], report["pixel_size"]) == ("tiny", "CC0", 0.2)
    shipped = Run(image, {"noise": NOISE, "sampler": SAMPLER}).recipe.prior.identity()
    assert shipped["hash"] == prior_hash(FOLDER)
    first = restored(image, "gaussian").report["prior"]
    other = restored(image, {"kind": "gaussian", "std": 0.4}).report["prior"]
    assert first["kind"] == "gaussian"
    assert len(first["hash"]) == 16
    assert first["hash"] != other["hash"]


def test_another_pixel_size_warns_or_resamples(gray: Path) -> None:
    image = picture()[..., 0]
    prior = {"kind": "checkpoint", "path": str(gray)}
    quick = {"sampler": {"kind": "pigdm", "steps": 2, "antithetic": False}, "samples": 1}

    def told(result: Result) -> list[str]:  # this network's images are noise, which is told too
        return [w for w in result.report["warnings"] if "um" in w]

    finer = told(restored(image, prior, pixel_size=0.1, **quick))
    assert len(finer) == 1
    assert "learned at 0.2 um" in finer[0]
    assert not told(restored(image, prior, pixel_size=0.2, **quick))
    again = restored(image, {**prior, "resample": True}, pixel_size=0.1, **quick)
    assert not told(again)
    assert np.isfinite(again.samples).all()
    assert again.report["prior"]["hash"] == prior_hash(gray)
    coarser = restored(image, {**prior, "resample": True}, pixel_size=0.4, **quick)
    assert "times as small" in coarser.report["warnings"][0]
    with pytest.raises(PriorError, match="the image states none"):
        restored(image, {**prior, "resample": True})


def test_memory_of_a_prior_that_tiles_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_dps.memory.free_bytes", lambda device: 16 * 2.0**30)
    assert layout(1, (2048, 2048), 65_000, "cpu").tile is not None
    assert layout(1, (2048, 2048), 65_000, "cpu", 256).tile is None
    assert layout(4, (2048, 2048), 1_000, "cpu", 256).batch == 4
    monkeypatch.setattr("napari_dps.memory.free_bytes", lambda device: 2 * 2.0**30)
    small = layout(1, (2048, 2048), 65_000, "cpu", 256).tile
    assert small is not None
    assert small < 256


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["priors", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_verb_adds_lists_inspects_and_removes(
    own: Path, gray: Path, colour: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert library() == own
    assert entries() == {}
    code, out, err = run(capsys, "list", "--json")
    assert code == 0
    assert [p["name"] for p in json.loads(out)["priors"]] == ["fluorescence"]
    assert not own.exists()  # looking makes nothing

    code, out, err = run(capsys, "add", gray, "--name", "mine", "--json")
    assert code == 0, err
    added = json.loads(out)
    assert added["added"] == "mine"
    assert added["hash"] == prior_hash(gray) == prior_hash(own / "mine")
    (colour / "holiday.png").touch()
    code, out, err = run(capsys, "add", colour)
    assert code == 0, err
    assert "--prior.path colours" in err
    assert not (own / "colours" / "holiday.png").exists()
    assert sorted(p.name for p in own.iterdir()) == ["colours", "mine"]

    code, out, err = run(capsys, "--json")
    listed = {p["name"]: p for p in json.loads(out)["priors"]}
    assert list(listed) == ["fluorescence", "colours", "mine"]
    assert listed["colours"]["channels"] == 3
    assert listed["mine"]["use"] == "--prior checkpoint --prior.path mine"
    code, out, err = run(capsys)
    assert code == 0
    assert "colours" in out
    code, out, err = run(capsys, "inspect", "mine")
    assert code == 0
    assert prior_hash(gray) in out
    code, out, err = run(capsys, "inspect", "colours", "--json")
    assert json.loads(out)["parameters"] > 100
    code, out, err = run(capsys, "inspect", "fluorescence", "--json")
    assert json.loads(out)["hash"] == prior_hash(FOLDER)

    assert resolve("mine") == own / "mine"
    assert Checkpoint(path="colours").image_channels() == 3
    result = restored(picture()[..., 0], {"kind": "checkpoint", "path": "mine"})
    assert result.report["prior"]["hash"] == prior_hash(gray)

    code, out, err = run(capsys, "add", gray, "--name", "mine")
    assert (code, out) == (2, "")
    assert "already" in err
    assert run(capsys, "add", colour, "--name", "mine", "--replace")[0] == 0
    assert Checkpoint(path="mine").image_channels() == 3

    code, out, err = run(capsys, "remove", "mine")
    assert code == 2
    assert "--yes" in err
    code, out, err = run(capsys, "remove", "mine", "--yes", "--json")
    assert (code, json.loads(out)["removed"]) == (0, "mine")
    assert list(entries()) == ["colours"]
    assert gray.exists()


def test_removing_asks(
    own: Path, gray: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "add", gray)[0] == 0

    class Terminal:
        answer = "no"

        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return self.answer + "\n"

    monkeypatch.setattr("sys.stdin", Terminal())
    code, _, err = run(capsys, "remove", "gray")
    assert code == 0
    assert "for good?" in err
    assert list(entries()) == ["gray"]
    monkeypatch.setattr(Terminal, "answer", "y")
    assert run(capsys, "remove", "gray")[0] == 0
    assert entries() == {}


def test_files_keep_their_card(own: Path, tmp_path: Path) -> None:
    from guided_reference import CASES
    from test_checkpoints import guided

    path = guided(tmp_path, next(iter(CASES)))
    assert main(["priors", "add", str(path), "--name", "faces"]) == 0
    assert sorted(p.name for p in own.iterdir()) == ["faces.json", "faces.pt"]
    assert describe(find(resolve("faces"))).licence == "MIT"
    assert main(["priors", "remove", "faces", "--yes"]) == 0
    assert list(own.iterdir()) == []


def test_a_broken_prior_does_not_hide_the_others(
    own: Path, gray: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "add", gray)[0] == 0
    (own / "broken").mkdir()
    code, out, _ = run(capsys, "--json")
    assert code == 0
    listed = {p["name"]: p for p in json.loads(out)["priors"]}
    assert "no model.safetensors" in listed["broken"]["problem"]
    assert listed["gray"]["hash"]
    assert run(capsys)[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("bogus", "no 'bogus'; allowed are list"),
        ("insect", "did you mean 'inspect'"),
        ("inspect nowhere", "no prior 'nowhere'"),
        ("inspect", "needs PRIOR"),
        ("remove nowhere --yes", "there is no prior 'nowhere'"),
        ("add nowhere", "no prior 'nowhere'"),
        ("add a.txt", "no known format"),
        ("add gray --name ../up", "cannot be called '../up'"),
        ("add gray --name .hidden", "cannot be called"),
        ("inspect someone/something", "--prior.download"),
    ],
)
def test_mistakes_are_one_sentence(
    own: Path,
    gray: Path,
    words: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(gray.parent)
    Path("a.txt").touch()
    code, out, err = run(capsys, *words.split())
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not own.exists()


def test_the_hub_is_asked_only_with_consent(
    own: Path, colour: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Any, bool]] = []
    cache = tmp_path / "cache"

    def fake(
        name: str, *, revision: Any, allow_patterns: Any, local_files_only: bool = False
    ) -> str:
        asked.append((name, revision, local_files_only))
        if not cache.exists():
            if local_files_only:
                raise huggingface_hub.errors.LocalEntryNotFoundError("nothing here")
            shutil.copytree(colour, cache)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
    with pytest.raises(PriorError, match="agree with `download`") as caught:
        resolve("someone/something")
    assert "\n" not in str(caught.value)
    assert asked == [("someone/something", None, True)]  # the cache alone was looked at
    assert resolve("someone/something@v1", download=True) == cache
    assert asked[-1] == ("someone/something", "v1", False)
    asked.clear()
    assert Checkpoint(path="someone/something").image_channels() == 3  # it is here now
    assert all(local for _, _, local in asked)
    shutil.rmtree(cache)

    def broken(name: str, *, local_files_only: bool = False, **_: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no\nconnection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(PriorError, match="cannot be downloaded") as caught:
        resolve("someone/something", download=True)
    assert "\n" not in str(caught.value)
