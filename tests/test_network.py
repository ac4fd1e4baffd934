"""The network prior: shapes, padding, clamping, precision, gradients."""

from __future__ import annotations

import pytest
import torch

from napari_dps.errors import PriorError
from napari_dps.priors._network import DenoiserNetwork, NetworkPrior


@pytest.fixture(scope="module")
def prior() -> NetworkPrior:
    torch.manual_seed(0)
    network = DenoiserNetwork((8, 16, 16), groups=4, sigma_data=0.4, mean_data=-0.6)
    return NetworkPrior(network, data_std=0.3)


@pytest.mark.parametrize("shape", [(8, 8), (9, 13), (16, 40), (33, 8)])
def test_any_size(prior: NetworkPrior, shape: tuple[int, int]) -> None:
    x = torch.randn(2, 1, *shape)
    out = prior(x, 0.3)
    assert out.shape == x.shape
    assert torch.isfinite(out).all()


def test_multiple_of_network_is_not_padded(prior: NetworkPrior) -> None:
    x = torch.randn(1, 1, 16, 24)
    direct = prior.network(x, torch.full((1,), 0.3))
    assert torch.equal(prior(x, 0.3), direct)


@pytest.mark.parametrize("shape", [(1, 1, 7, 16), (1, 1, 16), (1, 1, 8, 8, 8)])
def test_wrong_shapes_are_refused(prior: NetworkPrior, shape: tuple[int, ...]) -> None:
    with pytest.raises(PriorError, match="at least 8 pixels"):
        prior(torch.zeros(shape), 0.1)


def test_float_and_tensor_sigma_agree(prior: NetworkPrior) -> None:
    x = torch.randn(3, 1, 16, 16)
    one = prior(x, 0.7)
    many = prior(x, torch.full((3,), 0.7))
    mixed = prior(x, torch.tensor([0.7, 2.0, 0.1]))
    assert torch.allclose(one, many)
    assert torch.allclose(one[:1], mixed[:1], atol=1e-5)
    assert not torch.allclose(one[1:], mixed[1:], atol=1e-3)


def test_sigma_is_clamped_to_the_trained_range(prior: NetworkPrior) -> None:
    x = 200 * torch.randn(1, 1, 16, 16)
    assert torch.equal(prior(x, 1000.0), prior(x, 160.0))
    assert torch.equal(prior(x, 1e-9), prior(x, 0.002))


def test_small_noise_returns_the_input_and_large_noise_forgets_it(prior: NetworkPrior) -> None:
    x = torch.rand(1, 1, 16, 16) - 1
    assert (prior(x, 0.0) - x).abs().max() < 0.02
    far = prior(x + 1e4, 160.0)
    assert (far - prior(x, 160.0)).abs().mean() < 2.0


def test_channels_are_denoised_one_by_one(prior: NetworkPrior) -> None:
    x = torch.randn(2, 2, 16, 16)
    sigma = torch.tensor([0.2, 1.0])
    out = prior(x, sigma)
    for channel in range(2):
        single = prior(x[:, channel : channel + 1], sigma)
        assert torch.allclose(out[:, channel : channel + 1], single, atol=1e-5)


def test_parameters_are_frozen_and_training_mode_is_refused(prior: NetworkPrior) -> None:
    prior.train()
    assert not prior.network.training
    assert not any(p.requires_grad for p in prior.parameters())


def test_vjp_is_the_transposed_jacobian_in_float64() -> None:
    torch.manual_seed(1)
    network = DenoiserNetwork((8, 8), groups=4, sigma_data=0.4)
    prior = NetworkPrior(network).double()
    x = torch.randn(2, 1, 10, 12, dtype=torch.float64)
    x0, vjp = prior.linearize(x, 0.5)
    assert x0.dtype == torch.float64
    assert not x0.requires_grad
    u, v = torch.randn_like(x), torch.randn_like(x)
    step = 1e-5
    along = (prior(x + step * u, 0.5) - prior(x - step * u, 0.5)) / (2 * step)
    assert torch.allclose((along * v).sum(), (u * vjp(v)).sum(), rtol=1e-5)
    assert torch.equal(vjp(v), vjp(v))


def test_sample_does_not_depend_on_its_batch(prior: NetworkPrior) -> None:
    x = torch.randn(4, 1, 16, 16)
    alone = torch.cat([prior(part, 0.4) for part in x.split(1)])
    assert torch.allclose(prior(x, 0.4), alone, atol=1e-5)
