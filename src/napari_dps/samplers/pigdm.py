"""PiGDM: pseudoinverse-guided diffusion, with a variance per datum.

Song et al., "Pseudoinverse-Guided Diffusion Models for Inverse Problems", ICLR 2023. The
covariance of x0 given x_sigma is a scalar, rho^2 = tau^2 sigma^2 / (tau^2 + sigma^2), tau the
standard deviation of the data; then one Jacobian product of the network a step.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from torch import Tensor

    from napari_dps.core.problem import Problem
    from napari_dps.core.sampler import Sampler


class PiGDM(SamplerChoice):
    """Pseudoinverse guidance: a scalar covariance. Cheap; biased where blur meets a rich prior."""

    kind: Literal["pigdm"] = "pigdm"
    title: ClassVar[str] = "Pseudoinverse guidance (PiGDM)"

    steps: int = Field(50, ge=2, le=10_000)
    """Noise levels visited. With fewer than 50 mean and spread may be wrong by tens of times."""
    iterations: int = Field(10, ge=1, le=200)
    """Conjugate-gradient iterations a step; they cost no network passes."""
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
        from napari_dps.core.sampler import GuidedSampler

        return GuidedSampler(
            pseudoinverse(self.iterations),
            self.steps,
            sigma_max=self.sigma_max,
            sigma_min=None if self.sigma_min == "auto" else self.sigma_min,
            informed=self.informed_start,
        )


def pseudoinverse(
    iterations: int,
) -> "Callable[[Problem, Tensor, float], tuple[Tensor, Tensor]]":
    """Return the guide of PiGDM."""
    from napari_dps.core.guidance import valid_only
    from napari_dps.core.linalg import conjugate_gradients

    def guide(problem: "Problem", x: "Tensor", sigma: float) -> "tuple[Tensor, Tensor]":
        x0, vjp = problem.linearize(x, sigma)
        z, jvp_a, vjp_a = problem.operator.linearize(x0)
        variance = problem.variance(z)
        tau2 = problem.prior.data_std**2
        rho2 = tau2 * sigma**2 / (tau2 + sigma**2)
        mask = valid_only(problem)
        # Two transforms instead of four where the operator knows its product with its transpose.
        normal = problem.operator.normal(rho2)

        def matvec(p: "Tensor") -> "Tensor":
            seen = mask(p)
            seen = rho2 * jvp_a(vjp_a(seen)) if normal is None else normal(seen)
            return mask(seen) + variance * p

        found = conjugate_gradients(
            matvec,
            problem.residual(z),
            iterations=iterations,
            tolerance=1e-4,
            precondition=lambda r: r / variance,
        )
        return x0 + sigma**2 * vjp(vjp_a(mask(found.u))), problem.misfit(z)

    return guide
