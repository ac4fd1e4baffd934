"""Samples of a posterior and what is read off them: mean, deviation, quantiles, intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dps._quantiles import check_level, quantiles, ranks
from napari_dps.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Posterior"]


class Posterior:
    """Summaries of samples; :class:`napari_dps.Result` adds coordinates, recipe and files."""

    report: dict[str, Any]
    _arrays: dict[str, NDArray[np.float32]]
    _count: int
    _source: str | None

    def __len__(self) -> int:
        """How many samples were drawn, kept in the file or not."""
        return self._count

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.report["complete"])

    @property
    def point_estimate(self) -> bool:
        """Whether this is one estimate without a posterior around it."""
        return bool(self.report.get("point_estimate", False))

    @property
    def pairs(self) -> bool:
        """Whether samples 0 and 1, 2 and 3, ... were drawn with opposite noise.

        Each is a sample as good as any, but partners are not independent of each other; what
        judges error bars by their number must know (:func:`napari_dps.evaluate.spread_skill`).
        """
        return bool(self.report.get("antithetic", False))

    @property
    def samples(self) -> NDArray[np.float32]:
        """Samples of the posterior, float32, shape (S, ...); a point estimate is its only one.

        Raises
        ------
        InputError
            If the file that was loaded holds none.
        """
        if self.point_estimate and "samples" not in self._arrays:
            return self.mean[None]
        return self._get("samples")

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean of the samples, float32, in the input's units.

        Raises
        ------
        InputError
            If the file that was loaded holds neither mean nor samples.
        """
        if "mean" not in self._arrays:
            samples = self._get("samples", "mean")
            self._arrays["mean"] = samples.mean(axis=0, dtype=np.float64).astype(np.float32)
        return self._arrays["mean"]

    @property
    def std(self) -> NDArray[np.float32]:
        """Standard deviation of the posterior (S - 1 in the denominator), float32.

        Zero everywhere for a single sample, which says nothing about the spread.

        Raises
        ------
        InputError
            If the file that was loaded holds neither std nor samples, or the result is a point
            estimate, which has no error bars.
        """
        self._needs_posterior("a standard deviation")
        if "std" not in self._arrays:
            samples = self._get("samples", "std")
            mean = samples.mean(axis=0, dtype=np.float64)
            total = np.zeros_like(mean)
            # One sample at a time: a float64 copy of all of them may not fit.
            for sample in samples:
                total += (sample - mean) ** 2
            self._arrays["std"] = np.sqrt(total / max(self._count - 1, 1)).astype(np.float32)
        return self._arrays["std"]

    def holds(self, what: str) -> bool:
        """Whether there is such an array: a file may have been saved without it.

        Parameters
        ----------
        what : {"samples", "mean", "std"}
            Which. A point estimate has no std.
        """
        if self.point_estimate:
            return what != "std"
        derived = what in ("mean", "std") and "samples" in self._arrays
        return what in self._arrays or derived

    def quantile(self, q: float) -> NDArray[np.float32]:
        """Per-pixel quantile of the posterior, honest about the number of samples.

        Between order statistics with ranks q (S + 1), so that a further draw falls below it with
        probability q.

        Parameters
        ----------
        q : float
            From 0 to 1, within [1/(S + 1), S/(S + 1)].

        Returns
        -------
        numpy.ndarray
            float32, shape of the image; NaN where a sample is.

        Raises
        ------
        InputError
            If `q` is no probability, or asks for more samples than there are.
        """
        self._needs_posterior("quantiles")
        return quantiles(self._get("samples"), ranks([q], self._count))[0]

    def interval(self, level: float = 0.9) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Per-pixel interval: credible with equal tails or, once calibrated, mean +- lambda s.

        Parameters
        ----------
        level : float
            Probability inside, above 0 and below 1; of a calibrated result one of those fitted.

        Returns
        -------
        low, high : numpy.ndarray
            float32, shape of the image, in the input's units.

        Raises
        ------
        InputError
            If there are fewer than (1 + level)/(1 - level) samples, or the calibration did not
            fit this level.
        """
        self._needs_posterior("an interval")
        if "intervals" in self.report:
            from napari_dps.uncertainty.calibration import calibrated_interval

            return calibrated_interval(self, level)
        check_level(level, self._count)
        at = ranks([(1.0 - level) / 2.0, (1.0 + level) / 2.0], self._count)
        low, high = quantiles(self._get("samples"), at)
        return low, high

    def _needs_posterior(self, what: str) -> None:
        if self.point_estimate:
            raise InputError(
                f"the sampler {self.report.get('sampler')!r} gives a point estimate, of which "
                f"{what} cannot be had; take a sampler that draws samples, such as 'auto'."
            )

    def _get(self, key: str, needed_for: str | None = None) -> NDArray[np.float32]:
        if key not in self._arrays:
            raise InputError(
                f"'{self._source}' was saved without '{needed_for or key}'; save the result again "
                f"with write including '{needed_for or key}'."
            )
        return self._arrays[key]
