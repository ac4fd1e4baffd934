"""The loss of a denoiser (Karras et al. 2022, equations 2 to 8), and its noise levels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor


def draw_sigma(
    noise: Tensor,
    generator: torch.Generator,
    low: float = 0.002,
    high: float = 160.0,
    uniform: float = 0.22,
) -> Tensor:
    """Draw a noise level for each patch, above that patch's own noise; shape (B,).

    A share ``uniform`` is uniform in ln sigma over [low, high], the rest ln sigma ~ N(-0.8, 1.4).
    The truncated distribution is drawn by trying again; what is still too low after eight tries
    is set to the patch's noise.
    """
    span = torch.tensor(high / low).log()
    sigma = torch.zeros_like(noise)
    for _ in range(8):
        count = noise.shape
        normal = (1.4 * torch.randn(count, generator=generator) - 0.8).exp()
        flat = low * (span * torch.rand(count, generator=generator)).exp()
        pick = torch.rand(count, generator=generator) < uniform
        drawn = torch.where(pick, flat, normal).clamp(low, high)
        sigma = torch.where(sigma > noise.clamp(min=low / 2), sigma, drawn)
    result: Tensor = torch.maximum(sigma, noise).clamp(low, high)
    return result


def denoising_loss(
    network: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    sigma: Tensor,
    unit: Tensor,
    sigma_data: float,
) -> Tensor:
    """Return the weighted squared error of each patch, shape (B,).

    ``x`` (B, 1, H, W) are clean patches, ``unit`` standard normal noise of that shape, and
    ``sigma_data`` is the standard deviation of the data that the network states.
    """
    level = sigma.view(-1, 1, 1, 1)
    error = network(x + level * unit, sigma) - x
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    loss: Tensor = weight * error.square().mean(dim=(1, 2, 3))
    return loss


def by_level(sigma: Tensor, loss: Tensor) -> dict[str, float]:
    """Return the mean loss, and that in bands of the noise level."""
    result = {"loss": float(loss.mean())}
    edges = (0.0, 0.03, 0.1, 0.3, 1.0, 5.0, 1e9)
    for low, high in pairwise(edges):
        band = loss[(sigma >= low) & (sigma < high)]
        if len(band):
            result[f"loss<{high:g}"] = round(float(band.mean()), 5)
    return result
