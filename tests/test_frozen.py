"""Frozen networks: the same bits as diffusers' own U-Net, from two thirds of what it keeps."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from napari_dps.priors import _frozen
from napari_dps.priors._frozen import freeze, pass_bytes

TIME = torch.tensor([3.0, 700.0])


@pytest.fixture(autouse=True)
def small_images_too(monkeypatch) -> None:
    monkeypatch.setattr(_frozen, "SMALLEST", 1)


def unet(**config) -> UNet2DModel:
    """Return a small U-Net of random weights, none of them zero."""
    torch.manual_seed(0)
    given = {
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "add_attention": False,
    }
    made = UNet2DModel(**{**given, **config})
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made.eval().requires_grad_(False)


KINDS = {
    "plain": {},
    "attention": {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 8,
        "add_attention": True,
    },
    "scale-shift": {
        "resnet_time_scale_shift": "scale_shift",
        "down_block_types": ("ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D"),
        "up_block_types": ("ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
    },
}


def linearized(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output and two products with the transposed Jacobian."""
    leaf = x.clone().requires_grad_(True)
    out = net(leaf, TIME).sample
    first, second = (
        torch.autograd.grad(out, leaf, v, retain_graph=True)[0] for v in (x.flip(0), out.detach())
    )
    return out.detach(), first, second


def kept_bytes(net: nn.Module, x: Tensor) -> int:
    """Return the bytes of images that a pass keeps for its products."""
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    seen: dict[int, int] = {}

    def see(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(see, lambda kept: kept):
        out = net(x.clone().requires_grad_(True), TIME).sample
    assert out.requires_grad  # the graph, and all that it keeps, is there until here
    return sum(seen.values())


@pytest.fixture(params=[torch.contiguous_format, torch.channels_last], ids=["first", "last"])
def layout(request) -> torch.memory_format:
    return request.param


@pytest.fixture
def x() -> Tensor:
    return torch.randn((2, 1, 16, 16), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_the_same_bits_come_out(config, layout, x) -> None:
    plain = unet(**config).to(memory_format=layout)
    frozen = copy.deepcopy(plain)
    freeze(frozen)
    for found, expected in zip(linearized(frozen, x), linearized(plain, x), strict=True):
        assert expected.abs().max() > 0
        assert torch.equal(found, expected)
    with torch.no_grad():
        assert torch.equal(frozen(x, TIME).sample, plain(x, TIME).sample)
    assert list(frozen.state_dict()) == list(plain.state_dict())


def test_bfloat16_gives_the_same_bits_too(x) -> None:
    plain = unet().to(memory_format=torch.channels_last)
    frozen = copy.deepcopy(plain)
    freeze(frozen)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = linearized(frozen, x), linearized(plain, x)
    assert all(map(torch.equal, found, expected))


def test_less_is_kept(x, monkeypatch) -> None:
    net = unet()
    before = kept_bytes(net, x)
    freeze(net)
    assert 0 < kept_bytes(net, x) < 0.75 * before
    monkeypatch.setattr(_frozen, "SMALLEST", 10**9)
    assert kept_bytes(net, x) == before


def test_a_pass_without_gradient_keeps_nothing_and_spoils_no_input(x) -> None:
    net, given = unet(), x.clone()
    freeze(net)
    with torch.no_grad():
        assert not net(x, TIME).sample.requires_grad
    assert torch.equal(x, given)


def test_weights_that_learn_again_get_their_gradients(x) -> None:
    plain = unet()
    frozen = copy.deepcopy(plain)
    freeze(frozen)
    for net in (plain, frozen):
        net.requires_grad_(True)
        net(x.clone().requires_grad_(True), TIME).sample.square().sum().backward()
    for (name, one), other in zip(frozen.named_parameters(), plain.parameters(), strict=True):
        assert other.grad is not None, name
        assert torch.equal(one.grad, other.grad), name


def test_a_product_in_another_thread_is_the_same(x) -> None:
    # On a GPU gradients are computed in threads of their own.
    from concurrent.futures import ThreadPoolExecutor

    net = unet()
    freeze(net)
    leaf = x.clone().requires_grad_(True)
    out = net(leaf, TIME).sample

    def product() -> Tensor:
        return torch.autograd.grad(out, leaf, x, retain_graph=True)[0]

    with ThreadPoolExecutor(1) as pool:
        assert torch.equal(pool.submit(product).result(), product())


def test_more_width_and_precision_ask_for_more_memory() -> None:
    one = torch.zeros(1)
    assert pass_bytes(one, 64, 1) == 2 * pass_bytes(one, 32, 1)
    assert pass_bytes(one.double(), 32, 1) == 2 * pass_bytes(one, 32, 1)
    assert pass_bytes(one.to("meta"), 32, 1) < pass_bytes(one, 32, 1)
