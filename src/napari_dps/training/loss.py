"""The loss of a denoiser, and its gradient on small CPUs.

Loss and weighting: Karras et al. 2022, equations 2 to 8. On CPUs a batch is cut into pieces that
threads work off one by one, each with a copy of the network that shares the parameters: on two
cores that is faster than letting both cores share every convolution, and a busy machine slows
it only in proportion.
"""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch
from torch import Tensor

from ..priors._network import DenoiserNetwork


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


def denoising_loss(network: DenoiserNetwork, x: Tensor, sigma: Tensor, unit: Tensor) -> Tensor:
    """Return the weighted squared error of each patch, shape (B,).

    ``x`` (B, 1, H, W) are clean patches, ``unit`` standard normal noise of that shape.
    """
    level = sigma.view(-1, 1, 1, 1)
    error = network(x + level * unit, sigma) - x
    weight = (sigma**2 + network.sigma_data**2) / (sigma * network.sigma_data) ** 2
    loss: Tensor = weight * error.square().mean(dim=(1, 2, 3))
    return loss


class Gradients:
    """Loss gradients of a network over a batch, cut into pieces that threads work off."""

    def __init__(self, network: DenoiserNetwork, threads: int, piece: int) -> None:
        self.network, self.piece = network, piece
        self.replicas = [network]
        for _ in range(threads - 1):
            replica = copy.deepcopy(network)
            for mine, theirs in zip(replica.parameters(), network.parameters(), strict=True):
                mine.data = theirs.data  # shared: only the gradients are the replica's own
            self.replicas.append(replica)
        self.pool = ThreadPoolExecutor(threads)

    def __call__(self, x: Tensor, sigma: Tensor, unit: Tensor) -> Tensor:
        """Fill ``.grad`` of the network with the mean loss's gradient; return losses (B,)."""
        pieces = [slice(k, k + self.piece) for k in range(0, len(x), self.piece)]
        losses: list[Tensor] = [torch.empty(0)] * len(pieces)
        pending = iter(range(len(pieces)))
        for replica in self.replicas:
            replica.zero_grad(set_to_none=True)

        def work(replica: DenoiserNetwork) -> None:
            for index in pending:  # next() of a range iterator is atomic
                part = pieces[index]
                loss = denoising_loss(replica, x[part], sigma[part], unit[part])
                (loss.sum() / len(x)).backward()  # type: ignore[no-untyped-call]
                losses[index] = loss.detach()

        for done in [self.pool.submit(work, replica) for replica in self.replicas]:
            done.result()
        for replica in self.replicas[1:]:
            for mine, theirs in zip(self.network.parameters(), replica.parameters(), strict=True):
                if theirs.grad is not None:
                    mine.grad = theirs.grad if mine.grad is None else mine.grad.add_(theirs.grad)
        return torch.cat(losses)


def by_level(sigma: Tensor, loss: Tensor) -> dict[str, float]:
    """Return the mean loss, and that in bands of the noise level."""
    result = {"loss": float(loss.mean())}
    edges = (0.0, 0.03, 0.1, 0.3, 1.0, 5.0, 1e9)
    for low, high in pairwise(edges):
        band = loss[(sigma >= low) & (sigma < high)]
        if len(band):
            result[f"loss<{high:g}"] = round(float(band.mean()), 5)
    return result
