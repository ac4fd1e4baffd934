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

        def mask(values: np.ndarray | None) -> Tensor | None:
            return None if values is None else torch.as_tensor(values).to(grid.device)

        self.measured = mask(measured)
        self.support = mask(support)

    def far_field(self, x: Tensor) -> Tensor:
        """Return F(pad(x)), complex, in the measurement's layout."""
        return self._to_layout(self._spectrum(x))

    def back(self, field: Tensor) -> Tensor:
        """Return the adjoint of :meth:`far_field`: of a real object its real part."""
        return self._object(self._from_layout(field))

    def magnitude(self, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return magnitudes and where they are known; see :class:`FarFieldOperator`.

        Of a real object a frequency and its opposite have one magnitude: they are averaged, and
        what one lacks the other tells.
        """
        known = valid
        if self.measured is not None:
            known = self.measured if valid is None else valid & self.measured
        known = None if known is None else known.expand_as(y)
        if self.x_shape[0] == 1:
            y, known = self._averaged(y, known)
        y = y.clamp_min(0)
        return (y.sqrt() if self.intensity else y), known

    def _averaged(self, y: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the mean of every frequency and its opposite, over known ones."""

        def opposite(values: Tensor) -> Tensor:
            turned = self._from_layout(values).flip(self._axes)
            return self._to_layout(turned.roll([1] * len(self._axes), self._axes))

        if known is None:
            return (y + opposite(y)) / 2, None
        y = torch.where(known, y, torch.zeros_like(y))
        count = known.to(y) + opposite(known.to(y))
        return (y + opposite(y)) / count.clamp_min(1), count > 0

    def low_pass(self, width: float, like: Tensor) -> Tensor:
        """Return exp(-(k/width)^2 / 2) on the far field; see :class:`FarFieldOperator`."""
        square = like.new_zeros(self.y_shape[1:])
        for axis in self._axes:
            k = torch.fft.fftfreq(square.shape[axis], dtype=like.dtype, device=like.device)
            square = square + k.reshape(-1, *[1] * (-1 - axis)) ** 2
        return self._to_layout((-0.5 * square / width**2).exp())

    def _spectrum(self, x: Tensor) -> Tensor:
        """Return F(pad(x)), zero frequency in the corner.

        The object lies in the corner of the padded field. Where it lies only turns phases, which
        no magnitude shows, and so it need not be moved.
        """
        if self.support is not None:
            x = torch.where(self.support, x, torch.zeros_like(x))
        if x.shape[1] == 2:
            x = torch.complex(x[:, :1], x[:, 1:])
        field: Tensor = torch.fft.fftn(x, s=self.y_shape[1:], dim=self._axes, norm="ortho")
        return field

    def _object(self, spectrum: Tensor) -> Tensor:
        """Return the adjoint of :meth:`_spectrum`."""
        wide = torch.fft.ifftn(spectrum, dim=self._axes, norm="ortho")
        index: tuple[Any, ...] = (..., *(slice(0, n) for n in self.x_shape[1:]))
        x = wide[index]
        x = torch.cat((x.real, x.imag), 1) if self.x_shape[0] == 2 else x.real
        return x if self.support is None else torch.where(self.support, x, torch.zeros_like(x))

    def _to_layout(self, values: Tensor) -> Tensor:
        return torch.fft.fftshift(values, self._axes) if self.centred else values

    def _from_layout(self, values: Tensor) -> Tensor:
        return torch.fft.ifftshift(values, self._axes) if self.centred else values

    def _recorded(self, spectrum: Tensor) -> Tensor:
        # Of an intensity no root is taken, which costs more than the transform.
        if self.intensity:
            return self._to_layout(spectrum.real**2 + spectrum.imag**2)
        return self._to_layout(spectrum.abs())

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the expected measurement."""
        return self._recorded(self._spectrum(x))

    def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
        """Return z and the exact products; see :meth:`Operator.linearize`."""
        spectrum = self._spectrum(x)
        z = self._recorded(spectrum)
        if self.intensity:
            slope, factor = spectrum, 2.0
        else:
            tiny = torch.finfo(x.dtype).tiny
            slope, factor = spectrum / spectrum.abs().clamp_min(tiny), 1.0

        def jvp(v: Tensor) -> Tensor:
            change = self._spectrum(v)
            return self._to_layout(factor * (slope.real * change.real + slope.imag * change.imag))

        def vjp(w: Tensor) -> Tensor:
            # Real arrays are moved and scaled, not complex ones.
            return self._object(slope * (factor * self._from_layout(w)))

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
