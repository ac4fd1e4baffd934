"""The pixels of a prior's training images beside those of the image at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["pixel_size_warnings"]

TOLERANCE = 1.15
"""Structures of varied size hide a smaller difference."""


def pixel_size_warnings(
    trained: float | None, image: tuple[float, ...] | None, facts: Mapping[str, Any]
) -> list[str]:
    """Return what to tell of a prior that is used at another pixel size than its own.

    Parameters
    ----------
    trained : float or None
        Pixel size that the bound prior states, micrometres.
    image : tuple of float or None
        That of the image along Y and X, micrometres.
    facts : mapping
        The prior's identity, for its name.
    """
    if trained is None or image is None:
        return []
    own = (image[0] * image[1]) ** 0.5
    ratio = trained / own
    if 1 / TOLERANCE < ratio < TOLERANCE:
        return []
    name = facts.get("name") or facts.get("kind", "")
    size = f"{ratio:.3g} times as large" if ratio > 1 else f"{1 / ratio:.3g} times as small"
    text = (
        f"the prior {name!r} learned at {trained:.4g} um a pixel, this image has {own:.4g}: its "
        f"structures are {size}, in pixels, as those that the prior knows; "
    )
    if ratio > 1:
        return [text + "resample the prior (`resample` of checkpoint) or take another"]
    return [text + "take a prior of that pixel size, since finer detail cannot be resampled"]
