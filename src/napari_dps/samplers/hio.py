"""HIO: hybrid input-output.

Fienup, "Phase retrieval algorithms: a comparison", Applied Optics 21, 2758 (1982): where the image
that fits the data is no possible object, outside the support or below zero, the last iterate less
beta times that image goes on.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class HybridInputOutput(SamplerChoice):
    """Hybrid input-output: the usual phase retrieval, without a prior, one image."""

    kind: Literal["hio"] = "hio"
    title: ClassVar[str] = "Hybrid input-output (HIO)"
    point_estimate: ClassVar[bool] = True
    classical: ClassVar[bool] = True

    iterations: int = Field(1000, ge=1, le=100_000)
    """Iterations of hybrid input-output."""
    restarts: int = Field(8, ge=1, le=1000)
    """Random starts, of which the one with the smallest misfit is kept."""
    beta: float = Field(0.9, gt=0, le=1)
    """How strongly what cannot be is fed back."""
    polish: int = Field(50, ge=0, le=100_000)
    """Iterations of error reduction at the end, from the best iterate."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.alternating import AlternatingSampler, hio_stages

        stages = hio_stages(self.iterations, self.beta, self.polish)
        return AlternatingSampler(self.kind, self.restarts, stages)
