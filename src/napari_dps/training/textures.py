"""Generic synthetic images: dead leaves and power-law noise, both seeded and of any size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def power_law(rng: np.random.Generator, size: int, exponent: float | None = None) -> Array:
    """Return a Gaussian random field with amplitude spectrum |k|^-exponent.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size : int
        Side in pixels.
    exponent : float or None
        Slope of the amplitude spectrum; None draws one between 0.8 and 2.5.

    Returns
    -------
    ndarray, shape (size, size)
        Field with zero mean and unit standard deviation.
    """
    slope = rng.uniform(0.8, 2.5) if exponent is None else exponent
    # Made on a larger periodic grid and cropped, so that the borders do not match.
    grid = size + size // 2
    ky = np.fft.fftfreq(grid)[:, None]
    kx = np.fft.rfftfreq(grid)[None, :]
    radius = np.hypot(ky, kx)
    radius[0, 0] = 1.0
    amplitude = radius**-slope
    amplitude[0, 0] = 0.0
    white = np.fft.rfft2(rng.standard_normal((grid, grid)))
    field = np.fft.irfft2(white * amplitude, s=(grid, grid))[:size, :size]
    field = field - field.mean()
    return np.asarray(field / max(float(field.std()), 1e-12))


def power_law_image(rng: np.random.Generator, size: int) -> Array:
    """Return a power-law texture as intensities from 0 to about 1, linear or exponentiated."""
    field = power_law(rng, size)
    if rng.random() < 0.5:
        field = np.exp(rng.uniform(0.3, 1.0) * field)
    field = field - field.min()
    return np.asarray(field / max(float(np.percentile(field, 99.8)), 1e-12))


def dead_leaves(rng: np.random.Generator, size: int) -> Array:
    """Return overlapping opaque ellipses and rectangles, radii distributed as r^-3.

    Sharp edges and occlusion at all scales; see Lee, Mumford and Huang 2001.

    Returns
    -------
    ndarray, shape (size, size)
        Intensities in [0, 1].
    """
    image = np.full((size, size), rng.random())
    small, large = rng.uniform(1.5, 4.0), size * rng.uniform(0.2, 0.5)
    count = int(rng.integers(60, 350))
    # Inverse of the cumulative distribution of a density proportional to r^-3 on [small, large].
    u = rng.random(count)
    radii = (small**-2 - u * (small**-2 - large**-2)) ** -0.5
    radii = rng.permutation(radii)
    shaded = rng.random() < 0.5
    for radius in radii:
        cy, cx = rng.uniform(-radius, size + radius, 2)
        reach = int(np.ceil(radius * 1.5)) + 1
        y0, y1 = max(int(cy) - reach, 0), min(int(cy) + reach + 1, size)
        x0, x1 = max(int(cx) - reach, 0), min(int(cx) + reach + 1, size)
        if y0 >= y1 or x0 >= x1:
            continue
        yy, xx = np.ogrid[y0:y1, x0:x1]
        angle, aspect = rng.uniform(0, np.pi), rng.uniform(0.5, 1.0)
        a = (xx - cx) * np.cos(angle) + (yy - cy) * np.sin(angle)
        b = ((yy - cy) * np.cos(angle) - (xx - cx) * np.sin(angle)) / aspect
        distance = np.maximum(abs(a), abs(b)) if rng.random() < 0.3 else np.hypot(a, b)
        # One pixel of slope at the rim stands in for antialiasing.
        cover = np.clip(radius - distance + 0.5, 0.0, 1.0)
        tone = rng.random() * (1.0 + (rng.uniform(-0.3, 0.3) * a / radius if shaded else 0.0))
        part = image[y0:y1, x0:x1]
        part += cover * (tone - part)
    return np.asarray(np.clip(image, 0.0, 1.0))
