"""Downsampling by whole factors: a weighted mean of fine pixels per coarse one (torch part)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_dps.core.operator import LinearOperator
from napari_dps.forward._convolution import MULTIPLE
from napari_dps.grid import Grid


def box(factor: int) -> tuple[int, np.ndarray]:
    """Return (first tap, weights) of the mean of a block, taps counted from its first pixel."""
    return 0, np.full(factor, 1 / factor)


def bicubic(factor: int) -> tuple[int, np.ndarray]:
    """Return (first tap, weights) of the antialiased cubic, taps counted from a block's first.

    Keys' kernel with a = -0.5 ("Cubic convolution interpolation for digital image processing",
    IEEE Trans. ASSP 29, 1981), widened by the factor and of sum one.
    """
    if factor == 1:
        return box(1)
    centre = (factor - 1) / 2
    taps = np.arange(-3 * factor, 4 * factor)
    u = np.abs(taps - centre) / factor
    near = 1.5 * u**3 - 2.5 * u**2 + 1
    far = -0.5 * u**3 + 2.5 * u**2 - 4 * u + 2
    weights = np.where(u <= 1, near, np.where(u < 2, far, 0))
    inside = np.flatnonzero(u < 2 - 1e-9)
    weights = weights[inside]
    return int(taps[inside[0]]), weights / weights.sum()


class Downsampling(LinearOperator):
    """z = the weighted mean of fine pixels about every coarse one, axis by axis.

    Parameters
    ----------
    grid : Grid
        The measurement's (coarse) grid.
    factors : tuple of int
        Fine pixels per coarse pixel, per axis of the grid.
    taps : list of (int, ndarray)
        Per axis the first tap and the weights; see :func:`box`.
    """

    def __init__(
        self, grid: Grid, factors: tuple[int, ...], taps: list[tuple[int, np.ndarray]]
    ) -> None:
        full, field = [], []
        for axis, (n, f, (first, weights)) in enumerate(
            zip(grid.shape, factors, taps, strict=True)
        ):
            before = -first
            after = max(0, first + len(weights) - f)
            size = before + n * f + after
            # The network sees planes: only their sides are padded for it.
            if (before or after) and axis >= len(grid.shape) - 2:
                size += -size % MULTIPLE
            full.append(size)
            field.append(slice(before, before + n * f))
        super().__init__((1, *full), (1, *grid.shape), tuple(field))
        self._factors = factors
        dtype = getattr(torch, grid.dtype)
        self._weights = [torch.as_tensor(w, dtype=dtype, device=grid.device) for _, w in taps]

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the coarse image."""
        for axis, (f, w) in enumerate(zip(self._factors, self._weights, strict=True)):
            if len(w) > 1:
                n = self.y_shape[1 + axis]
                part = x.narrow(2 + axis, 0, (n - 1) * f + len(w))
                x = part.unfold(2 + axis, len(w), f) @ w
        return x

    def axis_matrices(self) -> list[Tensor]:
        """Return the weights of every coarse pixel, axis by axis."""
        matrices = []
        for axis, (f, w) in enumerate(zip(self._factors, self._weights, strict=True)):
            matrix = w.new_zeros((self.y_shape[1 + axis], self.x_shape[1 + axis]))
            for k in range(len(matrix)):
                matrix[k, k * f : k * f + len(w)] = w
            matrices.append(matrix)
        return matrices

    def transpose(self, v: Tensor) -> Tensor:
        """Return A^T v."""
        for axis, (f, w) in enumerate(zip(self._factors, self._weights, strict=True)):
            if len(w) > 1:
                shape = list(v.shape)
                n, shape[2 + axis] = shape[2 + axis], self.x_shape[1 + axis]
                wide = v.new_zeros(shape)
                for k, weight in enumerate(w):
                    index: list[Any] = [slice(None)] * v.ndim
                    index[2 + axis] = slice(k, k + (n - 1) * f + 1, f)
                    wide[tuple(index)] += weight * v
                v = wide
        return v
