"""Procedural fluorescence: what cells look like, drawn from a seed with numpy alone.

Each structure function takes a generator and a side in pixels and returns non-negative
intensities of shape (size, size), about 1 where bright. :func:`phantom` mixes them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from .textures import power_law

Array = NDArray[np.float64]
Structure = Callable[[np.random.Generator, int], Array]


def _splat(points: Array, weights: Array, size: int) -> Array:
    """Add weighted points at (y, x) positions to an image by bilinear interpolation."""
    image = np.zeros((size + 2, size + 2))
    inside = np.all((points > -1) & (points < size), axis=1)
    points, weights = points[inside] + 1.0, weights[inside]
    base = np.floor(points).astype(int)
    frac = points - base
    for dy in (0, 1):
        for dx in (0, 1):
            share = abs(1 - dy - frac[:, 0]) * abs(1 - dx - frac[:, 1])
            np.add.at(image, (base[:, 0] + dy, base[:, 1] + dx), share * weights)
    return image[1:-1, 1:-1]


def _unit(image: Array) -> Array:
    return np.asarray(image / max(float(np.percentile(image, 99.8)), 1e-9))


def _walks(
    rng: np.random.Generator, size: int, count: int, length: int, bend: float, start: Array
) -> Array:
    """Return worm-like chains, shape (count, length, 2), half a pixel a step.

    ``bend`` is the standard deviation of the change of direction per step, in radians.
    """
    turn = rng.standard_normal((count, length)) * bend
    # Slowly varying curvature: fibres bend, they do not tremble.
    turn = gaussian_filter(turn, (0, 6)) * 3.5
    angle = rng.uniform(0, 2 * np.pi, (count, 1)) + np.cumsum(turn, axis=1)
    steps = 0.5 * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    return np.asarray(start[:, None, :] + np.cumsum(steps, axis=1))


def nuclei(rng: np.random.Generator, size: int) -> Array:
    """Blobs with smooth outlines and chromatin texture, touching at times."""
    image = np.zeros((size, size))
    radius = np.exp(rng.uniform(np.log(4.0), np.log(size / 3)))
    count = int(np.clip(rng.poisson(rng.uniform(0.15, 0.7) * size**2 / (4 * radius**2)), 1, 60))
    yy, xx = np.mgrid[:size, :size]
    contrast = rng.uniform(0.0, 0.35)
    texture = power_law(rng, size, rng.uniform(0.9, 1.8))
    for _ in range(count):
        cy, cx = rng.uniform(-radius / 2, size + radius / 2, 2)
        r = radius * rng.uniform(0.75, 1.25)
        angle, aspect = rng.uniform(0, np.pi), rng.uniform(0.55, 1.0)
        a = (xx - cx) * np.cos(angle) + (yy - cy) * np.sin(angle)
        b = ((yy - cy) * np.cos(angle) - (xx - cx) * np.sin(angle)) / aspect
        phi = np.arctan2(b, a)
        outline = np.full_like(phi, r)
        for k in (2, 3, 4):
            outline += r * rng.normal(0, 0.08 / k) * np.cos(k * phi + rng.uniform(0, 6.28))
        depth = outline - np.hypot(a, b)
        body = 1.0 / (1.0 + np.exp(-np.clip(depth / rng.uniform(0.3, 1.2), -40, 40)))
        if rng.random() < 0.3:
            body = body * np.clip(0.4 + depth / r, 0.0, 1.0)
        image = np.maximum(image, rng.uniform(0.25, 1.0) * body)
    image = image * np.clip(1.0 + contrast * texture, 0.05, None)
    if rng.random() < 0.3:
        dots = _splat(rng.uniform(0, size, (count * 6, 2)), rng.uniform(0.2, 1.0, count * 6), size)
        width = rng.uniform(0.7, 1.8)
        image = image * (1.0 + 8.0 * rng.uniform(-0.05, 0.5) * gaussian_filter(dots, width))
    return _unit(np.clip(image, 0.0, None))


def filaments(rng: np.random.Generator, size: int) -> Array:
    """Microtubule- or actin-like fibres, straight to curly, alone or in bundles."""
    count = int(rng.integers(3, 60))
    length = int(rng.uniform(1.0, 5.0) * size)
    bend = np.exp(rng.uniform(np.log(0.003), np.log(0.08)))
    if rng.random() < 0.3:
        centre = rng.uniform(0, size, (1, 2))
        start = centre + rng.normal(0, rng.uniform(1, 8), (count, 2))
    else:
        start = rng.uniform(-0.3 * size, 1.3 * size, (count, 2))
    paths = _walks(rng, size, count, length, bend, start)
    if rng.random() < 0.35:
        # Stress fibres run in parallel: all take the directions of the first.
        paths = start[:, None, :] + (paths[:1] - paths[:1, :1]) * rng.uniform(
            0.9, 1.1, (count, 1, 1)
        )
    weights = np.repeat(rng.gamma(2.0, 0.5, (count, 1)), length, axis=1)
    if rng.random() < 0.4:
        weights = weights * gaussian_filter(rng.gamma(0.5, 2.0, (count, length)), (0, 2))
    lines = _splat(paths.reshape(-1, 2), weights.reshape(-1), size)
    return _unit(gaussian_filter(lines, np.exp(rng.uniform(np.log(0.5), np.log(2.2)))))


def puncta(rng: np.random.Generator, size: int) -> Array:
    """Spots from diffraction-limited to a few pixels wide, uniform or clustered."""
    count = int(np.exp(rng.uniform(np.log(5), np.log(size**2 / 25))))
    where = rng.uniform(-2, size + 2, (count, 2))
    if rng.random() < 0.4:
        hubs = rng.uniform(0, size, (int(rng.integers(1, 8)), 2))
        where = hubs[rng.integers(len(hubs), size=count)] + rng.normal(0, size / 8, (count, 2))
    weights = rng.lognormal(0.0, rng.uniform(0.1, 1.0), count)
    image = np.zeros((size, size))
    widths = np.exp(rng.uniform(np.log(0.6), np.log(2.5), 2))
    for width, part in zip(widths, np.array_split(np.arange(count), 2), strict=True):
        spots = gaussian_filter(_splat(where[part], weights[part], size), width)
        image += spots * width**2 * 6.28
    if rng.random() < 0.3:
        image = 1.0 - np.exp(-2.0 * image)
    return np.asarray(image / max(float(np.percentile(image, 99.9)), 0.3 * image.max(), 1e-9))


def membranes(rng: np.random.Generator, size: int) -> Array:
    """Cell outlines: warped Voronoi edges of varying brightness, over a fainter inside."""
    spacing = np.exp(rng.uniform(np.log(8), np.log(size / 2)))
    count = max(int((1.6 * size / spacing) ** 2), 4)
    seeds = rng.uniform(-0.3 * size, 1.3 * size, (count, 2))
    yy, xx = np.mgrid[:size, :size].astype(float)
    bend = rng.uniform(0.0, 0.25) * spacing
    at = np.stack(
        [yy + bend * power_law(rng, size, 2.2), xx + bend * power_law(rng, size, 2.2)], -1
    )
    distance, index = cKDTree(seeds).query(at, k=2)
    gap = distance[..., 1] - distance[..., 0]
    width = np.exp(rng.uniform(np.log(0.7), np.log(2.5)))
    wall = np.exp(-0.5 * (gap / width) ** 2)
    wall = wall * np.clip(1.0 + rng.uniform(0, 0.4) * power_law(rng, size, 1.5), 0.0, None)
    inside = rng.uniform(0, 0.4) * rng.random(count)[index[..., 0]]
    return _unit(gaussian_filter(np.maximum(wall, inside), rng.uniform(0.3, 1.0)))


def mitochondria(rng: np.random.Generator, size: int) -> Array:
    """Short thick worms with uneven staining, from fragments to a connected network."""
    count = int(rng.integers(5, 90))
    length = int(rng.uniform(6, 80))
    start = rng.uniform(-5, size + 5, (count, 2))
    paths = _walks(rng, size, count, length, rng.uniform(0.02, 0.15), start)
    weights = np.repeat(rng.uniform(0.4, 1.0, (count, 1)), length, axis=1)
    body = gaussian_filter(_splat(paths.reshape(-1, 2), weights.reshape(-1), size), 0.8)
    width = rng.uniform(0.8, 2.4)
    body = gaussian_filter(1.0 - np.exp(-2.0 * body), width)
    body = body * np.clip(1.0 + rng.uniform(0, 0.4) * power_law(rng, size, 0.9), 0.1, None)
    return _unit(body)


def reticulum(rng: np.random.Generator, size: int) -> Array:
    """Branching network like the endoplasmic reticulum: zero lines of a random field."""
    scale = rng.uniform(1.5, 6.0)
    field = gaussian_filter(rng.standard_normal((size + 32, size + 32)), scale)[16:-16, 16:-16]
    slope = np.hypot(*np.gradient(field)) + 0.3 * field.std() / scale
    ridge = np.exp(-0.5 * (field / slope / rng.uniform(0.6, 1.6)) ** 2)
    density = 1.0 / (1.0 + np.exp(-2.0 * power_law(rng, size, 2.0) - rng.uniform(-1, 1)))
    return _unit(gaussian_filter(ridge * density, rng.uniform(0.3, 1.2)))


def cytoplasm(rng: np.random.Generator, size: int) -> Array:
    """Cells stained throughout: bright near the nucleus, granular, with vesicles."""
    spacing = np.exp(rng.uniform(np.log(size / 5), np.log(size)))
    count = max(int((1.6 * size / spacing) ** 2), 3)
    seeds = rng.uniform(-0.3 * size, 1.3 * size, (count, 2))
    yy, xx = np.mgrid[:size, :size].astype(float)
    bend = rng.uniform(0.05, 0.3) * spacing
    at = np.stack(
        [yy + bend * power_law(rng, size, 2.2), xx + bend * power_law(rng, size, 2.2)], -1
    )
    distance, index = cKDTree(seeds).query(at, k=2)
    cell, depth = index[..., 0], distance[..., 0]
    gap = distance[..., 1] - depth
    margin = rng.uniform(-0.3, 0.4) * spacing
    body = 1.0 / (1.0 + np.exp(-np.clip((gap - margin) / rng.uniform(0.5, 4.0), -40, 40)))
    body = body * rng.uniform(0.2, 1.0, count)[cell]
    body = body * np.exp(-rng.uniform(0.0, 2.5) * depth / spacing)
    radius = rng.uniform(0.12, 0.3, count)[cell] * spacing
    nucleus = 1.0 / (1.0 + np.exp(-np.clip((radius - depth) / rng.uniform(0.4, 2.0), -40, 40)))
    body = body * (1.0 + (rng.uniform(0.1, 1.4) - 1.0) * nucleus)
    body = body * np.exp(rng.uniform(0.05, 0.5) * power_law(rng, size, rng.uniform(0.6, 1.8)))
    if rng.random() < 0.5:
        body = body + rng.uniform(0.1, 0.8) * puncta(rng, size) * np.clip(3.0 * body, 0.0, 1.0)
    return _unit(gaussian_filter(body, rng.uniform(0.3, 1.5)))


def haze(rng: np.random.Generator, size: int) -> Array:
    """Smooth out-of-focus light and cytoplasm."""
    field = np.exp(rng.uniform(0.4, 1.0) * power_law(rng, size, rng.uniform(1.8, 3.0)))
    return _unit(gaussian_filter(field, rng.uniform(1.0, 6.0)))


STRUCTURES: dict[str, tuple[Structure, float]] = {
    "nuclei": (nuclei, 1.0),
    "filaments": (filaments, 2.0),
    "puncta": (puncta, 1.2),
    "membranes": (membranes, 1.3),
    "mitochondria": (mitochondria, 1.3),
    "reticulum": (reticulum, 0.8),
    "cytoplasm": (cytoplasm, 1.5),
    "haze": (haze, 0.3),
}


def _vary(rng: np.random.Generator, image: Array) -> Array:
    """Blur, warp or mask a phantom the way optics and cell outlines do."""
    size = len(image)
    if rng.random() < 0.5:
        image = gaussian_filter(image, np.exp(rng.uniform(np.log(0.4), np.log(3.0))))
    if rng.random() < 0.2:
        blurred = gaussian_filter(image, rng.uniform(4.0, 15.0))
        image = image + rng.uniform(0.2, 1.5) * blurred
    if rng.random() < 0.25:
        shift = rng.uniform(1.0, 4.0)
        yy, xx = np.mgrid[:size, :size].astype(float)
        at = [yy + shift * power_law(rng, size, 2.5), xx + shift * power_law(rng, size, 2.5)]
        image = map_coordinates(image, at, order=1, mode="reflect")
    if rng.random() < 0.3:
        edge = power_law(rng, size, 2.5) + rng.uniform(-0.5, 1.0)
        image = image / (1.0 + np.exp(-edge * rng.uniform(2.0, 20.0)))
    return image


def phantom(rng: np.random.Generator, size: int, only: str | None = None) -> Array:
    """Return one synthetic fluorescence image, intensities from 0 to about 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness: the same state gives the same image.
    size : int
        Side in pixels.
    only : str or None
        Draw this structure alone; None mixes.
    """
    names = list(STRUCTURES) if only is None else [only]
    odds = np.array([STRUCTURES[name][1] for name in names])
    parts = int(rng.choice([1, 2, 3], p=[0.65, 0.27, 0.08])) if only is None else 1
    image = np.zeros((size, size))
    for index in rng.choice(len(names), size=parts, replace=False, p=odds / odds.sum()):
        structure = STRUCTURES[names[index]][0]
        weight = rng.uniform(0.3, 1.0)
        image += weight * structure(rng, size)
        if rng.random() < 0.45:
            # A thick specimen: the same structure below and above the focal plane.
            plane = structure(rng, size)
            for _ in range(int(rng.integers(1, 4))):
                plane = np.rot90(plane)[:, :: rng.choice([-1, 1])]
                defocus = np.exp(rng.uniform(np.log(1.5), np.log(12.0)))
                image += weight * rng.uniform(0.2, 1.0) * gaussian_filter(plane, defocus)
    if rng.random() < 0.4:
        image += rng.uniform(0.02, 0.4) * haze(rng, size)
    image = _vary(rng, image)
    return np.asarray(image / max(float(np.percentile(image, 99.8)), 0.3 * image.max(), 1e-9))
