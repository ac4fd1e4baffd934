"""ILVR"""
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class ILVR(SamplerChoice):
    """I"""

    kind: Literal["ilvr"] = "ilvr"
    title: ClassVar[str] = "Measured part replaced (ILVR)"

    steps: int = Field(250, ge=2, le=1000)
    """Steps of the respaced DDPM ladder."""
    ridge: float = Field(1.0, ge=0)
    iterations: int = Field(20, ge=1)
    until: Literal["auto"] | Annotated[float, Field(ge=0, le=1000)] = 0.0

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.projection import ILVRSampler, Projection

        return ILVRSampler(
            self.steps,
            Projection(self.ridge, self.iterations),
            None if self.until == "auto" else self.until,
        )
