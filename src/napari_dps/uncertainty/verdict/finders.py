"""Which findings there are; each is named, so that nothing heavy loads before it is asked for."""

from __future__ import annotations

from importlib import import_module

from napari_dps.uncertainty.verdict.evidence import Finder

__all__ = ["COSTLY", "TITLES", "load"]

COSTLY: tuple[str, ...] = (
    "support:find",
    "familiarity:find",
    "stability:find",
    "jensen:find",
)
"""``module:function`` of findings beyond the residuals, run by :func:`napari_dps.assess`."""

TITLES = {
    "support": "Where does it come from the prior?",
    "familiarity": "Does the prior know such images?",
    "stability": "How stable?",
    "jensen_gap": "How good is the approximation?",
}
"""Headings of these findings by name, for a page that has to say that they are missing."""


def load(name: str) -> Finder:
    """Return the finder named ``module:function``, the module relative to this package."""
    module, function = name.split(":")
    found: Finder = getattr(import_module(f"{__package__}.{module}"), function)
    return found
