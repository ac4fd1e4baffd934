"""How far a PSF may reach: from one end of the image to the other, and what that costs."""

from collections.abc import Sequence

import numpy as np

from napari_dps.errors import InputError
from napari_dps.grid import Grid

LARGE = 8
"""An object's grid of more than this many times the image's pixels is worth a word."""

ENOUGH = 0.99
"""A PSF that was cut to less of its light than this is worth a word."""


def within_reach(psf: np.ndarray, grid: Grid, boundary: str) -> np.ndarray:
    """Return a centred PSF cut to what can reach from one end of the image to the other.

    Parameters
    ----------
    psf : ndarray, odd sides
        Of sum one.
    grid : Grid
        The image's grid, with as many axes.
    boundary : {"extend", "periodic"}
        What is wrapped around is not cut.

    Raises
    ------
    InputError
        If all of its light lies beyond.
    """
    if boundary == "periodic":
        return psf
    reach = [min(k // 2, n - 1) for k, n in zip(psf.shape, grid.shape, strict=True)]
    index = tuple(slice(k // 2 - r, k // 2 + r + 1) for k, r in zip(psf.shape, reach, strict=True))
    part = psf[index]
    if part.shape == psf.shape:
        return psf
    light = part.sum()
    if light <= 0:
        raise InputError(
            f"all light of the PSF lies farther from its centre than an image of {grid.shape} "
            "pixels reaches; give a larger image, or a smaller blur"
        )
    return np.asarray(part / light)


def reach_warnings(shape: Sequence[int], grid: Grid, remedy: str) -> list[str]:
    """Warn where light from beyond the image makes the object's grid many times larger.

    Parameters
    ----------
    shape : sequence of int
        The PSF's sides.
    grid : Grid
        The image's grid.
    remedy : str
        What makes the run faster.
    """
    growth = np.prod([1 + (k - 1) / n for k, n in zip(shape, grid.shape, strict=True)])
    if growth <= LARGE:
        return []
    return [
        f"the PSF reaches over {' x '.join(map(str, shape))} pixels, so the object's grid is "
        f"{growth:.0f} times the image's; {remedy} makes the run faster"
    ]


def cut_warnings(whole: Sequence[np.ndarray], cut: Sequence[np.ndarray]) -> list[str]:
    """Warn where a PSF was cut so that a good part of its light is not modelled.

    Parameters
    ----------
    whole, cut : sequence of ndarray
        The PSF before and after, or factors of it whose product it is.
    """
    share = 1.0
    for psf, part in zip(whole, cut, strict=True):
        edge = [(k - c) // 2 for k, c in zip(psf.shape, part.shape, strict=True)]
        index = tuple(slice(e, e + c) for e, c in zip(edge, part.shape, strict=True))
        share *= float(psf[index].sum())
    if share > ENOUGH:
        return []
    sides = " x ".join(str(n) for part in cut for n in part.shape)
    return [
        f"the PSF is wider than the image and was cut to {sides} pixels, which hold {share:.0%} of "
        "its light; give a larger image"
    ]
