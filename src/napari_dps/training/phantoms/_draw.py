"""What the structures are drawn with: points, worm-like chains, blobs, warped cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import cKDTree

from ..textures import power_law

Array = NDArray[np.float64]
#: Pixels a chain advances per step.
STEP = 0.5


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform; ``low`` where a small image leaves no range."""
    return float(np.exp(rng.uniform(np.log(low), np.log(max(low, high)))))


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -40.0, 40.0))))


def unit(image: Array) -> Array:
    """Scale so that the 99.8 percentile is 1, and nothing exceeds 3.33."""
    bright = max(float(np.percentile(image, 99.8)), 0.3 * float(image.max()), 1e-9)
    return np.asarray(image / bright)


def splat(points: Array, weights: Array, size: int) -> Array:
    """Add weighted points at (y, x) positions to an image by bilinear interpolation."""
    wide = size + 2
    inside = np.all((points > -1) & (points < size), axis=1)
    points, weights = points[inside] + 1.0, weights[inside]
    base = np.floor(points).astype(int)
    frac = points - base
    image = np.zeros(wide * wide)
    for dy in (0, 1):
        for dx in (0, 1):
            share = abs(1 - dy - frac[:, 0]) * abs(1 - dx - frac[:, 1])
            where = (base[:, 0] + dy) * wide + base[:, 1] + dx
            image += np.bincount(where, share * weights, wide * wide)
    return image.reshape(wide, wide)[1:-1, 1:-1]


def chains(rng: np.random.Generator, start: Array, length: int, persistence: float) -> Array:
    """Return worm-like chains from (count, 2) starts, shape (count, length, 2).

    Steps are half a pixel. The direction's correlation over a path s is exp(-s / (2 P)) with
    the persistence length P in pixels: in the plane its variance grows by s / P.
    """
    count = len(start)
    turn = rng.standard_normal((count, length)) * np.sqrt(STEP / persistence)
    # Slowly varying curvature: fibres bend, they do not tremble. A kernel of sum one leaves the
    # variance over long paths as it is.
    turn = gaussian_filter(turn, (0, 6), mode="wrap")
    angle = rng.uniform(0, 2 * np.pi, (count, 1)) + np.cumsum(turn, axis=1)
    steps = STEP * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    return np.asarray(start[:, None, :] + np.cumsum(steps, axis=1))


class Blob(NamedTuple):
    """An ellipse with a wavy outline, in the box around it."""

    box: tuple[slice, slice]
    #: Distance from the outline in pixels, positive inside; shape of the box.
    depth: Array
    radius: float


def blob(
    rng: np.random.Generator, size: int, centre: Array, radius: float, aspect: float, wavy: float
) -> Blob | None:
    """Return a blob, or None where it lies outside of the image."""
    reach = 1.3 * radius + 4.0
    low = np.clip(np.floor(centre - reach).astype(int), 0, size)
    high = np.clip(np.ceil(centre + reach).astype(int) + 1, 0, size)
    angle, phases = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 3)
    waves = rng.normal(0, wavy, 3) / (2, 3, 4)
    if (low >= high).any():
        return None
    yy, xx = np.ogrid[low[0] : high[0], low[1] : high[1]]
    dy, dx = yy - centre[0], xx - centre[1]
    a = dx * np.cos(angle) + dy * np.sin(angle)
    b = (dy * np.cos(angle) - dx * np.sin(angle)) / aspect
    phi = np.arctan2(b, a)
    outline = radius * (
        1.0 + sum(w * np.cos(k * phi + p) for k, w, p in zip((2, 3, 4), waves, phases, strict=True))
    )
    box = (slice(low[0], high[0]), slice(low[1], high[1]))
    return Blob(box, np.asarray(outline - np.hypot(a, b)), radius)


class Cells(NamedTuple):
    """A warped Voronoi diagram on a grid: cells that fill the plane."""

    #: Distance from the cell's seed, and how much farther the next seed is, in pixels.
    depth: Array
    gap: Array
    #: Number of the cell a pixel is in, of the next one, and how many there are.
    own: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    total: int


def cells(rng: np.random.Generator, size: int, spacing: float, bend: float, step: int = 1) -> Cells:
    """Return cells about ``spacing`` pixels wide whose walls bend by ``bend`` pixels.

    The grid holds every ``step``-th pixel.
    """
    count = max(int((1.6 * size / spacing) ** 2), 4)
    seeds = rng.uniform(-0.3 * size, 1.3 * size, (count, 2))
    yy, xx = np.mgrid[:size:step, :size:step].astype(float)
    side = len(yy)
    at = np.stack(
        [yy + bend * power_law(rng, side, 2.7), xx + bend * power_law(rng, side, 2.7)], -1
    )
    distance, index = cKDTree(seeds).query(at.reshape(-1, 2), k=2)
    distance, index = distance.reshape(side, side, 2), index.reshape(side, side, 2)
    depth = distance[..., 0]
    return Cells(depth, distance[..., 1] - depth, index[..., 0], index[..., 1], count)


def bodies(rng: np.random.Generator, size: int, step: int = 1) -> Array:
    """Return cell bodies without texture, from 0 outside to at most 1, smooth if ``step`` > 1.

    Apart or touching, of varied brightness, thicker towards the nucleus, which is dark or bright.
    """
    spacing = log_uniform(rng, size / 6, size)
    found = cells(rng, size, spacing, rng.uniform(0.05, 0.3) * spacing, step)
    margin = rng.uniform(-0.3, 0.5) * spacing
    image = sigmoid((found.gap - margin) / rng.uniform(0.5, 4.0))
    image = image * rng.lognormal(-0.7, rng.uniform(0.1, 0.8), found.total)[found.own]
    image = image * np.exp(-rng.uniform(0.0, 3.0) * found.depth / spacing)
    radius = rng.uniform(0.12, 0.3, found.total)[found.own] * spacing
    nucleus = sigmoid((radius - found.depth) / rng.uniform(0.4, 2.0))
    image = image * (1.0 + (rng.uniform(0.1, 1.4) - 1.0) * nucleus)
    if step > 1:
        image = zoom(image, step, order=1)[:size, :size]
    return np.asarray(image / max(float(image.max()), 1e-9))
