"""What an image looks like, in a few numbers that neither brightness nor offset changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIGMAS", "Denoise", "looks", "normalised", "tiles"]

Array = NDArray[np.float64]
Denoise = Callable[[Array, float], Array]
"""The noisy image (Y, X) in prior units and its noise level; returns the denoised one."""

SCALES = (1.0, 2.0, 4.0, 8.0)
"""Standard deviations in pixels of the Gaussian windows between which bands lie."""
SIGMAS = (0.25, 1.0)
"""Noise levels at which the prior is asked."""
BLOCK = 8
TILE, TILES = 96, 4


def normalised(image: Array) -> Array:
    """Return an image in prior units, by its own percentiles, as training images are brought."""
    low, high = np.percentile(image, (0.5, 99.8))
    high = max(high, low + (float(image.max()) - low) / 2)
    return np.asarray((image - low) * (2 / max(high - low, 1e-12)) - 1)


def tiles(planes: Array, side: int = TILE, most: int = TILES) -> list[Array]:
    """Return the parts of planes (n, Y, X) that show most: side by side, by their variance.

    A part of an empty region would be judged by its noise.
    """
    rows, columns = (min(side, n) for n in planes.shape[1:])
    parts = [
        plane[top : top + rows, left : left + columns]
        for plane in planes
        for top in range(0, planes.shape[1] - rows + 1, rows)
        for left in range(0, planes.shape[2] - columns + 1, columns)
    ]
    return sorted(parts, key=lambda part: -float(part.var()))[:most]


def looks(image: Array, denoise: Denoise, seed: int = 0) -> dict[str, float]:
    """Return the features of an image.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        In prior units, see :func:`normalised`.
    denoise : callable
        The prior; called once for every level of :data:`SIGMAS`.
    seed : int
        Of the noise that is added before.

    Returns
    -------
    dict
        Of the histogram: ``mean``, ``std``, ``skew`` and percentiles ``q10`` to ``q90``. Of bands
        between two windows: ``power``, the logarithm of their standard deviation; ``skew``: light
        on dark is skewed to the bright side, dark lines on bright ground to the other; ``follow``:
        the correlation of a band's local strength with the local brightness, for where there is
        more fluorescence its structure is stronger too. Of the prior: ``residual``, by how much
        it changes the image after noise was added, the logarithm over that noise; ``blocks``, the
        same of means over blocks; ``shift``, by how much it moves the mean.
    """
    from scipy import ndimage

    found = {
        "mean": float(image.mean()),
        "std": float(image.std()),
        "skew": float(np.tanh(_skewness(image) / 2)),
    }
    for percent in (10, 25, 50, 75, 90):
        found[f"q{percent}"] = float(np.percentile(image, percent))
    last = image
    for scale in SCALES:
        low = ndimage.gaussian_filter(image, scale)
        band, last = last - low, low
        strength = np.sqrt(ndimage.gaussian_filter(band**2, 2 * scale))
        bright = ndimage.gaussian_filter(image, 2 * scale)
        found[f"power{scale:g}"] = float(np.log(band.std() + 1e-4))
        found[f"skew{scale:g}"] = float(np.tanh(_skewness(band) / 3))
        found[f"follow{scale:g}"] = _correlation(strength, bright)
    noise = np.random.default_rng(seed).standard_normal(image.shape)
    for sigma in SIGMAS:
        change = denoise(image + sigma * noise, sigma) - image
        found[f"residual{sigma:g}"] = float(np.log((change**2).mean() + 1e-12) - 2 * np.log(sigma))
        found[f"blocks{sigma:g}"] = float(
            np.log((_blocks(change) ** 2).mean() + 1e-12) - 2 * np.log(sigma)
        )
        found[f"shift{sigma:g}"] = float(change.mean() / sigma)
    return found


def _skewness(values: Array) -> float:
    away = values - values.mean()
    return float((away**3).mean() / (away.std() + 1e-9) ** 3)


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).mean() / (a.std() * b.std() + 1e-12))


def _blocks(image: Array) -> Array:
    rows, columns = (n // BLOCK * BLOCK for n in image.shape)
    cut = image[:rows, :columns].reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    return np.asarray(cut.mean((1, 3)))
