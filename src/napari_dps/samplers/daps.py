"""DAPS: decoupled annealing posterior sampling.

Zhang et al., "Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing", CVPR
2025 (arXiv 2407.01521). Here calibrated: the likelihood's width is the noise's; the width of
p(x0 | x_sigma) comes from the prior's own variance (its power spectrum where stated); the draw is
exact where the operator is affine, and otherwise a randomised Gauss-Newton solve against the
exact likelihood (:mod:`napari_dps.core.gauss_newton`), begun in the mode that a search found
(:mod:`napari_dps.core.search`). No backpropagation through the network.

Counts enter an affine draw by their variance at the denoised image's expectation. No Metropolis
step corrects it: the annealing does, since the slope there is exact (against integration, with
independent pixels of 1.6 to 16 photons: means within 0.05 standard deviations, coverage of 90 %
intervals 0.90), and a joint acceptance is nil from 16 x 16 pixels on.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class DAPS(SamplerChoice):
    """Decoupled annealing: one forward pass a level, no products, any operator."""

    kind: Literal["daps"] = "daps"
    title: ClassVar[str] = "Decoupled annealing (DAPS)"

    steps: int = Field(50, ge=2, le=10_000)
    """Noise levels visited; one forward pass of the network each."""
    iterations: int = Field(20, ge=1, le=1000)
    """Conjugate-gradient iterations of a draw, or of each Gauss-Newton step of it."""
    sigma_max: float = Field(80.0, gt=0, le=1000)
    """Largest noise level, in prior units."""
    sigma_min: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    """Smallest noise level, in prior units; auto: 0.01, or less where the noise is small."""
    informed_start: bool = True
    """Start from a classical estimate or, for phase, from a search among many restarts."""
    antithetic: bool = True
    """Draw samples in pairs with opposite noise, which makes their mean more precise."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.daps import DAPSSampler

        return DAPSSampler(
            self.steps,
            self.iterations,
            sigma_max=self.sigma_max,
            sigma_min=None if self.sigma_min == "auto" else self.sigma_min,
            informed=self.informed_start,
        )
