"""What a stack of one scene tells about its noise: how pixels change from frame to frame.

The difference of a frame from the mean of its two neighbours has no static structure, and none that
fades or moves evenly. Its variance is 3/2 of the noise's, its third cumulant 3/4. What is left by
faster bleaching or motion lies at edges; it is kept out as structure is in a single image: variance
is read from the finest diagonal band, in patches that the coarser bands show to be flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError
from napari_dps.noise._estimate import (
    MOST_PIXELS,
    ROUNDED,
    SMALLEST,
    Array,
    Patches,
    blocks,
    darkest,
    grids_with,
)
from napari_dps.noise._missing import Filling
from napari_dps.saturation import grey_step, saturated

FEWEST = 3
"""Frames below which a stack is none."""
_VARIANCE, _THIRD = 3 / 2, 3 / 4
# Differences in a row share frames: they correlate by -2/3 and 1/6, their squares by the square.
_SHARED = ((2 / 3) ** 2, (1 / 6) ** 2)


def changes(stack: NDArray[np.generic]) -> tuple[Array, Array]:
    """Return what frames show in the mean and what changes in them, both (frames - 2, Y, X).

    The second has the variance of a frame's noise.

    Parameters
    ----------
    stack : ndarray, shape (frames, Y, X)
        Frames in the order of time.
    """
    values = np.asarray(stack, dtype=np.float64)
    mean = (values[:-2] + values[1:-1] + values[2:]) / 3
    return mean, (values[1:-1] - (values[:-2] + values[2:]) / 2) / np.sqrt(_VARIANCE)


def known_means(values: Array) -> Array:
    """Return the means over patches of what is not missing, NaN where too little is left."""
    there = np.isfinite(values)
    share = blocks(there.astype(np.float64))
    mean = blocks(np.where(there, values, 0.0)) / np.maximum(share, 1e-9)
    return np.where(share > 0.25, mean, np.nan)


def independent(count: int) -> float:
    """Return how many independent differences ``count`` of them in a row are worth."""
    shared = sum(2 * (1 - lag / count) * rho for lag, rho in enumerate(_SHARED, 1) if lag < count)
    return count / (1 + shared)


def measure_stack(parts: Sequence[NDArray[np.generic]]) -> Patches:
    """Return the patch statistics of a stack, averaged over time.

    Parameters
    ----------
    parts : sequence of ndarray, shape (frames, Y, X)
        The stack, or its images of every second pixel, each in the order of time.

    Raises
    ------
    InputError
        If there are fewer than three frames, if they are too small or constant, or if too little
        of them is not clipped.
    """
    frames, *sides = np.shape(parts[0])
    if frames < FEWEST:
        raise InputError(
            f"there is no stack to estimate the noise from, but {frames} frame"
            f"{'s' if frames > 1 else ''}; give {FEWEST} or more of one scene, or set "
            "estimate_from to 'image'"
        )
    if min(sides) < SMALLEST:
        raise InputError(
            f"a stack of {sides[0]} x {sides[1]} pixels is too small to estimate its noise (at "
            f"least {SMALLEST} x {SMALLEST}); give the noise parameters"
        )
    # The first frames of a long stack: their order in time must stay.
    most = max(FEWEST, MOST_PIXELS // max(1, sides[0] * sides[1] * len(parts)))
    cut = [np.asarray(part[:most]) for part in parts]
    finite = np.concatenate([part[np.isfinite(part)] for part in cut])
    if finite.size == 0 or finite.max() == finite.min():
        raise InputError(
            "the stack is constant, so that its noise cannot be estimated; give the noise "
            "parameters, or another stack"
        )
    ceiling = finite.max() if saturated(finite) > 0 else np.inf
    found = [_over_time(part, float(ceiling)) for part in cut]
    mean, fine, side, third = (
        np.concatenate([getattr(patches, name) for patches in found])
        for name in ("mean", "fine", "side", "third")
    )
    together = replace(
        found[0],
        mean=mean,
        fine=fine,
        side=side,
        third=third,
        dark=min(p.dark for p in found),
        step=grey_step(finite),
    )
    if len(together.mean) < 9:
        raise InputError(
            "almost every part of the stack is clipped, missing or without noise, so that its "
            "noise cannot be estimated; give the noise parameters"
        )
    return together


def _over_time(stack: NDArray[np.generic], ceiling: float) -> Patches:
    """Return one patch per place: its mean and the statistics of its change, over all time."""
    values = np.asarray(stack, dtype=np.float64)
    missing: NDArray[np.bool_] = np.any(np.isnan(values), axis=0)
    filling = Filling(missing)
    bad: NDArray[np.bool_] = np.any(np.isinf(values) | (values >= ceiling), axis=0)
    values = np.where(np.isfinite(values), values, 0.0)
    (mean, *_), good = grids_with(filling, values.mean(axis=0), bad)
    dark = darkest(mean, good) if good.sum() >= 4 else np.inf
    sums = [np.zeros_like(mean) for _ in range(3)]
    change = changes(values)[1]
    for frame in change:
        for total, grid in zip(sums, grids_with(filling, frame, bad)[0][1:], strict=True):
            total += grid / len(change)
    fine, side, third = sums
    good &= fine > ROUNDED * max(float(np.abs(values).max()), 1e-300) ** 2
    return Patches(
        mean[good],
        fine[good],
        side[good],
        third[good] * _VARIANCE**1.5 / _THIRD,
        dark,
        0.0,
        frames=float(len(values)),
        repeats=independent(len(change)),
    )
