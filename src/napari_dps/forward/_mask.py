"""Pixels that were measured, and pixels that were not (torch part)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_dps.core.linalg import filtered
from napari_dps.core.operator import Linear, LinearOperator
from napari_dps.core.svd import Pixelwise, Spectral
from napari_dps.grid import Grid


class Mask(LinearOperator):
    """z = mask * x; without a mask, z = x."""

    def __init__(self, mask: np.ndarray | None, grid: Grid) -> None:
        super().__init__((1, *grid.shape), (1, *grid.shape))
        self.measured: Tensor | None = None
        self._ones = torch.ones((), dtype=getattr(torch, grid.dtype), device=grid.device)
        if mask is not None:
            self.measured = torch.as_tensor(mask).to(grid.device)
            # Several times faster than a choice by a mask of bool.
            self._weight = self.measured.to(getattr(torch, grid.dtype))

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the measured pixels, zero elsewhere."""
        return x if self.measured is None else x * self._weight

    def transpose(self, v: Tensor) -> Tensor:
        """Return A^T v."""
        return self(v)

    def normal_inverse(self, transfer: Tensor | float, variance: float) -> Linear | None:
        """Return the inverse mode by mode where nothing is missing."""
        if self.measured is not None:
            return None
        axes = tuple(range(-len(self.x_shape) + 1, 0))
        gain = 1 / (transfer + variance)
        if not isinstance(gain, Tensor) or max(gain.shape[axes[0] :]) == 1:  # a number a frame
            return lambda v: gain * v
        return lambda v: filtered(v, gain, axes)

    def axis_matrices(self) -> list[Tensor] | None:
        """Return the identity where nothing is missing."""
        if self.measured is not None:
            return None
        return [
            torch.eye(n, dtype=self._ones.dtype, device=self._ones.device) for n in self.x_shape[1:]
        ]

    def spectral(self) -> Spectral:
        """Return the mask as its own singular values."""
        return Pixelwise(self._ones if self.measured is None else self._weight)
