"""Finite differences of images and volumes, for total variation."""

from __future__ import annotations

import torch
from torch import Tensor


def gradient(x: Tensor) -> Tensor:
    """Return forward differences along each spatial axis, zero across the far border.

    Parameters
    ----------
    x : Tensor, shape (B, C, *spatial)

    Returns
    -------
    Tensor, shape (B, len(spatial), C, *spatial)
    """
    parts = []
    for dim in range(2, x.ndim):
        border = torch.zeros_like(x.narrow(dim, 0, 1))
        parts.append(torch.cat([x.diff(dim=dim), border], dim=dim))
    return torch.stack(parts, dim=1)


def divergence(p: Tensor) -> Tensor:
    """Return the divergence, minus the transpose of :func:`gradient`.

    Parameters
    ----------
    p : Tensor, shape (B, len(spatial), C, *spatial)
    """
    total = torch.zeros_like(p[:, 0])
    for axis in range(p.shape[1]):
        part, dim = p[:, axis], 2 + axis
        n = part.shape[dim]
        inner = part.narrow(dim, 0, n - 1)
        total.narrow(dim, 0, n - 1).add_(inner)
        total.narrow(dim, 1, n - 1).sub_(inner)
    return total


def length(p: Tensor) -> Tensor:
    """Return the length of each pixel's gradient over axes and channels, shape (B, 1, 1, ...).

    Channels (colours, real and imaginary part) share their edges.
    """
    size: Tensor = (p**2).sum(dim=(1, 2), keepdim=True).sqrt()
    return size


def total_variation(x: Tensor) -> Tensor:
    """Return the isotropic total variation of each image, shape (B,)."""
    return length(gradient(x)).flatten(1).sum(1)


def curvature(x: Tensor, smallest: float) -> Tensor:
    """Return div(grad x / |grad x|), minus the derivative of the total variation.

    Parameters
    ----------
    x : Tensor, shape (B, C, *spatial)
    smallest : float
        Gradients are rounded off below this share of the pixel's own value.
    """
    p = gradient(x)
    own = (x**2).sum(dim=1, keepdim=True).unsqueeze(1)
    size = (length(p) ** 2 + smallest**2 * own).sqrt().clamp_min(1e-30)
    return divergence(p / size)
