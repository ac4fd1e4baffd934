"""Twisted sequential Monte Carlo. See :mod:`napari_dps.samplers.smc` for the method and paper."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from napari_dps.core.prior import Prior, Vjp
from napari_dps.core.problem import Problem
from napari_dps.core.sampler import Sampler, Step, final_step, finest_level
from napari_dps.core.schedule import karras_ladder
from napari_dps.core.streams import Streams
from napari_dps.core.twist import POINTS, Twist, Twisted
from napari_dps.errors import DPSError, RecipeError

LARGEST = 256
"""Pixels or data, whichever are fewer, that the twist's matrices may have."""
SMALL = 64
"""Up to so many pixels the whole covariance is used, however few the data are."""
FEW, OFTEN = 5.0, 3
"""A run ends where fewer effective particles than this were left at so many levels, or where all
that is left at the end comes from fewer than this before so many of the last ones."""
FAR, FARTHER = 25.0, 4.0
"""Samples whose chi-square per datum is above the first, and so many times what the guidance came
to at some level, are not where the data are."""
LAST_NOISE = 1e-3
"""The last move ends at this share of the last noise level, so that its density exists."""


class SMCSampler(Sampler):
    """Particles that move together through the noise levels, weighted and resampled.

    Parameters
    ----------
    particles : int
        How many.
    steps : int
        Noise levels.
    threshold : float
        Share of effective particles below which they are resampled.
    moments : bool
        Whether the twist has the prior's own covariance; see :class:`.twist.Twist`.
    sigma_max, sigma_min : float
        Ends of the ladder; None takes what the noise asks for.
    """

    def __init__(
        self,
        particles: int,
        steps: int,
        threshold: float,
        *,
        moments: bool,
        sigma_max: float,
        sigma_min: float | None,
    ) -> None:
        self.particles, self.steps, self.threshold = particles, steps, threshold
        self.moments, self.sigma_max, self.sigma_min = moments, sigma_max, sigma_min
        self._products = 1.0

    def total_steps(self) -> int:
        """Return the number of noise levels."""
        return self.steps

    def images(self, n: int) -> int:
        """Return the number of particles, whatever ``n``."""
        return self.particles

    def calls_per_step(self) -> tuple[float, float]:
        """Return one forward pass, and a product per pixel or datum."""
        return 1.0, self._products

    def check(self, problem: Problem) -> None:
        """Refuse what has both many pixels and many data: weights would rest on one particle."""
        pixels, data = math.prod(problem.operator.x_shape), _data(problem)
        if min(pixels, data) > LARGEST:
            raise RecipeError(
                f"the sampler 'smc' is for small problems, at most {LARGEST} pixels or data, and "
                f"here are {pixels} pixels and {data} data, for which its weights would rest on a "
                "single particle; crop the image, or use 'mmps', 'daps' or 'auto'"
            )
        products = pixels if is_dense(pixels, data) else data
        self._products = float(products) if self.moments else 0.0

    def rehearse(self, problem: Problem, n: int) -> None:
        """Do one step's linear algebra and operator: of small images it takes longest."""
        still = replace(problem.select([0]), prior=_Still(), calls={"forward": 0, "vjp": 0})
        d = math.prod(problem.operator.x_shape)
        normal = Streams(0, range(max(n, POINTS, 2 * d))).normal((d,)).double()
        twist = Twist(still, self.moments, is_dense(d, _data(problem)), normal)
        move(normal[:n], twist(normal[:n], 0.3), 0.3, 0.2, normal[:n])

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; see :meth:`Sampler.sample`. All samples are of the first frame."""
        problem, shared = problem.select([0]), streams.take([0])
        d = math.prod(problem.operator.x_shape)

        def normal(count: int) -> Tensor:
            return shared.normal((count, d))[0].double().cpu()

        count = max(POINTS, 2 * d) if not problem.operator.is_affine else 0
        twist = Twist(problem, self.moments, is_dense(d, _data(problem)), normal(count))
        sigmas = karras_ladder(self.steps, self.sigma_max, finest_level(problem, self.sigma_min))
        cloud = Cloud(self.particles, self.threshold, shared)
        x = self.sigma_max * normal(self.particles)
        before = torch.zeros(self.particles, dtype=torch.float64)
        shown = torch.arange(n) % self.particles
        total = len(sigmas) - 1
        last: Twisted | None = None
        reached = math.inf
        for i in range(total):
            here = twist(x, sigmas[i])
            index = cloud.weigh(here.log_twist + before)
            if index is not None:
                x, here, last = x[index], here.take(index), last and last.take(index)
            straight = here if last is None else here.ahead(last, *sigmas[i - 1 : i + 2])
            x, ratio = move(x, straight, sigmas[i], sigmas[i + 1], normal(self.particles))
            before, last = ratio - here.log_twist, here if here.root is None else None
            preview = here.guided[shown].reshape(n, *problem.operator.x_shape).to(problem.y)
            with torch.no_grad():
                misfit = problem.misfit(problem.operator(preview))
            reached = min(reached, float(misfit.median()))
            if i + 1 < total:
                yield Step(i + 1, total, preview, misfit, dict(problem.calls))
        cloud.weigh(twist.log_likelihood(x) + before, last=True)
        chosen = cloud.choose(n)
        details = cloud.details(chosen)
        details["log_evidence"] = cloud.log_evidence + twist.constant
        samples = x[chosen].reshape(n, *problem.operator.x_shape).to(problem.y)
        step = final_step(problem, samples, total, details)
        check_reached(float(step.misfit.median()), reached, self.particles)
        yield step


def check_reached(misfit: float, reached: float, particles: int) -> None:
    """Refuse samples far from the data, where the guidance knew images that are not.

    All particles may go astray together: then their weights are even, and say nothing.

    Parameters
    ----------
    misfit, reached : float
        Chi-square per datum of the samples, and the least that guided images had at any level. A
        measurement that the prior or the noise cannot explain has both large.
    particles : int
        How many.

    Raises
    ------
    DPSError
        Where the samples are far off.
    """
    if not misfit <= max(FAR, FARTHER * reached):
        raise DPSError(
            f"the sampler 'smc' ended far from the data (chi-square per datum {misfit:.3g}, and "
            f"{reached:.3g} on the way) with all of its {particles} particles; give it more steps "
            "or more particles, or use 'mmps' or 'daps'"
        )


class _Still(Prior):
    """Stands for a prior whose time is counted elsewhere."""

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the image as it is."""
        return x

    def linearize(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Vjp]:
        """Return the image as it is, and half of what comes in."""
        return x, lambda v: 0.5 * v


def is_dense(pixels: int, data: int) -> bool:
    """Whether to work with matrices of pixels: where they are few, or not more than the data."""
    return pixels <= SMALL or (pixels <= LARGEST and pixels <= data)


def _data(problem: Problem) -> int:
    """Return how many data of a frame count, at most."""
    if problem.valid is None:
        return math.prod(problem.operator.y_shape)
    return int(problem.valid.expand_as(problem.y).flatten(1).sum(1).max())


def move(
    x: Tensor, here: Twisted, sigma: float, lower: float, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Move particles from sigma to ``lower``, and return how their weights change thereby.

    Parameters
    ----------
    x, noise : Tensor, shape (P, d)
        Particles, and standard normal numbers.
    here : Twisted
        What the twist says of them.
    sigma, lower : float
        Noise levels.

    Returns
    -------
    x : Tensor, shape (P, d)
        Particles at ``lower``, drawn as data and prior ask for.
    ratio : Tensor, shape (P,)
        Log-density of the move under the prior alone, less that under the proposal.

    Notes
    -----
    With p(x0 | x_sigma) of mean m and covariance C, x_lower has the mean of the ancestral move,
    m + (r/s)^2 (x - m), and the covariance beta + (1 - (r/s)^2)^2 C with beta = r^2 (1 - (r/s)^2):
    exact for Gaussian priors at any number of steps. Where C is not known, beta alone stands there,
    as in the DDPM, and what the particle did before makes up for it; see :meth:`.Twisted.ahead`.
    """
    if here.root is None or here.axes is None or here.spread is None:
        if lower == 0:
            return here.mean, torch.zeros(len(x), dtype=x.dtype)
    else:
        lower = max(lower, LAST_NOISE * sigma)
    share = (lower / sigma) ** 2
    beta, pull = lower**2 * (1 - share), 1 - share
    free = here.mean + share * (x - here.mean)
    guided = here.guided + share * (x - here.guided)
    if here.root is None or here.axes is None or here.spread is None:
        moved = guided + math.sqrt(beta) * noise
        ratio = 0.5 * noise.square().sum(1) - (moved - free).square().sum(1) / (2 * beta)
        return moved, ratio
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    factor = torch.linalg.cholesky(beta * eye + pull**2 * here.root.mT @ here.root)
    moved = guided + (factor @ noise[:, :, None])[:, :, 0]
    proposed = -0.5 * noise.square().sum(1) - factor.diagonal(dim1=1, dim2=2).log().sum(1)
    variance = beta + pull**2 * here.spread
    turned = (here.axes.mT @ (moved - free)[:, :, None])[:, :, 0]
    prior = -0.5 * (turned**2 / variance + variance.log()).sum(1)
    return moved, prior - proposed


class Cloud:
    """The weights of the particles, and where each came from.

    Parameters
    ----------
    particles : int
        How many.
    threshold : float
        Share of effective particles below which they are resampled.
    shared : Streams
        One stream.
    """

    def __init__(self, particles: int, threshold: float, shared: Streams) -> None:
        self.threshold, self._shared = threshold, shared
        self._log = torch.full((particles,), -math.log(particles), dtype=torch.float64)
        self._roots = torch.arange(particles)
        self._parents: list[Tensor] = []
        self.ess: list[float] = []
        self.resampled = 0
        self.log_evidence = 0.0
        self.families = float(particles)

    def weigh(self, log_weights: Tensor, last: bool = False) -> Tensor | None:
        """Multiply the weights; return the particles to go on with where they are resampled.

        Raises
        ------
        DPSError
            Where too few particles are left for the weights to mean anything.
        """
        if not bool(torch.isfinite(log_weights).all()):
            raise DPSError(
                "the sampler 'smc' met weights that are not finite; look for data far outside "
                "what the forward model and the noise allow, or use 'mmps'"
            )
        self._log = self._log + log_weights
        whole = torch.logsumexp(self._log, 0)
        self.log_evidence += float(whole)
        self._log = self._log - whole
        particles = len(self._log)
        self.ess.append(float(torch.exp(-torch.logsumexp(2 * self._log, 0))))
        few = sum(size < FEW for size in self.ess)
        if few >= OFTEN or (last and self.ess[-1] < FEW):
            raise DPSError(
                f"the sampler 'smc' came down to {min(self.ess):.1f} effective of {particles} "
                f"particles (level {len(self.ess)}), too few for its samples to be right; give it "
                "more particles or more steps, fewer pixels, or use 'mmps' or 'daps'"
            )
        if last:
            self._check_families()
            return None
        if self.ess[-1] >= self.threshold * particles:
            self._parents.append(torch.arange(particles))
            return None
        index = self._systematic(particles)
        self._parents.append(index)
        self._log = torch.full_like(self._log, -math.log(particles))
        self._roots = self._roots[index]
        self.resampled += 1
        return index

    def _check_families(self) -> None:
        """Refuse a cloud of copies.

        Copies of one particle have even weights, however few particles they come from; and at the
        last levels there is no noise left that would set them apart.
        """
        family = torch.arange(len(self._log))
        for parents in reversed(self._parents[-OFTEN:]):
            family = parents[family]
        weights = torch.zeros_like(self._log).index_add_(0, family, self._log.exp())
        self.families = float(1 / weights.square().sum())
        if self.families < FEW:
            raise DPSError(
                f"the sampler 'smc' ended with {len(self._log)} particles that are copies of "
                f"{self.families:.1f} effective ones at the last levels, too few for its samples "
                "to be right; give it more particles or more steps, fewer pixels, or use 'mmps' "
                "or 'daps'"
            )

    def _systematic(self, count: int) -> Tensor:
        """Return ``count`` particles by their weights: one uniform number, evenly spaced."""
        at = (torch.arange(count) + self._shared.uniform(())[0].double().cpu()) / count
        edges = self._log.exp().cumsum(0)
        return torch.searchsorted(edges / edges[-1], at, right=True).clamp_max(len(edges) - 1)

    def choose(self, count: int) -> Tensor:
        """Return ``count`` particles by their weights, in random order."""
        order = self._shared.uniform((count,))[0].cpu().argsort()
        return self._systematic(count)[order]

    def details(self, chosen: Tensor) -> dict[str, Any]:
        """Return what a report should keep."""
        distinct = len(set(chosen.tolist()))
        copies = (
            f"only {distinct} of {len(chosen)} samples of 'smc' differ, the others are copies; "
            f"give it more particles than {len(self._log)} for so many samples"
        )
        return {
            **({"warning": copies} if distinct < len(chosen) else {}),
            "particles": len(self._log),
            "ess": [round(size, 1) for size in self.ess],
            "least_ess": round(min(self.ess), 1),
            "effective_families": round(self.families, 1),
            "resampled": self.resampled,
            "distinct_samples": distinct,
            "distinct_ancestors": len(set(self._roots[chosen].tolist())),
        }
