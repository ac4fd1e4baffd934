"""The steps of DDRM. See :mod:`napari_dps.samplers.ddrm` for the method and its paper."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from napari_dps.core.guidance import data_variance
from napari_dps.core.illumination import IlluminatedOperator
from napari_dps.core.linalg import column
from napari_dps.core.operator import Operator
from napari_dps.core.problem import Problem
from napari_dps.core.sampler import Sampler, Step, final_step, finest_level, starting_point
from napari_dps.core.schedule import karras_ladder
from napari_dps.core.streams import Streams
from napari_dps.core.svd import Spectral, decompose, even
from napari_dps.errors import RecipeError


class DDRMSampler(Sampler):
    """Anneal every singular mode by itself: from the data where they are less noisy than x.

    Parameters
    ----------
    steps : int
        Noise levels, one forward pass of the network each.
    eta, eta_b : float
        Share of fresh noise, and weight of the data where they are less noisy than the image.
    cutoff : float
        Noise of a mode, in standard deviations of the prior, above which it counts as unmeasured.
    sigma_max, sigma_min : float
        Ends of the ladder.
    informed : bool
        Start from the problem's classical estimate where there is one.
    """

    def __init__(
        self,
        steps: int,
        eta: float,
        eta_b: float,
        *,
        cutoff: float,
        sigma_max: float,
        sigma_min: float | None,
        informed: bool,
    ) -> None:
        self.steps, self.eta, self.eta_b, self.cutoff = steps, eta, eta_b, cutoff
        self.sigma_max, self.sigma_min, self.informed = sigma_max, sigma_min, informed
        self._found: tuple[Operator, Spectral] | None = None

    def total_steps(self) -> int:
        """Return the number of noise levels."""
        return self.steps

    def calls_per_step(self) -> tuple[float, float]:
        """Return one forward pass and no product."""
        return 1.0, 0.0

    def check(self, problem: Problem) -> None:
        """Refuse an operator without a cheap decomposition."""
        self._basis(problem.operator.operator)

    def _basis(self, operator: Operator) -> Spectral:
        """Return the decomposition, made once for all batches."""
        if self._found is None or self._found[0] is not operator:
            found = decompose(operator)
            if found is None:
                raise RecipeError(refusal(operator))
            self._found = operator, found
        return self._found[1]

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; see :meth:`Sampler.sample`."""
        shape = problem.operator.x_shape

        def noise() -> Tensor:
            return streams.normal(shape)

        data = Modes(problem, self._basis(problem.operator.operator), self.cutoff)
        basis = data.basis
        x, top = starting_point(problem, noise, self.sigma_max, self.informed)
        if data.missing is None:
            x = basis.v(data.begin(basis.vt(x), basis.vt(noise()), top))
        sigmas = karras_ladder(self.steps, top, finest_level(problem, self.sigma_min))
        total = len(sigmas) - 1
        for i, (sigma, lower) in enumerate(pairwise(sigmas)):
            x0 = problem.denoise(x, sigma)
            if lower > 0:
                c0 = basis.vt(x0)
                seen = data.seen
                if data.missing is not None:
                    seen = data.completed(c0, streams.normal(data.missing.shape[1:]))
                c, fresh = basis.vt(x), basis.vt(noise())
                x = basis.v(self._move(data, seen, c, c0, fresh, sigma, lower))
            else:
                x = x0
            if i + 1 < total:
                misfit = problem.misfit(problem.operator(x0))
                yield Step(i + 1, total, x0, misfit, dict(problem.calls))
        yield final_step(problem, x, total)

    def _move(
        self,
        data: Modes,
        seen: Tensor,
        c: Tensor,
        c0: Tensor,
        fresh: Tensor,
        sigma: float,
        lower: float,
    ) -> Tensor:
        """Return the coefficients at ``lower``: equations 7 and 8 of the paper, in sigma."""
        kept = math.sqrt(1 - self.eta**2) * lower
        # The direction of the noise: the image's own or, where the data have more of it, theirs.
        towards = torch.where(data.measured, (seen - c0) / data.level, (c - c0) / sigma)
        finer = c0 + kept * towards + self.eta * lower * fresh
        spread = (lower**2 - (self.eta_b * data.level) ** 2).clamp_min(0).sqrt()
        coarser = c0 + self.eta_b * (seen - c0) + spread * fresh
        return torch.where(data.measured & (data.level <= lower), coarser, finer)


class Modes:
    """The measurement of one problem, mode by mode and in prior units.

    Parameters
    ----------
    problem : Problem
        The problem.
    basis : Spectral
        Of its operator.
    cutoff : float
        See :class:`DDRMSampler`.

    Attributes
    ----------
    basis : Spectral
        Of the data that count, where that is cheap.
    measured : Tensor of bool
        Modes that the data tell.
    seen, level : Tensor
        What they tell, U^H y over S, and its noise.
    missing : Tensor of bool or None
        Data that U wants and the measurement lacks; None: there are none.
    """

    def __init__(self, problem: Problem, basis: Spectral, cutoff: float) -> None:
        operator, y = problem.operator, problem.y
        known = torch.ones_like(y, dtype=torch.bool)
        for mask in (problem.valid, operator.operator.measured):
            if mask is not None:
                known = known & mask
        placed = basis.place(known)
        alone = basis.restricted(placed)
        self.basis = basis if alone is None else alone
        self.missing = None if alone is not None else ~placed
        self._deviation = noise_deviation(problem, known, pixelwise=basis.pixelwise)
        gain = basis.factor(operator.scale / 2) * self.basis.singular
        self.measured = gain > 0
        self._gain = torch.where(self.measured, gain, torch.ones_like(gain))
        self.level = basis.factor(self._deviation) / self._gain
        if not basis.pixelwise:
            unseen = torch.full_like(self.level, torch.inf)
            best = torch.where(self.measured, self.level, unseen).flatten(1).amin(1)
            limit = cutoff * best.clamp_min(problem.prior.data_std)
            self.measured = self.measured & (self.level <= column(limit, self.level))
        dark = operator(torch.zeros((1, *operator.x_shape), dtype=y.dtype, device=y.device))
        shown = torch.where(known, y - dark, torch.zeros_like(y))
        self.seen = self.basis.ut(basis.place(shown)) / self._gain

    def begin(self, c: Tensor, fresh: Tensor, sigma: float) -> Tensor:
        """Return coefficients at the first level, the data's where they are less noisy."""
        spread = (sigma**2 - self.level**2).clamp_min(0).sqrt()
        return torch.where(self.measured & (self.level < sigma), self.seen + spread * fresh, c)

    def completed(self, c0: Tensor, fresh: Tensor) -> Tensor:
        """Return what the data tell with missing ones drawn about the expectation of ``c0``."""
        assert self.missing is not None
        told = self.basis.u(self._gain * c0) + self._deviation * fresh
        filled = torch.where(self.missing, told, torch.zeros_like(told))
        return self.seen + self.basis.ut(filled) / self._gain


def noise_deviation(problem: Problem, known: Tensor, *, pixelwise: bool) -> Tensor:
    """Return the standard deviation of the data: of each, or of a frame's mean variance."""
    variance = data_variance(problem).expand_as(problem.y)
    if not pixelwise:
        count = known.flatten(1).sum(1).clamp_min(1)
        variance = column((variance * known).flatten(1).sum(1) / count, problem.y)
    return variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()


def refusal(operator: Operator) -> str:
    """Return why an operator has no cheap decomposition, and what to choose instead."""
    if not operator.is_affine:
        return (
            "the sampler 'ddrm' takes linear forward models, and this one is not; choose the "
            "sampler 'daps'"
        )
    if isinstance(operator, IlluminatedOperator) and not even(operator):
        return (
            "the sampler 'ddrm' needs a singular value decomposition, and a flat field that "
            "varies has a cheap one only where pixels do not mix; divide the image by it, or "
            "choose the sampler 'mmps'"
        )
    return (
        "the sampler 'ddrm' needs a cheap singular value decomposition, which masks, blurs, "
        "binning, chains of separable ones and sampled k-space have and this forward model has "
        "not; choose the sampler 'mmps'"
    )
