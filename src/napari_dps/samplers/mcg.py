"""MCG"""
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class MCG(SamplerChoice):
    """M"""

    kind: Literal["mcg"] = "mcg"
    title: ClassVar[str] = "Manifold-constrained gradient (MCG)"

    steps: int = Field(1000, ge=2, le=1000)
    """Steps of the respaced DDPM ladder."""
    scale: float = Field(1.0, gt=0, le=10_000)
    """Step length along the gradient of the norm; depends on units, size and noise."""
    likelihood: Literal["auto", "weighted", "exact"] = "auto"
    """The paper's weighted norm, or the exact likelihood's deviance; auto: the paper's."""
    clip: bool = False
    """Clip the denoised image to [-1, 1], as the authors do."""
    ridge: float = Field(1.0, ge=0)
    iterations: int = Field(20, ge=1)
    measurement: Literal["noised", "plain"] = "noised"

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.projection import MCGSampler, Projection

        return MCGSampler(
            self.steps,
            self.scale,
            Projection(self.ridge, self.iterations),
            exact=self.likelihood == "exact",
            clip=self.clip,
            noised=self.measurement == "noised",
        )
