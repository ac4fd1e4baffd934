"""Samplers that project on the measurement: MCG and ILVR.

See :mod:`napari_dps.samplers.mcg` and :mod:`napari_dps.samplers.ilvr` for the methods and papers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from napari_dps.core.dps import DPSSampler
from napari_dps.core.guidance import data_variance, valid_only
from napari_dps.core.linalg import column, conjugate_gradients
from napari_dps.core.problem import Problem
from napari_dps.core.sampler import Sampler, Step, ancestral_move, final_step
from napari_dps.core.schedule import ddpm_ladder
from napari_dps.core.streams import Streams
from napari_dps.errors import RecipeError

TOLERANCE = 1e-5
"""Relative residual at which a projection is good enough."""


class Projection:
    """x <- x + J^T (J J^T + R)^-1 (y + J n - A(x)): the image nearest to x that A maps on y + J n.

    Parameters
    ----------
    ridge : float
        R in units of the data's variance over the prior's: without it, modes that the operator
        hardly passes would take on noise without bound. 0 is the pseudo-inverse.
    iterations : int
        Conjugate-gradient iterations.
    until : float or None
        Noise level of x below which it is left alone; None: the noise level of the data, each
        frame's own, which then counts as part of what the measurement is given.
    """

    def __init__(self, ridge: float, iterations: int, until: float | None = 0.0) -> None:
        self.ridge, self.iterations, self.until = ridge, iterations, until

    def check(self, problem: Problem, kind: str) -> None:
        """Refuse an operator whose measurements no projection reaches.

        Raises
        ------
        RecipeError
            If it is not affine.
        """
        if not problem.operator.is_affine:
            raise RecipeError(
                f"the sampler {kind!r} projects on the measurement, for which the forward model "
                "must be linear, and this one is not; choose the sampler 'daps' or 'dps'"
            )

    def rehearse(self, problem: Problem, n: int) -> None:
        """Project ``n`` images once."""
        self(problem, problem.y.new_zeros((n, *problem.operator.x_shape)))

    def wanted(self, problem: Problem, sigma: float) -> bool:
        """Return whether x of any frame at ``sigma`` is to be projected.

        The least noisy frame of all decides, so that every sample's stream of random numbers goes
        on in the same way, whatever it is batched with.
        """
        if self.until is not None:
            return sigma >= self.until
        return sigma >= (problem.noise_level or 0.0)

    def at_level(self, problem: Problem, x: Tensor, sigma: float, streams: Streams) -> Tensor:
        """Return x, at ``sigma``, projected on a measurement that got the same noise."""
        if not self.wanted(problem, sigma):
            return x
        if self.until is not None:
            noise = sigma * streams.normal(problem.operator.x_shape) if sigma > 0 else None
            return self(problem, x, noise)
        own = self._own(problem, x)
        left = (sigma**2 - own**2).clamp_min(0).sqrt()
        noise = left * streams.normal(problem.operator.x_shape)
        return torch.where(sigma >= own, self(problem, x, noise), x)

    def where_wanted(self, problem: Problem, x: Tensor, sigma: float) -> Tensor:
        """Return x, at ``sigma`` in VP coordinates, projected on the measurement as it is."""
        if not self.wanted(problem, sigma):
            return x
        root = math.sqrt(1 + sigma**2)
        projected = root * self(problem, x / root)
        if self.until is not None:
            return projected
        return torch.where(sigma >= self._own(problem, x), projected, x)

    def _own(self, problem: Problem, x: Tensor) -> Tensor:
        """Return the noise level of each frame's data, shaped to broadcast with ``x``."""
        levels = problem.frame_noise()
        return x.new_zeros([1] * x.ndim) if levels is None else column(levels, x)

    def __call__(self, problem: Problem, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the projected x.

        Parameters
        ----------
        problem : Problem
            With an affine operator.
        x : Tensor, shape (B, *x_shape)
            In prior units.
        noise : Tensor or None, shape of x
            What x holds besides an image; the measurement gets the same.
        """
        z, jvp, vjp = problem.operator.linearize(x)
        mask = valid_only(problem)
        # In units of the object's scale: squares of a camera's largest values overflow float32.
        unit = column(problem.operator.scale.flatten(1).mean(1).abs(), z)
        rest = problem.residual(z) / unit
        if noise is not None:
            rest = rest + mask(jvp(noise)) / unit
        damping = self.ridge / problem.prior.data_std**2 * (data_variance(problem) / unit / unit)

        def matvec(p: Tensor) -> tuple[Tensor, Tensor]:
            image = vjp(mask(p / unit))
            return mask(jvp(image)) / unit + damping * p, image

        found = conjugate_gradients(matvec, rest, iterations=self.iterations, tolerance=TOLERANCE)
        return x if found.image is None else x + found.image


class MCGSampler(DPSSampler):
    """DPS with a projection on the measurement after every step.

    Parameters
    ----------
    steps, scale, exact, clip
        As in :class:`DPSSampler`.
    projection : Projection
        On the measurement.
    noised : bool
        Give the measurement the noise of the level; else, in VP coordinates, it stays as it is.
    """

    def __init__(
        self,
        steps: int,
        scale: float,
        projection: Projection,
        *,
        exact: bool = False,
        clip: bool = False,
        noised: bool = True,
    ) -> None:
        super().__init__(steps, scale, exact=exact, clip=clip)
        self.projection, self.noised = projection, noised

    def check(self, problem: Problem) -> None:
        """Refuse operators that are not affine."""
        self.projection.check(problem, "mcg")

    def rehearse(self, problem: Problem, n: int) -> None:
        """Project once."""
        self.projection.rehearse(problem, n)

    def after(self, problem: Problem, x: Tensor, sigma: float, streams: Streams) -> Tensor:
        """Return x with its measured part replaced."""
        if self.noised:
            return self.projection.at_level(problem, x, sigma, streams)
        return self.projection.where_wanted(problem, x, sigma)


class ILVRSampler(Sampler):
    """Ancestral DDPM sampling whose measured part is replaced after every step.

    Parameters
    ----------
    steps : int
        Length of the respaced ladder.
    projection : Projection
        On the measurement.
    """

    def __init__(self, steps: int, projection: Projection) -> None:
        self.steps, self.projection = steps, projection

    def total_steps(self) -> int:
        """Return the number of noise levels."""
        return self.steps

    def calls_per_step(self) -> tuple[float, float]:
        """Return one forward pass and no product."""
        return 1.0, 0.0

    def check(self, problem: Problem) -> None:
        """Refuse operators that are not affine."""
        self.projection.check(problem, "ilvr")

    def rehearse(self, problem: Problem, n: int) -> None:
        """Project once."""
        self.projection.rehearse(problem, n)

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; see :meth:`Sampler.sample`."""
        shape = problem.operator.x_shape
        sigmas = ddpm_ladder(self.steps)
        x = sigmas[0] * streams.normal(shape)
        total = len(sigmas) - 1
        for i, (sigma, lower) in enumerate(pairwise(sigmas)):
            x0, fraction = problem.denoise_moments(x, sigma)
            x = ancestral_move(x, x0, sigma, lower, lambda: streams.normal(shape), fraction)
            x = self.projection.at_level(problem, x, lower, streams)
            if i + 1 < total:
                misfit = problem.misfit(problem.operator(x0))
                yield Step(i + 1, total, x0, misfit, dict(problem.calls))
        yield final_step(problem, x, total)
