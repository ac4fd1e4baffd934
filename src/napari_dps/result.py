"""The posterior as samples, with its summaries, its recipe and its report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dps import _resultfile
from napari_dps._quantiles import check_level, quantiles, ranks, samples_needed
from napari_dps._resultmeta import load_recipe, plain, recipe_text
from napari_dps.errors import InputError
from napari_dps.image import Image

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_dps.uncertainty.calibration import Calibration

__all__ = ["Result", "samples_needed"]


class Result:
    """What a reconstruction gives back: samples of the posterior, in the coordinates of the input.

    Parameters
    ----------
    samples : array-like
        Shape (S, ...): S samples, each of the image's shape; kept as float32.
    axes : str
        One letter per axis of the image, of T, C, Z, Y, X.
    scale, units, translate : sequence, optional
        Per axis of the image: step, unit (``"micrometer"``, ``"second"``, ``"pixel"``), position
        of the first pixel.
    name : str
        Name of the input.
    recipe : Recipe, optional
        What was asked for, fully resolved.
    report : mapping, optional
        How it went, in JSON-able values; NumPy scalars become plain ones, numbers that are not
        finite become None. ``complete`` is False where a run was stopped early (True where left
        out); ``point_estimate`` is True for methods without a posterior.

    Raises
    ------
    InputError
        If the parts do not fit each other.
    """

    def __init__(
        self,
        samples: ArrayLike,
        axes: str = "YX",
        scale: Sequence[float] = (),
        units: Sequence[str] = (),
        translate: Sequence[float] = (),
        name: str = "image",
        recipe: Any = None,
        report: Mapping[str, Any] | None = None,
    ) -> None:
        array = np.asarray(samples)
        if array.dtype.kind not in "buif":
            raise InputError(f"samples of a result must be real numbers; got {array.dtype}.")
        if array.ndim < 3 or array.shape[0] == 0:
            raise InputError(
                f"samples have shape {array.shape}; a result needs one sample at least, as "
                "(samples, ..., rows, columns)."
            )
        array = np.ascontiguousarray(array, dtype=np.float32)
        self._arrays: dict[str, NDArray[np.float32]] = {"samples": array}
        self._count = int(array.shape[0])
        self._set(array[0], axes, scale, units, translate, name, recipe, report)

    def _set(
        self,
        like: NDArray[np.float32],
        axes: str,
        scale: Sequence[float],
        units: Sequence[str],
        translate: Sequence[float],
        name: str,
        recipe: Any,
        report: Mapping[str, Any] | None,
    ) -> None:
        image = Image(like, axes, tuple(scale), tuple(units), tuple(translate), name)
        if image.is_rgb:
            raise InputError("a result has no colour axis S; give channels as an axis C.")
        self.shape = image.shape
        self.axes = image.axes
        self.scale = image.scale
        self.units = image.units
        self.translate = image.translate
        self.name = image.name
        self.recipe = recipe
        self.report: dict[str, Any] = plain(dict(report or {}), "report")
        self.report.setdefault("complete", True)
        self._source: str | None = None

    @classmethod
    def from_image(
        cls,
        samples: ArrayLike,
        image: Image,
        recipe: Any = None,
        report: Mapping[str, Any] | None = None,
    ) -> Result:
        """Make a result in the coordinates of the image that it came from.

        Parameters
        ----------
        samples : array-like
            Shape (S, *image.shape), or with other lengths along the same axes.
        image : Image
            Gives axes, scale, units, translate and name.
        recipe : Recipe, optional
            As in `Result`.
        report : mapping, optional
            As in `Result`.

        Returns
        -------
        Result
        """
        return cls(
            samples, image.axes, image.scale, image.units, image.translate, image.name,
            recipe, report,
        )  # fmt: skip

    def __repr__(self) -> str:
        """Name, shape and number of samples in one line."""
        return f"<Result '{self.name}' {self.axes} {self.shape}, {self._count} samples>"

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
        """Per-pixel interval: credible with equal tails or, once calibrated, mean +- lambda std.

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

    def calibrated(self, calibration: Calibration, *, flag: bool = False) -> Result:
        """Return this result with intervals that were tested to cover.

        ``interval(level)`` is then mean -+ lambda std, and ``report["calibration"]`` says
        "calibrated on N images" in place of "nominal". Samples and quantiles stay as they are.

        Parameters
        ----------
        calibration : Calibration
            Of the same recipe; :func:`napari_dps.calibrate` makes it.
        flag : bool
            Apply it to another recipe all the same: report and a warning say so.

        Raises
        ------
        InputError
            If the calibration belongs to another recipe; the sentence names the first difference.
        """
        from napari_dps.uncertainty.calibration import applied

        self._needs_posterior("an interval")
        other = Result.__new__(Result)
        other.__dict__.update(self.__dict__)
        other._arrays = dict(self._arrays)
        other.report = plain(applied(self, calibration, flag=flag), "report")
        return other

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

    def save(self, path: str | os.PathLike[str], write: Sequence[str] = _resultfile.SERIES) -> Path:
        """Write the result, with recipe and report inside.

        Parameters
        ----------
        path : path-like
            ``.ome.tif``, ``.tif`` or ``.tiff``: one OME-TIFF with series ``mean``, ``std`` and
            ``samples``; ``.ome.zarr`` or ``.zarr``: one OME-Zarr group with three images of these
            names. Missing folders are made; a file of that name is replaced, in one step, once
            the new one is whole. Arrays of the recipe go to the same folder.
        write : sequence of str
            What to keep: any of ``"mean"``, ``"std"``, ``"samples"``; all three of a point
            estimate are ``mean`` alone.

        Returns
        -------
        pathlib.Path
            The file written.

        Raises
        ------
        InputError
            If suffix or name is unknown, `std` is asked of a point estimate, or the disk refuses.
        """
        path = Path(path).expanduser()
        names = (write,) if isinstance(write, str) else tuple(write)
        unknown = [name for name in names if name not in _resultfile.SERIES]
        if unknown or not names:
            raise InputError(
                f"write={tuple(names)!r} cannot be used; give at least one of "
                f"{', '.join(_resultfile.SERIES)}."
            )
        _resultfile.check_target(path)
        if self.point_estimate and set(names) == set(_resultfile.SERIES):
            names = ("mean",)
        arrays = {name: getattr(self, name) for name in _resultfile.SERIES if name in names}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            recipe = recipe_text(self.recipe, path.parent)
        except OSError as error:
            raise InputError(f"'{path}' cannot be written: {error.strerror or error}.") from error
        meta = {
            "name": self.name,
            "axes": self.axes,
            "shape": list(self.shape),
            "samples": self._count,
            "scale": list(self.scale),
            "units": list(self.units),
            "translate": list(self.translate),
            "recipe": recipe,
            "report": plain(self.report, "report"),
        }
        _resultfile.write(path, arrays, meta)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Result:
        """Read a result that `save` has written.

        Parameters
        ----------
        path : path-like
            An OME-TIFF or OME-Zarr of this package.

        Returns
        -------
        Result
            Arrays bit for bit; what was not saved raises when asked for. A recipe that this
            installation does not understand (a plugin is missing) stays a dict, with a warning.

        Raises
        ------
        InputError
            If it is missing, damaged, or no result.
        """
        path = Path(path).expanduser()
        try:
            arrays, meta = _resultfile.read(path)
        except OSError as error:
            raise InputError(f"'{path}' cannot be read: {error.strerror or error}.") from error
        result = cls.__new__(cls)
        result._arrays = arrays
        result._count = int(meta["samples"])
        first = next(name for name in _resultfile.SERIES if name in arrays)
        result._set(
            arrays[first][0] if first == "samples" else arrays[first],
            meta["axes"], meta["scale"], meta["units"], meta["translate"], meta["name"],
            load_recipe(meta["recipe"], path), meta["report"],
        )  # fmt: skip
        result._source = str(path)
        return result
