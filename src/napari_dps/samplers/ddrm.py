"""DDRM"""
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class DDRM(SamplerChoice):
    """Denoising."""

    kind: Literal["ddrm"] = "ddrm"
    title: ClassVar[str] = "Denoising diffusion restoration (DDRM)"

    steps: int = Field(20, ge=2, le=10_000)
    """Noise levels visited; one forward pass of the network each."""
    eta: float = Field(0.85, ge=0, le=1)
    """s"""
    eta_b: float = Field(1.0, ge=0, le=1)
    """s"""
    sigma_max: float = Field(80.0, gt=0, le=1000)
    """Largest noise level, in prior units."""
    sigma_min: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    """Smallest noise level, in prior units; auto: 0.01, or less where the noise is small."""
    informed_start: bool = True
    """Start from a classical estimate where the data determine the image well."""
    antithetic: bool = True
    """Draw samples in pairs with opposite noise, which makes their mean more precise."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.ddrm import DDRMSampler

        return DDRMSampler(
            self.steps,
            self.eta,
            self.eta_b,
            sigma_max=self.sigma_max,
            sigma_min=None if self.sigma_min == "auto" else min(self.sigma_min, self.sigma_max / 2),
            informed=self.informed_start,
        )
