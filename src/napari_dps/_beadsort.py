"""Which spots are single beads that can be averaged, and which are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps._beads import Averaged, Bead, average, core, cut
from napari_dps.errors import InputError
from napari_dps.saturation import saturated_pixels

Array = NDArray[np.float64]

REACH = 2.5
"""Half side of the PSF, in full widths at half maximum, where no size is given."""
APART = 0.75
"""Full widths at half maximum beyond the PSF's box in which no other bead may lie."""
AGGREGATE, FAINT = 1.7, 0.3
"""Beads brighter, or fainter, than so many times the typical one are left out..."""
SCATTER = 3.5
"""...unless the beads' brightness scatters so: robust standard deviations."""
UNLIKE, MISSHAPEN = 0.03, 0.25
"""One less the correlation with the average, and relative width, from which a shape is odd..."""
ODD = 4.0
"""...unless the beads' shapes scatter so: robust standard deviations."""
MOST, VALUES = 30, 20_000_000
"""More beads than this are not averaged if they hold more values than that."""
FEW = 3
"""Beads below which an odd one among them cannot be told."""


def reaches(
    sides: Sequence[int | None], beads: list[Bead], width: Sequence[float], shape: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    """Return half sides of the PSF, and of the box whose border tells the background."""
    reach, wide = [], []
    for axis, (side, w, n) in enumerate(zip(sides, width, shape, strict=True)):
        own = max(2, round(REACH * w))
        wide.append(max(own, side or 0))
        if side is not None:
            reach.append(side)
            continue
        # In Z beads lie alike, and a thin stack is better than none.
        rooms = sorted(min(bead.peak[axis], n - 1 - bead.peak[axis]) for bead in beads)
        room = rooms[(len(rooms) - 1) // (4 if len(shape) == 3 and axis == 0 else 2)]
        reach.append(max(2, min(own, max(int(np.ceil(w)), room))))
    return reach, wide


def sort_out(
    beads: list[Bead], data: NDArray[Any], reach: Sequence[int], width: Sequence[float]
) -> None:
    """Mark beads that are saturated or at the border."""
    _, full = saturated_pixels(data)
    for bead in beads:
        near = tuple(
            slice(max(0, p - round(w)), p + round(w) + 1)
            for p, w in zip(bead.peak, width, strict=True)
        )
        if full[near].any():
            bead.verdict = "saturated"
        elif not all(r <= p < n - r for p, r, n in zip(bead.peak, reach, data.shape, strict=True)):
            bead.verdict = "at the border"


def averaged(
    beads: list[Bead],
    values: Array,
    reach: Sequence[int],
    wide: Sequence[int],
    width: Sequence[float],
    whole: bool,
    name: str,
) -> Averaged:
    """Average the good beads, leaving out odd ones as the average shows them."""
    good = _enough([bead for bead in beads if bead.verdict == "used"], reach)
    for bead in good:
        cut(values, bead, reach, wide)
        # Rounding to whole grey values is noise too, and all of it where the ground is black.
        bead.noise = float(np.hypot(bead.noise, 12**-0.5 if whole else 0.0))
    good = _alike_in_light(good, width)
    while good:
        averaged = average(good, width)
        odd = _odd(averaged)
        if not odd.any() or len(good) < FEW:
            return averaged
        for bead, is_odd in zip(good, odd, strict=True):
            if is_odd:
                bead.verdict = "odd shape"
        good = [bead for bead in good if bead.verdict == "used"]
    why = Counter(bead.verdict for bead in beads)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(why.items()))
    raise InputError(
        f"'{name}' shows {len(beads)} bead{'s' * (len(beads) > 1)}, but none that can be used "
        f"({reasons}); give an image of sparser or dimmer beads, or a smaller size"
    )


def _enough(good: list[Bead], reach: Sequence[int]) -> list[Bead]:
    """Return as many beads as memory holds well, evenly of the bright and the dim."""
    most = max(MOST, VALUES // int(np.prod([2 * r + 1 for r in reach])))
    step = max(1, -(-len(good) // most))
    for number, bead in enumerate(good):
        if number % step:
            bead.verdict = "more than needed"
    return good[::step]


def _alike_in_light(good: list[Bead], width: Sequence[float]) -> list[Bead]:
    """Return the beads that are about as bright as most; mark the others."""
    if len(good) < FEW:
        return good
    near = core(good[0].box.shape, width)
    light = np.array([max(float(bead.box[near].sum()), 1e-12) for bead in good])
    # Many faint specks must not pass for the typical bead.
    typical = float(np.median(light[light > 0.1 * np.quantile(light, 0.9)]))
    scatter = 1.4826 * float(np.median(np.abs(light / typical - 1)))
    for bead, ratio in zip(good, light / typical, strict=True):
        if ratio > max(AGGREGATE, 1 + SCATTER * scatter):
            bead.verdict = "too bright (aggregate)"
        elif ratio < min(FAINT, 1 / (1 + SCATTER * scatter)):
            bead.verdict = "too faint"
    return [bead for bead in good if bead.verdict == "used"]


def _odd(averaged: Averaged) -> NDArray[np.bool_]:
    unlike = averaged.unlike
    odd = unlike > max(UNLIKE, ODD * float(np.median(unlike)))
    for scale in averaged.scales.T:
        off = np.abs(scale - np.median(scale))
        odd |= off > max(MISSHAPEN, ODD * 1.4826 * float(np.median(off)))
    return np.asarray(odd)
