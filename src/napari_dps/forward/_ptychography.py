"""Far fields of an object under a probe that scans it (torch part)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_dps.core.estimate import Estimate
from napari_dps.core.likelihood import Likelihood
from napari_dps.core.operator import Linear, Operator
from napari_dps.core.projections import with_real_sum
from napari_dps.core.ptychography import Scan, epie, shifted
from napari_dps.core.streams import Streams
from napari_dps.grid import Grid

PASSES = 60


def make_scan(places: NDArray[np.float64], shape: tuple[int, int], side: Any, device: str) -> Scan:
    """Return the scan of positions (N, 2), the least of them zero, with room for their parts."""
    whole = np.rint(places).astype(np.int64)
    return Scan(
        torch.as_tensor(whole, device=device),
        torch.as_tensor(places - whole, device=device),
        shape,
        (int(side[0]), int(side[1])),
    )


class Ptychography(Operator):
    """z[n] = |F(probe_n object[patch_n])|^2 or its root, orthonormal FFT; a complex object.

    Parameters
    ----------
    grid : Grid
        Of shape (N, Y, X).
    scan : Scan
        Positions.
    probe : ndarray, complex, shape (Y, X)
        Illumination.
    intensity : bool
        Squared magnitude.
    centred : bool
        Zero frequency in the centre.
    measured : ndarray of bool, shape (Y, X), or None
        Pixels of the detector that count.
    """

    is_affine = False
    phase_free = True

    def __init__(
        self,
        grid: Grid,
        scan: Scan,
        probe: NDArray[np.complexfloating],
        *,
        intensity: bool,
        centred: bool,
        measured: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__((2, *scan.shape), (1, *grid.shape))
        self.intensity, self.centred, self.scan = intensity, centred, scan
        dtype = getattr(torch, grid.dtype)
        self.probe = torch.as_tensor(probe).to(grid.device, dtype.to_complex())
        self._light = shifted(self.probe, scan.ramps(self.probe.dtype))
        self._index = scan.index().flatten()
        if measured is not None:
            mask = torch.as_tensor(measured, device=grid.device)
            self.measured = mask.expand(self.y_shape)

    def _arranged(self, field: Tensor) -> Tensor:
        return torch.fft.fftshift(field, (-2, -1)) if self.centred else field

    def _corner(self, field: Tensor) -> Tensor:
        return torch.fft.ifftshift(field, (-2, -1)) if self.centred else field

    def _spectra(self, x: Tensor) -> Tensor:
        """Return the complex far fields (B, 1, N, Y, X), zero frequency in the corner."""
        image = torch.complex(x[:, 0], x[:, 1]).flatten(1)
        patches = image[:, self._index].reshape(-1, *self._light.shape)
        spectra: Tensor = torch.fft.fft2(self._light * patches, norm="ortho")[:, None]
        return spectra

    def _object(self, spectra: Tensor) -> Tensor:
        """Return the adjoint of :meth:`_spectra`."""
        waves = torch.fft.ifft2(spectra[:, 0], norm="ortho") * self._light.conj()
        parts = torch.stack((waves.real, waves.imag), 1).reshape(-1, len(self._index))
        image = parts.new_zeros((len(parts), self.scan.shape[0] * self.scan.shape[1]))
        image.index_add_(1, self._index, parts)
        return image.reshape(-1, *self.x_shape)

    def _recorded(self, spectra: Tensor) -> Tensor:
        # Of an intensity no root is taken, which costs as much as the transform.
        if self.intensity:
            return self._arranged(spectra.real**2 + spectra.imag**2)
        return self._arranged(spectra.abs())

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the expected patterns."""
        return self._recorded(self._spectra(x))

    def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
        """Return z and the exact products; see :meth:`Operator.linearize`."""
        spectra = self._spectra(x)
        z = self._recorded(spectra)
        if self.intensity:
            slope, factor = spectra, 2.0
        else:
            slope = spectra / spectra.abs().clamp_min(torch.finfo(x.dtype).tiny)
            factor = 1.0

        def jvp(v: Tensor) -> Tensor:
            change = self._spectra(v)
            return self._arranged(factor * (slope.real * change.real + slope.imag * change.imag))

        def vjp(w: Tensor) -> Tensor:
            # Real arrays are moved and scaled, not complex ones.
            return self._object(slope * (factor * self._corner(w)))

        return z, jvp, vjp

    def magnitudes(self, y: Tensor) -> Tensor:
        """Return measured magnitudes (N, Y, X) of one measurement, zero frequency in the corner."""
        positive = y.clamp_min(0).reshape(self.y_shape[1:])
        return self._corner(positive.sqrt() if self.intensity else positive)

    def seen(self) -> Tensor:
        """Return which pixels of the object the probe lit, (Y, X): a thousandth of the most."""
        light = self._light.abs().pow(2).flatten()
        total = light.new_zeros(self.scan.shape[0] * self.scan.shape[1])
        total.index_add_(0, self._index, light)
        return (total > 1e-3 * total.amax()).reshape(self.scan.shape)

    def classical_estimate(
        self, y: Tensor, likelihood: Likelihood, valid: Tensor | None, streams: Streams
    ) -> Estimate:
        """Return ePIE's object, the probe fixed, with the global phase that makes its sum real."""
        images, misfits = [], []
        counts = self.measured if valid is None else valid
        seen = self.seen()
        for f in range(len(y)):
            known = None
            if counts is not None:
                one = (
                    counts if counts.ndim == len(self.y_shape) else counts[min(f, len(counts) - 1)]
                )
                known = self._corner(one.expand(self.y_shape).reshape(self.y_shape[1:]))
            image, _, misfit = epie(self.magnitudes(y[f]), known, self.scan, self.probe, PASSES)
            level = image[seen].mean()  # where no light fell nothing is known
            image = torch.where(seen, image, level)
            images.append(torch.stack((image.real, image.imag)))
            misfits.append(float(misfit))
        found = with_real_sum(torch.stack(images))
        size = found.pow(2).sum(1).flatten(1).mean(1).sqrt()
        return Estimate(
            found, 0.15 * size, 0.02 * size, {"restart_misfits": [[m] for m in misfits]}
        )
