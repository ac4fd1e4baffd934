"""Frozen networks keep less of a pass: what a product with their Jacobian needs, and no more.

Automatic differentiation keeps the input of every convolution, which only the gradient of its
weight asks for, and of a normalisation and the activation after it what goes in and what comes out
of each. With frozen weights the input of the normalisation is enough: the rest follows from it, to
the last bit. Half of the memory is left, so that twice as many samples share a batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional


class FrozenConvolution(nn.Conv2d):
    """A convolution that keeps no image while its weights are frozen."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of ``x`` (B, C, H, W)."""
        if self.weight.requires_grad or not (torch.is_grad_enabled() and x.requires_grad):
            return super().forward(x)
        shape = x.shape
        if shape == self.weight.shape:  # which is which cannot be told
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
    """A group normalisation that tells the activation after it where its output came from."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised ``x`` (B, C, H, W)."""
        out = super().forward(x)
        if x.ndim == 4 and self.affine and not self.weight.requires_grad:
            out.normalised_by = self  # type: ignore[attr-defined]
        return out

    def again(self, node: Any) -> Tensor:
        """Return the output once more, from what its node in the graph has kept.

        Parameters
        ----------
        node : torch.autograd.graph.Node
            Of the output.
        """
        x: Tensor = node._saved_input
        size = x.shape[0], x.shape[1], x[0, 0].numel()
        out, _, _ = torch.native_group_norm(
            x, self.weight, self.bias, *size, self.num_groups, self.eps
        )
        return out


class FrozenActivation(nn.SiLU):
    """SiLU that keeps nothing of its own where a frozen normalisation comes right before it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return SiLU of ``x``; a normalised image that needs no gradient is overwritten."""
        norm = getattr(x, "normalised_by", None)
        if norm is None:
            return super().forward(x)
        if not x.requires_grad:
            return functional.silu(x, inplace=True)
        node = x.grad_fn
        if not hasattr(node, "_saved_result2"):  # normalised by other means, as when compiled
            return super().forward(x)
        with saved_tensors_hooks(lambda _: None, lambda _: norm.again(node)):
            return super().forward(x)


def freeze(unet: nn.Module) -> None:
    """Freeze a diffusers U-Net, and let it keep less of a pass.

    Its parameters stay where they are, under their names. Normalisations that something else than
    an activation follows, as in attention, are differentiated as ever.

    Parameters
    ----------
    unet : nn.Module
        A ``UNet2DModel``.
    """
    unet.requires_grad_(False)
    leaner = {
        nn.Conv2d: FrozenConvolution,
        nn.GroupNorm: FrozenNormalisation,
        nn.SiLU: FrozenActivation,
    }
    for module in unet.modules():
        kind = leaner.get(type(module))
        if kind is not None:
            module.__class__ = kind


def pass_bytes(parameter: Tensor, width: int, layers: int) -> float:
    """Return about how many bytes a pixel of a frozen U-Net takes in a pass and its products.

    Measured with the shipped prior's (a layer, width 32 at a quarter of the pixels): 1016 bytes a
    pixel of the image are in use at most. glibc's heap takes 2400 to 2700 for them, since holes
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
    channel = 336.0 if parameter.device.type == "cpu" else 160.0
    return channel * width * (1 + layers) / 2 * parameter.element_size() / 4
