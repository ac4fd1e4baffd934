"""Paths of a camera or a specimen that moved during the exposure, as point spread functions."""

from __future__ import annotations

import math

import numpy as np

STEPS_PER_PIXEL = 8
"""Points along a path; between them the light is spread to the nearest pixels."""


def straight(length: float, angle: float, exposures: int | None = None) -> np.ndarray:
    """Return points (N, 2) as (y, x) of equal exposure along a line about the origin.

    Parameters
    ----------
    length : float
        Between the ends, in pixels.
    angle : float
        Degrees from the X axis towards the top of the image.
    exposures : int, optional
        Number of points; dense where left out.
    """
    count = exposures or max(2, math.ceil(length * STEPS_PER_PIXEL)) + 1
    # Every point stands in the middle of its share of the exposure.
    along = ((np.arange(count) + 0.5) / count - 0.5) * length
    turn = math.radians(angle)
    return np.stack([-math.sin(turn) * along, math.cos(turn) * along], axis=1)


def wandering(
    extent: float, intensity: float, seed: int, exposures: int | None = None
) -> np.ndarray:
    """Return points (N, 2) as (y, x) of equal exposure along a random path.

    A walk with inertia: its direction turns at a rate that itself wanders, now and then it is
    jerked to another direction, and its speed varies; all the more, the higher the intensity.
    Afterwards it is scaled to just fit a square about its centre of light.

    Parameters
    ----------
    extent : float
        Side of that square in pixels.
    intensity : float
        0: a straight path; 1: a tangled one.
    seed : int
        Another seed, another path.
    exposures : int, optional
        Number of points; dense where left out.
    """
    rng = np.random.default_rng(seed)
    walk = 256
    heading = rng.uniform(0, 2 * math.pi)
    turns, hits = rng.standard_normal(walk), rng.uniform(size=walk)
    jerks, paces = rng.uniform(-1, 1, walk), rng.standard_normal(walk)
    rate = pace = 0.0
    steps = np.empty((walk, 2))
    for k in range(walk):
        rate = 0.95 * rate + 0.02 * intensity * turns[k]
        pace = 0.9 * pace + 0.25 * intensity * paces[k]
        heading += rate
        if hits[k] < 0.02 * intensity:
            heading += math.pi * intensity * jerks[k]
        steps[k] = math.exp(pace) * np.array([-math.sin(heading), math.cos(heading)])
    corners = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    # Steps take equal times, so that equal parts of the time are equal parts of the index.
    count = exposures or max(walk, math.ceil(2 * extent * STEPS_PER_PIXEL))
    times = (np.arange(count) + 0.5) / count * walk
    points = np.stack([np.interp(times, np.arange(walk + 1), c) for c in corners.T], axis=1)
    points -= points.mean(0)
    scaled: np.ndarray = points * ((extent - 1) / 2 / np.abs(points).max())
    return scaled


def rasterised(points: np.ndarray) -> np.ndarray:
    """Return the kernel (2 r + 1, 2 q + 1) of sum one of light that visits all points alike.

    Light between pixels is shared by the four nearest, so that the centre of light stays where
    it is, the origin.
    """
    # A hair less, so that a path that ends on a pixel does not take another, empty one.
    reach = np.ceil(np.abs(points).max(0) - 1e-9).astype(int)
    out = np.zeros(2 * reach + 3)  # one more pixel all round takes shares of zero
    low = np.floor(points).astype(int)
    share = points - low
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - share[:, 0]) * np.abs(1 - dx - share[:, 1])
            np.add.at(out, (low[:, 0] + dy + reach[0] + 1, low[:, 1] + dx + reach[1] + 1), weight)
    kernel: np.ndarray = out[1:-1, 1:-1] / out.sum()
    return kernel
