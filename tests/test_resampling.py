"""A prior at another pixel size, and the bookkeeping of learned variances; against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from napari_dps.core.channelwise import ChannelwiseOperator
from napari_dps.core.covariance import power_law_spectrum
from napari_dps.core.operator import dot_test
from napari_dps.core.parallel import ParallelPrior
from napari_dps.core.prior import Prior, Vjp
from napari_dps.core.resampling import ResampledPrior, coarsening
from napari_dps.core.sampler import ancestral_move
from napari_dps.core.tiling import TiledPrior, positions
from napari_dps.forward.gaussian_blur import GaussianBlur
from napari_dps.grid import Grid
from napari_dps.pixels import pixel_size_warnings
from napari_dps.priors._denoiser import Denoiser, ImagePrior
from napari_dps.priors._gaussian import GaussianPrior

F64 = torch.float64


def test_rows_are_orthonormal_and_constants_stay() -> None:
    matrix = coarsening(12, 7)
    assert torch.allclose(matrix @ matrix.T, torch.eye(7, dtype=F64))
    flat = matrix @ torch.ones(12, dtype=F64) / math.sqrt(12 / 7)
    assert torch.allclose(flat, torch.ones(7, dtype=F64))
    assert torch.allclose(coarsening(9, 9), torch.eye(9, dtype=F64))


def test_a_resampled_gaussian_prior_is_the_posterior_mean_exactly() -> None:
    coarse = GaussianPrior(0.3, power_law_spectrum((4, 6), 0.5, 1.5, 1.5))
    prior = ResampledPrior(coarse, 1.5, 0.1)
    x = torch.randn(2, 1, 6, 9, dtype=F64)
    # The covariance of r A^T u, column by column: the prior's own is what it does at high noise.
    count, r2 = 24, 54 / 24
    big = 1e5
    unit = torch.eye(count, dtype=F64).reshape(count, 1, 4, 6)
    own = big**2 * GaussianPrior(0.0, coarse.spectrum)(unit, big).reshape(count, count)
    spread = torch.kron(coarsening(6, 4), coarsening(9, 6))
    covariance = r2 * spread.T @ own @ spread
    sigma = 0.4
    gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(54, dtype=F64))
    expected = 0.3 + ((x - 0.3).reshape(2, 54) @ gain.T).reshape(x.shape)
    assert torch.allclose(prior(x, sigma), expected, atol=1e-6)
    x0, vjp = prior.linearize(x, sigma)
    v = torch.randn_like(x)
    assert torch.allclose(x0, expected, atol=1e-6)
    assert torch.allclose(vjp(v), (v.reshape(2, 54) @ gain).reshape(x.shape), atol=1e-6)
    assert prior.pixel_size == 0.1
    spectrum = prior.power_spectrum((6, 9))
    assert spectrum is not None
    assert spectrum.mean().sqrt() == pytest.approx(coarse.data_std)
    assert int((spectrum > 0).sum()) == 24
    with pytest.raises(ValueError, match="coarser"):
        ResampledPrior(coarse, 0.5)


def test_channels_are_measured_one_by_one() -> None:
    blur = GaussianBlur(sigma=1.0).bind(Grid((8, 9), dtype="float64"))
    operator = ChannelwiseOperator(blur, 3)
    x = torch.randn(2, *operator.x_shape, dtype=F64)
    z = operator(x)
    assert z.shape == (2, 3, 8, 9)
    assert torch.allclose(z[:, 1:2], blur(x[:, 1:2]))
    a, b = dot_test(operator, x)
    assert a == pytest.approx(b)
    assert torch.allclose(operator.adjoint(z)[:, 2:], blur.adjoint(z[:, 2:]))


class Fractions(Prior):
    """Halves images, and calls the learned fraction the image."""

    learned_variance = True

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        return x / 2

    def moments(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
        return x / 2, x

    def linearize_moments(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Vjp, Tensor]:
        return x / 2, lambda v: v / 2, x


def test_wrappers_pass_the_learned_variance_on() -> None:
    x = torch.randn(3, 1, 20, 24, dtype=F64)
    smooth = torch.ones_like(x) * 0.3
    for wrapped, image in (
        (TiledPrior(Fractions(), 12, 4), x),
        (TiledPrior(Fractions(), 12, 4, full=True), x),
        (ParallelPrior(Fractions(), 2), x),
        (TiledPrior(ParallelPrior(Fractions(), 2), 12, 4), x),
        (ResampledPrior(Fractions(), 1.3), smooth),
    ):
        assert wrapped.learned_variance
        x0, vjp, fraction = wrapped.linearize_moments(image, 0.5)
        assert fraction is not None
        assert torch.allclose(x0, image / 2)
        assert torch.allclose(vjp(smooth), smooth / 2)
        assert torch.allclose(fraction, image)
        assert torch.allclose(wrapped.moments(image, 0.5)[1], fraction)  # type: ignore[arg-type]
        assert torch.allclose(wrapped.linearize(image, 0.5)[0], x0)


def test_the_learned_variance_is_that_of_the_paper() -> None:
    """In VP coordinates: exp(f log beta + (1 - f) log beta~), Nichol and Dhariwal, equation 15."""
    sigma, lower = 2.0, 1.5
    abar, above = 1 / (1 + sigma**2), 1 / (1 + lower**2)
    beta = 1 - abar / above
    small = (1 - above) / (1 - abar) * beta
    x = torch.zeros(1, 1, 2, 2, dtype=F64)
    one = torch.ones_like(x)
    for f in (0.0, 0.3, 1.0):
        moved = ancestral_move(x, x, sigma, lower, lambda: one, f * one)
        vp = (beta**f * small ** (1 - f)) ** 0.5
        assert torch.allclose(moved, one * vp / above**0.5)
    plain = ancestral_move(x, x, sigma, lower, lambda: one)
    assert torch.allclose(plain, ancestral_move(x, x, sigma, lower, lambda: one, 0 * one))


def test_full_tiles_cover_and_keep_their_size() -> None:
    for size in (17, 40, 41):
        for shift in range(12):
            spans = positions(size, 16, 4, shift, full=True)
            assert all(b - a == 16 for a, b in spans)
            assert set().union(*(range(a, b) for a, b in spans)) == set(range(size))


class Colours(Denoiser):
    """The exact posterior mean of colours of which brightness and hue are independent."""

    def __init__(self, bright: float, hue: float) -> None:
        torch.nn.Module.__init__(self)
        self.channels, self.multiple, self.learned = 3, 1, False
        self.sigma_min, self.sigma_max = 0.0, math.inf
        self.bright, self.hue = bright, hue

    def forward(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, None]:
        level = sigma.reshape(-1, 1, 1, 1)
        mean = x.mean(1, keepdim=True)
        # Along (1, 1, 1)/sqrt(3) the coordinate is sqrt(3) times the mean.
        kept = self.bright**2 * 3 / (self.bright**2 * 3 + level**2)
        return kept * mean + self.hue**2 / (self.hue**2 + level**2) * (x - mean), None


def test_gray_through_a_prior_of_colours_is_the_posterior_mean() -> None:
    prior = ImagePrior(Colours(bright=0.5, hue=0.2))
    gray = torch.randn(2, 1, 8, 8, dtype=F64)
    sigma = 0.7
    exact = 0.5**2 / (0.5**2 + sigma**2) * gray
    assert torch.allclose(prior(gray, sigma), exact)
    assert torch.allclose(prior(gray.repeat(1, 2, 1, 1), sigma), exact.repeat(1, 2, 1, 1))
    levels = torch.tensor([0.7, 2.0])
    assert torch.allclose(prior(gray, levels)[:1], exact[:1])
    colour = torch.randn(2, 3, 8, 8, dtype=F64)
    assert torch.allclose(prior(colour, sigma), prior.denoiser(colour, torch.tensor([sigma]))[0])
    each = ImagePrior(Colours(bright=0.5, hue=0.2), colour=False)
    assert torch.allclose(each(colour, sigma), 0.5**2 / (0.5**2 + sigma**2) * colour)


def test_another_pixel_size_is_told_with_numbers() -> None:
    facts = {"name": "mine"}
    assert pixel_size_warnings(None, (0.1, 0.1), facts) == []
    assert pixel_size_warnings(0.1, None, facts) == []
    assert pixel_size_warnings(0.1, (0.105, 0.1), facts) == []
    (finer,) = pixel_size_warnings(0.2, (0.1, 0.1), facts)
    assert "'mine' learned at 0.2 um" in finer
    assert "has 0.1" in finer
    assert "2 times as large" in finer
    assert "resample" in finer
    (coarser,) = pixel_size_warnings(0.1, (0.25, 0.25), facts)
    assert "2.5 times as small" in coarser
