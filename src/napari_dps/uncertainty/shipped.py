"""Calibrations that come with napari-dps: of its own prior, its default sampler, common recipes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from napari_dps.errors import InputError
from napari_dps.uncertainty.calibration import Calibration

if TYPE_CHECKING:
    from napari_dps.result import Result

__all__ = ["nearest", "refuse_unknown", "shipped_calibrations", "shipped_for"]

FOLDER = Path(__file__).parent / "calibrations"


@cache
def shipped_calibrations() -> tuple[Calibration, ...]:
    """Return all calibrations in the package."""
    return tuple(Calibration.load(path) for path in sorted(FOLDER.glob("*.json")))


def shipped_for(result: Result) -> Calibration:
    """Return the shipped calibration of a result's recipe, the nearest in brightness.

    Parameters
    ----------
    result : Result
        With its recipe and report.

    Raises
    ------
    InputError
        If none belongs to it; the sentence names the command that makes one.
    """
    fitting = [c for c in shipped_calibrations() if not c.matches(result)]
    if not fitting:
        refuse_unknown()
    return nearest(fitting, result.report.get("scale") or [])


def nearest(calibrations: Sequence[Calibration], scales: Sequence[float]) -> Calibration:
    """Return the calibration that was fitted to images about as bright.

    Of what it was fitted to the brightness that was asked for counts, not the ends of the contrasts
    that were found: one dim crop among hundreds moves those by a factor of ten.

    Parameters
    ----------
    calibrations : sequence of Calibration
        One or more.
    scales : sequence of float
        The object map's contrasts, in photoelectrons; without any the first calibration is taken.
    """
    known = [s for s in scales if s]
    if not known:
        return calibrations[0]
    here = sum(math.log(s) for s in known) / len(known)

    def far(calibration: Calibration) -> float:
        return abs(here - math.log(max(calibration.photons - calibration.background, 1e-30)))

    return min(calibrations, key=far)


def refuse_unknown() -> NoReturn:
    """Say that there is none, and how to make one."""
    raise InputError(
        "no calibration that comes with napari-dps belongs to this recipe; make one with "
        "`napari-dps calibrate --recipe RECIPE -o FILE` and give that"
    )
