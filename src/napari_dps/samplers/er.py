"""ER: error reduction, the first of the phase retrieval algorithms.

Fienup, "Phase retrieval algorithms: a comparison", Applied Optics 21, 2758 (1982), after Gerchberg
and Saxton, Optik 35, 237 (1972): the measured magnitudes and the object's support, and positivity
where it is real, are put in by turns. The misfit never rises, and so most starts end in a wrong
solution; it is here as the measure of the others.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class ErrorReduction(SamplerChoice):
    """Error reduction (Gerchberg-Saxton): phase retrieval without a prior, one image."""

    kind: Literal["er"] = "er"
    title: ClassVar[str] = "Error reduction (ER)"
    point_estimate: ClassVar[bool] = True
    classical: ClassVar[bool] = True

    iterations: int = Field(500, ge=1, le=100_000)
    """Projections onto the data and the object."""
    restarts: int = Field(8, ge=1, le=1000)
    """Random starts, of which the one with the smallest misfit is kept."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.alternating import AlternatingSampler, er_stages

        return AlternatingSampler(self.kind, self.restarts, er_stages(self.iterations))
