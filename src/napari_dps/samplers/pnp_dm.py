"""PnP-DM: plug-and-play posterior sampling by split Gibbs steps.

Wu et al., "Principled Probabilistic Imaging using Diffusion Models as Plug-and-Play Priors",
NeurIPS 2024 (arXiv 2405.18782). Two images in turn, tied by N(z; x, rho^2): z given x and the
data, x given z and the prior. The second is a diffusion begun at noise rho, a few second-order
steps of it. Their x has the posterior's spread, and rho^2 more where the data are strong: rho
falls from a level at which the chain mixes at once to a third of the noise in prior units, where
that is a twentieth of the spread. No backpropagation through the network.

z is drawn exactly where the operator is affine and the noise Gaussian. Counts enter by their
variance at the expectation of x: their slope there is exact, so that the error falls with rho as
that of a Langevin step with its length. Elsewhere z is a randomised Gauss-Newton solve against
the exact likelihood (:mod:`napari_dps.core.gauss_newton`).
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class PnPDM(SamplerChoice):
    """Split Gibbs sampling: a short diffusion and a data step in turn; the default for phase."""

    kind: Literal["pnp-dm"] = "pnp-dm"
    title: ClassVar[str] = "Split Gibbs sampling (PnP-DM)"

    steps: int = Field(30, ge=2, le=10_000)
    """Turns of the chain, each with ``levels`` forward passes of the network."""
    levels: int = Field(5, ge=2, le=1000)
    """Noise levels of the diffusion in every turn; fewer than 4 shrink the spread."""
    iterations: int = Field(20, ge=1, le=1000)
    """Conjugate-gradient iterations of a draw, or of each Gauss-Newton step of it."""
    rho_max: float = Field(10.0, gt=0, le=1000)
    """First coupling rho, in prior units, where there is no informed start."""
    rho_min: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    """Last coupling rho, in prior units; auto: 0.3 times the noise."""
    informed_start: bool = True
    """Start from a classical estimate or, for phase, from a search among many restarts."""
    antithetic: bool = True
    """Draw samples in pairs with opposite noise, which makes their mean more precise."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.split_gibbs import SplitGibbsSampler

        return SplitGibbsSampler(
            self.steps,
            self.levels,
            self.iterations,
            rho_max=self.rho_max,
            rho_min=None if self.rho_min == "auto" else self.rho_min,
            informed=self.informed_start,
        )
