"""White noise of the same strength everywhere."""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.components import NoiseModel
from napari_dps.errors import InputError
from napari_dps.grid import Grid
from napari_dps.noise._correlated import (
    CorrelatedNoise,
    correlation_report,
    pixels_per_value,
)
from napari_dps.noise._limits import SIGMA, within
from napari_dps.noise._warnings import saturation_warnings


class Gaussian(CorrelatedNoise):
    """Gaussian noise of one standard deviation, in the measurement's own units.

    ``"auto"`` reads it from the finest detail of the image, where an optical image has least
    structure.
    """

    title: ClassVar[str] = "Gaussian"
    kind: Literal["gaussian"] = "gaussian"
    sigma: (
        Literal["auto"] | Annotated[float, Field(ge=SIGMA[0], le=SIGMA[1], allow_inf_nan=False)]
    ) = Field("auto", json_schema_extra={"unit": "ADU"})
    """Standard deviation of the noise in the image's own units; estimated if "auto"."""

    def bind(self, grid: Grid) -> Any:
        """Return the Gaussian likelihood.

        Raises
        ------
        InputError
            If sigma is still to be estimated.
        """
        from napari_dps.core.likelihood import GaussianLikelihood

        if self.sigma == "auto":
            raise InputError("the noise's sigma is still 'auto'; give a number or an image")
        return GaussianLikelihood(self.sigma, self.redundancy())

    def resolve(self, image: Any, report: dict[str, Any]) -> NoiseModel:
        """Return the noise with sigma estimated from the image where it was "auto".

        Raises
        ------
        InputError
            If the image has no noise, or is too small.
        """
        from napari_dps.noise._camera import noise_sigma

        if self.sigma != "auto":
            report.update(sigma=self.sigma, sigma_error=0.0)
            return self.model_copy(update={"pixels_per_value": self.redundancy()})
        sigma, error, correlation = noise_sigma(np.asarray(image))
        report.update(sigma=sigma, sigma_error=error, **correlation_report(correlation))
        found = {"sigma": within("sigma", sigma, SIGMA)}
        if self.pixels_per_value == "auto":
            found["pixels_per_value"] = pixels_per_value(correlation)
        return self.model_copy(update=found)

    def check(self, image: Any) -> list[str]:
        """Return a warning where pixels are saturated."""
        return saturation_warnings(np.asarray(image))
