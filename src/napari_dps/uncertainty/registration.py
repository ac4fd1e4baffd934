"""Registration of images that a measurement cannot tell apart: flips and shifts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["register"]

ENOUGH = 0.98
"""A shift by a part of a pixel interpolates; it must lower the squared difference to this share."""


def register(image: NDArray[np.floating], reference: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return ``image``, turned by 180 degrees and shifted as fits ``reference`` best.

    Parameters
    ----------
    image, reference : ndarray, shape (Y, X)
        Two solutions of one phase problem. Shifts are periodic. Magnitudes of a far field do not
        see shifts by parts of a pixel either, so these are found too, by Fourier interpolation,
        where they make a difference.

    Returns
    -------
    ndarray, shape (Y, X)
    """
    target = np.fft.fft2(reference - reference.mean())
    best: tuple[float, NDArray[np.floating]] | None = None
    for candidate in (image, image[::-1, ::-1]):
        correlation = np.fft.ifft2(target * np.fft.fft2(candidate - candidate.mean()).conj()).real
        peak = np.unravel_index(int(correlation.argmax()), correlation.shape)
        value = float(correlation[peak])
        if best is None or value > best[0] + 1e-9 * abs(best[0]):
            best = value, np.roll(candidate, peak, axis=(0, 1))
    assert best is not None
    whole = best[1]
    finer = _finer(whole, target)
    gain = _difference(finer, reference) < ENOUGH * _difference(whole, reference)
    return finer if gain else whole


def _difference(image: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Return the squared difference after the best gain; solutions differ by one too."""
    a = image - image.mean()
    b = reference - reference.mean()
    gain = float((a * b).sum()) / max(float((a * a).sum()), 1e-300)
    return float(((gain * a - b) ** 2).sum())


def _finer(image: NDArray[np.floating], target: NDArray[np.complexfloating]) -> NDArray[np.float64]:
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
    return np.asarray(np.fft.ifft2(spectrum * turned(-found.x)).real)
