"""A prior of coarser pixels on an image of finer ones, without approximation.

Cosine transforms of the two grids, cut to the modes that both have, give a matrix A with
orthonormal rows: A x of a noisy image is a coarser noisy image whose noise is white too. What the
prior has no word about, detail finer than its pixels, is taken to be absent from the object. Then
x0 = r A^T u with u from the prior, A^T A x is all that x says about u, and

    E[x0 | x_sigma] = r A^T D(A x_sigma / r, sigma / r),    r^2 = pixels fine / pixels coarse,

exactly. The other way round there is no such formula: detail finer than the image's pixels would
have to be averaged over.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from napari_dps.core.prior import Prior, Vjp, WrappedPrior


def cosine_basis(size: int, modes: int) -> Tensor:
    """Return the first ``modes`` vectors of the orthonormal DCT-II, shape (modes, size)."""
    at = (torch.arange(size, dtype=torch.float64) + 0.5) * (math.pi / size)
    basis = torch.cos(torch.arange(modes, dtype=torch.float64)[:, None] * at)
    basis[0] *= math.sqrt(0.5)
    return basis * math.sqrt(2 / size)


def coarsening(fine: int, coarse: int) -> Tensor:
    """Return A, shape (coarse, fine): orthonormal rows, band-limited, even at the borders."""
    return cosine_basis(coarse, coarse).T @ cosine_basis(fine, coarse)


class ResampledPrior(WrappedPrior):
    """A prior seen through finer pixels than it was trained on; 2D.

    Parameters
    ----------
    prior : Prior
        Of the coarser pixels.
    factor : float
        Its pixel size over the image's, at least 1.
    pixel_size : float or None
        The image's pixel size in micrometres, which this prior states from now on.
    """

    def __init__(self, prior: Prior, factor: float, pixel_size: float | None = None) -> None:
        super().__init__(prior)
        if not factor >= 1:
            raise ValueError(f"factor = {factor}: a prior cannot be resampled to coarser pixels")
        self.factor = factor
        self.pixel_size, self.multiple = pixel_size, 1
        # An image's sides are rounded to whole coarse pixels, so that r is about the factor.
        self.sigma_min, self.sigma_max = prior.sigma_min * factor, prior.sigma_max * factor
        if prior.trained_side is not None:
            self.trained_side = round(prior.trained_side * factor)

    def _sides(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(1, round(n / self.factor)) for n in shape)

    def _grids(self, x: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return the matrices along Y and X, and r."""
        fine = tuple(x.shape[-2:])
        coarse = self._sides(fine)
        rows, columns = (coarsening(n, m).to(x) for n, m in zip(fine, coarse, strict=True))
        return rows, columns, math.sqrt(math.prod(fine) / math.prod(coarse))

    def power_spectrum(self, shape: tuple[int, ...]) -> Tensor | None:
        """Return the spectrum on the finer grid: nothing beyond the coarser one's modes."""
        coarse = self._sides(shape)
        spectrum = self.prior.power_spectrum(coarse)
        if spectrum is None:
            return None
        fine = torch.zeros(shape, dtype=spectrum.dtype, device=spectrum.device)
        index = []
        for n, m in zip(shape, coarse, strict=True):
            k = torch.fft.fftfreq(m, d=1 / m).round().long()
            index.append(k % n)
        gain = math.prod(shape) / math.prod(coarse)
        fine[torch.meshgrid(*index, indexing="ij")] = gain * spectrum
        return fine

    def bytes_per_pixel(self) -> float:
        """Return the prior's need, spread over the finer pixels."""
        return self.prior.bytes_per_pixel() / self.factor**2 + 32.0

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x0 | x_sigma]."""
        return self.moments(x, sigma)[0]

    def moments(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor | None]:
        """Return E[x0 | x_sigma] and the variance fraction, interpolated."""
        rows, columns, r = self._grids(x)
        x0, fraction = self.prior.moments(rows @ x @ columns.T / r, sigma / r)
        if fraction is not None:
            fraction = r * (rows.T @ fraction @ columns)
        return r * (rows.T @ x0 @ columns), fraction

    def linearize(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Vjp]:
        """Return E[x0 | x_sigma] and the exact product."""
        return self.linearize_moments(x, sigma)[:2]

    def linearize_moments(
        self, x: Tensor, sigma: Tensor | float
    ) -> tuple[Tensor, Vjp, Tensor | None]:
        """Return E[x0 | x_sigma], the exact product, and the variance fraction, interpolated."""
        rows, columns, r = self._grids(x)
        x0, inner, fraction = self.prior.linearize_moments(rows @ x @ columns.T / r, sigma / r)
        if fraction is not None:
            fraction = r * (rows.T @ fraction @ columns)

        def vjp(v: Tensor) -> Tensor:
            # r and 1/r cancel.
            return rows.T @ inner(rows @ v @ columns.T) @ columns

        return r * (rows.T @ x0 @ columns), vjp, fraction
