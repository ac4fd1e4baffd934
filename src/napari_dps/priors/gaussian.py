"""The Gaussian prior: exact, needs no weights; oracle of the tests and a plain smoothness prior."""

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from napari_dps.arrays import ArrayRef
from napari_dps.components import PriorSource
from napari_dps.errors import PriorError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.prior import Prior


class Gaussian(PriorSource):
    """Stationary Gaussian field in closed form: an oracle, and a prior that needs no weights."""

    kind: Literal["gaussian"] = "gaussian"
    title: ClassVar[str] = "Gaussian field (closed form)"
    volumetric: ClassVar[bool] = True

    mean: float = Field(0.0, ge=-100, le=100)
    """Mean, in prior units ([-1, 1] spans the object map)."""
    std: float = Field(0.5, gt=0, le=100)
    """Standard deviation of a pixel, in prior units."""
    correlation_length: float = Field(2.0, gt=0, le=10_000, json_schema_extra={"unit": "px"})
    """Correlation length L of the power spectrum (1 + (2 pi L |k|)^2)^(-p)."""
    exponent: float = Field(1.5, gt=0, le=10)
    """Exponent p of the power spectrum."""
    spectrum: ArrayRef | None = None
    """Variance per Fourier mode (orthonormal DFT, fftfreq order) in place of L and p."""

    @model_validator(mode="after")
    def _one_spectrum(self) -> Self:
        if self.spectrum is not None and self.model_fields_set & {
            "correlation_length",
            "exponent",
            "std",
        } - _default_fields(self):
            raise ValueError("give either a spectrum, or std, correlation_length and exponent")
        return self

    def bind(self, grid: Grid) -> "Prior":
        """Build the prior on the object's grid."""
        import torch

        from napari_dps.core.covariance import power_law_spectrum
        from napari_dps.priors._gaussian import GaussianPrior

        dtype = getattr(torch, grid.dtype)
        if self.spectrum is None:
            values = power_law_spectrum(
                grid.shape, self.std, self.correlation_length, self.exponent
            )
        else:
            array = self.spectrum.load()
            if array.shape != grid.shape:
                raise PriorError(
                    f"the spectrum has shape {array.shape}, but the object's grid is "
                    f"{grid.shape}: give one variance per Fourier mode of that grid"
                )
            values = torch.tensor(array, dtype=torch.float64)  # a copy: the array is read-only
            if not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
                raise PriorError(
                    "the spectrum has negative or non-finite values; variances are >= 0"
                )
            if not bool((values > 0).any()):
                raise PriorError("the spectrum is zero everywhere; give the variance of each mode")
        return GaussianPrior(self.mean, values.to(dtype).to(grid.device))


def _default_fields(component: Gaussian) -> set[str]:
    """Return the fields that were given but have their default value (as JSON writes them)."""
    fields = type(component).model_fields
    return {n for n in component.model_fields_set if getattr(component, n) == fields[n].default}
