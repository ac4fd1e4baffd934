"""PnP-ADMM: plug-and-play priors by the alternating direction method of multipliers.

Venkatakrishnan, Bouman, Wohlberg, "Plug-and-Play Priors for Model Based Reconstruction",
GlobalSIP 2013. The denoiser stands where a regulariser's proximal step would: x fits the data
near v - u, v is x + u denoised, u sums up their difference. Noise level and coupling fall
together, as in Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", TPAMI
2022 (arXiv 2008.13751), and Chan, Wang, Elgendy, "Plug-and-Play ADMM for Image Restoration", IEEE
TCI 2017: with a fixed level and a network the iteration may never settle.

One image and no error bars. With a Gaussian prior and ``lam`` 1 it is the posterior's mean, and
its mode: the denoiser is then the proximal step of the prior's own logarithm. A network is none;
it takes the artefacts of deblurring for structure, the more so the longer it iterates.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class PnPADMM(SamplerChoice):
    """Plug-and-play ADMM: the denoiser as regulariser. One sharp image, no error bars."""

    kind: Literal["pnp-admm"] = "pnp-admm"
    title: ClassVar[str] = "Plug-and-play ADMM"
    point_estimate: ClassVar[bool] = True

    steps: int = Field(50, ge=2, le=10_000)
    """Iterations; one forward pass of the network each. More are not always better."""
    lam: float = Field(0.3, gt=0, le=1000)
    """Weight of the prior against the data; larger is smoother. 1 is exact for Gaussian priors;
    networks did best at 0.3."""
    iterations: int = Field(30, ge=1, le=1000)
    """Conjugate-gradient iterations of a data step."""
    sigma_max: float = Field(1.0, gt=0, le=1000)
    """Noise level of the first denoising, in prior units."""
    sigma_min: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    """Noise level of the last denoising, in prior units; auto: a tenth of the measurement's."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.plug_and_play import ADMMSampler

        return ADMMSampler(
            self.steps,
            self.iterations,
            lam=self.lam,
            sigma_max=self.sigma_max,
            sigma_min=None if self.sigma_min == "auto" else min(self.sigma_min, self.sigma_max),
        )
