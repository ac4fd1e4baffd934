"""Undersampled k-space, and its Wiener estimate (torch part)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_dps.core.covariance import power_law_spectrum
from napari_dps.core.estimate import Estimate
from napari_dps.core.gaussian_field import EXPONENT, LENGTH
from napari_dps.core.likelihood import Likelihood
from napari_dps.core.linalg import column, smooth
from napari_dps.core.operator import LinearOperator
from napari_dps.core.streams import Streams
from napari_dps.core.svd import Sampled, Spectral, opposite
from napari_dps.grid import Grid

STRENGTHS = tuple(4.0**k for k in range(-3, 4))


class SampledFourier(LinearOperator):
    """z = mask * F(x), orthonormal, as real and imaginary part along an axis of length 2.

    Parameters
    ----------
    grid : Grid
        Of shape (2, Y, X).
    mask : ndarray of bool, shape (Y, X)
        Where k-space was sampled, in the measurement's layout.
    channels : int
        1: a real object; 2: real and imaginary part.
    centred : bool
        Zero frequency in the centre.
    """

    def __init__(
        self, grid: Grid, mask: NDArray[np.bool_], *, channels: int, centred: bool
    ) -> None:
        plane = grid.shape[-2:]
        super().__init__((channels, *plane), (2, *plane))
        self.centred, self._dtype = centred, getattr(torch, grid.dtype)
        self.sampled = torch.as_tensor(mask, device=grid.device)
        self.measured = self.sampled.expand(2, *plane)

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the sampled part of k-space."""
        image = torch.complex(x[:, 0], x[:, 1] if x.shape[1] == 2 else torch.zeros_like(x[:, 0]))
        field = torch.fft.fft2(image, norm="ortho")
        field = torch.fft.fftshift(field, (-2, -1)) if self.centred else field
        z = torch.stack((field.real, field.imag), 1)
        return torch.where(self.sampled, z, torch.zeros_like(z))

    def _corner(self, v: Tensor) -> Tensor:
        """Return the sampled data as complex numbers, zero frequency in the corner."""
        field = torch.where(self.sampled, torch.complex(v[:, 0], v[:, 1]), 0)
        return torch.fft.ifftshift(field, (-2, -1)) if self.centred else field

    def _parts(self, image: Tensor) -> Tensor:
        """Return the object's channels of a complex image."""
        parts = (image.real, image.imag) if self.x_shape[0] == 2 else (image.real,)
        return torch.stack(parts, 1)

    def transpose(self, v: Tensor) -> Tensor:
        """Return A^T v: the zero-filled image, of a real object its real part."""
        return self._parts(torch.fft.ifft2(self._corner(v), norm="ortho"))

    def spectral(self) -> Spectral:
        """Return the decomposition: Fourier modes, sampled or not."""
        sampled = torch.fft.ifftshift(self.sampled) if self.centred else self.sampled
        return Sampled(sampled, channels=self.x_shape[0], centred=self.centred, dtype=self._dtype)

    def classical_estimate(
        self, y: Tensor, likelihood: Likelihood, valid: Tensor | None, streams: Streams
    ) -> Estimate:
        """Return the Wiener estimate of a field with a power-law spectrum, in closed form.

        Every frequency is on its own. Of a real object, a frequency and its opposite are one,
        so that one of the two suffices, and both halve the noise. The strength of the field is
        the likeliest (type-II maximum likelihood).
        """
        seen = self.sampled.expand(len(y), *self.sampled.shape)
        if valid is not None:  # a frequency counts where both of its parts do
            seen = seen & valid.expand_as(y).all(1)
        weight = seen.to(y)
        data = self._corner(y * weight[:, None])
        weight = torch.fft.ifftshift(weight, (-2, -1)) if self.centred else weight
        # Per complex datum: twice a part's variance. A real object's field has all its own power.
        noise = 2 * likelihood.variance(y).flatten(1).mean(1)
        if self.x_shape[0] == 1:
            data = data + opposite(data).conj()
            weight = weight + opposite(weight)
        mean = data / weight.clamp_min(1)
        variance = column(noise, weight) / weight.clamp_min(1)
        known = (weight > 0).to(y)
        plane = self.x_shape[1:]
        spectrum = power_law_spectrum(plane, 1.0, LENGTH, EXPONENT).to(y).clone()
        spectrum[0, 0] = spectrum[0, 0] * 1e6  # the mean level is free
        power = mean.abs() ** 2
        shown = (known * (power - variance)).clamp_min(0)
        shown[:, 0, 0] = 0
        total = (known * spectrum).flatten(1).sum(1) - known[:, 0, 0] * spectrum[0, 0]
        level = shown.flatten(1).sum(1) / total.clamp_min(torch.finfo(y.dtype).tiny)
        level = torch.maximum(level, 1e-3 * noise)
        worth = []
        for factor in STRENGTHS:
            model = column(factor * level, power) * spectrum + variance
            worth.append(-(known * (power / model + model.log())).flatten(1).sum(1))
        best = level * torch.tensor(STRENGTHS).to(y)[torch.stack(worth).argmax(0)]
        prior = column(best, power) * spectrum
        gain = known * prior / (prior + variance)
        image = self._parts(torch.fft.ifft2(gain * mean, norm="ortho"))
        # A draw of what is left unknown tells how far the estimate may be off.
        left = prior * (1 - gain)
        left[:, 0, 0] = torch.where(known[:, 0, 0] > 0, left[:, 0, 0], torch.zeros_like(best))
        white = streams.normal((2, *plane)).to(y)
        if self.x_shape[0] == 1:
            draw = torch.fft.fft2(white[:, 0], norm="ortho")
        else:
            draw = torch.complex(white[:, 0], white[:, 1]) / 2**0.5
        error = self._parts(torch.fft.ifft2(left.sqrt() * draw, norm="ortho"))
        local = smooth(error**2, 9).sqrt().flatten(1)
        floor = 0.5 * (noise / 2).sqrt()
        return Estimate(
            image,
            torch.maximum(local.amax(1), floor),
            torch.maximum(local.median(1).values, floor),
            {"field_variance": best.tolist()},
        )
