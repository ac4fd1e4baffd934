"""The far field's magnitude or intensity (torch part)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_dps.core.estimate import Estimate
from napari_dps.core.likelihood import Likelihood
from napari_dps.core.operator import Linear, Operator
from napari_dps.core.phasing import phase_by_projections
from napari_dps.core.streams import Streams
from napari_dps.grid import Grid


class FourierMagnitude(Operator):
    """z = |F(pad(x))|^2 or |F(pad(x))|, orthonormal FFT.

    Parameters
    ----------
    grid : Grid
        The measurement's grid.
    object_shape : tuple of int
        The object's grid.
    intensity : bool
        Squared magnitude.
    centred : bool
        Zero frequency in the centre.
    measured, support : ndarray of bool or None
        Beam stop and support.
    channels : int
        1: a real, non-negative object; 2: real and imaginary part.
    pixels : int or None
        Bright pixels of a real object, at most. They are what tells solutions apart, so there is
        no search for others that explain the data as well.
    """

    is_affine = False
    symmetric = True
    multimodal = True

    def __init__(
        self,
        grid: Grid,
        object_shape: tuple[int, ...],
        *,
        intensity: bool,
        centred: bool,
        measured: np.ndarray | None = None,
        support: np.ndarray | None = None,
        channels: int = 1,
        pixels: int | None = None,
    ) -> None:
        super().__init__((channels, *object_shape), (1, *grid.shape))
        self.intensity, self.centred, self.pixels = intensity, centred, pixels
        self.multimodal = pixels is None
        self._axes = tuple(range(-len(object_shape), 0))
        self._inside = tuple(
            slice((n - m) // 2, (n - m) // 2 + m)
            for n, m in zip(grid.shape, object_shape, strict=True)
        )

        def mask(values: np.ndarray | None) -> Tensor | None:
            return None if values is None else torch.as_tensor(values).to(grid.device)

        self.measured = mask(measured)
        self.support = mask(support)

    def far_field(self, x: Tensor) -> Tensor:
        """Return F(pad(x)), complex, in the measurement's layout."""
        if self.support is not None:
            x = torch.where(self.support, x, torch.zeros_like(x))
        if x.shape[1] == 2:
            x = torch.complex(x[:, :1], x[:, 1:])
        wide = x.new_zeros((*x.shape[:2], *self.y_shape[1:]))
        index: tuple[Any, ...] = (..., *self._inside)
        wide[index] = x
        field: Tensor = torch.fft.fftn(
            torch.fft.ifftshift(wide, self._axes), dim=self._axes, norm="ortho"
        )
        return torch.fft.fftshift(field, self._axes) if self.centred else field

    def back(self, field: Tensor) -> Tensor:
        """Return the adjoint of :meth:`far_field`: of a real object its real part."""
        if self.centred:
            field = torch.fft.ifftshift(field, self._axes)
        wide = torch.fft.fftshift(torch.fft.ifftn(field, dim=self._axes, norm="ortho"), self._axes)
        index: tuple[Any, ...] = (..., *self._inside)
        x = wide[index]
        x = torch.cat((x.real, x.imag), 1) if self.x_shape[0] == 2 else x.real
        return x if self.support is None else torch.where(self.support, x, torch.zeros_like(x))

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the expected measurement."""
        magnitude = self.far_field(x).abs()
        return magnitude**2 if self.intensity else magnitude

    def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
        """Return z and the exact products; see :meth:`Operator.linearize`."""
        field = self.far_field(x)
        magnitude = field.abs()
        if self.intensity:
            z, slope = magnitude**2, 2 * field
        else:
            tiny = torch.finfo(x.dtype).tiny
            z, slope = magnitude, field / magnitude.clamp_min(tiny)

        def jvp(v: Tensor) -> Tensor:
            return (slope.conj() * self.far_field(v)).real

        def vjp(w: Tensor) -> Tensor:
            return self.back(slope * w)

        return z, jvp, vjp

    def classical_estimate(
        self, y: Tensor, likelihood: Likelihood, valid: Tensor | None, streams: Streams
    ) -> Estimate:
        """Return the best of many restarts of alternating projections, by misfit."""
        magnitude = y.clamp_min(0).sqrt() if self.intensity else y.clamp_min(0)
        return phase_by_projections(
            self.far_field,
            self.back,
            magnitude,
            valid,
            streams,
            self.x_shape,
            positive=self.x_shape[0] == 1,
            pixels=self.pixels,
        )
