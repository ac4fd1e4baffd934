"""Covariances of x0 given x_sigma: a scalar, or a crude one from the prior's power spectrum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from napari_dps.core.linalg import filtered
from napari_dps.core.prior import Prior


def power_law_spectrum(
    shape: tuple[int, ...], std: float, length: float, exponent: float
) -> Tensor:
    """Return the variance per Fourier mode, proportional to (1 + (2 pi L |k|)^2)^(-p).

    Parameters
    ----------
    shape : tuple of int
        The periodic grid; modes in fftfreq order of the orthonormal DFT.
    std : float
        Standard deviation of a pixel; the mean over modes is its square.
    length : float
        Correlation length L in pixels.
    exponent : float
        p.

    Returns
    -------
    Tensor, shape ``shape``, float64
    """
    k2 = torch.zeros(shape, dtype=torch.float64)
    for axis, n in enumerate(shape):
        k = torch.fft.fftfreq(n, dtype=torch.float64)
        k2 = k2 + (k**2).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    spectrum = (1 + (2 * math.pi * length) ** 2 * k2) ** (-exponent)
    return spectrum * (std**2 / spectrum.mean())


class Covariance:
    """A symmetric positive covariance C of images, stationary.

    Attributes
    ----------
    transfer : Tensor or float
        The variance per mode of a real FFT over all axes of the grid.
    """

    transfer: Tensor | float

    @property
    def variance(self) -> Tensor | float:
        """About the variance of a pixel: the mean over modes."""
        return self.transfer.mean() if isinstance(self.transfer, Tensor) else self.transfer

    def __call__(self, v: Tensor) -> Tensor:
        """Return C v."""
        raise NotImplementedError

    def root(self, v: Tensor) -> Tensor:
        """Return C^(1/2) v; applied to standard normal numbers it draws from N(0, C)."""
        raise NotImplementedError

    def whiten(self, v: Tensor) -> Tensor:
        """Return C^(-1/2) v."""
        raise NotImplementedError


class ScalarCovariance(Covariance):
    """C = rho^2 I.

    Parameters
    ----------
    deviation : float
        rho.
    """

    def __init__(self, deviation: float) -> None:
        self.deviation = deviation
        self.transfer = deviation**2

    def __call__(self, v: Tensor) -> Tensor:
        """Return C v."""
        return self.deviation**2 * v

    def root(self, v: Tensor) -> Tensor:
        """Return C^(1/2) v."""
        return self.deviation * v

    def whiten(self, v: Tensor) -> Tensor:
        """Return C^(-1/2) v."""
        return v / self.deviation


class StationaryCovariance(Covariance):
    """C = F^-1 [S sigma^2 / (S + sigma^2)] F, or a scalar where the prior states no spectrum.

    Exact for a stationary Gaussian prior; for a learned one it has the right size on average,
    scale by scale, which a scalar has not.

    Parameters
    ----------
    prior : Prior
        States the spectrum.
    x : Tensor, shape (B, C, *spatial)
        Real images of the size, precision and device in question.
    sigma : float
        The noise level.
    extra : float
        Variance added to every mode.
    """

    def __init__(self, prior: Prior, x: Tensor, sigma: float, extra: float = 0.0) -> None:
        spectrum = prior.half_spectrum(x)
        if spectrum is None:
            tau2 = prior.data_std**2
            self.transfer = tau2 * sigma**2 / (tau2 + sigma**2) + extra
        else:
            self.transfer = spectrum * sigma**2 / (spectrum + sigma**2) + extra
        self._axes = tuple(range(2, x.ndim))
        self._prior, self._sigma, self._extra = prior, sigma, extra
        self._shape = tuple(x.shape[2:])

    @property
    def largest(self) -> float:
        """The largest variance of a mode, without a look at the device."""
        power = self._prior.largest_power(self._shape)
        return power * self._sigma**2 / (power + self._sigma**2) + self._extra

    def _filter(self, v: Tensor, transfer: Tensor | float) -> Tensor:
        if not isinstance(transfer, Tensor):
            return transfer * v
        return filtered(v, transfer, self._axes)

    def __call__(self, v: Tensor) -> Tensor:
        """Return C v."""
        return self._filter(v, self.transfer)

    def root(self, v: Tensor) -> Tensor:
        """Return C^(1/2) v; applied to standard normal numbers it draws from N(0, C)."""
        root = self.transfer.sqrt() if isinstance(self.transfer, Tensor) else self.transfer**0.5
        return self._filter(v, root)

    def whiten(self, v: Tensor) -> Tensor:
        """Return C^(-1/2) v; modes without variance become zero."""
        if isinstance(self.transfer, Tensor):
            tiny = torch.finfo(self.transfer.dtype).tiny
            return self._filter(v, self.transfer.clamp_min(tiny).rsqrt() * (self.transfer > tiny))
        return self._filter(v, self.transfer**-0.5)
