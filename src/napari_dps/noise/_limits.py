"""How large and how small a detector's parameters may be: beyond, arithmetic ends before physics.

Squares of a measurement over its noise must fit into single precision. Units differ widely (a
height in metres, a voltage, normalised grey values), and the limits leave room for all of them.
"""

from __future__ import annotations

from napari_dps.errors import InputError

GAIN = (1e-12, 1e12)
"""ADU per electron."""
READ_NOISE = 1e12
"""Electrons."""
SIGMA = (1e-15, 1e15)
"""In the measurement's own units."""


def within(name: str, value: float, limits: tuple[float, float]) -> float:
    """Return what was estimated from an image, if a recipe can hold it.

    Raises
    ------
    InputError
        If the value is out of its limits.
    """
    low, high = limits
    if not low <= value <= high:
        raise InputError(
            f"the image's {name} is {value:g}, but {low:g} to {high:g} is allowed; rescale the "
            "image"
        )
    return value
