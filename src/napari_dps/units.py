"""Lengths as files write them."""

from __future__ import annotations

__all__ = ["to_micrometer"]

_MICROMETERS = {
    "pm": 1e-6,
    "picometer": 1e-6,
    "å": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "µm": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "inch": 25400.0,
    "inches": 25400.0,
    "in": 25400.0,
    "m": 1e6,
    "meter": 1e6,
}


def to_micrometer(unit: str) -> float | None:
    """Return how many micrometres one `unit` is.

    Parameters
    ----------
    unit : str
        A name or symbol as files write it: ``"nm"``, ``"µm"``, ``"microns"``, ``"inch"``, ...

    Returns
    -------
    float or None
        The factor; None where `unit` is no length (``"pixel"``, ``""``, ...).
    """
    text = unit.strip().lower()
    # ImageJ escapes the micro sign, and files saved in the wrong code page mangle it.
    for wrong in ("\\u00b5", "\\u03bc", "â\u00b5", "\u03bc"):
        text = text.replace(wrong, "µ")
    text = text.replace("\u212b", "å").replace("metre", "meter")
    if text not in _MICROMETERS and text.endswith("s"):
        text = text[:-1]
    return _MICROMETERS.get(text)
