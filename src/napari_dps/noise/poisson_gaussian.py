"""A real camera: counted photoelectrons, an offset, and read noise."""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.components import NoiseModel
from napari_dps.errors import InputError
from napari_dps.grid import Grid
from napari_dps.noise._correlated import CorrelatedNoise
from napari_dps.noise._warnings import saturation_warnings


class PoissonGaussian(CorrelatedNoise):
    """Poisson noise of the light and Gaussian read noise of the camera.

    What is ``"auto"`` is estimated from the image and reported with its error; what is given is
    held fixed.
    """

    title: ClassVar[str] = "Poisson and read noise (camera)"
    kind: Literal["poisson-gaussian"] = "poisson-gaussian"
    gain: Literal["auto"] | Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        "auto", json_schema_extra={"unit": "ADU/electron"}
    )
    """Grey values per photoelectron; estimated if "auto"."""
    offset: Literal["auto"] | Annotated[float, Field(allow_inf_nan=False)] = Field(
        "auto", json_schema_extra={"unit": "ADU"}
    )
    """Grey value without any light; estimated if "auto"."""
    read_noise: Literal["auto"] | Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        "auto", json_schema_extra={"unit": "electrons"}
    )
    """Standard deviation of the read noise in photoelectrons; estimated if "auto"."""

    def _values(self) -> tuple[float, float, float]:
        if self.gain == "auto" or self.offset == "auto" or self.read_noise == "auto":
            raise InputError(
                "gain, offset or read_noise is still 'auto'; give numbers, or an image to "
                "estimate them from"
            )
        return self.gain, self.offset, self.read_noise

    def camera(self) -> tuple[float, float]:
        """Return (gain in ADU per electron, offset in ADU).

        Raises
        ------
        InputError
            If something is still to be estimated.
        """
        gain, offset, _ = self._values()
        return gain, offset

    def bind(self, grid: Grid) -> Any:
        """Return the likelihood of photoelectrons with read noise.

        Raises
        ------
        InputError
            If something is still to be estimated.
        """
        from napari_dps.core.likelihood import PoissonGaussianLikelihood

        return PoissonGaussianLikelihood(self._values()[2], self.redundancy())

    def resolve(self, image: Any, report: dict[str, Any]) -> NoiseModel:
        """Return the noise with everything that was "auto" estimated from the image.

        Parameters
        ----------
        image : ndarray, shape (frames, Y, X)
            In ADU; not-a-number marks pixels that do not count.
        report : dict
            Receives gain, offset, read_noise, each with ``_error``, the names that were
            ``estimated``, ``levels`` (mean, measured and described variance of flat patches) and
            what :class:`~napari_dps.noise._camera.Camera` found out besides.

        Raises
        ------
        InputError
            If the image cannot tell; the sentence says why and what to give.
        """
        names = ("gain", "offset", "read_noise")
        given = {n: None if getattr(self, n) == "auto" else float(getattr(self, n)) for n in names}
        estimated = [name for name in names if given[name] is None]
        if not estimated:
            report.update(**given, **{f"{name}_error": 0.0 for name in names}, estimated=[])
            return self.model_copy(update={"pixels_per_value": self.redundancy()})
        from napari_dps.noise._camera import estimate
        from napari_dps.noise._estimate import Known

        camera = estimate(np.asarray(image), Known(**given))
        report.update(camera.report(), estimated=estimated)
        found = {name: getattr(camera, name) for name in estimated}
        if self.pixels_per_value == "auto":
            found["pixels_per_value"] = camera.pixels_per_value
        return self.model_copy(update=found)

    def check(self, image: Any) -> list[str]:
        """Return a warning where pixels are saturated."""
        return saturation_warnings(np.asarray(image))
