"""Convolution by real FFT on a grid padded by the PSF's reach (torch part)."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from napari_dps.core.linalg import filtered
from napari_dps.core.operator import Linear, LinearOperator
from napari_dps.core.svd import Periodic, Spectral
from napari_dps.grid import Grid

MULTIPLE = 8
"""Padded sides are multiples of this, so that the network need not pad again."""


class Convolution(LinearOperator):
    """z = crop(psf * x): light from outside the field comes in, nothing wraps around.

    Parameters
    ----------
    psf : ndarray, shape (*spatial), odd sides
        Point spread function, centred, of sum one.
    grid : Grid
        The measurement's grid.
    boundary : {"extend", "periodic"}
        Whether the object continues beyond the field or repeats itself.
    """

    def __init__(self, psf: np.ndarray, grid: Grid, boundary: str = "extend") -> None:
        shape = grid.shape
        if boundary == "periodic":
            full, field = shape, None
        else:
            full, field = padded(shape, psf.shape)
        super().__init__((1, *full), (1, *shape), field)
        kernel = wrap_kernel(psf, full)
        self._psf = psf
        self._axes = tuple(range(-len(full), 0))
        self._full = full
        dtype = getattr(torch, grid.dtype)
        # In double precision first: the transfer function's error is every result's error.
        transfer = torch.fft.rfftn(torch.from_numpy(kernel), dim=self._axes)
        self.transfer = transfer.to(dtype.to_complex()).to(grid.device)
        # Kept: torch would make a conjugated copy at every product.
        self._conjugate = self.transfer.conj().resolve_conj()

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the blurred field."""
        return self.crop(self._filter(x, self.transfer))

    def transpose(self, v: Tensor) -> Tensor:
        """Return A^T v."""
        return self._filter(self._widened(v), self._conjugate)

    def normal(self, transfer: Tensor | float) -> Linear:
        """Return A F^-1 T F A^T with one pair of transforms in place of three."""
        gain = transfer * (self.transfer.real**2 + self.transfer.imag**2) / math.prod(self._full)
        wide: Tensor | None = None

        def product(v: Tensor) -> Tensor:
            nonlocal wide
            wide = self._widened(v, wide)  # what is around the data stays zero
            return self.crop(filtered(wide, gain, self._axes, norm="forward"))

        return product

    def normal_inverse(self, transfer: Tensor | float, variance: float) -> Linear | None:
        """Return the inverse mode by mode of a periodic blur."""
        if self.x_shape != self.y_shape:
            return None
        gain = transfer * (self.transfer.real**2 + self.transfer.imag**2)
        return lambda v: filtered(v, 1 / (gain + variance), self._axes)

    def _widened(self, v: Tensor, wide: Tensor | None = None) -> Tensor:
        """Return data on the object's grid, nothing around them; in ``wide`` if it has room."""
        if self.x_shape == self.y_shape:
            return v
        if wide is None or wide.shape[:2] != v.shape[:2]:
            wide = v.new_zeros((*v.shape[:2], *self._full))
        index: tuple[Any, ...] = (..., *self.field)
        wide[index] = v
        return wide

    def axis_matrices(self) -> list[Tensor] | None:
        """Return the blur along every axis where the PSF is separable."""
        found = lines(self._psf)
        if found is None:
            return None
        matrices = []
        for axis, (line, n) in enumerate(zip(found, self._full, strict=True)):
            wrapped = wrap_kernel(line, (n,))
            rows = np.arange(n)[self.field[axis]]
            matrix = wrapped[(rows[:, None] - np.arange(n)) % n]
            part = torch.as_tensor(matrix, dtype=self.transfer.real.dtype)
            matrices.append(part.to(self.transfer.device))
        return matrices

    def spectral(self) -> Spectral | None:
        """Return the decomposition: Fourier modes, or a product of the axes' own."""
        if self.x_shape == self.y_shape:
            return Periodic(self.transfer, self._full)
        return super().spectral() or Periodic(self.transfer, self._full, self.field)

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        return filtered(x, transfer, self._axes)


def padded(
    shape: tuple[int, ...], psf_shape: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """Return the object's grid and the field in it: the PSF's reach on every side."""
    full, field = [], []
    for axis, (n, k) in enumerate(zip(shape, psf_shape, strict=True)):
        # The network sees planes: only their sides are padded for it.
        multiple = MULTIPLE if axis >= len(shape) - 2 else 1
        reach = k // 2
        size = n + 2 * reach
        while size % multiple or scipy.fft.next_fast_len(size, real=True) != size:
            size += 1
        before = (size - n) // 2
        full.append(size)
        field.append(slice(before, before + n))
    return tuple(full), tuple(field)


def lines(psf: np.ndarray) -> list[np.ndarray] | None:
    """Return one line per axis where a PSF of sum one is their product, else None."""
    axes = range(psf.ndim)
    found = [psf.sum(tuple(a for a in axes if a != axis)) for axis in axes]
    product = reduce(np.multiply.outer, found)
    return found if np.abs(product - psf).max() <= 1e-6 * np.abs(psf).max() else None


def wrap_kernel(psf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the kernel on the periodic grid, its centre at the origin.

    A kernel larger than the grid is wrapped onto it, as a periodic convolution demands.
    """
    out = np.zeros(shape, dtype=np.float64)
    index = np.meshgrid(
        *[(np.arange(k) - k // 2) % n for k, n in zip(psf.shape, shape, strict=True)],
        indexing="ij",
    )
    np.add.at(out, tuple(index), psf)
    return out
