"""Random numbers: one stream per sample, so that a draw does not depend on its batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor


def _key(*parts: object) -> int:
    """Mix seed and indices into 63 bits; neighbouring seeds must not give related streams."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


COUNTED = 1e15
"""Rate above which counts are drawn as normal numbers: to their last digit they are."""


class Streams:
    """One random stream per sample.

    Parameters
    ----------
    seed : int
        Seed of the run.
    indices : sequence
        One hashable label per batch item, e.g. (frame, sample).
    device, dtype : torch device and dtype
        Where and as what the numbers are wanted.
    mirrored : sequence of bool, optional
        Items whose normal numbers come with the opposite sign. Two items of the same index, one
        of them mirrored, are an antithetic pair (Hammersley and Morton 1956): each is as good a
        draw as any, and in their mean all that is linear in the noise cancels.
    """

    def __init__(
        self,
        seed: int,
        indices: Sequence[object],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        mirrored: Sequence[bool] | None = None,
    ) -> None:
        self.seed = seed
        self.device = torch.device(device)
        self.dtype = dtype
        self.indices = list(indices)
        self._own = [self._generator(_key("sample", seed, index)) for index in indices]
        self._signs = [-1.0 if m else 1.0 for m in mirrored or [False] * len(self._own)]

    def _generator(self, key: int) -> torch.Generator:
        return torch.Generator(device=self.device).manual_seed(key)

    def take(self, keep: Sequence[int]) -> Streams:
        """Return the streams numbered ``keep``, which go on from where they are."""
        part = copy(self)
        part.indices = [self.indices[k] for k in keep]
        part._own = [self._own[k] for k in keep]
        part._signs = [self._signs[k] for k in keep]
        return part

    def branches(self, k: int, count: int) -> Streams:
        """Return ``count`` streams that belong to stream ``k`` and take nothing from it.

        Parameters
        ----------
        k : int
            Number of a stream.
        count : int
            How many; the first ones are the same whatever the number.
        """
        labels = [("branch", self.indices[k], b) for b in range(count)]
        return Streams(self.seed, labels, self.device, self.dtype)

    def __len__(self) -> int:
        return len(self._own)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Return standard normal numbers of shape (B, *shape), each sample from its stream."""
        drawn = [
            sign * torch.randn(tuple(shape), generator=g, device=self.device, dtype=self.dtype)
            for sign, g in zip(self._signs, self._own, strict=True)
        ]
        return torch.stack(drawn)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Return uniform numbers in [0, 1) of shape (B, *shape)."""
        drawn = [
            torch.rand(tuple(shape), generator=g, device=self.device, dtype=self.dtype)
            for g in self._own
        ]
        return torch.stack(drawn)

    def poisson(self, rate: Tensor) -> Tensor:
        """Return Poisson numbers of the given rates (B, ...)."""
        drawn = [
            torch.poisson(r.clamp_max(COUNTED), generator=g)
            for r, g in zip(rate, self._own, strict=True)
        ]
        counts = torch.stack(drawn)
        if bool((rate > COUNTED).any()):  # torch counts in integers, which end
            normal = rate + rate.sqrt() * self.normal(rate.shape[1:]).to(rate)
            counts = torch.where(rate > COUNTED, normal, counts)
        return counts
