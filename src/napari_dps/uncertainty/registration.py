"""Registration of images that a measurement cannot tell apart: flips, shifts, a global phase."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["register"]

ENOUGH = 0.98
"""A shift by a part of a pixel interpolates; it must lower the squared difference to this share."""


def register(
    image: NDArray[np.floating], reference: NDArray[np.floating], *, phase_only: bool = False
) -> NDArray[np.floating]:
    """Return ``image``, turned by 180 degrees and shifted as fits ``reference`` best.

    Parameters
    ----------
    image, reference : ndarray, shape (Y, X), or (2, Y, X): real and imaginary part
        Two solutions of one phase problem. Shifts are periodic. Magnitudes of a far field do not
        see shifts by parts of a pixel either, so these are found too, by Fourier interpolation,
        where they make a difference. A complex image is conjugated when it is turned, and takes
        the global phase that fits best.
    phase_only : bool
        Whether nothing but the global phase is free.

    Returns
    -------
    ndarray, of the image's shape
    """
    if image.ndim == 2:
        return image if phase_only else _registered(image, reference)
    z, target = image[0] + 1j * image[1], reference[0] + 1j * reference[1]
    found = _phased(z, target) if phase_only else _registered(z, target)
    return np.stack((found.real, found.imag))


def _registered(image: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
    """Register one image, real or complex."""
    # Of real images the mean says nothing; of complex ones it turns with the phase.
    complex_valued = np.iscomplexobj(reference)
    spectrum = np.fft.fft2(_centred(reference))
    best: tuple[float, NDArray[Any]] | None = None
    for candidate in (image, image[::-1, ::-1].conj()):
        found = np.fft.ifft2(spectrum * np.fft.fft2(_centred(candidate)).conj())
        correlation = np.abs(found) if complex_valued else found.real
        peak = np.unravel_index(int(correlation.argmax()), correlation.shape)
        value = float(correlation[peak])
        if best is None or value > best[0] + 1e-9 * abs(best[0]):
            best = value, np.roll(candidate, peak, axis=(0, 1))
    assert best is not None
    whole = _phased(best[1], reference)
    finer = _phased(_finer(whole, spectrum), reference)
    gain = _difference(finer, reference) < ENOUGH * _difference(whole, reference)
    return finer if gain else whole


def _centred(image: NDArray[Any]) -> NDArray[Any]:
    return image if np.iscomplexobj(image) else image - image.mean()


def _phased(image: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
    """Return a complex image with the global phase of the reference; a real one as it is."""
    if not np.iscomplexobj(image):
        return image
    return np.asarray(image * np.exp(1j * np.angle(np.vdot(image, reference))))


def _difference(image: NDArray[Any], reference: NDArray[Any]) -> float:
    """Return the squared difference after the best gain; solutions differ by one too."""
    a, b = _centred(image), _centred(reference)
    gain = float(np.vdot(a, b).real) / max(float(np.vdot(a, a).real), 1e-300)
    return float((np.abs(gain * a - b) ** 2).sum())


def _finer(image: NDArray[Any], target: NDArray[np.complexfloating]) -> NDArray[Any]:
    """Shift by less than a pixel to where the correlation with ``target`` is largest."""
    from scipy.optimize import minimize

    spectrum = np.fft.fft2(image)
    product = target * spectrum.conj()
    ky, kx = (2 * np.pi * np.fft.fftfreq(n) for n in image.shape)
    scale = np.abs(product).sum() or 1.0

    def turned(shift: NDArray[np.float64]) -> NDArray[np.complexfloating]:
        return np.asarray(np.exp(1j * (ky[:, None] * shift[0] + kx[None, :] * shift[1])))

    def loss(shift: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        field = product * turned(shift) / scale
        slope = [float((field.imag * k).sum()) for k in (ky[:, None], kx[None, :])]
        return -float(field.real.sum()), np.array(slope)

    found = minimize(loss, np.zeros(2), jac=True, bounds=[(-0.75, 0.75)] * 2, method="L-BFGS-B")
    moved = np.fft.ifft2(spectrum * turned(-found.x))
    return np.asarray(moved if np.iscomplexobj(image) else moved.real)
