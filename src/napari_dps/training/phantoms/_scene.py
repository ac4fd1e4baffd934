"""Whole images: structures in focus and out of it, in cells, under haze and background."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from ...errors import InputError
from ..textures import power_law
from ._cells import cytoplasm, membranes, reticulum
from ._draw import Array, bodies, log_uniform, sigmoid, unit
from ._filaments import filaments, mitochondria
from ._nuclei import nuclei
from ._puncta import puncta

Structure = Callable[[np.random.Generator, int], Array]


def haze(rng: np.random.Generator, size: int) -> Array:
    """Smooth out-of-focus light."""
    field = np.exp(rng.uniform(0.4, 1.0) * power_law(rng, size, rng.uniform(1.8, 3.0)))
    return unit(gaussian_filter(field, rng.uniform(1.0, 6.0)))


#: Each structure and how often a phantom shows it, relative to the others.
STRUCTURES: dict[str, tuple[Structure, float]] = {
    "nuclei": (nuclei, 1.0),
    "filaments": (filaments, 2.0),
    "puncta": (puncta, 1.2),
    "membranes": (membranes, 1.3),
    "mitochondria": (mitochondria, 1.3),
    "reticulum": (reticulum, 0.9),
    "cytoplasm": (cytoplasm, 1.5),
    "haze": (haze, 0.3),
}
#: How often a structure is seen out of focus too, how often the body of its cell shows around it,
#: and how bright at most; chosen so that statistics match real images (benchmarks/phantoms.py).
AROUND = {
    "nuclei": (0.3, 0.0, 0.0),
    "filaments": (0.4, 0.55, 0.5),
    "puncta": (0.4, 0.55, 0.25),
    "membranes": (0.2, 0.0, 0.0),
    "mitochondria": (0.5, 0.8, 0.8),
    "reticulum": (0.4, 0.55, 0.4),
    "cytoplasm": (0.4, 0.0, 0.0),
    "haze": (0.0, 0.0, 0.0),
}


def _thick(rng: np.random.Generator, structure: Structure, size: int) -> Array:
    """Return the same structure below and above the focal plane."""
    plane = structure(rng, size)
    image = np.zeros((size, size))
    for _ in range(int(rng.integers(1, 4))):
        plane = np.rot90(plane)[:, :: rng.choice([-1, 1])]
        image += rng.uniform(0.2, 1.0) * gaussian_filter(plane, log_uniform(rng, 1.5, 12.0))
    return image


def _part(rng: np.random.Generator, name: str, size: int) -> Array:
    """Return one structure as a microscope shows it, with what lies around it."""
    structure = STRUCTURES[name][0]
    thick, inside, level = AROUND[name]
    image = structure(rng, size)
    if rng.random() < thick:
        image = image + _thick(rng, structure, size)
    if rng.random() < inside:
        cell = bodies(rng, size, 4)
        image = image * (rng.uniform(0.0, 0.5) + cell) + rng.uniform(0.0, level) * cell
    return image


def _vary(rng: np.random.Generator, image: Array) -> Array:
    """Blur, light up, warp or mask a phantom the way optics, staining and cell outlines do."""
    size = len(image)
    if rng.random() < 0.3:
        image = gaussian_filter(image, log_uniform(rng, 0.4, 2.5))
    if rng.random() < 0.2:
        image = image + rng.uniform(0.2, 1.5) * gaussian_filter(image, rng.uniform(4.0, 15.0))
    if rng.random() < 0.4:
        # Staining and illumination differ over the field: few parts are as bright as the brightest.
        image = image * np.exp(rng.uniform(0.1, 0.8) * power_law(rng, size, rng.uniform(2.0, 3.0)))
    if rng.random() < 0.25:
        shift = rng.uniform(1.0, 4.0)
        yy, xx = np.mgrid[:size, :size].astype(float)
        at = [yy + shift * power_law(rng, size, 2.5), xx + shift * power_law(rng, size, 2.5)]
        image = map_coordinates(image, at, order=1, mode="reflect")
    if rng.random() < 0.2:
        edge = power_law(rng, size, 2.5) + rng.uniform(-0.5, 1.0)
        image = image * sigmoid(edge * rng.uniform(2.0, 20.0))
    return image


def phantom(rng: np.random.Generator, size: int, only: str | None = None) -> Array:
    """Return one synthetic fluorescence image: structures, haze, background.

    The structures themselves are sharp; part of the images is blurred, hazed and masked as images
    of a microscope are, so that their statistics match real ones (``docs/phantoms.md``).

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness: the same state gives the same image.
    size : int
        Side in pixels, 16 or more.
    only : str or None
        Name of a structure in :data:`STRUCTURES` to draw alone; None draws one to three.

    Returns
    -------
    ndarray, shape (size, size)
        Intensities, 0 where no light is; the 99.8 percentile is 1, except that nothing exceeds
        3.33.

    Raises
    ------
    InputError
        If ``only`` is no structure.
    """
    if only is not None and only not in STRUCTURES:
        raise InputError(f"There is no structure {only!r}: choose one of {', '.join(STRUCTURES)}.")
    names = list(STRUCTURES)
    if only is None:
        odds = np.array([STRUCTURES[name][1] for name in names])
        parts = int(rng.choice([1, 2, 3], p=[0.72, 0.22, 0.06]))
        chosen = rng.choice(names, size=parts, replace=False, p=odds / odds.sum()).tolist()
    else:
        chosen = [only]
    image = np.zeros((size, size))
    for name in chosen:
        image = image + rng.uniform(0.3, 1.0) * _part(rng, name, size)
    if rng.random() < 0.25:
        image = image + log_uniform(rng, 0.02, 0.3) * haze(rng, size)
    image = unit(_vary(rng, image))
    if rng.random() < 0.15:
        image = image + rng.uniform(0.0, 0.2)
    return unit(image)
