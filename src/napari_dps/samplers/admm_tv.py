"""Total variation by ADMM: piecewise smooth images with sharp edges.

Rudin, Osher and Fatemi, Physica D 60, 1992; the alternating direction method of multipliers after
Boyd et al., Foundations and Trends in Machine Learning 3, 2011, its penalty balanced after
Wohlberg, "ADMM Penalty Parameter Selection by Residual Balancing" (arXiv 1704.06209). Minimises
1/2 |W^(1/2) (y - A x)|^2 + lambda TV(x), optionally with x >= 0, the total variation isotropic in
the plane or the volume; channels share their edges. W is one over the variance. For counts that
is the running expectation, or half of the smoothed data where these are more; where the solution
is not below that half, the data pull on it as the Poisson likelihood does.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class ADMMTV(SamplerChoice):
    """Total variation: sharp edges and flat parts for any affine forward model; no error bars."""

    kind: Literal["admm-tv"] = "admm-tv"
    title: ClassVar[str] = "Total variation (ADMM, no error bars)"
    point_estimate: ClassVar[bool] = True
    classical: ClassVar[bool] = True

    weight: Literal["auto"] | Annotated[float, Field(gt=0, le=1e4)] = "auto"
    """Weight of the total variation: lambda times the noise's standard deviation, so that 1
    suits a denoised image. auto: chi-square per datum becomes 1."""
    positive: bool = True
    """Keep the object at or above zero where it is light: not a complex one, nor where the
    measurement lies below zero on the whole."""
    iterations: int = Field(300, ge=1, le=100_000)
    """Iterations, at most."""
    inner: int = Field(4, ge=1, le=1000)
    """Conjugate-gradient products of an iteration, from where the last one ended."""
    tolerance: float = Field(3e-3, gt=0, lt=1)
    """Relative primal and dual residual at which an image is done."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.admm_tv import ADMMTVSampler

        return ADMMTVSampler(
            None if self.weight == "auto" else self.weight,
            positive=self.positive,
            iterations=self.iterations,
            inner=self.inner,
            tolerance=self.tolerance,
        )
