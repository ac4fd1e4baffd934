"""DiffPIR: denoising diffusion models for plug-and-play image restoration.

Zhu et al., CVPR-W 2023 (arXiv 2305.08995), Algorithm 1. Per noise level: denoise; move to the
minimiser of |y - A(x)|^2_(V^-1) + lambda |x - x0|^2 / sigma^2; go to the next level with a noise
that is partly the one just removed and partly new. No backpropagation through the network. Made
for one good image; its samples are not posterior draws, though near them at the defaults.

Here the data have a variance each, so that counts are valid; the ladder is the Karras one of the
other samplers. The authors' code compares images in [0, 1] with sigma in [-1, 1], so that its
lambda is four times the one here.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class DiffPIR(SamplerChoice):
    """Plug-and-play diffusion: one forward pass a level, any operator; a fast look."""

    kind: Literal["diffpir"] = "diffpir"
    title: ClassVar[str] = "Plug-and-play diffusion (DiffPIR)"

    steps: int = Field(100, ge=2, le=10_000)
    """Noise levels visited; one forward pass of the network each."""
    lam: float = Field(1.0, gt=0, le=1000)
    """The paper's lambda: how strongly the denoised image holds against the data."""
    zeta: float = Field(0.25, ge=0, le=1)
    """Share of new noise in every move; the spread of the samples hangs on it and on the steps."""
    iterations: int = Field(20, ge=1, le=1000)
    """Conjugate-gradient iterations of a data step, or of each Gauss-Newton step of it."""
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
        from napari_dps.core.diffpir import DiffPIRSampler

        return DiffPIRSampler(
            self.steps,
            self.iterations,
            lam=self.lam,
            zeta=self.zeta,
            sigma_max=self.sigma_max,
            sigma_min=None if self.sigma_min == "auto" else self.sigma_min,
            informed=self.informed_start,
        )
