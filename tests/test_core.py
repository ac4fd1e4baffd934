"""Ladders, streams, conjugate gradients, tiles."""

from itertools import pairwise

import pytest
import torch

from napari_dps.core.linalg import conjugate_gradients
from napari_dps.core.prior import Prior
from napari_dps.core.schedule import ddpm_ladder, informed_sigma, karras_ladder
from napari_dps.core.streams import Streams
from napari_dps.core.tiling import TiledPrior


def test_ddpm_ladder_starts_where_its_betas_say():
    ladder = ddpm_ladder(1000)
    assert len(ladder) == 1001
    assert ladder[0] == pytest.approx(157.4, rel=1e-3)
    assert ladder[-2] == pytest.approx(0.01, rel=1e-3)
    assert ladder[-1] == 0


@pytest.mark.parametrize("ladder", [ddpm_ladder(50), karras_ladder(20), karras_ladder(2, 3, 0.01)])
def test_ladders_fall_to_zero(ladder):
    assert all(a > b for a, b in pairwise(ladder))
    assert ladder[-1] == 0


def test_informed_start_never_leaves_the_ladder():
    assert informed_sigma(None) == 80
    assert informed_sigma(0.4) == pytest.approx(4.0)
    assert informed_sigma(1e-9) == 1.0
    assert informed_sigma(1e9) == 80


def test_a_sample_is_the_same_draw_in_any_batch():
    together = Streams(3, [(0, 0), (0, 1), (0, 2)])
    alone = Streams(3, [(0, 1)])
    assert torch.equal(together.normal((4, 4))[1], alone.normal((4, 4))[0])
    assert torch.equal(
        together.poisson(torch.full((3, 5), 9.0))[1], alone.poisson(torch.full((1, 5), 9.0))[0]
    )
    other = Streams(4, [(0, 1)]).normal((4, 4))
    assert not torch.equal(other[0], Streams(3, [(0, 1)]).normal((4, 4))[0])


def test_conjugate_gradients_solve_each_sample_on_its_own():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn((3, 12, 12), generator=generator, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(12)
    scale = torch.tensor([1.0, 1e3, 1e-3], dtype=torch.float64)[:, None, None]
    rhs = torch.randn((3, 12), generator=generator, dtype=torch.float64)

    def matvec(p):
        return ((scale * matrix) @ p.unsqueeze(-1)).squeeze(-1), 2 * p

    found = conjugate_gradients(matvec, rhs, iterations=60, tolerance=1e-12)
    exact = torch.linalg.solve(scale * matrix, rhs)
    assert torch.allclose(found.u, exact, rtol=1e-7)
    assert torch.allclose(found.image, 2 * found.u)


def test_conjugate_gradients_stop_at_a_negative_direction():
    matrix = torch.diag(torch.tensor([1.0, -1.0, 2.0]))
    found = conjugate_gradients(lambda p: p @ matrix, torch.tensor([[0.0, 1.0, 0.0]]), iterations=5)
    assert torch.isfinite(found.u).all()


class Local(Prior):
    """A prior with a receptive field of three pixels, non-linear."""

    def forward(self, x, sigma):
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
        return torch.tanh(torch.nn.functional.avg_pool2d(padded, 3, 1)) / (1 + sigma)


@pytest.mark.parametrize("shape", [(50, 70), (31, 64), (33, 33)])
def test_tiles_sum_to_one_everywhere(shape):
    tiled = TiledPrior(Local(), tile=24, overlap=8)
    for sigma in (0.1, 1.0, 7.0):
        total = torch.zeros(shape, dtype=torch.float64)
        for tile in tiled.tiles(shape, sigma):
            assert all(s.stop - s.start <= 24 for s in tile.part)
            total[tile.part] += tile.weight
        assert torch.allclose(total, torch.ones_like(total))


def test_tiles_of_a_pixelwise_prior_change_nothing():
    class Pixelwise(Prior):
        def forward(self, x, sigma):
            return torch.tanh(x) / (1 + sigma)

    x = torch.randn((2, 1, 45, 52), dtype=torch.float64)
    v = torch.randn_like(x)
    whole, product = Pixelwise().linearize(x, 0.5)
    tiled, tiled_product = TiledPrior(Pixelwise(), 20, 6).linearize(x, 0.5)
    assert torch.allclose(whole, tiled)
    assert torch.allclose(product(v), tiled_product(v))


def test_tiled_product_is_the_gradient_of_the_tiled_prior():
    tiled = TiledPrior(Local(), 20, 6)
    x = torch.randn((1, 1, 40, 44), dtype=torch.float64, requires_grad=True)
    v = torch.randn((1, 1, 40, 44), dtype=torch.float64)
    (exact,) = torch.autograd.grad(tiled(x, 0.3), x, v)
    x0, vjp = tiled.linearize(x.detach(), 0.3)
    assert torch.allclose(x0, tiled(x, 0.3).detach())
    assert torch.allclose(vjp(v), exact)
    assert torch.allclose(vjp(v), vjp(v.clone()))


def test_grid_of_tiles_moves_with_the_level_and_only_with_it():
    tiled = TiledPrior(Local(), 24, 8, seed=1)
    first = [t.part for t in tiled.tiles((80, 80), 1.0)]
    assert first == [t.part for t in tiled.tiles((80, 80), 1.0)]
    assert first != [t.part for t in tiled.tiles((80, 80), 0.9)]
