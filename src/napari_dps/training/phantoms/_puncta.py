"""Puncta."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from ._draw import Array, log_uniform, splat, unit


def puncta(rng: np.random.Generator, size: int) -> Array:
    """Spots from diffraction-limited to a few pixels wide, spread or clustered.

    From eight to one per 30 square pixels; brightness from equal to log-normal with a spread of
    0.9; in some images each spot saturates, as a filled vesicle does.
    """
    count = int(log_uniform(rng, 8, size**2 / 30))
    where = rng.uniform(-2, size + 2, (count, 2))
    if rng.random() < 0.5:
        hubs = rng.uniform(0, size, (int(rng.integers(1, 8)), 2))
        spread = size * log_uniform(rng, 0.04, 0.25)
        where = hubs[rng.integers(len(hubs), size=count)] + rng.normal(0, spread, (count, 2))
    weights = rng.lognormal(0.0, rng.uniform(0.1, 0.9), count)
    image = np.zeros((size, size))
    widths = [log_uniform(rng, 0.7, 2.5) for _ in range(2)]
    for width, part in zip(widths, np.array_split(np.arange(count), 2), strict=True):
        spots = gaussian_filter(splat(where[part], weights[part], size), width)
        image += spots * width**2 * 6.28
    if rng.random() < 0.3:
        image = 1.0 - np.exp(-2.0 * image)
    return unit(image)
