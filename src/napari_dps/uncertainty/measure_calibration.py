"""Error bars of a measurement, made to hold on objects that were planted and so are known.

Split-conformal prediction (Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World",
2005; Lei et al., "Distribution-Free Predictive Inference for Regression", JASA 113, 2018) of one
number. Case i has the truth t_i and posterior draws with mean m_i and standard deviation s_i; its
score is z_i = (t_i - m_i)/s_i. With n cases in ascending order of z and alpha = 1 - level, the
interval is

    [m + z_(n + 1 - k) s, m + z_(k) s],    k = ceil((n + 1)(1 - alpha/2)).

A further case that is exchangeable with the n lies inside with probability at least 1 - alpha, and
at most 1 - alpha + 2/(n + 1) where no two scores are equal. The sides are fitted apart, so that a
bias of the draws is taken out, not only a spread that is too small. The promise is for the
population of planted objects as a whole: not for the faintest of them, nor for other objects.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError
from napari_dps.uncertainty._kept import FORMAT, Kept
from napari_dps.uncertainty._noise_ratio import joined, other_noise
from napari_dps.uncertainty.calibration import different_parts
from napari_dps.uncertainty.conformal import LEVELS
from napari_dps.uncertainty.measure import Measurement

__all__ = [
    "MeasureCalibration", "apply_calibration", "calibrate_measurement", "calibrate_what_fits",
    "cases_needed",
]  # fmt: skip

Array = NDArray[np.float64]

FLOOR = 0.05
"""Least standard deviation of draws, over the root-mean-square one of all cases."""


class MeasureCalibration(Kept):
    """Factors that make the interval of one quantity hold, and how often it did.

    Made by :func:`calibrate_measurement`; used by :meth:`Measurement.calibrated`.
    """

    known_by: ClassVar[str] = "quantity"
    stranger: ClassVar[str] = "is no calibration of a measurement; calibrate_measurement makes one"

    format: int = FORMAT
    """Of the file."""
    quantity: str
    """What is measured, as the measurement names it, without the number of a region."""
    unit: str
    """Of the quantity."""
    cases: int
    """Number of planted cases that the factors rest on."""
    absent: int
    """Cases left out, since too few of their draws had a value."""
    least_found: float
    """Share of draws that must have a value."""
    floor: float
    """Least standard deviation of draws, in ``unit``."""
    factors: dict[str, tuple[float, float]]
    """By level: the interval is mean + factors times the standard deviation of the draws."""
    nominal_coverage: dict[str, float | None]
    """Share of cases inside the draws' own interval, by level; None where draws were too few."""
    calibrated_coverage: dict[str, float | None]
    """Share inside the calibrated interval, each half of the cases (every other one) judged by
    factors fitted to the other half; None where a half is too few. Not leave one out, which for
    order statistics comes out as promised whatever the cases are."""
    parts: dict[str, Any] | None = None
    """Recipe that it belongs to (prior, sampler, forward model, noise, samples), where known."""

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels that were fitted."""
        return tuple(float(level) for level in self.factors)

    def factor(self, level: float) -> tuple[float, float]:
        """Return the two factors of a level.

        Raises
        ------
        InputError
            If it was not fitted; the sentence names those that were.
        """
        for name, value in self.factors.items():
            if abs(float(name) - level) < 1e-9:
                return value
        raise InputError(
            f"the calibration has no level {level!r}; it was fitted at {', '.join(self.factors)}"
        )


def cases_needed(level: float) -> int:
    """Return how many cases a level needs: the smallest n with ceil((n + 1)(1 - alpha/2)) <= n.

    19 for 0.9, 39 for 0.95.

    Raises
    ------
    InputError
        If `level` is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"level {level!r} must lie between 0 and 1, for example 0.9.")
    # 2/(1 - 0.9) - 1 is 19.000000000000004 in floating point; 19 is meant.
    return math.ceil((2.0 / (1.0 - level) - 1.0) * (1.0 - 1e-9))


def calibrate_measurement(
    truths: Sequence[float],
    measurements: Sequence[Measurement],
    *,
    levels: Sequence[float] | None = None,
    floor: float | None = None,
    least_found: float = 0.5,
) -> MeasureCalibration:
    """Fit factors to planted cases.

    Parameters
    ----------
    truths : sequence of float
        What was planted, in the measurements' unit.
    measurements : sequence of Measurement
        One of each case, with one value: ``measure(result, function)``, ``.select(name)`` of it.
    levels : sequence of float, optional
        Those of 0.5, 0.8, 0.9, 0.95 for which there are cases enough, where left out.
    floor : float, optional
        Least standard deviation; 0.5 does for counts. A twentieth of the root-mean-square one
        over the cases where left out (which then are, strictly, not quite exchangeable with the
        next one).
    least_found : float
        A case counts, and an interval is given, where this share of the draws has a value.

    Returns
    -------
    MeasureCalibration

    Raises
    ------
    InputError
        If the cases do not fit each other, or are too few; the sentence names the number.
    """
    _check(truths, measurements)
    means, stds, usable = _moments(measurements, least_found)
    count = int(usable.sum())
    wanted = [v for v in LEVELS if cases_needed(v) <= count] if levels is None else list(levels)
    needed = max((cases_needed(v) for v in wanted), default=cases_needed(min(LEVELS)))
    if count < needed:
        raise InputError(
            f"a {max(wanted, default=min(LEVELS)):g} interval of a measurement needs at least "
            f"{needed} planted cases with a value; there are {count}: plant more, or ask for a "
            "lower level"
        )
    least = _floor(stds[usable]) if floor is None else float(floor)
    known = np.asarray(truths, dtype=np.float64)
    scores = ((known - means) / np.maximum(stds, least))[usable]
    first = measurements[0]
    parts = [found.parts for found in measurements if found.parts]
    return MeasureCalibration(
        quantity=_quantity(first.names[0]),
        unit=first.unit,
        cases=count,
        absent=len(known) - count,
        least_found=least_found,
        floor=least,
        factors={f"{v:g}": _factors(scores, v) for v in wanted},
        nominal_coverage={f"{v:g}": _nominal(known, measurements, usable, v) for v in wanted},
        calibrated_coverage={f"{v:g}": _by_halves(scores, v) for v in wanted},
        parts=joined(parts) if parts else None,
    )


def apply_calibration(
    measurement: Measurement, calibration: MeasureCalibration, *, flag: bool = False
) -> tuple[Array, Array, str]:
    """Return (low, high, note) of a measurement under a calibration; NaN where too few draws are.

    Where either does not know its recipe, the note says that it was not compared. Noise beside
    which the objects are more than twice as faint or bright as in the cases is warned of.

    Raises
    ------
    InputError
        If it is of another quantity or unit or, unless ``flag`` is set, of another recipe.
    """
    others = [name for name in measurement.names if _quantity(name) != calibration.quantity]
    if others:
        raise InputError(
            f"the calibration is of {calibration.quantity!r}, but the measurement holds "
            f"{others[0]!r}; take the values that it is of with select()"
        )
    if measurement.unit != calibration.unit:
        raise InputError(
            f"the calibration is in {calibration.unit!r}, but the measurement in "
            f"{measurement.unit!r}: calibrate in one unit"
        )
    note = f"calibrated on {calibration.cases} cases"
    if calibration.parts is None or measurement.parts is None:
        note += " (recipe not compared)"
    else:
        found = different_parts(measurement.parts, calibration.parts)
        if found and not flag:
            raise InputError(
                f"the calibration belongs to another recipe ({found[0]}); calibrate this one, or "
                "apply it all the same with flag=True"
            )
        note += f" of another recipe: {'; '.join(found)}" if found else ""
        unlike = other_noise(measurement.parts, calibration.parts)
        if unlike:
            note += " at other noise"
            warnings.warn(
                f"the planted cases had {unlike}: calibrated intervals may not hold", stacklevel=3
            )
    below, above = calibration.factor(measurement.level)
    finite = np.isfinite(measurement.draws).sum(0)
    enough = (measurement.found >= calibration.least_found) & (finite > 1)
    spread = np.maximum(np.nan_to_num(measurement.std), calibration.floor)
    low = np.where(enough, measurement.value + below * spread, np.nan)
    high = np.where(enough, measurement.value + above * spread, np.nan)
    return low, high, note


def calibrate_what_fits(measurement: Measurement, calibration: MeasureCalibration) -> Measurement:
    """Return a measurement with the values calibrated that a calibration is of, the rest as drawn.

    ``note`` says which, and ``notes`` of each.

    Raises
    ------
    InputError
        As :func:`apply_calibration`, also if it is of none of the values.
    """
    fits = np.array([_quantity(name) == calibration.quantity for name in measurement.names])
    if fits.all() or not fits.any():
        return measurement.calibrated(calibration)
    names = [name for name, fit in zip(measurement.names, fits, strict=True) if fit]
    part = measurement.select(*names).calibrated(calibration)
    low, high = measurement.low.copy(), measurement.high.copy()
    low[fits], high[fits] = part.low, part.high
    own = measurement.notes or (measurement.note,) * len(measurement)
    notes = tuple(part.note if fit else told for fit, told in zip(fits, own, strict=True))
    note = f"{calibration.quantity}: {part.note}; the rest {measurement.note}"
    return replace(measurement, low=low, high=high, note=note, notes=notes)


def _quantity(name: str) -> str:
    """Return a value's name without the number of its region, ring or frame; M1 is a name."""
    return re.sub(r" \d+$", "", name.split(",")[0])


def _check(truths: Sequence[float], measurements: Sequence[Measurement]) -> None:
    if len(truths) != len(measurements) or len(truths) == 0:
        raise InputError(
            f"{len(truths)} truths came with {len(measurements)} measurements: give one "
            "measurement of each planted case"
        )
    if not np.isfinite(np.asarray(truths, dtype=np.float64)).all():
        raise InputError("planted values must be finite numbers")
    first = measurements[0]
    for k, found in enumerate(measurements):
        if len(found) != 1:
            raise InputError(
                f"case {k} holds {len(found)} values; a calibration is of one: choose it with "
                "select()"
            )
        if (_quantity(found.names[0]), found.unit) != (_quantity(first.names[0]), first.unit):
            raise InputError(
                f"case {k} is {found.names[0]!r} in {found.unit!r}, but the first is "
                f"{first.names[0]!r} in {first.unit!r}: measure the same in every case"
            )
        differ = [] if not found.parts or not first.parts else different_parts(
            found.parts, first.parts
        )  # fmt: skip
        if differ:
            raise InputError(
                f"case {k} was restored by another recipe than the first ({differ[0]}): restore "
                "all by one"
            )


def _moments(
    measurements: Sequence[Measurement], least_found: float
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return mean and standard deviation of each case's draws, and whether it counts."""
    means = np.array([found.value[0] for found in measurements])
    stds = np.array([found.std[0] for found in measurements])
    usable = np.array([found.found[0] >= least_found for found in measurements])
    return means, stds, usable & np.isfinite(stds)


def _floor(stds: Array) -> float:
    typical = float(np.sqrt(np.mean(stds**2))) if len(stds) else 0.0
    return max(FLOOR * typical, float(np.finfo(np.float32).tiny))


def _factors(scores: Array, level: float) -> tuple[float, float]:
    """Return the order statistics of the scores between which a level lies."""
    ordered, n = np.sort(scores), len(scores)
    # 100 (1 - 0.05) is 95.00000000000001 in floating point; 95 is meant.
    k = math.ceil((n + 1) * (1.0 + level) / 2.0 * (1.0 - 1e-12))
    return float(ordered[n - k]), float(ordered[k - 1])


def _by_halves(scores: Array, level: float) -> float | None:
    """Return the share of each half's scores between the factors fitted to the other half."""
    halves = [scores[::2], scores[1::2]]
    if min(len(half) for half in halves) < cases_needed(level):
        return None
    inside = []
    for judged, fitted in (halves, halves[::-1]):
        low, high = _factors(fitted, level)
        inside.append((low <= judged) & (judged <= high))
    return float(np.mean(np.concatenate(inside)))


def _nominal(
    truths: Array, measurements: Sequence[Measurement], usable: NDArray[np.bool_], level: float
) -> float | None:
    """Return the share of cases inside the draws' own interval, over those that have one."""
    inside = []
    for truth, found, counts in zip(truths, measurements, usable, strict=True):
        again = found.at(level)
        if counts and np.isfinite(again.low[0]):
            inside.append(bool(again.low[0] <= truth <= again.high[0]))
    return float(np.mean(inside)) if inside else None
