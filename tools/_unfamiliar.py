"""Images that are no fluorescence: they look like transmitted light and electron microscopy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_dps.training import phantoms, textures

Array = NDArray[np.float64]


def membranes(rng: np.random.Generator, side: int) -> Array:
    """Return dark lines between cells and dark bodies in them, on bright and noisy ground."""
    points = side * rng.random((int(rng.integers(12, 50)), 2))
    grid = np.mgrid[:side, :side].astype(np.float64)
    bent = [8 * _field(rng, side, 6) + axis for axis in grid]
    near = cKDTree(points).query(np.stack(bent, -1), k=2)[0]
    gap = near[..., 1] - near[..., 0]
    image = 1 - rng.uniform(0.5, 0.9) * np.exp(-((gap / rng.uniform(1.5, 4)) ** 2))
    for _ in range(rng.integers(0, 20)):
        middle, radius = side * rng.random(2), rng.uniform(2, 7)
        inside = np.hypot(grid[0] - middle[0], grid[1] - middle[1]) < radius
        image[inside] *= rng.uniform(0.3, 0.9)
    image += rng.uniform(0.05, 0.3) * _field(rng, side, 1)
    image += 0.1 * textures.power_law(rng, side, 1.2)
    return np.asarray(ndimage.gaussian_filter(image, rng.uniform(0.4, 1.2)))


def transmitted(rng: np.random.Generator, side: int) -> Array:
    """Return what light that passes shows of a phantom: absorbed, sheared or out of phase."""
    thing = ndimage.gaussian_filter(phantoms.phantom(rng, side).astype(np.float64), 1)
    thing = (thing - thing.min()) / max(float(np.ptp(thing)), 1e-9)
    how = rng.integers(3)
    if how == 0:  # absorption
        image = np.exp(-rng.uniform(0.5, 3) * thing)
    elif how == 1:  # differential interference contrast
        angle = rng.uniform(0, 2 * np.pi)
        down, right = np.gradient(thing)
        image = np.sin(angle) * down + np.cos(angle) * right
    else:  # defocus
        sign = 1 if rng.random() < 0.5 else -1
        image = sign * ndimage.gaussian_laplace(thing, rng.uniform(1, 3))
    image = image / max(float(image.std()), 1e-9)
    image += rng.uniform(0.02, 0.2) * rng.standard_normal(image.shape)
    return np.asarray(image + rng.uniform(0, 0.3) * textures.power_law(rng, side, 2))


def _field(rng: np.random.Generator, side: int, width: float) -> Array:
    """Return smoothed noise of unit standard deviation."""
    noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), width, mode="wrap")
    return np.asarray(noise / noise.std())
