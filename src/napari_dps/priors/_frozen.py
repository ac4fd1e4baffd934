"""Frozen networks keep less of a pass: what a product with their Jacobian needs, and no more.

Automatic differentiation keeps the input of every convolution, which only the gradient of its
weight asks for. Where the weights are frozen that is a third of all that is kept, and what comes
out is the same to the last bit. (Normalised images could be made again too, for another quarter;
that costs every product a twentieth of its time.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

SMALLEST = 2**16
"""Values of an image below which its memory is not worth the few microseconds of dropping it."""


class FrozenConvolution(nn.Conv2d):
    """A convolution that keeps no image while its weights are frozen."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of ``x`` (B, C, H, W)."""
        frozen = x.requires_grad and torch.is_grad_enabled() and not self.weight.requires_grad
        shape = x.shape
        # Of equal shapes it cannot be told which is the image.
        if not frozen or shape.numel() < SMALLEST or shape == self.weight.shape:
            return super().forward(x)

        def pack(saved: Tensor) -> Any:
            return saved if saved.shape != shape else (saved.stride(), saved.dtype, saved.device)

        def unpack(kept: Any) -> Tensor:
            if isinstance(kept, Tensor):
                return kept
            # The gradient with respect to the image asks for its shape and layout alone.
            stride, dtype, device = kept
            return torch.empty_strided(shape, stride, dtype=dtype, device=device)

        with saved_tensors_hooks(pack, unpack):
            return super().forward(x)


class FrozenNormalisation(nn.GroupNorm):
    """A group normalisation that marks its output as nobody else's where no gradient is asked."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised ``x`` (B, C, H, W)."""
        out = super().forward(x)
        if not out.requires_grad:
            out.nobody_elses = True  # type: ignore[attr-defined]
        return out


class FrozenActivation(nn.SiLU):
    """SiLU in place, where its input was normalised right before and no gradient is asked."""

    def forward(self, x: Tensor) -> Tensor:
        """Return SiLU of ``x``."""
        if getattr(x, "nobody_elses", False):
            return functional.silu(x, inplace=True)
        return super().forward(x)


def freeze(network: nn.Module) -> None:
    """Freeze a network, and let it keep less of a pass.

    Its parameters stay where they are, under their names.

    Parameters
    ----------
    network : nn.Module
        A ``UNet2DModel``, or what holds one. Where an activation follows a normalisation, nothing
        else may read what that returned.
    """
    network.requires_grad_(False)
    leaner = {
        nn.Conv2d: FrozenConvolution,
        nn.GroupNorm: FrozenNormalisation,
        nn.SiLU: FrozenActivation,
    }
    for module in network.modules():
        kind = leaner.get(type(module))
        if kind is not None:
            module.__class__ = kind


def pass_bytes(parameter: Tensor, width: int, layers: int) -> float:
    """Return about how many bytes a pixel of a frozen U-Net takes in a pass and its products.

    Measured with the shipped prior's (a layer, width 32 at a quarter of the pixels): 1449 bytes a
    pixel of the image are in use at most. glibc's heap takes 2200 to 2700 for them, since holes
    between what stays are hard to fill; on other devices a quarter more is allowed for.

    Parameters
    ----------
    parameter : Tensor
        A weight: its device and precision.
    width : int
        Channels at the finest level.
    layers : int
        Residual blocks a level.
    """
    channel = 336.0 if parameter.device.type == "cpu" else 226.0
    return channel * width * (1 + layers) / 2 * parameter.element_size() / 4
