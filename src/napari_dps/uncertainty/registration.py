"""Registration of images that a measurement cannot tell apart: flips and shifts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["register", "register_all"]


def register(image: NDArray[np.floating], reference: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return ``image``, turned by 180 degrees and shifted as fits ``reference`` best.

    Parameters
    ----------
    image, reference : ndarray, shape (Y, X)
        Two solutions of one phase problem. Shifts are whole pixels and periodic.

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
    return best[1]


def register_all(samples: NDArray[np.floating], best: int = 0) -> NDArray[np.floating]:
    """Return samples (S, Y, X) registered to the one numbered ``best``."""
    return np.stack([register(s, samples[best]) for s in samples])
