"""Procedural fluorescence: what cells look like, drawn from a seed with numpy and scipy alone.

Each structure function takes a generator and a side in pixels and returns non-negative intensities
of shape (size, size), about 1 where bright, sharp as no microscope would show them.
:func:`phantom` mixes them, with haze, background and blur, or draws one by its name;
:data:`STRUCTURES` has them all. ``docs/phantoms.md`` compares them with real images.

    >>> import numpy as np
    >>> from napari_dps.training.phantoms import filaments, phantom
    >>> rng = np.random.default_rng(0)
    >>> phantom(rng, 128).shape, phantom(rng, 128, "nuclei").shape
    ((128, 128), (128, 128))
    >>> stiff = filaments(rng, 128, persistence=2000.0, density=0.1)
"""

from ._cells import cytoplasm, membranes, reticulum
from ._filaments import filaments, mitochondria
from ._nuclei import nuclei
from ._puncta import puncta
from ._scene import STRUCTURES, Structure, haze, phantom

__all__ = [
    "STRUCTURES",
    "Structure",
    "cytoplasm",
    "filaments",
    "haze",
    "membranes",
    "mitochondria",
    "nuclei",
    "phantom",
    "puncta",
    "reticulum",
]
