"""RAAR: relaxed averaged alternating reflections.

Luke, "Relaxed averaged alternating reflections for diffraction imaging", Inverse Problems 21, 37
(2005): the mean of the iterate and its reflections at data and object, relaxed towards the data.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class RAAR(SamplerChoice):
    """Relaxed averaged alternating reflections: phase retrieval without a prior, one image."""

    kind: Literal["raar"] = "raar"
    title: ClassVar[str] = "Averaged reflections (RAAR)"
    point_estimate: ClassVar[bool] = True
    classical: ClassVar[bool] = True

    iterations: int = Field(1000, ge=1, le=100_000)
    """Iterations of averaged reflections."""
    restarts: int = Field(8, ge=1, le=1000)
    """Random starts, of which the one with the smallest misfit is kept."""
    beta: float = Field(0.9, gt=0, le=1)
    """Share of the reflections; the rest is the projection onto the data."""
    polish: int = Field(50, ge=0, le=100_000)
    """Iterations of error reduction at the end, from the best iterate."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.alternating import AlternatingSampler, raar_stages

        stages = raar_stages(self.iterations, self.beta, self.polish)
        return AlternatingSampler(self.kind, self.restarts, stages)
