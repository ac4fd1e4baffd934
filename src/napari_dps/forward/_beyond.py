"""Noise of an image, read where its optics let no light pass: beyond the cutoff."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GUARD = 1.1
"""How far beyond the cutoff noise alone is sure to be found: a window smears frequencies."""
FEWEST = 400
"""Frequencies that must lie there."""
UNEVEN = 1.2
"""Deviations of the nearer and the farther half that are further apart are no white noise's."""


def noise_beyond(
    frames: NDArray[np.float64], pitch: tuple[float, float], cutoff: float
) -> tuple[float, float] | None:
    """Return a pixel's noise and its error; None where the spectrum cannot tell.

    Dense structure passes for noise where optics are unknown, but here no structure can be. The
    squared magnitude of noise alone is exponentially distributed, with a median of ln 2 times its
    mean whatever few peaks do.

    Parameters
    ----------
    frames : ndarray, shape (F, Y, X)
        Images without missing pixels.
    pitch : tuple of float
        Of the pixels, in micrometres.
    cutoff : float
        Highest frequency that passes, in cycles per micrometre.
    """
    shape = frames.shape[1:]
    window = np.outer(*(np.hanning(n) for n in shape))
    k = [np.fft.fftfreq(n, step) for n, step in zip(shape, pitch, strict=True)]
    radius = np.hypot(k[0][:, None], k[1][None])
    # Of a real image one half of the frequencies tells all.
    outside = (radius > GUARD * cutoff) & (k[1][None] >= 0)
    if outside.sum() < FEWEST:
        return None
    centred = frames - frames.mean((1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(centred * window)) ** 2 / (window**2).sum()
    found = power[:, outside][:, np.argsort(radius[outside], kind="stable")]

    def deviation(part: NDArray[np.float64]) -> float:
        return float(np.sqrt(np.median(part) / np.log(2)))

    near, far = (deviation(part) for part in np.array_split(found, 2, axis=1))
    if min(near, far) <= 0 or max(near, far) > UNEVEN * min(near, far):
        return None
    sigma = deviation(found)
    # As in k-space; the window makes neighbouring frequencies alike, about two and a half at once.
    scatter = sigma / (2 * np.log(2)) * float(np.sqrt(2.5 / found.size))
    return sigma, float(max(scatter, abs(near - far) / 2))
