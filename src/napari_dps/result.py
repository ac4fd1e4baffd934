"""The posterior as samples, with its summaries, its recipe and its report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dps import _resultfile
from napari_dps._posterior import Posterior
from napari_dps._quantiles import samples_needed
from napari_dps._resultmeta import load_recipe, plain, recipe_text
from napari_dps.errors import InputError
from napari_dps.image import Image

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_dps.uncertainty.calibration import Calibration

__all__ = ["Result", "samples_needed"]


class Result(Posterior):
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

    Attributes
    ----------
    maps : dict
        Pictures that belong to the verdict, float32 arrays by name: ``measurement``,
        ``whitened_residual``, and those of :func:`napari_dps.assess`.

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
        self.maps: dict[str, NDArray[np.float32]] = {}
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

    def calibrated(
        self, calibration: Calibration | str | Path | None = None, *, flag: bool = False
    ) -> Result:
        """Return this result with intervals that were tested to cover.

        ``interval(level)`` is then mean -+ lambda s, s the standard deviation with a share of its
        image's, and ``report["calibration"]`` says "calibrated on N images" in place of "nominal".
        Samples and quantiles stay as they are.

        Parameters
        ----------
        calibration : Calibration, path, or None
            Of the same recipe; :func:`napari_dps.calibrate` makes it. Left out: the one that comes
            with napari-dps, where there is one for this recipe.
        flag : bool
            Apply it to another recipe all the same: report and a warning say so.

        Raises
        ------
        InputError
            If the calibration belongs to another recipe (the sentence names the first difference),
            or none is given and none that is shipped belongs to this one.
        """
        from napari_dps.uncertainty.calibration import Calibration, applied

        self._needs_posterior("an interval")
        if calibration is None:
            from napari_dps.uncertainty.shipped import shipped_for

            calibration = shipped_for(self)
        elif not isinstance(calibration, Calibration):
            calibration = Calibration.load(calibration)
        other = self._copy()
        other.report = plain(applied(self, calibration, flag=flag), "report")
        return other

    def with_maps(
        self, maps: Mapping[str, ArrayLike], verdict: Mapping[str, Any] | None = None
    ) -> Result:
        """Return this result with other maps and, where given, another verdict in its report.

        Parameters
        ----------
        maps : mapping
            Pictures (two axes) or a few of them (three) by name; kept as float32.
        verdict : mapping, optional
            As :func:`napari_dps.assess` makes it.
        """
        other = self._copy()
        other.maps = {name: np.asarray(m, dtype=np.float32) for name, m in maps.items()}
        for name, array in other.maps.items():
            if array.ndim not in (2, 3):
                raise InputError(
                    f"the map '{name}' has shape {array.shape}; give two or three axes."
                )
        if verdict is not None:
            other.report = {**self.report, "verdict": plain(dict(verdict), "verdict")}
        return other

    def _copy(self) -> Result:
        other = Result.__new__(Result)
        other.__dict__.update(self.__dict__)
        other._arrays = dict(self._arrays)
        return other

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
        _resultfile.write(path, arrays, meta, self.maps)
        return path

    def save_report(self, path: str | os.PathLike[str]) -> Path:
        """Write the verdict as one HTML page with its pictures inside; it needs no network.

        Parameters
        ----------
        path : path-like
            Ends in ``.html`` or ``.htm``; missing folders are made.

        Returns
        -------
        pathlib.Path
            The file written.

        Raises
        ------
        InputError
            If the suffix is another, or the disk refuses.
        """
        from napari_dps.uncertainty.verdict.page import write_page

        return write_page(self, Path(path).expanduser())

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
            maps = _resultfile.read_maps(path, meta)
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
        result.maps = maps
        result._source = str(path)
        return result
