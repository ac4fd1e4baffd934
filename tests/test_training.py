"""Training: phantoms, data, clocks, loss, resuming, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_dps.errors import InputError, PriorError
from napari_dps.priors._folder import load_prior, prior_hash, prior_info
from napari_dps.priors._network import DenoiserNetwork
from napari_dps.training import phantoms, textures
from napari_dps.training.data import (
    Mixture,
    Patches,
    fit_spectrum,
    load_images,
    normalise,
)
from napari_dps.training.loss import Gradients, denoising_loss, draw_sigma
from napari_dps.training.schedule import ActiveClock, Cooldown
from napari_dps.training.train import FINISH, Settings, export, train

IMAGES = {
    **{name: make for name, (make, _) in phantoms.STRUCTURES.items()},
    "phantom": phantoms.phantom,
    "dead leaves": textures.dead_leaves,
    "power law": textures.power_law_image,
}
TINY = Settings(
    steps=6, batch=4, size=16, piece=2, warmup=2, threads=2, seed=3, save=0.005, export=0.005
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


def test_normalising_gives_range_and_noise() -> None:
    rng = np.random.default_rng(0)
    clean = 1000 * textures.dead_leaves(rng, 128)
    noisy = (clean + rng.normal(0, 25, clean.shape)).clip(0).astype(np.uint16)
    source = normalise(noisy)
    assert source is not None
    patch = source.patch(0, 0, 128)
    assert np.percentile(patch, 0.5) == pytest.approx(-1, abs=0.01)
    assert 0.9 < np.percentile(patch, 99.8) <= 1.01
    assert source.noise == pytest.approx(50 / (source.high - source.low), rel=0.5)
    assert normalise(np.full((64, 64), 7)) is None


def test_sparse_peaks_are_limited() -> None:
    image = np.zeros((200, 200))
    image[100, 100] = 1.0
    source = normalise(image)
    assert source is not None
    assert source.patch(0, 0, 200).max() == pytest.approx(3.0)


def test_stretched_grey_levels_count_as_noise() -> None:
    image = np.tile(np.linspace(0, 10, 128), (128, 1)).round()
    source = normalise(image)
    assert source is not None
    assert source.noise >= 0.9 * 0.2 / 12**0.5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from skimage.io import imsave

    rng = np.random.default_rng(1)
    for group, count in (("nuclei", 3), ("other", 2)):
        (tmp_path / "images" / group).mkdir(parents=True)
        for index in range(count):
            image = (250 * phantoms.phantom(rng, 72)).clip(0, 255).astype(np.uint8)
            path = tmp_path / "images" / group / f"{index}.png"
            imsave(path, image, check_contrast=False)
    return tmp_path / "images"


def test_loading_images(folder: Path) -> None:
    sources = load_images([folder, folder / "other" / "0.png"])
    assert len(sources) == 6
    assert {s.group for s in sources} == {"nuclei", "other"}
    with pytest.raises(InputError, match="does not exist"):
        load_images([folder / "none"])
    np.save(folder / "small.npy", np.random.default_rng(0).random((8, 8)))
    with pytest.raises(InputError, match="No usable training image"):
        load_images([folder / "small.npy"])


@pytest.mark.parametrize("real", [True, False])
def test_patches(folder: Path, real: bool) -> None:
    sources = load_images([folder]) if real else []
    patches = Patches(sources, batch=8, size=16, seed=2, large=0.5, pool=3, fresh=1.0)
    flow, again = iter(patches), iter(patches)
    shapes = set()
    for _ in range(12):
        x, noise = next(flow)
        y, _ = next(again)
        np.testing.assert_array_equal(x, y)
        shapes.add(x.shape)
        assert x.dtype == np.float32
        assert noise.shape == x.shape[:1]
        assert np.isfinite(x).all()
        assert x.min() > -1.5
        assert real or not noise.any()
    assert shapes == {(8, 1, 16, 16), (2, 1, 32, 32)}


def test_mixture_chooses_the_kinds(folder: Path) -> None:
    sources = load_images([folder])
    only = Patches(sources, 4, 16, Mixture(largest=1, others=0, phantoms=0, textures=0), large=0)
    x, noise = next(iter(only))
    assert x.shape == (4, 1, 16, 16)
    assert (noise > 0).all()


def test_spectrum_of_a_known_field_is_found() -> None:
    rng = np.random.default_rng(0)
    size, length, exponent = 128, 2.0, 1.5
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    power = (1 + (2 * np.pi * length * k) ** 2) ** -exponent
    white = np.fft.fft2(rng.standard_normal((40, size, size)))
    field = np.fft.ifft2(white * np.sqrt(power)).real[:, :64, :64]
    fit = fit_spectrum(field)
    assert fit["std"] == pytest.approx(field.std())
    # Length and exponent trade off; the curve they describe is what must be right.
    r = np.array([0.05, 0.1, 0.2, 0.4])
    mine = -fit["exponent"] * np.log1p((2 * np.pi * fit["correlation_length"] * r) ** 2)
    true = -exponent * np.log1p((2 * np.pi * length * r) ** 2)
    np.testing.assert_allclose(mine - mine[0], true - true[0], atol=0.35)


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


def test_pieces_on_threads_give_the_gradient_of_the_batch() -> None:
    torch.manual_seed(0)
    network = DenoiserNetwork((8, 8), groups=4).double()
    x = torch.randn(5, 1, 16, 16, dtype=torch.float64)
    unit = torch.randn_like(x)
    sigma = torch.tensor([0.1, 0.2, 0.5, 1.0, 50.0], dtype=torch.float64)
    denoising_loss(network, x, sigma, unit).mean().backward()
    whole = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    losses = Gradients(network, threads=2, piece=2)(x, sigma, unit)
    assert losses.shape == (5,)
    for expected, parameter in zip(whole, network.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected)


def test_train_resume_and_export(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    lines: list[dict[str, object]] = []
    prior = train([folder], out, settings=TINY, channels=(8, 8), workers=0, on_step=lines.append)
    info = prior_info(prior)
    assert prior == out / "prior"
    assert info.training["steps"] == 6
    assert info.training["real_images"] == 5
    assert info.spectrum is not None
    assert 0.1 < info.network.sigma_data < 1.0
    assert load_prior(prior)(torch.zeros(1, 1, 16, 16), 0.5).shape == (1, 1, 16, 16)
    more = Settings(**{**vars(TINY), "steps": 30})
    train([folder], out, settings=more, resume=True, workers=0, on_step=lines.append)
    assert prior_info(prior).training["steps"] == 30
    assert [line["step"] for line in lines] == [25]
    assert json.loads((out / "log.jsonl").read_text())["step"] == 25
    copy = export(out, tmp_path / "copy", name="mine", licence="CC0")
    assert prior_info(copy).name == "mine"
    assert (copy / "model.safetensors").read_bytes() == (prior / "model.safetensors").read_bytes()


def test_training_goes_on_from_a_prior(tmp_path: Path) -> None:
    first = train([], tmp_path / "a", settings=TINY, channels=(8, 8), workers=0)
    still = Settings(**{**vars(TINY), "steps": 1, "rate": 0.0})
    second = train([], tmp_path / "b", settings=still, channels=(16,), start=first, workers=0)
    info = prior_info(second)
    assert info.network == prior_info(first).network
    assert info.training["start"]["hash"] == prior_hash(first)
    assert (second / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()
    with pytest.raises(PriorError, match="nowhere"):
        train([], tmp_path / "c", settings=TINY, start=tmp_path / "nowhere", workers=0)


def test_training_is_repeatable(tmp_path: Path) -> None:
    once = Settings(**{**vars(TINY), "threads": 1, "steps": 3})
    weights = []
    for name in ("a", "b"):
        prior = train([], tmp_path / name, settings=once, channels=(8,), workers=0)
        weights.append((prior / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_finish_file_ends_a_long_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / FINISH).touch()
    long = Settings(**{**vars(TINY), "steps": None, "minutes": 600.0, "save": 9.0, "finish": 0.001})
    prior = train([], out, settings=long, channels=(8,), workers=0)
    assert prior_info(prior).training["steps"] < 200


def test_resuming_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without --resume"):
        train([], tmp_path, settings=TINY, resume=True, workers=0)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from napari_dps.training.__main__ import app

    run = tmp_path / "run"
    app(["-o", str(run), "--finish"], result_action="return_value")
    assert (run / FINISH).exists()
    with pytest.raises(InputError, match="without --resume"):
        app(["-o", str(run), "--resume"], result_action="return_value")
    settings = Settings(**{**vars(TINY), "steps": 1})
    train([], run, settings=settings, channels=(8,), workers=0)
    app(["export", str(run), str(tmp_path / "prior"), "--name", "x"], result_action="return_value")
    assert "prior" in capsys.readouterr().out
    assert prior_info(tmp_path / "prior").name == "x"
