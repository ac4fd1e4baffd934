"""What a sampler is: a generator of steps. And the moves that samplers share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from napari_dps.core.prior import Prior
from napari_dps.core.problem import UNKNOWN_NOISE, Problem, Start
from napari_dps.core.schedule import ddpm_ladder, informed_sigma, karras_ladder
from napari_dps.core.streams import Streams
from napari_dps.errors import RecipeError


@dataclass
class Step:
    """One step of a sampler.

    Attributes
    ----------
    i, total : int
        Steps done, and steps in all.
    x0 : Tensor, shape (n, *x_shape)
        Preview of the clean images; in the last step (i == total) the samples themselves.
    misfit : Tensor, shape (n,)
        Chi-square per datum of ``x0``.
    calls : dict
        Network passes so far: ``forward`` and ``vjp``.
    details : dict or list of dict
        What else a report should keep; read from the last step. A list has one dict per image.
    """

    i: int
    total: int
    x0: Tensor
    misfit: Tensor
    calls: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] | list[dict[str, Any]] = field(default_factory=dict)


class Sampler:
    """Draws posterior samples."""

    def check(self, problem: Problem) -> None:
        """Refuse a problem that this sampler cannot solve, before anything heavy.

        Raises
        ------
        RecipeError
            Saying what came, what is allowed and what to choose instead.
        """

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; the last one holds ``n`` samples.

        Parameters
        ----------
        problem : Problem
            With y of shape (1 or n, *y_shape).
        n : int
            Number of samples, one per stream.
        streams : Streams
            Random numbers.
        """
        raise NotImplementedError

    def search_calls(self, multimodal: bool) -> int:
        """Return the forward passes of one image that :meth:`search` costs a frame."""
        return 0

    def search(
        self, problem: Problem, candidates: Tensor, label: object, seed: int, at_once: int
    ) -> Iterator[tuple[int, int] | Start]:
        """Improve the start of one frame before samples are drawn, where the sampler can.

        Yields (done, total) and at the end the start; nothing where there is nothing to do.

        Parameters
        ----------
        problem : Problem
            Of one frame.
        candidates : Tensor, shape (K, *x_shape)
            Classical solutions in prior units, best first.
        label : object
            The frame, for its random streams.
        seed : int
            Seed of the run.
        at_once : int
            Images a network call may hold.
        """
        yield from ()

    def total_steps(self) -> int:
        """Return how many steps :meth:`sample` yields."""
        raise NotImplementedError

    def likely_steps(self) -> int:
        """Return how many steps are likely done, where a run may end early; for the estimate."""
        return self.total_steps()

    def images(self, n: int) -> int:
        """Return on how many images :meth:`sample` works for ``n`` samples of a frame."""
        return n

    def calls_per_step(self) -> tuple[float, float]:
        """Return about how many (forward, vjp) calls a step makes, for the time estimate."""
        return 1.0, 1.0

    def rehearse(self, problem: Problem, n: int) -> None:
        """Do once, for ``n`` images, what a step does beside its calls, where that takes long.

        The time estimate clocks it.
        """


def ancestral_move(
    x: Tensor,
    x0: Tensor,
    sigma: float,
    lower: float,
    noise: Callable[[], Tensor],
    fraction: Tensor | None = None,
) -> Tensor:
    """Move from sigma to ``lower``: the DDPM posterior with its small variance, exactly.

    Parameters
    ----------
    x, x0 : Tensor, shape (B, *x_shape)
        Noisy and denoised images.
    sigma, lower : float
        Noise levels before and after.
    noise : callable
        Draws standard normal numbers of the shape of x.
    fraction : Tensor or None, shape of x
        Learned variance, see :meth:`napari_dps.core.prior.Prior.moments`: the small variance times
        (large / small)^f, where the large one is the DDPM's beta.
    """
    ratio = (lower / sigma) ** 2
    moved = x0 + ratio * (x - x0)
    if lower > 0:
        spread: Tensor | float = lower * math.sqrt(1 - ratio)
        if fraction is not None:
            # beta / beta_tilde = (1 + 1/lower^2) / (1 + 1/sigma^2), in sigma.
            spread = spread * ((1 + 1 / lower**2) / (1 + 1 / sigma**2)) ** (fraction / 2)
        moved = moved + spread * noise()
    return moved


class SecondOrderMove:
    """DPM-Solver++(2M) SDE with eta = 1, in sigma.

    Notes
    -----
    Lu et al., "DPM-Solver++", 2022 (arXiv 2211.01095): the ancestral move with the
    denoised image extrapolated linearly in log sigma to the middle of the step. It keeps the
    spread right at 50 steps, where the first-order move loses a fifth of it.

    What is extrapolated holds the noise of the last move, so that long steps make the spread too
    wide: of a Gaussian by 8 % at 12 steps from 1 to 0.002. With the extrapolation times
    1/(1 + h/4), h the step in log sigma (at most 0.5, beyond which less would be too little), it
    is right within 3 % there and within 1 % at 25 steps; the mean is the same.
    """

    def __init__(self) -> None:
        self._last: tuple[Tensor, float] | None = None

    def __call__(
        self, x: Tensor, x0: Tensor, sigma: float, lower: float, noise: Callable[[], Tensor]
    ) -> Tensor:
        """Return x at ``lower``."""
        if lower == 0:
            return x0
        h = math.log(sigma / lower)
        middle = x0
        if self._last is not None:
            previous, h_last = self._last
            middle = x0 + 0.5 / (1 + min(h, 0.5) / 4) * (h / h_last) * (x0 - previous)
        self._last = (x0, h)
        return ancestral_move(x, middle, sigma, lower, noise)


Guide = Callable[[Problem, Tensor, float], tuple[Tensor, Tensor]]


class GuidedSampler(Sampler):
    """A sampler that replaces the denoised image by a guided one, E[x0 | x_sigma, y].

    Parameters
    ----------
    guide : callable
        ``guide(problem, x, sigma) -> (guided x0, misfit)``.
    steps : int
        Noise levels visited.
    sigma_max, sigma_min : float
        Ends of the Karras ladder, in prior units; None takes what the noise asks for.
    finest : float
        Where it ends at the latest if it is not said.
    informed : bool
        Start from the problem's classical estimate where there is one.
    ladder : {"karras", "ddpm"}
        Which ladder; "ddpm" moves ancestrally, "karras" with second order.
    """

    def __init__(
        self,
        guide: Guide,
        steps: int,
        *,
        sigma_max: float = 80.0,
        sigma_min: float | None = None,
        finest: float = 0.01,
        informed: bool = True,
        ladder: str = "karras",
        calls: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.guide = guide
        self.steps = steps
        self.sigma_max, self.sigma_min, self.finest = sigma_max, sigma_min, finest
        self.informed = informed
        self.ladder = ladder
        self._calls = calls

    def total_steps(self) -> int:
        """Return the number of noise levels."""
        return self.steps

    def calls_per_step(self) -> tuple[float, float]:
        """Return about how many (forward, vjp) calls a step makes."""
        return self._calls

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; see :meth:`Sampler.sample`."""
        shape = problem.operator.x_shape

        def noise() -> Tensor:
            return streams.normal(shape)

        move: Callable[[Tensor, Tensor, float, float, Callable[[], Tensor]], Tensor]
        if self.ladder == "ddpm":
            sigmas: Sequence[float] = ddpm_ladder(self.steps)
            x, move = sigmas[0] * noise(), ancestral_move
        else:
            x, sigma_top = starting_point(problem, noise, self.sigma_max, self.informed)
            bottom = finest_level(problem, self.sigma_min, self.finest)
            sigmas = karras_ladder(self.steps, sigma_top, bottom)
            move = SecondOrderMove()
        total = len(sigmas) - 1
        for i in range(total):
            x0, misfit = self.guide(problem, x, sigmas[i])
            x = move(x, x0, sigmas[i], sigmas[i + 1], noise)
            if i + 1 < total:
                yield Step(i + 1, total, x0, misfit, dict(problem.calls))
        yield final_step(problem, x, total)


TRAINED, COARSEST, BELOW = 0.002, 0.01, 5.0
"""Smallest noise level with a network, the largest that a ladder may end at, and how far below the
noise of the data it ends: what the last level still holds is lost from the spread."""
SMALLEST = 1e-5
"""Smallest noise level that float32 still tells from none in images of size one."""

LOST = 20.0
"""Noise over the prior's spread above which a first x tells nothing of the object."""


def starting_point(
    problem: Problem, noise: Callable[[], Tensor], sigma_max: float, informed: bool
) -> tuple[Tensor, float]:
    """Return x at the first noise level, and that level."""
    start = problem.start
    if informed and start is not None:
        # A search's result holds the mode at any level up to its own.
        level = start.level or informed_sigma(start.error, math.inf)
        # Below that the object is not lost in the noise: an estimate that asks for a higher level
        # is still nearer to it than nothing.
        if level < sigma_max or sigma_max < LOST * problem.prior.data_std:
            sigma = min(level, sigma_max)
            return start.estimate + sigma * noise(), sigma
    if sigma_max < problem.prior.data_std:
        raise RecipeError(
            f"sigma_max = {sigma_max:g} is below the spread of the prior's images, "
            f"{problem.prior.data_std:.2g}, so that noise of that level is no place to begin; "
            f"raise it to {LOST * problem.prior.data_std:.2g} or more, or leave informed_start on"
        )
    return sigma_max * noise(), sigma_max


def finest_level(problem: Problem, wanted: float | None, finest: float = 0.01) -> float:
    """Return the smallest noise level: ``finest``, or less where the posterior is narrower.

    What the last level still holds is lost from the spread, so it must be well below it. But a
    ``finest`` below 0.01 is not followed to where the prior was not made for so little noise.
    """
    if wanted is not None:
        return wanted
    level = problem.noise_level if problem.noise_level is not None else UNKNOWN_NOISE
    # A network was trained down to some noise; a prior in closed form is exact at any.
    least = TRAINED if problem.prior.learned else SMALLEST
    least = min(COARSEST, max(least, level / BELOW))
    return min(least, max(finest, problem.prior.sigma_min))


def least_noise(prior: Prior) -> float:
    """Return the noise of data, in prior units, down to which a learned prior's ladder follows."""
    return BELOW * min(COARSEST, max(TRAINED, prior.sigma_min))


def final_step(
    problem: Problem,
    x: Tensor,
    total: int,
    details: dict[str, Any] | list[dict[str, Any]] | None = None,
) -> Step:
    """Return the step that carries the samples."""
    with torch.no_grad():
        misfit = problem.misfit(problem.operator(x))
    return Step(total, total, x, misfit, dict(problem.calls), details or {})
