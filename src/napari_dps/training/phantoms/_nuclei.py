"""Nuclei."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from ..textures import power_law
from ._draw import Array, blob, log_uniform, sigmoid, splat, unit


def nuclei(rng: np.random.Generator, size: int) -> Array:
    """Blobs with wavy outlines and chromatin texture, overlapping at times.

    Radii from 4 pixels to a third of the image; nucleoli, chromocentres and bright mitotic
    plates in some.
    """
    radius = log_uniform(rng, 4.0, size / 3 if rng.random() < 0.3 else size / 6)
    count = max(int(rng.poisson(log_uniform(rng, 0.03, 0.6) * size**2 / (4 * radius**2))), 1)
    centres = rng.uniform(-radius / 2, size + radius / 2, (count, 2))
    # One is always in sight.
    centres[0] = rng.uniform(0, size, 2)
    bright = rng.lognormal(0.0, rng.uniform(0.05, 0.45), count)
    dividing = rng.random(count) < rng.choice([0.0, 0.1])
    through = rng.random() < 0.3
    domed = rng.random() < 0.3
    image = np.zeros((size, size))
    for centre, light, plate in zip(centres, bright, dividing, strict=True):
        aspect = rng.uniform(0.25, 0.4) if plate else rng.uniform(0.55, 1.0)
        found = blob(rng, size, centre, radius * rng.uniform(0.75, 1.25), aspect, 0.08)
        if found is None:
            continue
        body = sigmoid(found.depth / rng.uniform(0.3, 0.9))
        if domed:
            body = body * np.clip(0.4 + found.depth / found.radius, 0.0, 1.0)
        body = body * light * (2.0 if plate else 1.0)
        part = image[found.box]
        # Nuclei that lie on each other add up in a widefield image, not in a section.
        image[found.box] = part + body if through else np.maximum(part, body)
    texture = power_law(rng, size, rng.uniform(0.9, 1.8))
    image = image * np.clip(1.0 + rng.uniform(0.0, 0.35) * texture, 0.05, None)
    if rng.random() < 0.4:
        # Spots brighter (chromocentres) or darker (nucleoli) than the rest.
        number = count * int(rng.integers(2, 9))
        dots = splat(rng.uniform(0, size, (number, 2)), rng.uniform(0.2, 1.0, number), size)
        width = log_uniform(rng, 0.7, max(0.8, radius / 6))
        dots = gaussian_filter(dots, width) * 6.28 * width**2
        image = image * np.clip(1.0 + rng.uniform(-0.8, 2.0) * dots, 0.1, None)
    return unit(image)
