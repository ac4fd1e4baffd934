"""Filaments and what else is worm-like."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from ..textures import power_law
from ._draw import STEP, Array, chains, log_uniform, splat, unit

#: Share of the drawn length that lies within the image, as measured: fibres begin up to 0.3 of a
#: side outside of it, run out of it, and those of a bundle are centred where they begin.
IN_SIGHT = {"spread": 0.25, "aster": 0.3, "bundle": 0.36}
#: Points drawn at a time: a large and dense image takes time, not memory.
POINTS = 2_000_000


def filaments(
    rng: np.random.Generator,
    size: int,
    *,
    persistence: float | None = None,
    density: float | None = None,
) -> Array:
    """Microtubules, actin, neurites: worm-like chains, spread, in asters or as parallel bundles.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size : int
        Side in pixels.
    persistence : float or None
        Persistence length in pixels: directions correlate as exp(-s / (2 P)) along a path s.
        None draws one between 6 and 4000.
    density : float or None
        Length of fibre per area, in pixels per square pixel. None draws one between 0.05 and 1.5.
    """
    stiff = log_uniform(rng, 6.0, 4000.0) if persistence is None else persistence
    crowd = log_uniform(rng, 0.05, 1.5) if density is None else density
    arrangement = rng.choice(["spread", "aster", "bundle"], p=[0.5, 0.2, 0.3])
    length = int(rng.uniform(0.6, 2.5) * size / STEP)
    # It grows with the area alone, as the time to draw an image does.
    count = max(int(crowd * size**2 / (IN_SIGHT[str(arrangement)] * length * STEP)), 2)
    if arrangement == "aster":
        start = rng.uniform(0, size, (1, 2)) + rng.normal(0, rng.uniform(1, 8), (count, 2))
    else:
        start = rng.uniform(-0.3 * size, 1.3 * size, (count, 2))
        start[0] = rng.uniform(0.2 * size, 0.8 * size, 2)
    spread, speckled = rng.uniform(0.1, 0.8), rng.random() < 0.4
    # Stress fibres run in parallel: all take the directions of the first.
    one = chains(rng, start[:1], length, stiff)
    lines = np.zeros((size, size))
    at_once = max(POINTS // length, 1)
    for some in np.split(start, range(at_once, count, at_once)):
        if arrangement == "bundle":
            stretch = rng.uniform(0.9, 1.1, (len(some), 1, 1))
            paths = some[:, None, :] + (one - one.mean(axis=1, keepdims=True)) * stretch
        else:
            paths = chains(rng, some, length, stiff)
        weights = np.repeat(rng.lognormal(0.0, spread, (len(some), 1)), length, axis=1)
        if speckled:
            weights = weights * gaussian_filter(rng.gamma(0.5, 2.0, weights.shape), (0, 2))
        lines += splat(paths.reshape(-1, 2), weights.reshape(-1), size)
    width = log_uniform(rng, 0.5, 1.6)
    if rng.random() < 0.2:
        # Thick ones have a body: light saturates across them instead of adding up.
        lines = 1.0 - np.exp(-3.0 * gaussian_filter(lines, log_uniform(rng, 0.8, 3.5)))
    return unit(gaussian_filter(lines, width))


def mitochondria(rng: np.random.Generator, size: int) -> Array:
    """Short thick worms with uneven staining, from fragments to a connected network."""
    count = int(log_uniform(rng, 5, 90))
    length = int(log_uniform(rng, 6, 120))
    start = rng.uniform(-5, size + 5, (count, 2))
    start[0] = rng.uniform(0, size, 2)
    if rng.random() < 0.4:
        # Gathered around the nucleus.
        away = rng.normal(0, 1, (count, 2))
        away *= (
            (rng.uniform(0.08, 0.2) + abs(rng.normal(0, 0.15, (count, 1))))
            * size
            / np.hypot(away[:, :1], away[:, 1:])
        )
        start = rng.uniform(0.2 * size, 0.8 * size, 2) + away
    paths = chains(rng, start, length, log_uniform(rng, 3.0, 100.0))
    weights = np.repeat(rng.lognormal(-0.3, rng.uniform(0.1, 0.5), (count, 1)), length, axis=1)
    body = gaussian_filter(splat(paths.reshape(-1, 2), weights.reshape(-1), size), 0.8)
    body = gaussian_filter(1.0 - np.exp(-2.0 * body), rng.uniform(0.6, 2.2))
    body = body * np.clip(1.0 + rng.uniform(0, 0.4) * power_law(rng, size, 0.9), 0.1, None)
    return unit(body)
