"""A real camera: counted photoelectrons, an offset, and read noise."""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from napari_dps.arrays import NumberOrArray, PixelMap
from napari_dps.components import NoiseModel
from napari_dps.errors import InputError
from napari_dps.grid import Grid
from napari_dps.noise._correlated import CorrelatedNoise
from napari_dps.noise._limits import GAIN, READ_NOISE, within
from napari_dps.noise._warnings import saturation_warnings

NAMES = ("gain", "offset", "read_noise")


class PoissonGaussian(CorrelatedNoise):
    """Poisson noise of the light and Gaussian read noise of the camera.

    What is ``"auto"`` is estimated from the image and reported with its error; what is given is
    held fixed. An sCMOS camera, every pixel of which has its own, takes maps instead of numbers.
    """

    title: ClassVar[str] = "Poisson and read noise (camera)"
    kind: Literal["poisson-gaussian"] = "poisson-gaussian"
    gain: (
        Literal["auto"]
        | Annotated[float, Field(ge=GAIN[0], le=GAIN[1], allow_inf_nan=False)]
        | PixelMap
    ) = Field("auto", json_schema_extra={"unit": "ADU/electron"})
    """Grey values per photoelectron: a number, or a map of the image's shape; estimated if
    "auto"."""
    offset: Literal["auto"] | Annotated[float, Field(allow_inf_nan=False)] | PixelMap = Field(
        "auto", json_schema_extra={"unit": "ADU"}
    )
    """Grey value without any light: a number, or a map of the image's shape; estimated if
    "auto"."""
    read_noise: (
        Literal["auto"]
        | Annotated[float, Field(ge=0, le=READ_NOISE, allow_inf_nan=False)]
        | PixelMap
    ) = Field("auto", json_schema_extra={"unit": "electrons"})
    """Standard deviation of the read noise in photoelectrons: a number, or a map of the image's
    shape; estimated if "auto"."""
    estimate_from: Literal["image", "stack"] = "image"
    """What "auto" is estimated from: the structure-free parts of each image, or the change between
    the frames of a stack (3 or more) that shows one scene, which may bleach and drift."""

    @field_validator(*NAMES, mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        """Take numbers in whatever form they come; the rest is "auto" or a map."""
        if isinstance(value, (bool, np.bool_)):
            raise ValueError("give a number, a path or an array")
        if isinstance(value, NumberOrArray) and value.number is not None:
            return value.number
        if isinstance(value, np.ndarray) and value.ndim == 0:
            return value.item()
        return value

    def _given(self, name: str) -> Any:
        value = getattr(self, name)
        if isinstance(value, str):
            raise InputError(
                "gain, offset or read_noise is still 'auto'; give numbers, or an image to "
                "estimate them from"
            )
        return value

    def _on(self, name: str, shape: tuple[int, ...]) -> Any:
        """Return a parameter as a number, or as a checked map for measurements of ``shape``."""
        value = self._given(name)
        if not isinstance(value, PixelMap):
            return value
        what = f"{name.replace('_', ' ')} map"
        values = value.for_pixels(shape, what, minimum=None if name == "offset" else 0.0)
        if name == "gain" and not values.all():
            raise InputError(
                f"the gain map is 0 in {int((values == 0).sum())} pixels; give those the gain of "
                "the others, and mark them as not valid"
            )
        limits = {"gain": GAIN, "read_noise": (0.0, READ_NOISE)}.get(name)
        if limits is not None and not (limits[0] <= values.min() and values.max() <= limits[1]):
            raise InputError(
                f"the {what} goes from {values.min():g} to {values.max():g}, but {limits[0]:g} to "
                f"{limits[1]:g} is allowed; check its unit"
            )
        return values

    def camera(self) -> tuple[float, float]:
        """Return (gain in ADU per electron, offset in ADU); of maps the median.

        The object has no detector pixels: its intensities are told in units of a typical one.

        Raises
        ------
        InputError
            If something is still to be estimated.
        """
        gain, offset, _ = (self._typical(name) for name in NAMES)
        return gain, offset

    def _typical(self, name: str) -> float:
        value = self._given(name)
        return float(np.median(value.load())) if isinstance(value, PixelMap) else float(value)

    def pixel_gain(self, shape: tuple[int, ...]) -> Any:
        """Return the gain of every pixel of measurements of ``shape``, or of all."""
        return self._on("gain", shape)

    def electrons(self, values: Any) -> Any:
        """Turn measured values (..., *grid) into photoelectrons, each pixel by its own camera."""
        return (values - self._on("offset", values.shape)) / self._on("gain", values.shape)

    def recorded(self, electrons: Any) -> Any:
        """Turn photoelectrons (..., *grid) into measured values; undoes :meth:`electrons`."""
        shape = electrons.shape
        return electrons * self._on("gain", shape) + self._on("offset", shape)

    def bind(self, grid: Grid) -> Any:
        """Return the likelihood of photoelectrons with read noise.

        Raises
        ------
        InputError
            If something is still to be estimated, or a map is not of the grid's shape.
        """
        from napari_dps.core.likelihood import PoissonGaussianLikelihood

        # All three are checked before anything runs.
        read = [self._on(name, grid.shape) for name in NAMES][-1]
        if not isinstance(read, np.ndarray):
            return PoissonGaussianLikelihood(read, self.redundancy())
        import torch

        each = torch.tensor(read, dtype=getattr(torch, grid.dtype), device=grid.device)
        return PoissonGaussianLikelihood(each, self.redundancy())

    def resolve(self, image: Any, report: dict[str, Any]) -> NoiseModel:
        """Return the noise with everything that was "auto" estimated from the image.

        Parameters
        ----------
        image : ndarray, shape (frames, Y, X)
            In ADU; not-a-number marks pixels that do not count.
        report : dict
            Receives gain, offset, read_noise (of maps the median), each with ``_error``, the names
            that were ``estimated``, those that are ``maps``, ``levels`` (mean, measured and
            described variance of flat patches) and what
            :class:`~napari_dps.noise._camera.Camera` found out besides.

        Raises
        ------
        InputError
            If the image cannot tell, the sentence says why and what to give; or if a map does not
            fit it.
        """
        maps = [name for name in NAMES if isinstance(getattr(self, name), PixelMap)]
        for name in maps:
            self._on(name, np.shape(image))
        estimated = [name for name in NAMES if getattr(self, name) == "auto"]
        given = {n: None if n in estimated else self._typical(n) for n in NAMES}
        report["maps"] = maps
        if not estimated:
            report.update(**given, **{f"{name}_error": 0.0 for name in NAMES}, estimated=[])
            return self.model_copy(update={"pixels_per_value": self.redundancy()})
        from napari_dps.noise._camera import estimate
        from napari_dps.noise._estimate import Known

        even = self._even(np.asarray(image), given["offset"], given["gain"])
        camera = estimate(even, Known(**given), stack=self.estimate_from == "stack")
        report.update(camera.report(), estimated=estimated)
        within("gain", camera.gain, GAIN)
        found = {name: getattr(camera, name) for name in estimated}
        if self.pixels_per_value == "auto":
            found["pixels_per_value"] = camera.pixels_per_value
        return self.model_copy(update=found)

    def _even(self, image: Any, offset: float | None, gain: float | None) -> Any:
        """Return the image as a camera would record it whose pixels are all alike."""
        if isinstance(self.gain, PixelMap):
            if offset is None:
                raise InputError(
                    "the offset is to be estimated, but the gain is a map, which needs it; give "
                    "the offset as a number or a map"
                )
            return self.electrons(image) * gain + offset
        if isinstance(self.offset, PixelMap):
            return image - self._on("offset", image.shape) + offset
        return image

    def check(self, image: Any) -> list[str]:
        """Return a warning where pixels are saturated."""
        return saturation_warnings(np.asarray(image))
