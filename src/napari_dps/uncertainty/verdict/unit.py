"""The units of a result's pictures and numbers, as a page names them."""

from __future__ import annotations

from typing import Any

from napari_dps.errors import InputError

__all__ = ["measured_unit", "object_unit", "units_of"]

ANY = "input units"


def measured_unit(recipe: Any) -> str:
    """Return the unit of the measurement: electrons, ADU, or whatever the input has."""
    noise = getattr(recipe, "noise", None)
    if noise is None:
        return ""
    if noise.kind == "gaussian":
        return ANY
    try:
        return "electrons" if noise.camera() == (1.0, 0.0) else "ADU"
    except InputError:  # a recipe that was never run: its camera is still to be estimated
        return ANY


def object_unit(recipe: Any, measured: str) -> str:
    """Return the unit of the object, given that of the measurement.

    Phase retrieval restores a root of it, ptychography what light passes through.
    """
    forward = getattr(recipe, "forward", None)
    if forward is None or not measured:
        return ""
    # What a model makes of a camera tells which unit its object has.
    made = float(forward.object_to_input(1.0, 4.0, 7.0))
    if made in (11.0, 4.0):
        return measured
    return f"root {measured}" if made == 2.0 else "object units"


def units_of(recipe: Any) -> dict[str, str]:
    """Return the units of the ``measurement``, the ``object``, and its ``scale``."""
    measured = measured_unit(recipe)
    light = "electrons" if measured == "ADU" else measured
    return {
        "measurement": measured,
        "object": object_unit(recipe, measured),
        "scale": object_unit(recipe, light),
    }
