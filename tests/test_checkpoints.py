"""Priors of other libraries: the same numbers as their own code, and one sentence where not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import guided_reference
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EDMEulerScheduler, UNet2DModel

from napari_dps.core.tiling import TiledPrior
from napari_dps.errors import PriorError
from napari_dps.grid import Grid
from napari_dps.priors._denoiser import EDMDenoiser, ImagePrior, VPDenoiser
from napari_dps.priors._formats import describe, find
from napari_dps.priors._load import load
from napari_dps.priors.checkpoint import Checkpoint

SMALL: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


def network(**changes: Any) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(**{**SMALL, **changes}).eval()


def save(folder: Path, scheduler: Any, unet: UNet2DModel | None = None, **how: Any) -> Path:
    """Write a pipeline folder as diffusers does: unet/ and scheduler/."""
    (unet or network()).save_pretrained(folder / "unet", **how)
    scheduler.save_pretrained(folder / "scheduler")
    return folder


def double(folder: Path, **how: Any) -> ImagePrior:
    prior = load(find(folder), dtype=torch.float64, tile=0, **how)
    assert isinstance(prior, ImagePrior)
    return prior


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler])
def test_vp_folders_say_what_diffusers_says(tmp_path: Path, kind: Any, prediction: str) -> None:
    scheduler = kind(prediction_type=prediction, clip_sample=False)
    prior = double(save(tmp_path / "p", scheduler))
    denoiser = prior.denoiser
    assert isinstance(denoiser, VPDenoiser)
    unet, x_vp = network().double(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for t in (0, 1, 500, 999):
        sigma = float(denoiser.log_sigmas[t].exp())
        assert sigma == pytest.approx(
            float(((1 - scheduler.alphas_cumprod[t]) / scheduler.alphas_cumprod[t]).sqrt()), 1e-3
        )
        out = unet(x_vp, t).sample
        if prediction == "epsilon":
            epsilon = out
        else:
            # The library's own conversion, through the move that it makes.
            move = DDPMScheduler(prediction_type=prediction, clip_sample=False)
            move.alphas_cumprod = (1 / (1 + (2 * denoiser.log_sigmas).exp())).double()
            x0 = move.step(out, t, x_vp).pred_original_sample
            epsilon = (x_vp * (1 + sigma**2) ** 0.5 - x0) / sigma
        x = x_vp * (1 + sigma**2) ** 0.5
        ours = (x - prior(x, sigma)) / sigma
        assert (ours - epsilon).abs().max() < 1e-5


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_edm_folders_say_what_diffusers_says(tmp_path: Path, prediction: str) -> None:
    scheduler = EDMEulerScheduler(prediction_type=prediction, sigma_data=0.4)
    prior = double(save(tmp_path / "p", scheduler))
    assert isinstance(prior.denoiser, EDMDenoiser)
    assert (prior.sigma_min, prior.sigma_max) == (0.002, 80.0)
    unet, x = network().double(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for sigma in (0.01, 0.7, 60.0):
        level = torch.tensor(sigma, dtype=torch.float64)
        out = unet(
            scheduler.precondition_inputs(x, level), scheduler.precondition_noise(level)
        ).sample
        theirs = scheduler.precondition_outputs(x, out, level)
        assert ((prior(x, sigma) - theirs) / sigma).abs().max() < 1e-5


@pytest.mark.parametrize("case", guided_reference.CASES)
def test_guided_diffusion_files_say_what_the_original_says(tmp_path: Path, case: str) -> None:
    with np.load(guided_reference.FILE) as stored:
        outputs = torch.from_numpy(stored[f"{case}/outputs"])
        shapes = json.loads(str(stored[f"{case}/shapes"]))
    path = guided(tmp_path, case, shapes)
    prior = double(path)
    denoiser = prior.denoiser
    assert isinstance(denoiser, VPDenoiser)
    x_vp = torch.from_numpy(guided_reference.images()).double()
    for t, out in zip(guided_reference.TIMES, outputs, strict=True):
        sigma = float(denoiser.log_sigmas[t].exp())
        x = x_vp * (1 + sigma**2) ** 0.5
        x0, fraction = prior.moments(x, sigma)
        assert ((x - x0) / sigma - out[:, :3]).abs().max() < 1e-5
        assert fraction is not None
        assert (2 * fraction - 1 - out[:, 3:]).abs().max() < 1e-5
    assert outputs.std() > 0.3  # a network that says something
    facts = describe(find(path))
    assert facts.learned_variance
    assert facts.trained_side == 16
    # abar of 1000 linear betas: 157 is where the paper's ladder starts.
    assert facts.sigma_max == pytest.approx(157.4, abs=0.1)


def guided(folder: Path, case: str, shapes: dict[str, list[int]] | None = None) -> Path:
    if shapes is None:
        with np.load(guided_reference.FILE) as stored:
            shapes = json.loads(str(stored[f"{case}/shapes"]))
    arguments = guided_reference.CASES[case]
    values = guided_reference.weights(shapes)
    path = folder / f"{case}.pt"
    torch.save({name: torch.from_numpy(value) for name, value in values.items()}, path)
    card = {
        "num_head_channels": arguments["num_head_channels"],
        "new_attention_order": arguments["use_new_attention_order"],
        "image_size": 16,
        "licence": "MIT",
        "pixel_size": 0.1,
    }
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


def test_flat_folders_old_names_and_torch_files(tmp_path: Path) -> None:
    folder = save(tmp_path / "p", DDPMScheduler())
    expected = double(folder)
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "config.json").write_text((folder / "unet" / "config.json").read_text())
    config = folder / "scheduler" / "scheduler_config.json"
    (flat / "scheduler_config.json").write_text(config.read_text())
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    (flat / "model_index.json").write_text(json.dumps(index))
    (flat / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, value in network().state_dict().items():
        for to, old in new.items():
            name = name.replace(f".{to}.", f".{old}.") if "attentions" in name else name
        state[name] = value
    torch.save(state, flat / "diffusion_pytorch_model.bin")
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    assert torch.equal(double(flat)(x, 0.5), expected(x, 0.5))
    facts = describe(find(flat))
    assert facts.licence == "apache-2.0"
    assert facts.hash != describe(find(folder)).hash


def test_time_is_fractional_between_levels_and_whole_for_tables(tmp_path: Path) -> None:
    prior = double(save(tmp_path / "p", DDPMScheduler()))
    denoiser = prior.denoiser
    assert isinstance(denoiser, VPDenoiser)
    middle = ((denoiser.log_sigmas[40] + denoiser.log_sigmas[41]) / 2).exp()[None]
    assert denoiser.timestep(middle).item() == pytest.approx(40.5)
    ends = torch.tensor([1e-6, 1e6])
    assert denoiser.timestep(ends).tolist() == [0.0, 999.0]
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    assert torch.equal(prior(x, 1e-9), prior(x, prior.sigma_min))
    steps = [prior(x, float(middle) * (1 + s)) for s in (0.0, 1e-6)]
    assert (steps[0] - steps[1]).abs().max() < 1e-4  # continuous in sigma
    table = network(time_embedding_type="learned", num_train_timesteps=1000)
    whole = double(save(tmp_path / "q", DDPMScheduler(), table))
    x_vp = x * (1 + float(middle) ** 2) ** -0.5
    direct = table.double()(x_vp, torch.tensor([40])).sample
    near = float(denoiser.log_sigmas[40].exp()) * 1.0001
    assert ((x - whole(x, near)) / near - direct).abs().max() < 0.1


def test_learned_variance_of_diffusers_is_passed_on(tmp_path: Path) -> None:
    unet = network(out_channels=6)
    prior = double(save(tmp_path / "p", DDPMScheduler(variance_type="learned_range"), unet))
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    sigma = float(prior.denoiser.log_sigmas[300].exp())  # type: ignore[union-attr]
    out = unet.double()(x / (1 + sigma**2) ** 0.5, 300).sample
    x0, fraction = prior.moments(x, sigma)
    assert torch.allclose(x0, x - sigma * out[:, :3])
    assert fraction is not None
    assert torch.allclose(2 * fraction - 1, out[:, 3:])
    fixed = double(
        save(tmp_path / "q", DDPMScheduler(variance_type="learned"), network(out_channels=6))
    )
    assert fixed.moments(x, sigma)[1] is None
    assert not fixed.learned_variance


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_schedules_are_those_of_diffusers(tmp_path: Path, schedule: str, rescale: bool) -> None:
    theirs = DDPMScheduler(beta_schedule=schedule, rescale_betas_zero_snr=rescale)
    prior = double(save(tmp_path / "p", theirs))
    abar = 1 / (1 + (2 * prior.denoiser.log_sigmas).exp())  # type: ignore[union-attr]
    assert torch.allclose(abar, theirs.alphas_cumprod[: len(abar)].double(), atol=1e-5)
    assert len(abar) == 1000 - rescale  # a level without signal is no level


def test_any_size_and_exact_products(tmp_path: Path) -> None:
    prior = double(save(tmp_path / "p", DDPMScheduler()))
    for shape in [(8, 8), (9, 13), (17, 30)]:
        assert prior(torch.randn(1, 3, *shape, dtype=torch.float64), 0.4).shape[2:] == shape
    with pytest.raises(PriorError, match="at least 8 pixels"):
        prior(torch.zeros(1, 3, 7, 9, dtype=torch.float64), 0.4)
    for channels in (3, 1, 2):
        x = torch.randn(2, channels, 9, 12, dtype=torch.float64)
        x0, vjp, fraction = prior.linearize_moments(x, 0.5)
        assert fraction is None
        u, v = torch.randn_like(x), torch.randn_like(x)
        step = 1e-5
        along = (prior(x + step * u, 0.5) - prior(x - step * u, 0.5)) / (2 * step)
        assert torch.allclose((along * v).sum(), (u * vjp(v)).sum(), rtol=1e-4)
        assert not x0.requires_grad
        assert torch.allclose(x0[1:], prior(x[1:], 0.5))


def test_beyond_its_training_size_attention_works_on_tiles(tmp_path: Path) -> None:
    folder = save(tmp_path / "p", DDPMScheduler())
    prior = load(find(folder))
    assert isinstance(prior, TiledPrior)
    assert (prior.tile, prior.trained_side) == (16, 16)
    sizes = {
        tuple(s.stop - s.start for s in tile.part)
        for level in (0.1, 0.5, 3.0)
        for tile in prior.tiles((40, 23), level)
    }
    assert sizes == {(16, 16)}
    total = torch.zeros(40, 23, dtype=torch.float64)
    for tile in prior.tiles((40, 23), 0.7):
        total[tile.part] += tile.weight
    assert torch.allclose(total, torch.ones_like(total))
    small = torch.randn(1, 3, 16, 12)
    assert torch.allclose(prior(small, 0.5), prior.prior(small, 0.5))
    plain = network(
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        add_attention=False,
    )
    assert isinstance(load(find(save(tmp_path / "q", DDPMScheduler(), plain))), ImagePrior)
    assert isinstance(load(find(folder), tile=0), ImagePrior)


class Trap:
    """Opens a file when it is unpickled: a marker that code has run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, (f"open({str(self.marker)!r}, 'w').close()",))


def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    evil = tmp_path / "evil.pt"
    torch.save({"time_embed.0.weight": Trap(marker)}, evil)
    folder = save(tmp_path / "p", DDPMScheduler())
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    inside = folder / "unet" / "diffusion_pytorch_model.bin"
    torch.save(Trap(marker), inside)
    for path, named in ((evil, "evil.pt"), (folder, "diffusion_pytorch_model.bin")):
        with pytest.raises(PriorError, match=rf"{named}.*refused.*any code") as caught:
            Checkpoint(path=str(path)).bind(Grid((16, 16)))
        assert "\n" not in str(caught.value)
    assert not marker.exists()
    # The trap works where it is sprung.
    torch.load(evil, weights_only=False)
    assert marker.exists()


def edited(folder: Path, part: str, **changes: object) -> Path:
    path = folder / part
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


UNET, SCHEDULER = "unet/config.json", "scheduler/scheduler_config.json"


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        (UNET, {"block_out_channels": [8, 10**6]}, "less than or equal to 4096"),
        (UNET, {"block_out_channels": [2048, 4096], "norm_num_groups": 32}, "tensors differ"),
        (UNET, {"layers_per_block": 10**9}, "layers_per_block"),
        (UNET, {"in_channels": 4}, "1 or 3"),
        (UNET, {"in_channels": 1, "out_channels": 1}, "tensors differ"),
        (UNET, {"num_class_embeds": 1000}, "wants a class"),
        (UNET, {"surprise": 1}, "surprise"),
        (UNET, {"time_embedding_type": "fourier"}, "time_embedding_type"),
        (UNET, {"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        (UNET, {"norm_num_groups": 5}, "must divide"),
        (SCHEDULER, {"_class_name": "PNDMScheduler"}, "PNDMScheduler"),
        (SCHEDULER, {"num_train_timesteps": 10**9}, "num_train_timesteps"),
        (SCHEDULER, {"beta_end": -1.0}, "beta_end"),
        (SCHEDULER, {"prediction_type": "flow"}, "prediction_type"),
        (SCHEDULER, {"trained_betas": [0.1, 0.0, 0.2]}, "does not rise"),
    ],
)
def test_bad_configurations_are_one_sentence(
    tmp_path: Path, part: str, changes: dict[str, object], words: str
) -> None:
    folder = edited(save(tmp_path / "p", DDPMScheduler()), part, **changes)
    with pytest.raises(PriorError, match=words) as caught:
        load(find(folder))
    assert "\n" not in str(caught.value)


def test_missing_and_broken_parts_are_one_sentence(tmp_path: Path) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(PriorError, match=words) as caught:
            load(find(path))
        assert "\n" not in str(caught.value)

    folder = save(tmp_path / "p", DDPMScheduler())
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    refused(folder, "cannot be read")
    weights.unlink()
    refused(folder, r"has no diffusion_pytorch_model\.safetensors")
    weights.write_bytes(whole)
    (folder / "napari-dps.json").write_text('{"pixel_size": -1}')
    refused(folder, "pixel_size")
    (folder / "napari-dps.json").write_text("[" * 10**5)
    refused(folder, "cannot be read")
    (folder / "napari-dps.json").unlink()
    (folder / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    refused(folder, "UNet2DConditionModel")
    (folder / "model_index.json").unlink()
    (folder / "scheduler" / "scheduler_config.json").unlink()
    refused(folder, "noise levels")
    nan = network()
    with torch.no_grad():
        next(nan.parameters()).fill_(float("nan"))
    refused(save(tmp_path / "nan", DDPMScheduler(), nan), "finite")
    picture = tmp_path / "a.png"
    picture.touch()
    refused(picture, "no known format")
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "no guided-diffusion U-Net")
    torch.save([1, 2], tmp_path / "b.pt")
    refused(tmp_path / "b.pt", "no state dict")
    (tmp_path / "c.pt").write_bytes(b"hello")
    refused(tmp_path / "c.pt", "c.pt")
    (tmp_path / "d.safetensors").write_bytes(b"\xff" * 20)
    refused(tmp_path / "d.safetensors", "cannot be read")


def test_guided_files_of_other_kinds_are_one_sentence(tmp_path: Path) -> None:
    path = guided(tmp_path, "paper")
    state = torch.load(path, weights_only=True)

    def refused(words: str, **changes: Any) -> None:
        torch.save({k: v for k, v in {**state, **changes}.items() if v is not None}, path)
        with pytest.raises(PriorError, match=words) as caught:
            load(find(path))
        assert "\n" not in str(caught.value)

    refused("class-conditional", **{"label_emb.weight": torch.zeros(10, 128)})
    refused("no place", **{"extra.weight": torch.zeros(1)})
    refused("not understood", **{"middle_block.1.qkv.weight": None})
    refused("tensors differ", **{"out.0.bias": None})
    path.with_suffix(".json").write_text('{"num_head_channels": 7}')
    refused("num_head_channels")
    path.with_suffix(".json").write_text('{"heads": 4}')
    refused("heads")
