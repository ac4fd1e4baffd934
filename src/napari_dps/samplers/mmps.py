"""MMPS: moment-matching posterior sampling.

Rozet et al., "Learning Diffusion Priors from Observations by Expectation Maximization",
NeurIPS 2024 (arXiv 2405.13712); second moments of the denoiser after Boys et al., "Tweedie
Moment Projected Diffusions", 2023 (arXiv 2310.06721).

p(x0 | x_sigma) is taken as Gaussian with the network's own covariance C = sigma^2 J, J the
Jacobian of the denoiser. Then E[x0 | x_sigma, y] = x0 + C J_A^T (J_A C J_A^T + V)^-1 (y - A(x0)),
one Jacobian product of the network an iteration. Exact for Gaussian priors, affine operators and
Gaussian noise.

Three things differ from the papers. A network's Jacobian is not quite a covariance:
:mod:`napari_dps.core.moments` solves so that this does no harm, where conjugate gradients and GMRES
run away. The directions of its products are what the prior's power spectrum alone would answer, so
that two to four do what a dozen without it do not. And of what its training lacked a network is too
sure, whatever the data say: so a share of the scalar covariance of PiGDM is added to that of a
learned prior.
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


FINEST = 0.002
"""Where the ladder ends. At 0.01 what a prior of steep spectrum holds of fine detail, too faint to
see but there, kept half its spread; the network passes are as many."""


FLOOR = 0.1
"""Share of r^2 = tau^2 sigma^2 / (tau^2 + sigma^2) that is added to a learned covariance. Without
it bright microtubules, denoised at 300 photons, came back worse than they were measured. Of 0, 0.1
and 0.3, on five images that no benchmark uses, 0.1 gave the best means (denoising 33.1, 33.7 and
33.0 dB) and left a misfit of 1.0, where 0 left 1.5 and 0.3 went 0.8."""


LARGEST = 3.0
"""Noise, in prior units, above which a learned Jacobian is not asked: the prior's power spectrum,
if it states one, takes its place. Of 1, 3 and 10, on fifteen crops that no benchmark uses, 3 gave
the best means and the lowest CRPS at 5 photons, with two thirds of the products of 10."""

ALONE, EXACT = (30, 0.01), (200, 1e-6)
"""Most iterations and tolerance of the system by the power spectrum where it stands alone, and for
a prior in closed form, whose answer it may be itself. Alone, from pure noise on, 20 brought single
samples 0.03 and 0.1 dB farther from the truth than 50 (five training crops at 30 and 300 photons);
samples that begin with an estimate are seldom there."""

SHARE, MOST = 0.1, 12
"""Where the system by the power spectrum leads a network's products: what its solution may leave of
the residual, and its most iterations. As many are made as the noise level and the data need at
worst, the same every time: stopping at a tolerance changed the guess by a whole iteration where
rounding tipped it over, and a sample by up to 2 % of its contrast (by 0.02 % now). On twelve
training crops at 300 photons 20 always did no better than as needed up to 20, in a quarter less
iterations; single samples are 0.12 dB nearer to the truth than with 6 always, the mean of eight
0.05 dB farther (up to 8: 0.05 and 0.05; up to 20: 0.14 and 0.02). Of 1e5 photons in single pixels
12 leave a chi-square of 12, as 20 do, and 6 one of 19."""


class MMPS(SamplerChoice):
    """Moment matching: guidance with the network's own covariance. The default where A is affine.

    Well calibrated at its default number of steps; costs two to four network passes a step. Where
    about 25 passes an image must do: 10 steps of at most 2 iterations.
    """

    kind: Literal["mmps"] = "mmps"
    title: ClassVar[str] = "Moment matching (MMPS)"

    steps: int = Field(27, ge=2, le=10_000)
    """Noise levels visited, each with one forward pass and one product per iteration."""
    iterations: int = Field(4, ge=1, le=200)
    """Products with the network's Jacobian a step, at most; a prior that states no power spectrum
    needs 8 or more where noise is small."""
    tolerance: float = Field(0.1, ge=0, lt=1)
    """Relative residual at which a step's solution is good enough."""
    sigma_max: float = Field(80.0, gt=0, le=1000)
    """Largest noise level, in prior units."""
    sigma_min: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    """Smallest noise level, in prior units; auto: 0.002, or the least the prior was made for, if
    that is more, up to 0.01."""
    informed_start: bool = True
    """Start from a classical estimate where the data determine the image well."""
    antithetic: bool = True
    """Draw samples in pairs with opposite noise, which makes their mean more precise."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.sampler import GuidedSampler

        return GuidedSampler(
            moment_matching(self.iterations, self.tolerance),
            self.steps,
            sigma_max=self.sigma_max,
            sigma_min=None if self.sigma_min == "auto" else self.sigma_min,
            finest=FINEST,
            informed=self.informed_start,
            calls=(1.0, min(2.0, float(self.iterations))),
        )


def leading_iterations(problem: "Problem", largest: float) -> int:
    """Return the iterations of a guess where a mode of x0 varies by ``largest`` at most."""
    from napari_dps.core.linalg import iterations_for

    if problem.precisions is None:
        return MOST
    return iterations_for(1 + largest * max(problem.precisions), SHARE, MOST)


def moment_matching(
    iterations: int, tolerance: float
) -> "Callable[[Problem, Tensor, float], tuple[Tensor, Tensor]]":
    """Return the guide of MMPS."""
    from napari_dps.core.covariance import StationaryCovariance
    from napari_dps.core.guidance import valid_only
    from napari_dps.core.moments import solve_moments
    from napari_dps.core.typical import TypicalSystem

    def guide(problem: "Problem", x: "Tensor", sigma: float) -> "tuple[Tensor, Tensor]":
        prior, operator = problem.prior, problem.operator
        tau2 = prior.data_std**2 if prior.learned else 0.0
        least = FLOOR * tau2 * sigma**2 / (tau2 + sigma**2)
        typical = StationaryCovariance(prior, x, sigma, least)
        stated = not isinstance(typical.transfer, float)
        no_products = prior.learned and stated and sigma > LARGEST
        if no_products:
            x0 = problem.denoise(x, sigma)
        else:
            x0, vjp = problem.linearize(x, sigma)
        z, jvp_a, vjp_a = operator.linearize(x0)
        mask, root = valid_only(problem), problem.variance(z).sqrt()
        normal = operator.normal(typical.transfer) if operator.is_affine else None
        system = TypicalSystem(typical, jvp_a, vjp_a, root, mask, normal, problem.alike)
        most, close = EXACT
        if prior.learned:
            most, close = leading_iterations(problem, typical.largest), 0.0
        residual = problem.residual(z) / root
        if no_products:
            u = system.solve(residual, iterations=ALONE[0], tolerance=ALONE[1])
            return x0 + system.image(u), problem.misfit(z)

        def product(p: "Tensor") -> "tuple[Tensor, Tensor]":
            seen = vjp_a(mask(p / root))
            image = sigma**2 * vjp(seen) + least * seen
            return mask(jvp_a(image)) / root, image

        found = solve_moments(
            product,
            residual,
            iterations=iterations,
            tolerance=tolerance,
            guess=lambda r: system.solve(r, iterations=most, tolerance=close),
        )
        return x0 + found.image, problem.misfit(z)

    return guide
