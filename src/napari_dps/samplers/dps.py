"""DPS: diffusion posterior sampling, as its paper and its authors' code have it.

Chung et al., "Diffusion Posterior Sampling for General Noisy Inverse Problems", ICLR 2023
(arXiv 2209.14687), Algorithm 1 (Gaussian) and equation for Poisson noise. The step goes along
``scale`` times the gradient of the un-squared norm, through the network, as in the authors'
code; read against the paper's zeta', scale = 2 zeta'. The spread of DPS samples is wrong by
factors: it is here to be compared with.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class DPS(SamplerChoice):
    """Diffusion posterior sampling as published. A thousand steps; its spread is not calibrated."""

    kind: Literal["dps"] = "dps"
    title: ClassVar[str] = "Diffusion posterior sampling (DPS)"

    steps: int = Field(1000, ge=2, le=1000)
    """Steps of the respaced DDPM ladder."""
    scale: float = Field(1.0, gt=0, le=10_000)
    """Step length along the gradient of the norm; depends on units, size and noise."""
    likelihood: Literal["auto", "weighted", "exact"] = "auto"
    """The paper's weighted norm, or the exact likelihood's deviance (a count pulls as one four
    times the expected does, at most); auto: the paper's."""
    clip: bool = False
    """Clip the denoised image to [-1, 1], as the authors do."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.dps import DPSSampler

        return DPSSampler(self.steps, self.scale, exact=self.likelihood == "exact", clip=self.clip)
