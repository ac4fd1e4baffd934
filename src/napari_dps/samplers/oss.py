"""OSS: oversampling smoothness.

Rodriguez, Xu, Chen, Zou and Miao, "Oversampling smoothness: an effective algorithm for phase
retrieval of noisy diffraction intensities", J. Appl. Cryst. 46, 312 (2013): hybrid input-output
with a Gaussian in Fourier space on what it feeds back outside the support, in stages from wide to
narrow, each from the best iterate of the one before. As in the authors' published code, the image
within the support does not enter what is smoothed, and the Gaussian's alpha falls evenly from 2 to
0.2 of the pattern's side.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class OversamplingSmoothness(SamplerChoice):
    """Oversampling smoothness: phase retrieval for noisy patterns, without a prior, one image."""

    kind: Literal["oss"] = "oss"
    title: ClassVar[str] = "Oversampling smoothness (OSS)"
    point_estimate: ClassVar[bool] = True
    classical: ClassVar[bool] = True

    iterations: int = Field(1000, ge=1, le=100_000)
    """Iterations of hybrid input-output, over all filters."""
    restarts: int = Field(8, ge=1, le=1000)
    """Random starts, of which the one with the smallest misfit is kept."""
    beta: float = Field(0.9, gt=0, le=1)
    """How strongly what cannot be is fed back."""
    filters: int = Field(10, ge=1, le=100)
    """Low-passes outside the support, one after the other."""
    widest: float = Field(2.0, gt=0, le=100)
    """Width of the first low-pass: the Gaussian's alpha over the pattern's side, which is in cycles
    per pixel."""
    narrowest: float = Field(0.2, gt=0, le=100)
    """Width of the last low-pass, likewise; 0.5 is the largest frequency along an axis."""
    polish: int = Field(50, ge=0, le=100_000)
    """Iterations of error reduction at the end, from the best iterate."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.alternating import AlternatingSampler, oss_stages

        filters = self.filters, self.widest, self.narrowest
        stages = oss_stages(self.iterations, self.beta, self.polish, *filters)
        return AlternatingSampler(self.kind, self.restarts, stages)
