"""Tiles: no seams, values and products of the whole image, memory that runs out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tifffile
import torch

from napari_dps import Result, reconstruct
from napari_dps.api import run
from napari_dps.cli import main
from napari_dps.core.prior import Prior
from napari_dps.core.tiling import TiledPrior
from napari_dps.errors import OutOfMemoryError
from napari_dps.memory import Layout, smaller
from napari_dps.priors._folder import load_prior
from napari_dps.priors.fluorescence import FOLDER
from napari_dps.run import Run
from napari_dps.training.phantoms import phantom

SIDE, TILE, OVERLAP = 128, 64, 16
GAUSSIAN = {"kind": "gaussian", "mean": -0.5, "std": 0.3, "correlation_length": 2.0}
FEW = {"kind": "pigdm", "steps": 4}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Images this small gain nothing from threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior(FOLDER, "cpu", torch.float32)


def image(kind: str) -> torch.Tensor:
    if kind == "flat":
        return torch.full((1, 1, SIDE, SIDE), -0.8)
    drawn = 2 * phantom(np.random.default_rng(1), SIDE) - 1
    return torch.from_numpy(drawn).float()[None, None]


def border_energy(x0: torch.Tensor, tiled: TiledPrior, sigma: float) -> float:
    """Return the gradient energy across the borders of tiles over that everywhere else."""
    energy = (x0[..., 1:] - x0[..., :-1]).square().mean((0, 1, 2))
    spans = [tile.part[1] for tile in tiled.tiles((SIDE, SIDE), sigma)]
    edges = {e for s in spans for e in (s.start, s.stop) if 0 < e < SIDE}
    border = torch.zeros(SIDE - 1, dtype=torch.bool)
    border[[e - 1 for e in edges]] = True
    return float(energy[border].mean() / energy[~border].mean())


@pytest.mark.parametrize("kind", ["flat", "structured"])
def test_seams_are_invisible(prior, kind) -> None:
    # Against the untiled network at the same places: structure crosses borders either way.
    generator = torch.Generator().manual_seed(0)
    ratios = []
    for seed, sigma in enumerate((0.05, 0.3, 1.0)):
        tiled = TiledPrior(prior, TILE, OVERLAP, seed)
        x = image(kind) + sigma * torch.randn((1, 1, SIDE, SIDE), generator=generator)
        with torch.no_grad():
            whole, parts = prior(x, sigma), tiled(x, sigma)
        ratios.append(border_energy(parts, tiled, sigma) / border_energy(whole, tiled, sigma))
    assert 0.7 < float(np.mean(ratios)) < 1.3, ratios


def test_a_cut_without_overlap_would_be_seen(prior) -> None:
    # The measure of seams sees them where they are.
    x = image("flat") + 1.0 * torch.randn((1, 1, SIDE, SIDE), generator=torch.Generator())
    with torch.no_grad():
        parts = [[prior(q, 1.0) for q in p.split(TILE, -1)] for p in x.split(TILE, -2)]
        whole = prior(x, 1.0)
    cut = torch.cat([torch.cat(row, -1) for row in parts], -2)
    across = [(y[..., TILE] - y[..., TILE - 1]).square().mean() for y in (cut, whole)]
    assert across[0] > 2 * across[1]


def test_tiles_restore_as_well_as_the_whole(prior) -> None:
    x = image("structured") + 0.3 * torch.randn((1, 1, SIDE, SIDE), generator=torch.Generator())
    with torch.no_grad():
        off = [
            float((p(x, 0.3) - image("structured")).square().mean().sqrt())
            for p in (prior, TiledPrior(prior, TILE, OVERLAP))
        ]
    assert off[1] < 1.05 * off[0]


class Convolutional(Prior):
    """A network without normalisation: it works at half resolution and sees five pixels around."""

    multiple = 2

    def forward(self, x, sigma):
        coarse = torch.nn.functional.avg_pool2d(x, 2)
        padded = torch.nn.functional.pad(coarse, (1, 1, 1, 1), mode="reflect")
        kernel = torch.linspace(-0.2, 0.5, 9, dtype=x.dtype).reshape(1, 1, 3, 3)
        out = torch.tanh(torch.nn.functional.conv2d(padded, kernel))
        return torch.nn.functional.interpolate(out, scale_factor=2.0) / (1 + sigma)


@pytest.mark.parametrize("sigma", [0.1, 0.77, 3.0])
def test_tiles_give_what_the_whole_gives(sigma) -> None:
    # Each tile's own values, farther inside than the network sees; then all of them, blended.
    shape = (128, 160)
    x = torch.randn((2, 1, *shape), dtype=torch.float64)
    whole, product = Convolutional().linearize(x, sigma)
    tiled = TiledPrior(Convolutional(), 64, 16)
    for tile in tiled.tiles(shape, sigma):
        assert all(s.start % 2 == 0 for s in tile.part)
        local = Convolutional()(x[(..., *tile.part)], sigma)
        for axis, (span, n) in enumerate(zip(tile.part, shape, strict=True)):
            first = 0 if span.start == 0 else 4
            last = span.stop - span.start - (0 if span.stop == n else 4)
            local = local.narrow(2 + axis, first, last - first)
        inner = tuple(
            slice(s.start + (4 if s.start else 0), s.stop - (4 if s.stop < n else 0))
            for s, n in zip(tile.part, shape, strict=True)
        )
        assert torch.allclose(local, whole[(..., *inner)])
    # 3/8 of the overlap is farther than the network sees: exact everywhere.
    x0, tiled_product = tiled.linearize(x, sigma)
    assert len(tiled.tiles(shape, sigma)) > 4
    assert torch.allclose(x0, whole)
    v = torch.randn_like(x)
    assert torch.allclose(tiled_product(v), product(v))
    close = TiledPrior(Convolutional(), 64, 4)
    assert not torch.allclose(close(x, sigma), whole)


def test_the_shipped_network_is_tiled_on_its_own_grids(prior) -> None:
    tiled = TiledPrior(prior, 96, 24)
    assert (prior.multiple, tiled.overlap) == (16, 32)
    for sigma in (0.01, 0.3, 7.0):
        for tile in tiled.tiles((272, 288), sigma):
            assert all(s.start % 16 == 0 and s.stop % 16 == 0 for s in tile.part)
    assert TiledPrior(prior, 100, 24).overlap == 24  # a tile that is not on them stays as asked


# -- memory that runs out ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.poisson(30 + 20 * np.sin(np.arange(24) / 3) * np.ones((24, 1))).astype(np.float32)


def fail_after(monkeypatch: pytest.MonkeyPatch, calls: int, batch: int, times: int = 10**9) -> None:
    """Let every network call with at least ``batch`` images fail from a call on, so many times."""
    from napari_dps.priors._gaussian import GaussianPrior

    plain, made = GaussianPrior.linearize, [0, 0]

    def linearize(self, x, sigma):
        made[0] += 1
        if made[0] > calls and len(x) >= batch and made[1] < times:
            made[1] += 1
            raise MemoryError
        return plain(self, x, sigma)

    monkeypatch.setattr(GaussianPrior, "linearize", linearize)


def test_a_run_goes_on_in_smaller_batches(counts, monkeypatch) -> None:
    usual = reconstruct(counts, prior=GAUSSIAN, sampler=FEW, samples=9, device="cpu")
    fail_after(monkeypatch, calls=5, batch=3)
    job = Run(counts, {"prior": GAUSSIAN, "sampler": FEW, "samples": 9}, device="cpu")
    done = [progress.samples_done for progress in job]
    assert done == sorted(done)  # nothing that was finished is done again
    assert job.result().report["complete"]
    assert job.result().report["batch"] == 2
    assert any("memory ran out" in w for w in job.warnings)
    assert np.allclose(job.result().samples, usual.samples, rtol=1e-3, atol=1e-2)


def test_what_is_finished_travels_with_the_error(counts, monkeypatch) -> None:
    # An image of 24 pixels is the smallest tile already.
    fail_after(monkeypatch, calls=5, batch=1)
    with pytest.raises(OutOfMemoryError, match="restore a smaller region") as caught:
        reconstruct(counts, prior=GAUSSIAN, sampler=FEW, samples=6, device="cpu")
    kept = caught.value.finished
    assert len(kept) == 4  # the first batch
    assert not kept.report["complete"]
    monkeypatch.undo()
    usual = reconstruct(counts, prior=GAUSSIAN, sampler=FEW, samples=6, device="cpu")
    assert np.array_equal(kept.samples, usual.samples[:4])


def test_nothing_finished_means_nothing_kept(counts, monkeypatch) -> None:
    fail_after(monkeypatch, calls=0, batch=1)
    with pytest.raises(OutOfMemoryError) as caught:
        for _ in run(counts, {"prior": GAUSSIAN, "sampler": FEW, "samples": 6}, device="cpu"):
            pass
    assert caught.value.finished is None


def test_the_command_line_saves_what_is_finished(counts, monkeypatch, tmp_path, capsys) -> None:
    tifffile.imwrite(tmp_path / "in.tif", counts)
    fail_after(monkeypatch, calls=9, batch=1)
    words = "--prior gaussian --sampler pigdm --sampler.steps 4 --samples 6 --device cpu".split()
    places = [str(tmp_path / "in.tif"), "-o", str(tmp_path / "out.tif")]
    assert main(["reconstruct", *places, *words]) == 2
    assert "finished samples are in" in capsys.readouterr().err
    assert len(Result.load(tmp_path / "out.tif")) == 4


def test_layouts_shrink_to_the_end() -> None:
    layout, seen = Layout(4), []
    with pytest.raises(OutOfMemoryError):
        while True:
            layout = smaller(layout, (512, 512))
            seen.append((layout.batch, layout.tile))
    assert seen == [(2, None), (1, None), (1, 256), (1, 128)]


def test_a_prior_that_knows_whole_images_alone_gets_no_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_dps import memory

    monkeypatch.setattr(memory, "CPU_BUDGET", 64 * 100 * 100)
    measured = np.random.default_rng(0).poisson(20, (110, 120)).astype(np.float32)
    found = reconstruct(
        measured, noise="poisson", prior=GAUSSIAN, sampler=FEW, samples=2, device="cpu"
    )
    assert found.report["tile"] is None and np.isfinite(found.samples).all()
    assert smaller(Layout(4), (64, 64), whole=True) == Layout(2)
    with pytest.raises(OutOfMemoryError, match="110 x 120 pixels, and this prior cannot work on"):
        smaller(Layout(1), (110, 120), whole=True)
