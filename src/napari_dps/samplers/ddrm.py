"""DDRM: denoising diffusion restoration, mode by mode in the basis of singular vectors.

Kawar et al., "Denoising Diffusion Restoration Models", NeurIPS 2022 (arXiv 2201.11793), equations
7 and 8 in sigma. A = U S V^T; a mode of noise sigma_y/s starts from the measurement, stays there
while x is noisier than that, and then moves towards the network's image. One forward pass of the
network a step, no gradient.

The decomposition (:mod:`napari_dps.core.svd`) is exact for masks, periodic blurs (Fourier),
sampled k-space, and for separable blurs, binning and chains of them, with borders that do not
repeat. Other blurs whose object continues beyond the field, and blurred images with missing
pixels, are made periodic on a wider grid; what that grid wants and the measurement lacks is drawn
anew at every step about the expectation of the network's image. That is approximate: with noise
of a third, a fifteenth and a sixtieth of a Gaussian prior's deviation, the mean's error was 0.8,
1.8 and 5 times that of the exact decomposition.

DDRM knows one noise level. Where pixels mix, counts are given the mean variance of their frame,
so that error bars are too wide in dark parts and too narrow in bright ones; where they do not
(masks), each has its own. Modes that the data tell worse than the prior does (``cutoff``) count as
unmeasured, as the authors' code does with small singular values: otherwise their noise, the same
in all samples, adds up. With a Gaussian prior the spread of measured parts is a fifth to a half
too narrow, and more steps do not mend it.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class DDRM(SamplerChoice):
    """Restoration mode by mode of masks, blurs, binning; 20 passes. Its spread is too narrow.

    Counts get one noise level per frame where the model mixes pixels: error bars are then rougher
    still.
    """

    kind: Literal["ddrm"] = "ddrm"
    title: ClassVar[str] = "Denoising diffusion restoration (DDRM)"

    steps: int = Field(20, ge=2, le=10_000)
    """Noise levels visited; one forward pass of the network each."""
    eta: float = Field(0.85, ge=0, le=1)
    """Share of fresh noise in a step, for modes that the data do not hold; 0: none."""
    eta_b: float = Field(1.0, ge=0, le=1)
    """Weight of the data in modes where they are less noisy than the image."""
    cutoff: float = Field(2.0, ge=1, le=1e6)
    """Noise of a mode, in units of the prior's standard deviation or of the least noisy mode
    where that is larger, above which it counts as unmeasured; pixels of masks all count."""
    sigma_max: float = Field(80.0, gt=0, le=1000)
    """Largest noise level, in prior units."""
    sigma_min: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    """Smallest noise level, in prior units; auto: 0.01, or less where the noise is small."""
    informed_start: bool = True
    """Start from a classical estimate where the data determine the image well."""
    antithetic: bool = True
    """Draw samples in pairs with opposite noise, which makes their mean more precise."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.ddrm import DDRMSampler

        return DDRMSampler(
            self.steps,
            self.eta,
            self.eta_b,
            cutoff=self.cutoff,
            sigma_max=self.sigma_max,
            sigma_min=None if self.sigma_min == "auto" else self.sigma_min,
            informed=self.informed_start,
        )
