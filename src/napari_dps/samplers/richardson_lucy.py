"""Richardson-Lucy: maximum likelihood for counts, multiplied into being.

Richardson, "Bayesian-Based Iterative Method of Image Restoration", J. Opt. Soc. Am. 62, 1972;
Lucy, "An iterative technique for the rectification of observed distributions", Astron. J. 79,
1974; as expectation maximisation for any operator with background: Shepp and Vardi, IEEE Trans.
Med. Imaging 1, 1982. x <- x / (A^T 1) * A^T (y / (A x + b)). Objects reach beyond the field with
the sensitivity A^T 1 that this gives (Bertero and Boccacci, Astron. Astrophys. 437, 2005). Read
noise: its variance is added to counts and expectation (Snyder et al., J. Opt. Soc. Am. A 12,
1995). Total variation divides by A^T 1 (1 - tv div(grad x / |grad x|)) instead (Dey et al.,
Microsc. Res. Tech. 69, 2006).
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class RichardsonLucy(SamplerChoice):
    """Richardson-Lucy deconvolution, stopped where the data are explained; no error bars.

    For affine forward models without negative entries. Made for counts; under Gaussian noise
    negative data are clipped at zero, so subtract no background beforehand.
    """

    kind: Literal["richardson-lucy"] = "richardson-lucy"
    title: ClassVar[str] = "Richardson-Lucy (no error bars)"
    point_estimate: ClassVar[bool] = True
    classical: ClassVar[bool] = True

    iterations: Literal["discrepancy"] | Annotated[int, Field(ge=1, le=100_000)] = "discrepancy"
    """A number, or discrepancy: each frame ends where its chi-square per datum reaches 1, before
    noise is fitted."""
    max_iterations: int = Field(500, ge=1, le=100_000)
    """Iterations at which the discrepancy principle gives up."""
    tv: float = Field(0.0, ge=0, le=0.15)
    """Weight of total variation, which keeps edges and flattens noise; 0 is none, 0.002 to 0.02
    is usual. Steps below 8 tv of a pixel's value (12 in volumes) are smoothed and not kept. Where
    the forward model mixes no pixels the first iteration ends it all, and this has no say."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.richardson_lucy import RichardsonLucySampler

        stop = self.iterations == "discrepancy"
        return RichardsonLucySampler(
            self.max_iterations if self.iterations == "discrepancy" else self.iterations,
            discrepancy=stop,
            tv=self.tv,
        )
