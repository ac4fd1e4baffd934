"""The stationary Gaussian prior in closed form (torch part)."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_dps.core.prior import Prior, Vjp, per_sample
from napari_dps.errors import PriorError


class GaussianPrior(Prior):
    """x0 ~ N(mean, F^-1 S F): E[x0 | x_sigma] = m + F^-1[S / (S + sigma^2) F (x_sigma - m)].

    Parameters
    ----------
    mean : float
        Mean of every pixel.
    spectrum : Tensor, shape (*spatial)
        Variance S per mode of the orthonormal DFT, fftfreq order.
    """

    spectrum: Tensor

    whole = True

    def __init__(self, mean: float, spectrum: Tensor) -> None:
        super().__init__()
        self.mean = float(mean)
        self.register_buffer("spectrum", spectrum)
        self.data_std = float(spectrum.mean().sqrt())

    def power_spectrum(self, shape: tuple[int, ...]) -> Tensor | None:
        """Return S where it is stated for this grid."""
        return self.spectrum if tuple(shape) == tuple(self.spectrum.shape) else None

    def _filter(self, v: Tensor, sigma: Tensor | float) -> Tensor:
        spectrum = self.spectrum.to(v)
        axes = tuple(range(2, v.ndim))
        level = per_sample(sigma, v) if isinstance(sigma, Tensor) else sigma
        transfer = spectrum / (spectrum + level**2)
        filtered: Tensor = torch.fft.ifftn(torch.fft.fftn(v, dim=axes) * transfer, dim=axes).real
        return filtered

    def _check(self, x: Tensor) -> None:
        if tuple(x.shape[2:]) != tuple(self.spectrum.shape):
            raise PriorError(
                f"the gaussian prior was made for a grid of {tuple(self.spectrum.shape)} pixels, "
                f"but the object has {tuple(x.shape[2:])}: give a spectrum of that shape"
            )

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the exact posterior mean."""
        self._check(x)
        return self.mean + self._filter(x - self.mean, sigma)

    def linearize(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Vjp]:
        """Return the posterior mean and its (symmetric) Jacobian."""
        return self(x, sigma), lambda v: self._filter(v, sigma)
