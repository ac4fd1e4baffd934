"""Numbers with error bars: any function of an image, applied to every sample of a posterior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dps._quantiles import check_level, quantiles, ranks, samples_needed
from napari_dps.errors import InputError
from napari_dps.uncertainty._draws import (
    alike,
    common_note,
    few_names,
    frame_by_frame,
    named_numbers,
    one_of_each,
)

if TYPE_CHECKING:
    from napari_dps.result import Result
    from napari_dps.uncertainty.measure_calibration import MeasureCalibration

__all__ = ["Measurement", "from_draws", "measure"]


@dataclass(frozen=True)
class Measurement:
    """What a function says of every sample.

    Attributes
    ----------
    names : tuple of str
        One per value, K of them.
    draws : ndarray, shape (S, K)
        The function of each sample; NaN where it has none (no peak to measure, say).
    value : ndarray, shape (K,)
        Mean of the draws.
    low, high : ndarray, shape (K,)
        Credible interval with equal tails, from order statistics of the finite draws; NaN where
        these are too few for the level.
    level : float
        Probability inside.
    found : ndarray, shape (K,)
        Share of samples in which the value exists.
    unit : str
        Of the values.
    position : ndarray or None, shape (K,)
        Where along a line or over which frequency the values lie, for a plot.
    position_unit : str
        Of ``position``.
    note : str
        What the interval rests on: "nominal", the spread of the draws as it is, or "calibrated on
        N cases".
    parts : dict or None
        Recipe of the result that it is of, as calibrations compare it; None where unknown.
    pairs : bool
        Whether draws 0 and 1, 2 and 3, ... are of antithetic partners, see :func:`from_draws`.
    notes : tuple of str
        What the interval of each value rests on, where that differs; else empty.
    """

    names: tuple[str, ...]
    draws: NDArray[np.float64]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    level: float
    found: NDArray[np.float64]
    unit: str = ""
    position: NDArray[np.float64] | None = None
    position_unit: str = ""
    note: str = "nominal"
    parts: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    pairs: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """How many values there are."""
        return len(self.names)

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of the finite draws, shape (K,)."""
        return _over_finite(self.draws, lambda v: float(v.std(ddof=1)) if len(v) > 1 else np.nan)

    @property
    def median(self) -> NDArray[np.float64]:
        """Median of the finite draws, shape (K,)."""
        return _over_finite(self.draws, lambda v: float(np.median(v)))

    def select(self, *names: str) -> Measurement:
        """Return some of the values.

        Raises
        ------
        InputError
            If there is none of such a name.
        """
        missing = [name for name in names if name not in self.names]
        if missing or not names:
            raise InputError(
                f"there is no value {missing[0] if missing else ''!r}; there are "
                f"{few_names(self.names)}"
            )
        at = [self.names.index(name) for name in names]
        return replace(
            self,
            names=names,
            draws=self.draws[:, at],
            value=self.value[at],
            low=self.low[at],
            high=self.high[at],
            found=self.found[at],
            position=None if self.position is None else self.position[at],
            note=self.notes[at[0]] if len(at) == 1 and self.notes else self.note,
            notes=tuple(self.notes[k] for k in at) if self.notes and len(at) > 1 else (),
        )

    def at(self, level: float) -> Measurement:
        """Return the same draws with their own interval at another level, so "nominal"."""
        return from_draws(
            self.draws,
            self.names,
            level=level,
            unit=self.unit,
            position=self.position,
            position_unit=self.position_unit,
            parts=self.parts,
            pairs=self.pairs,
        )

    def calibrated(self, calibration: MeasureCalibration, *, flag: bool = False) -> Measurement:
        """Return this measurement with intervals that held on planted objects.

        Parameters
        ----------
        calibration : MeasureCalibration
            Of this quantity and recipe;
            :func:`~napari_dps.uncertainty.measure_calibration.calibrate_measurement` makes it.
        flag : bool
            Apply it to another recipe all the same: the note says so.

        Raises
        ------
        InputError
            If it is of another quantity, unit or recipe, or was not fitted at this level.
        """
        from napari_dps.uncertainty.measure_calibration import MeasureCalibration as Kind
        from napari_dps.uncertainty.measure_calibration import apply_calibration

        if not isinstance(calibration, Kind):
            raise InputError(
                f"{calibration!r} is no calibration of a measurement; give one that "
                "calibrate_measurement made, or MeasureCalibration.load(PATH)"
            )
        low, high, note = apply_calibration(self, calibration, flag=flag)
        return replace(self, low=low, high=high, note=note, notes=())

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the table as a dict of arrays: name, value, low, high, std, found."""
        table: dict[str, NDArray[Any]] = {"name": np.array(self.names, dtype=object)}
        if self.position is not None:
            table["position"] = self.position
        table |= {"value": self.value, "low": self.low, "high": self.high}
        return table | {"std": self.std, "found": self.found}

    def table(self) -> Any:
        """Return a pandas DataFrame where pandas is installed, else :meth:`columns`."""
        try:
            import pandas
        except ImportError:
            return self.columns()
        return pandas.DataFrame(self.columns())

    def plot(self, axes: Any = None) -> Any:
        """Draw the values with their interval: a line with its band, or points with error bars.

        Parameters
        ----------
        axes : matplotlib Axes, optional
            Where; a new figure where left out.

        Returns
        -------
        matplotlib Axes
        """
        if axes is None:
            from matplotlib.figure import Figure

            axes = Figure(layout="constrained").subplots()
        label = f"{self.level * 100:g} % interval ({self.note})"
        if self.position is not None:
            axes.fill_between(self.position, self.low, self.high, alpha=0.3, label=label)
            axes.plot(self.position, self.value, label="mean")
            axes.set_xlabel(f"position ({self.position_unit})" if self.position_unit else "")
        else:
            at = np.arange(len(self))
            error = np.clip([self.value - self.low, self.high - self.value], 0, None)
            axes.errorbar(at, self.value, error, fmt="o", capsize=3, label=label)
            axes.set_xticks(at, self.names, rotation=30 if len(self) > 4 else 0)
        axes.set_ylabel(self.unit)
        axes.legend(frameon=False)
        return axes


def measure(
    result: Result | NDArray[Any],
    function: Callable[[NDArray[Any]], Any],
    *,
    level: float = 0.9,
    unit: str | None = None,
    pairs: bool | None = None,
) -> Measurement:
    """Apply a function of an image to every sample of a result.

    Parameters
    ----------
    result : Result, or array of shape (S, ...)
        The posterior samples.
    function : callable
        ``function(sample) -> number``, a sequence of numbers, or a mapping of names to numbers; of
        the same length for every sample. ``sample`` is a copy, of the image's shape, which the
        function may change. NaN where there is nothing to measure. See :mod:`.regions`,
        :mod:`.profiles`, :mod:`.colocalisation` for ready ones. One with an attribute ``by_frame``
        that is true gets each frame of a result with time or channels, not the stack.
    level : float
        Probability inside the interval.
    unit : str, optional
        Of the values; ready functions know theirs.
    pairs : bool, optional
        Whether samples 0 and 1, 2 and 3, ... are antithetic partners, see :func:`from_draws`; a
        result knows.

    Returns
    -------
    Measurement

    Raises
    ------
    InputError
        If the result is a point estimate, has too few samples for the level, or the function
        returns no real numbers, or something else for some samples than for others.
    """
    samples = _samples(result)
    check_level(level, len(samples))
    of_image = frame_by_frame(function, getattr(result, "axes", None))
    rows: list[NDArray[np.float64]] = []
    names: tuple[str, ...] | None = None
    for k, sample in enumerate(samples):
        found, row = named_numbers(of_image(np.array(sample)), function)
        if names is None:
            names = found
        elif found != names:
            raise InputError(
                f"the function returned {len(found)} values ({few_names(found)}) for sample {k} "
                f"but {len(names)} ({few_names(names)}) for the first: return the same ones for "
                "every sample, NaN where there is none"
            )
        rows.append(row)
    assert names is not None
    return from_draws(
        np.array(rows),
        names,
        level=level,
        unit=unit if unit is not None else str(getattr(function, "unit", "")),
        position=getattr(function, "position", None),
        position_unit=str(getattr(function, "position_unit", "")),
        note=_note(result),
        parts=_parts(result),
        pairs=bool(getattr(result, "pairs", False) if pairs is None else pairs),
    )


def from_draws(
    draws: NDArray[np.float64],
    names: Sequence[str],
    *,
    level: float,
    unit: str = "",
    position: Any = None,
    position_unit: str = "",
    note: str = "nominal",
    parts: dict[str, Any] | None = None,
    pairs: bool = False,
) -> Measurement:
    """Return the measurement of draws that are at hand.

    Antithetic partners lie on opposite sides of the posterior mean. Of a function that turns round
    with them (a sum, a distance) their draws are opposite too, which serves the interval. Of an
    even one (a variance, the power of a frequency) they are nearly equal: S draws are then S/2, and
    their order statistics promise too much. So of a value whose partners correlate (above what
    chance gives in one case of 20, see :func:`._draws.alike`) one draw of each pair is counted and
    ranked, and the note says so.

    Parameters
    ----------
    draws : ndarray, shape (S, K)
        NaN where a draw has no value.
    names : sequence of str
        K of them.
    level, unit, position, position_unit, note, parts
        As in :class:`Measurement`.
    pairs : bool
        Whether draws 0 and 1, 2 and 3, ... are of antithetic partners.
    """
    draws = np.asarray(draws, dtype=np.float64)
    finite = np.isfinite(draws)
    needed = samples_needed(level)
    low, high = np.full((2, draws.shape[1]), np.nan)
    notes = [note] * draws.shape[1]
    for k in range(draws.shape[1]):
        column = draws[finite[:, k], k]
        if pairs and alike(draws[:, k]):
            column = one_of_each(draws[:, k])
            few = f", {needed} are needed" if len(column) < needed else ""
            notes[k] += f"; partners are alike, {len(column)} pairs count{few}"
        if len(column) >= needed:
            at = ranks([(1 - level) / 2, (1 + level) / 2], len(column))
            low[k], high[k] = (float(q) for q in quantiles(column, at))
    return Measurement(
        tuple(names),
        draws,
        _over_finite(draws, lambda v: float(v.mean())),
        low,
        high,
        level,
        finite.mean(0),
        unit,
        None if position is None else np.asarray(position, dtype=np.float64),
        position_unit,
        common_note(names, notes, note),
        parts,
        pairs,
        tuple(notes) if len(set(notes)) > 1 else (),
    )


def _samples(result: Any) -> NDArray[Any]:
    """Return the samples, refusing what has none."""
    if getattr(result, "point_estimate", False):
        raise InputError(
            f"the sampler {result.report.get('sampler')!r} gives a point estimate, whose numbers "
            "have no error bars; take a sampler that draws samples, such as 'auto'"
        )
    samples: NDArray[Any] = np.asarray(getattr(result, "samples", result))
    if samples.ndim < 2 or len(samples) == 0:
        raise InputError(
            f"samples have shape {samples.shape}; give a result or an array of shape (samples, ...)"
        )
    return samples


def _note(result: Any) -> str:
    """Return what the spread of a result rests on."""
    report = getattr(result, "report", {})
    if "intervals" in report:  # a calibration is of pixels, and says nothing of other numbers
        return "nominal"
    return str(report.get("calibration") or "nominal")


def _parts(result: Any) -> dict[str, Any] | None:
    """Return what a calibration must agree with; None where there is no run behind the samples."""
    report = getattr(result, "report", {})
    if getattr(result, "recipe", None) is None or not {"prior", "noise"} <= set(report):
        return None
    from napari_dps.uncertainty.calibration import parts_of_result

    return parts_of_result(result)


def _over_finite(
    draws: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], float]
) -> NDArray[np.float64]:
    """Apply a statistic to the finite draws of each column; NaN where there are none."""
    columns = (column[np.isfinite(column)] for column in draws.T)
    return np.array([statistic(v) if len(v) else np.nan for v in columns], dtype=np.float64)
