"""The order of axes in which a result's series lie on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMESPACE = "napari-dps/result"
"""Under which a file tells that it is a result."""


def map_label(number: int) -> str:
    """Return the name of the series of a map, which may itself be named by any text."""
    return f"map-{number}"


# Both formats want the picture last and know few orders of the rest. Arrays are stored in an order
# they know ("Q" is the sample axis) and put back on reading; `meta` keeps the true axes and shape.


def tiff_order(name: str, axes: str) -> str:
    """Return the axes of a series as they lie in an OME-TIFF."""
    high = "".join(letter for letter in axes if letter not in "YX")
    if name == "samples":
        # OME knows T, Z and C only; a further axis lies along an unused one or behind a used one.
        high = high[:1] + "Q" + high[1:] if len(high) == 3 else "Q" + high
    return high + "YX"


def zarr_order(name: str, axes: str) -> str:
    """Return the axes of a series as they lie in an OME-Zarr."""
    # OME-Zarr 0.5: time first, then one channel-like axis, then space.
    q = "Q" if name == "samples" else ""
    return "".join(letter for letter in "T" + q + "CZYX" if letter in axes + q)


def full(name: str, axes: str) -> str:
    """Return the axes of a series as they lie in memory."""
    return "Q" + axes if name == "samples" else axes


def store(array: NDArray[np.float32], name: str, axes: str, order: str) -> NDArray[np.float32]:
    """Return a series with its axes in another order."""
    own = full(name, axes)
    moved = array.transpose([own.index(letter) for letter in order])
    return np.ascontiguousarray(moved, dtype=np.float32)


def unstore(
    array: NDArray[Any], name: str, meta: dict[str, Any], order: str
) -> NDArray[np.float32]:
    """Return a series with its axes back in their own order; undoes :func:`store`."""
    own = full(name, meta["axes"])
    sizes = dict(zip(meta["axes"], meta["shape"], strict=True)) | {"Q": meta["samples"]}
    array = array.reshape([sizes[letter] for letter in order])
    array = array.transpose([order.index(letter) for letter in own])
    return np.ascontiguousarray(array, dtype=np.float32)
