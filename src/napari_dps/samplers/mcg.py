"""MCG: DPS with a projection on the measurement after every step.

Chung et al., "Improving Diffusion Models for Inverse Problems using Manifold Constraints",
NeurIPS 2022 (arXiv 2206.00941). The gradient step goes through the network, as in
:mod:`napari_dps.samplers.dps`; then the part of x that the measurement determines is replaced by
the measurement with as much noise as x has.

The projection is the least-squares one, found by conjugate gradients, and so it holds for every
linear forward model: x <- x + J^T (J J^T + R)^-1 (y + J n - A(x)). The authors' code has it right
for masks alone; for blur and super-resolution it takes the image itself, or a nearest-neighbour
enlargement, for the transpose. With ``ridge`` 0 and ``until`` 0 the method is the published one,
for measurements without noise: it takes their noise for detail, and amplifies it where A hardly
passes anything. The defaults keep that in bounds, most so at a hundred steps: each projects anew,
so that more of them undo the damping. The spread of the samples is not calibrated: MCG
is here to be compared with.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class MCG(SamplerChoice):
    """DPS with projection on the measurement; linear models. Its spread is not calibrated."""

    kind: Literal["mcg"] = "mcg"
    title: ClassVar[str] = "Manifold-constrained gradients (MCG)"

    steps: int = Field(100, ge=2, le=1000)
    """Steps of the respaced DDPM ladder, a thousand in the paper: more drift from the mean."""
    scale: float = Field(0.1, gt=0, le=10_000)
    """Step length along the gradient of the norm; depends on units, size and noise. Less than
    DPS wants, since the projection brings in the data too."""
    likelihood: Literal["auto", "weighted", "exact"] = "auto"
    """The paper's weighted norm, or the exact likelihood's deviance; auto: the paper's."""
    clip: bool = False
    """Clip the denoised image to [-1, 1], as the authors do."""
    measurement: Literal["noised", "plain"] = "noised"
    """What is projected on: the measurement with the noise of the level, or as it is at every
    level (in the DDPM's own coordinates)."""
    ridge: float = Field(2.0, ge=0, le=1e6)
    """Damping of the projection, in units of the data's variance over the prior's; 0: none."""
    until: Literal["auto"] | Annotated[float, Field(ge=0, le=1000)] = "auto"
    """Noise level, in prior units, below which x is projected no more; 0: the samples agree with
    the measurement, noise included. auto: the data's own, which then counts as the level's."""
    iterations: int = Field(20, ge=1, le=1000)
    """Conjugate-gradient iterations of a projection; they cost no network passes."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.projection import MCGSampler, Projection

        until = None if self.until == "auto" else self.until
        return MCGSampler(
            self.steps,
            self.scale,
            Projection(self.ridge, self.iterations, until),
            exact=self.likelihood == "exact",
            clip=self.clip,
            noised=self.measurement == "noised",
        )
