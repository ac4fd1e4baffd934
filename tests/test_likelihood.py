"""The statistics of a measurement given its expectation."""

from __future__ import annotations

import pytest
import torch

from napari_dps.core.likelihood import (
    Z_MIN,
    GaussianLikelihood,
    Likelihood,
    PoissonGaussianLikelihood,
    PoissonLikelihood,
)
from napari_dps.core.streams import Streams
from napari_dps.noise._counts import CountsLikelihood

ALL = [
    GaussianLikelihood(1.7),
    PoissonLikelihood(),
    CountsLikelihood(),
    PoissonGaussianLikelihood(0.0),
    PoissonGaussianLikelihood(2.5),
    PoissonGaussianLikelihood(2.5, 3.0),
    GaussianLikelihood(1.7, 3.0),
]
each = pytest.mark.parametrize("likelihood", ALL, ids=lambda k: type(k).__name__)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Return counts and expectations that reach below zero, shape (3, 1, 16, 16)."""
    generator = torch.Generator().manual_seed(0)
    z = 8 * torch.rand((3, 1, 16, 16), generator=generator, dtype=torch.float64) - 0.5
    y = torch.poisson(z.clamp_min(0.1), generator=generator)
    return y, z


@each
def test_gradient_of_log_prob_is_score(likelihood: Likelihood) -> None:
    y, z = pair()
    z.requires_grad_(True)
    (gradient,) = torch.autograd.grad(likelihood.log_prob(y, z).sum(), z)
    assert torch.allclose(gradient, likelihood.score(y, z.detach()), rtol=1e-9, atol=1e-9)


@each
def test_score_agrees_with_difference_quotient(likelihood: Likelihood) -> None:
    y, z = pair()
    step = 1e-6
    away = (z - Z_MIN).abs() > 1e-4
    rise = (likelihood.log_density(y, z + step) - likelihood.log_density(y, z - step)) / (2 * step)
    difference = (rise - likelihood.score(y, z))[away].abs()
    assert float(difference.max()) < 1e-4


@pytest.mark.parametrize("likelihood", ALL[:3], ids=lambda k: type(k).__name__)
def test_score_is_continuous_at_z_min(likelihood: Likelihood) -> None:
    y = torch.tensor([[0.0, 1.0, 7.0]], dtype=torch.float64)
    below, above = (torch.full_like(y, Z_MIN + d) for d in (-1e-9, 1e-9))
    assert torch.allclose(likelihood.score(y, below), likelihood.score(y, above), rtol=1e-6)
    assert torch.allclose(
        likelihood.log_density(y, below), likelihood.log_density(y, above), rtol=1e-6
    )


@each
def test_density_is_finite_and_falls_below_zero(likelihood: Likelihood) -> None:
    """No sampler that strays to negative expectations may be driven further away."""
    y = torch.tensor([[0.0, 1.0, 5.0, 100.0]], dtype=torch.float64)
    for low in (-1.0, -10.0, -1000.0):
        at, further = (likelihood.log_density(y, torch.full_like(y, z)) for z in (low, 2 * low))
        assert torch.isfinite(at).all()
        if not (isinstance(likelihood, PoissonLikelihood)):
            assert (further < at).all()
        else:  # with y = 0 it rises, as -z does, without bound but without singularity
            assert (further < at)[:, 1:].all()


def test_negative_measurement_counts_as_zero() -> None:
    z = torch.tensor([[-2.0, 0.01, 0.5, 3.0]], dtype=torch.float64)
    likelihood = CountsLikelihood()
    zero = torch.zeros_like(z)
    assert torch.equal(likelihood.score(zero - 3, z), likelihood.score(zero, z))
    assert torch.equal(likelihood.log_prob(zero - 3, z), likelihood.log_prob(zero, z))


@each
@pytest.mark.parametrize("level", [0.3, 4.0, 60.0])
def test_sample_has_mean_and_variance(likelihood: Likelihood, level: float) -> None:
    z = torch.full((2, 1, 200, 200), level, dtype=torch.float64)
    drawn = likelihood.sample(z, Streams(3, [0, 1], dtype=torch.float64))
    variance = float(likelihood.variance(z).mean()) / likelihood.redundancy
    assert drawn.shape == z.shape
    assert float(drawn.mean()) == pytest.approx(level, abs=5 * (variance / drawn.numel()) ** 0.5)
    assert float(drawn.var()) == pytest.approx(variance, rel=0.05)


@each
def test_sample_does_not_depend_on_its_batch(likelihood: Likelihood) -> None:
    z = torch.full((2, 1, 8, 8), 5.0, dtype=torch.float64)
    both = likelihood.sample(z, Streams(1, ["a", "b"], dtype=torch.float64))
    alone = likelihood.sample(z[1:], Streams(1, ["b"], dtype=torch.float64))
    assert torch.equal(both[1:], alone)


@each
def test_masked_pixels_do_not_count(likelihood: Likelihood) -> None:
    y, z = pair()
    valid = torch.zeros_like(y, dtype=torch.bool)
    valid[..., :8] = True
    other = torch.where(valid, y, y + 1000)
    assert torch.equal(likelihood.log_prob(y, z, valid), likelihood.log_prob(other, z, valid))
    missing = torch.where(valid, y, torch.full_like(y, float("nan")))
    assert torch.isfinite(likelihood.log_prob(missing, z, valid)).all()
    nothing = torch.zeros_like(valid)
    assert torch.equal(likelihood.log_prob(y, z, nothing), torch.zeros(3, dtype=y.dtype))


@each
def test_log_prob_is_per_sample(likelihood: Likelihood) -> None:
    y, z = pair()
    total = likelihood.log_prob(y, z)
    assert total.shape == (3,)
    assert torch.allclose(total[1:2], likelihood.log_prob(y[1:2], z[1:2]))


@each
def test_weights_and_variances_are_positive(likelihood: Likelihood) -> None:
    y, z = pair()
    assert (likelihood.variance(z) > 0).all()
    assert (likelihood.dps_weight(y - 5) > 0).all()


def test_poisson_score_is_exact_above_z_min() -> None:
    y, z = pair()
    z = z.clamp_min(2 * Z_MIN)
    assert torch.allclose(PoissonLikelihood().score(y, z), y / z - 1)


def test_poisson_gaussian_nears_poisson_at_many_counts() -> None:
    z = torch.full((1, 1, 4, 4), 1e4, dtype=torch.float64)
    y = z + 100
    exact = PoissonLikelihood().score(y, z)
    assert torch.allclose(PoissonGaussianLikelihood(0.0).score(y, z), exact, rtol=0.01)


@pytest.mark.parametrize("kind", [GaussianLikelihood, PoissonGaussianLikelihood])
def test_pixels_that_share_a_value_count_as_one(kind) -> None:
    y, z = pair()
    one, four = kind(2.0), kind(2.0, 4.0)
    assert torch.allclose(4 * four.log_prob(y, z), one.log_prob(y, z))
    assert torch.allclose(4 * four.score(y, z), one.score(y, z))
    assert torch.allclose(four.variance(z), 4 * one.variance(z))
    assert torch.allclose(4 * four.curvature(y, z), one.curvature(y, z))


@each
def test_curvature_is_at_least_the_information(likelihood: Likelihood) -> None:
    y, z = pair()
    assert (likelihood.curvature(y, z) >= 0.999 / likelihood.variance(z)).all()


@pytest.mark.parametrize("light", [0.01, 0.03, 0.3, 30.0])
@each
def test_misfit_of_the_truth_is_one_at_any_light(likelihood: Likelihood, light: float) -> None:
    """Sparse counts too, whose variance is held above a floor."""
    generator = torch.Generator().manual_seed(5)
    z = light * (0.1 + torch.rand((1, 1, 400, 400), generator=generator, dtype=torch.float64))
    y = likelihood.sample(z, Streams(7, [0], dtype=torch.float64))
    valid = torch.rand(z.shape, generator=generator) > 0.3
    assert float(likelihood.chi2(y, z, valid)) == pytest.approx(1, abs=0.15)


def test_misfit_of_counts_where_none_are_expected() -> None:
    likelihood = PoissonLikelihood()
    z = torch.zeros((1, 1, 8, 8), dtype=torch.float64)
    y = z.clone()
    assert float(likelihood.chi2(y, z)) == 0
    assert float(likelihood.chi2(y, z - 0.5)) == 0  # nothing is drawn from less than nothing
    y[..., 3, 4] = 3.0
    assert float(likelihood.chi2(y, z)) > 100
    assert float(likelihood.chi2(y, z - 0.5)) > 100


def test_misfit_of_a_wrong_level_shows_in_sparse_counts() -> None:
    likelihood = PoissonLikelihood()
    z = torch.full((1, 1, 300, 300), 0.02, dtype=torch.float64)
    y = likelihood.sample(z, Streams(7, [0], dtype=torch.float64))
    assert float(likelihood.chi2(y, z / 2)) > 1.5
    assert float(likelihood.chi2(y, 20 * z)) < 0.8


@pytest.mark.parametrize("likelihood", [PoissonLikelihood(), CountsLikelihood()])
def test_a_dark_pixel_is_no_likelier_for_negative_light(likelihood: Likelihood) -> None:
    z = torch.tensor([0.5, 0.05, 0.0, -1.0, -100.0], dtype=torch.float64)
    found = likelihood.log_density(torch.zeros_like(z), z)
    assert found.tolist() == pytest.approx([-0.5, -0.05, 0, 0, 0])
    one = likelihood.log_density(torch.ones_like(z), z)
    assert (one[1:] < one[:-1]).all()
