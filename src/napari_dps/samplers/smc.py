"""Twisted sequential Monte Carlo: slow, for small problems, and asymptotically exact.

Wu et al., "Practical and Asymptotically Exact Conditional Sampling in Diffusion Models", NeurIPS
2023 (arXiv 2306.17775). Particles go down the noise levels together, each moved by a guided step;
weights make good what the guidance has wrong, whatever it is: with more particles samples come
from the posterior itself. Three things are better here than in the paper. The twist has the
denoiser's own covariance sigma^2 J (moment matching, see :mod:`.mmps`). It takes the likelihood as
it is, of counts too. And where the image is small, that covariance is part of every move, which is
then exact for Gaussian priors at any number of steps; elsewhere moves are of second order as in the
other samplers. See :mod:`napari_dps.core.twist` and :mod:`napari_dps.core.smc`.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class SMC(SamplerChoice):
    """Twisted sequential Monte Carlo: exact with many particles; for small problems, as oracle.

    At most 256 pixels, or 256 data of a larger image. It says in the report how many particles
    were effective at every level, and stops with an error where they were too few.
    """

    kind: Literal["smc"] = "smc"
    title: ClassVar[str] = "Sequential Monte Carlo (TDS)"
    interacting: ClassVar[bool] = True

    particles: int = Field(1024, ge=16, le=1_000_000)
    """Images that move together, from which the samples are taken; errors fall with their root."""
    steps: int = Field(100, ge=2, le=10_000)
    """Noise levels visited; with half as many, weights fall on few particles where noise is small
    and modes are many."""
    threshold: float = Field(0.5, gt=0, le=1)
    """Share of effective particles below which they are resampled."""
    twist: Literal["moments", "scalar"] = "moments"
    """What is known of the image at each level: by the prior's own covariance (a product with its
    Jacobian per pixel or datum), or by a scalar as in pigdm (none, but more particles)."""
    sigma_max: float = Field(80.0, gt=0, le=1000)
    """Largest noise level, in prior units."""
    sigma_min: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    """Smallest noise level, in prior units; auto: 0.01, or less where the noise is small."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.smc import SMCSampler

        return SMCSampler(
            self.particles,
            self.steps,
            self.threshold,
            moments=self.twist == "moments",
            sigma_max=self.sigma_max,
            sigma_min=None if self.sigma_min == "auto" else self.sigma_min,
        )
