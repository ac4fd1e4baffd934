"""ILVR: at every step the measured part of x is replaced by the measurement, noised alike.

Choi et al., "ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models", ICCV 2021
(arXiv 2108.02938), for low-resolution images; Song et al., "Score-Based Generative Modeling
through Stochastic Differential Equations", ICLR 2021 (arXiv 2011.13456), for masks; Song et al.,
"Solving Inverse Problems in Medical Imaging with Score-Based Generative Models", ICLR 2022
(arXiv 2111.08005), for other linear maps. One forward pass of the network a step, no gradient.

After an ancestral step, x <- x + J^T (J J^T + R)^-1 (y + sigma J n - A(x)). The method knows
nothing of the noise of y. By default that counts as part of the annealing's, and so the projection
ends (``until``) where the data's noise would take over, and the prior does the rest. With
``ridge`` 0 and ``until`` 0 the method is the published one. Unmeasured parts hear of the
measurement only through the network, a step late: the spread is not calibrated.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class ILVR(SamplerChoice):
    """The measured part replaced at every step; linear models. Its spread is not calibrated."""

    kind: Literal["ilvr"] = "ilvr"
    title: ClassVar[str] = "Measured part replaced (ILVR)"

    steps: int = Field(100, ge=2, le=1000)
    """Steps of the respaced DDPM ladder; one forward pass of the network each."""
    ridge: float = Field(2.0, ge=0, le=1e6)
    """Damping of the projection, in units of the data's variance over the prior's; 0: none."""
    until: Literal["auto"] | Annotated[float, Field(ge=0, le=1000)] = "auto"
    """Noise level, in prior units, below which x is projected no more; 0: the samples agree with
    the measurement, noise included. auto: the data's own, which then counts as the level's."""
    iterations: int = Field(20, ge=1, le=1000)
    """Conjugate-gradient iterations of a projection; they cost no network passes."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.projection import ILVRSampler, Projection

        until = None if self.until == "auto" else self.until
        return ILVRSampler(self.steps, Projection(self.ridge, self.iterations, until))
