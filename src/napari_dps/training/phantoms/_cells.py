"""What shows whole cells: membranes, cytoplasm and the endoplasmic reticulum."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from ..textures import power_law
from ._draw import Array, blob, bodies, cells, log_uniform, sigmoid, unit
from ._puncta import puncta


def membranes(rng: np.random.Generator, size: int) -> Array:
    """Cell outlines: walls of a tissue, or rims of single cells, over a fainter inside."""
    width = log_uniform(rng, 0.5, 2.2)
    if rng.random() < 0.25:
        image = _rims(rng, size, width)
    else:
        spacing = log_uniform(rng, 8.0, size / 2)
        found = cells(rng, size, spacing, rng.uniform(0.0, 0.25) * spacing)
        wall = np.exp(-0.5 * (found.gap / width) ** 2)
        # Each wall, between two cells, has a brightness of its own.
        low = np.minimum(found.own, found.neighbour)
        high = np.maximum(found.own, found.neighbour)
        light = rng.lognormal(0.0, rng.uniform(0.0, 0.5), 997)
        wall = wall * light[(low * 131 + high * 37) % 997]
        level = rng.uniform(0.0, 0.5) if rng.random() < 0.35 else rng.uniform(0.0, 0.06)
        image = np.maximum(wall, level * rng.random(found.total)[found.own])
    image = image * np.exp(rng.uniform(0.0, 0.4) * power_law(rng, size, 1.6))
    return unit(gaussian_filter(image, rng.uniform(0.3, 0.8)))


def _rims(rng: np.random.Generator, size: int, width: float) -> Array:
    image = np.zeros((size, size))
    radius = log_uniform(rng, 5.0, size / 4)
    count = int(np.clip(rng.poisson(log_uniform(rng, 0.1, 0.8) * size**2 / (4 * radius**2)), 2, 40))
    inside = rng.uniform(0.0, 0.4)
    centres = rng.uniform(0, size, (count, 2))
    for centre, light in zip(centres, rng.lognormal(0.0, 0.3, count), strict=True):
        found = blob(rng, size, centre, radius * rng.uniform(0.8, 1.2), rng.uniform(0.5, 1.0), 0.12)
        if found is not None:
            rim = np.exp(-0.5 * (found.depth / width) ** 2)
            body = np.maximum(rim, inside * sigmoid(found.depth / width))
            image[found.box] = np.maximum(image[found.box], light * body)
    return image


def cytoplasm(rng: np.random.Generator, size: int) -> Array:
    """Cells stained throughout: bright near the nucleus, granular, with vesicles."""
    body = bodies(rng, size)
    body = body * np.exp(rng.uniform(0.1, 0.7) * power_law(rng, size, rng.uniform(0.6, 1.8)))
    if rng.random() < 0.6:
        body = body + rng.uniform(0.1, 1.2) * puncta(rng, size) * np.clip(3.0 * body, 0.0, 1.0)
    return unit(gaussian_filter(body, rng.uniform(0.3, 0.9)))


def reticulum(rng: np.random.Generator, size: int) -> Array:
    """Endoplasmic reticulum: tubules that meet in threes, and sheets around the nucleus."""
    mesh = log_uniform(rng, 4.0, 14.0)
    found = cells(rng, size, mesh, rng.uniform(0.05, 0.25) * mesh)
    width = rng.uniform(0.6, 1.3)
    tubules = np.exp(-0.5 * (found.gap / width) ** 2)
    # A tubule lies between two meshes; some are missing, so that meshes of varied size arise.
    low = np.minimum(found.own, found.neighbour)
    high = np.maximum(found.own, found.neighbour)
    light = rng.uniform(0.4, 1.0, 997) * (rng.random(997) > rng.uniform(0.0, 0.4))
    image = tubules * light[(low * 131 + high * 37) % 997]
    # The cell is thick near the nucleus: there tubules lie above each other, or sheets do.
    area = bodies(rng, size, 4)
    kind = rng.choice(["tubules", "sheets", "both"], p=[0.3, 0.3, 0.4])
    if kind != "tubules":
        # Sheets cover whole meshes; holes (fenestrae) and a grain are left in them.
        field = power_law(rng, size, rng.uniform(1.2, 2.2))
        sheet = sigmoid((field + rng.uniform(-0.8, 0.8)) * rng.uniform(3.0, 12.0))
        grain = np.exp(rng.uniform(0.1, 0.5) * power_law(rng, size, rng.uniform(0.5, 1.2)))
        sheet = sheet * grain * area
        image = rng.uniform(0.0, 0.4) * image + sheet if kind == "sheets" else image + 1.5 * sheet
    image = image * (rng.uniform(0.0, 0.3) + area)
    return unit(gaussian_filter(image, rng.uniform(0.3, 1.0)))
