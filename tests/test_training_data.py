"""Training images and patches: reading, normalising, holding out, drawing, feeding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_dps.errors import InputError
from napari_dps.training import textures
from napari_dps.training.data import Mixture, Patches, fit_spectrum
from napari_dps.training.feed import Feeder
from napari_dps.training.images import collect, load_images, normalise


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


def test_loading_images(image_folder: Path) -> None:
    sources = load_images([image_folder, image_folder / "other" / "0.png"])
    assert len(sources) == 6
    assert {s.group for s in sources} == {"nuclei", "other"}
    with pytest.raises(InputError, match="does not exist"):
        load_images([image_folder / "none"])
    np.save(image_folder / "small.npy", np.random.default_rng(0).random((8, 8)))
    with pytest.raises(InputError, match="No usable training image"):
        load_images([image_folder / "small.npy"])


@pytest.mark.parametrize("real", [True, False])
def test_patches(image_folder: Path, real: bool) -> None:
    sources = load_images([image_folder]) if real else []
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


def test_mixture_chooses_the_kinds(image_folder: Path) -> None:
    sources = load_images([image_folder])
    only = Patches(sources, 4, 16, Mixture(real=1, phantoms=0, textures=0), large=0)
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


def noise_image(seed: int, shape: tuple[int, ...] = (64, 64)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Return a folder with two folders of twelve small images each."""
    for group in ("er", "tubulin"):
        (tmp_path / "set" / group).mkdir(parents=True)
        for index in range(12):
            np.save(tmp_path / "set" / group / f"{index}.npy", noise_image(index))
    return tmp_path / "set"


def test_files_are_held_out_by_name(many: Path) -> None:
    found = collect([many], held_out=0.2)
    held = {source.name for source in found.held_out}
    assert held
    assert not held & {source.name for source in found.train}
    assert len(found.train) + len(held) == 24
    assert {source.group for source in found.held_out} == {"er", "tubulin"}
    assert held == {source.name for source in collect([many], held_out=0.2).held_out}
    # Where the folder lies plays no part, and a file that is added moves none to the other side.
    np.save(many / "er" / "more.npy", noise_image(99))
    moved = many.rename(many.with_name("moved"))
    again = {source.name for source in collect([moved], held_out=0.2).held_out}
    assert again - held <= {"er/more.npy"}
    assert held <= again


def test_few_files_hold_out_one_and_fewer_none(many: Path) -> None:
    files = sorted((many / "er").glob("*.npy"))
    assert len(collect(files[:5], held_out=0.01).held_out) == 1
    few = collect(files[:4])
    assert not few.held_out
    assert any("none held out" in line for line in few.notes())


def test_stacks_arrays_and_colours(tmp_path: Path) -> None:
    found = collect([noise_image(0, (20, 64, 70))], held_out=0.1)
    assert (len(found.train), len(found.held_out)) == (18, 2)
    assert found.train[3].name == "arrays/array 1 plane 3"
    # A stack among other files stays whole: its planes resemble each other.
    stack = tmp_path / "stack.tif"
    size = {"resolution": (4e4, 4e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(stack, noise_image(1, (3, 64, 64)), **size)
    names = [f"{k}.tif" for k in range(6)]
    for k, name in enumerate(names):
        tifffile.imwrite(tmp_path / name, noise_image(k + 2), **size)
    found = collect([tmp_path])
    files = [{s.name.split(" ")[0] for s in part} for part in (found.train, found.held_out)]
    assert not files[0] & files[1]
    assert found.pixel_size == pytest.approx(0.25, rel=1e-3)
    colour = (255 * noise_image(9, (64, 64, 3))).astype(np.uint8)
    tifffile.imwrite(tmp_path / "colour.tif", colour, photometric="rgb")
    found = collect([tmp_path / "colour.tif"])
    np.testing.assert_allclose(found.train[0].pixels, colour.mean(axis=-1), rtol=1e-6)
    assert "1 of them RGB" in next(found.notes())


def test_normalisation_is_told(many: Path) -> None:
    np.save(many / "er" / "flat.npy", np.zeros((64, 64)))
    np.save(many / "er" / "tiny.npy", noise_image(0, (8, 64)))
    found = collect([many], weights={"tubulin": 2.0})
    lines = list(found.notes())
    assert "er: " in lines[0]
    assert "own noise" in lines[0]
    assert "weight 2" in lines[1]
    assert any("1 left out: constant" in line for line in lines)
    assert any("1 left out: smaller than 64 x 64" in line for line in lines)
    fact = found.facts()["er"]
    assert fact["images"] + fact["held_out"] == 12
    assert fact["low"] == pytest.approx(0.005, abs=0.004)


def test_weights_change_how_often_a_folder_is_drawn(many: Path) -> None:
    shares = []
    for weights in (None, {str(many / "er"): 9.0}):
        patches = Patches(collect([many], weights=weights).train)
        odds = dict(zip([g[0].group for g in patches._groups], patches._odds, strict=True))
        shares.append(odds["er"])
    assert shares == pytest.approx([0.5, 0.9], abs=0.02)
    # A folder further out counts where the inner one has no weight of its own.
    outer = collect([many], weights={"set": 3.0, "er": 2.0}).train
    assert {(s.group, s.weight) for s in outer} == {("er", 2.0), ("tubulin", 3.0)}


@pytest.mark.parametrize(
    ("weights", "words"),
    [({"golgi": 2.0}, "'golgi', in which no image.*er, set, tubulin"), ({"er": 0.0}, "above zero")],
)
def test_weights_that_mean_nothing_are_refused(many: Path, weights, words: str) -> None:
    with pytest.raises(InputError, match=words):
        collect([many], weights=weights)


def test_images_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    bad = noise_image(0)
    bad[3, 4] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    with pytest.raises(InputError, match=r"bad\.npy' holds 1 pixels that are not finite"):
        collect([tmp_path])
    with pytest.raises(InputError, match=r"an array.*1 smaller than"):
        collect([noise_image(0, (20, 20))])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"No usable training image in .*empty: grey or RGB"):
        collect([empty])
    (empty / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.png' is not a PNG"):
        collect([empty])


def test_processes_draw_different_patches(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from napari_dps.training import data

    patches = Patches(load_images([many]), batch=2, size=16, pool=5)
    first = [next(iter(patches))[0]]
    for number in range(3):
        worker = SimpleNamespace(id=number, num_workers=3)
        monkeypatch.setattr(data, "get_worker_info", lambda worker=worker: worker)
        first.append(next(iter(patches))[0])
    np.testing.assert_array_equal(first[0], first[1])
    assert not np.array_equal(first[1], first[2])
    assert not np.array_equal(first[2], first[3])


def test_a_starving_network_gets_more_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    patches = Patches([], batch=1, size=8, pool=2)
    seed = patches.seed
    opened: list[int] = []

    def open_here(feeder: Feeder) -> None:
        opened.append(feeder.workers)
        feeder._flow = iter(patches)
        feeder.restart_clock()

    monkeypatch.setattr(Feeder, "_open", open_here)
    feeder = Feeder(patches, -1, torch.device("meta"), now=lambda: 0.0)
    assert (feeder.workers, feeder.limit) == (4, 5)
    for wait, work, grown in ((0.5, 0.5, False), (0.01, 0.99, False), (0.5, 0.5, True)):
        feeder._waiting, feeder._since = wait, 0.0
        feeder.now = lambda span=wait + work: span
        assert feeder.review() == (pytest.approx(wait), grown)
    assert opened == [4, 5]
    assert patches.seed != seed
    assert feeder.share == pytest.approx(0.51 / 2)  # the first review saw the queues fill
    feeder._waiting, feeder._since = 0.9, 0.0
    assert feeder.review()[1] is False  # they have just started
    assert feeder.review()[1] is False  # and there are no more cores


def test_waiting_is_measured() -> None:
    moments = iter([0.0, 1.0, 1.25, 2.0, 2.25, 4.0, 4.0])
    feeder = Feeder(Patches([], 1, 8, pool=2), 0, torch.device("cpu"), now=lambda: next(moments))
    for _ in range(2):
        assert feeder.take()[1].shape == (1,)
    share, grown = feeder.review()
    assert (share, grown) == (pytest.approx(0.5 / 4.0), False)


def test_feeding_from_processes() -> None:
    feeder = Feeder(Patches([], 2, 8, pool=2, large=0), 2, torch.device("cpu"))
    shapes = {tuple(feeder.take()[0].shape) for _ in range(3)}
    assert shapes == {(2, 1, 8, 8)}
