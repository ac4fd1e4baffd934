"""What an image's grey values say about whether they still are counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_dps.saturation import grey_step, saturated

_ASSUMES = "error bars assume counts"


def whole_levels_missing(values: NDArray[np.generic]) -> bool:
    """Whether the histogram of whole numbers has gaps that a stretch of contrast leaves."""
    whole = values[:: max(1, values.size // 2**20)].astype(np.float64)
    low, high = np.quantile(whole, [0.05, 0.75])
    levels = int(high - low) + 1
    inside = whole[(whole >= low) & (whole <= high)]
    if levels < 12 or len(inside) < 30 * levels:
        return False
    return len(np.unique(inside)) < 0.8 * levels


def count_warnings(image: NDArray[np.generic], gain: float) -> list[str]:
    """Return warnings where an image is probably not raw counts.

    Parameters
    ----------
    image : ndarray
        Any shape, in the type it was stored in.
    gain : float
        ADU per electron that the noise model assumes.
    """
    values = np.asarray(image)
    values = values[np.isfinite(values)].ravel()
    found: list[str] = []
    if values.size == 0:
        return found
    step = grey_step(values)
    if values.dtype == np.uint8:
        found.append(f"the image has 8 bits, so it was probably stretched or converted; {_ASSUMES}")
    elif step == 0 and gain == 1:
        found.append(
            f"the image's values are not whole numbers, so they are probably no counts; {_ASSUMES}"
        )
    # A camera with that gain leaves such gaps by itself.
    gaps = (step > 1 and not np.isclose(step, gain, rtol=1e-3)) or (
        step == 1 and gain <= 1 and whole_levels_missing(values)
    )
    if gaps:
        found.append(
            "the image's histogram has regular gaps, so its contrast was probably stretched; "
            f"{_ASSUMES}"
        )
    return found + saturation_warnings(values)


def saturation_warnings(image: NDArray[np.generic]) -> list[str]:
    """Return a warning where pixels are clipped at the largest value, or seem to be."""
    values = np.asarray(image)
    values = values[np.isfinite(values)].ravel()
    if values.size == 0 or values.dtype == bool:
        return []
    top = values.max()
    if np.issubdtype(values.dtype, np.integer) and top == np.iinfo(values.dtype).max:
        share = float((values == top).mean())
        said = f"are saturated at {top:g}; mark them as not valid"
    else:
        share = saturated(values)
        said = (
            f"seem to be saturated at {top:g} and count as measured; if the camera was full there, "
            "mark them as not valid or give its `full_scale`"
        )
    if share < 1e-3:
        return []
    return [f"{share:.1%} of the pixels {said}, or the result is too dark there"]
