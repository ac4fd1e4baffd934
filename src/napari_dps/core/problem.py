"""The problem that a sampler sees: measurement, prior, operator and likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from napari_dps.core.likelihood import Likelihood
from napari_dps.core.operator import MappedOperator
from napari_dps.core.prior import Prior, Vjp

UNKNOWN_NOISE = 0.05
"""In prior units, where nothing tells the noise."""
PROBES = 8


@dataclass
class Start:
    """An informed start: a classical estimate and how far it may be from the truth.

    Attributes
    ----------
    estimate : Tensor, shape (B or 1, *x_shape)
        In prior units.
    error : float
        Largest root-mean-square error expected of it, in prior units.
    level : float or None
        Noise level at which samplers join; None: it follows from the error.
    misfits : list of float
        Chi-square per datum of the restarts that led to it, most likely first; may be empty.
    errors : list of float
        The error of each frame, of which ``error`` is the largest; empty where there is one alone.
    """

    estimate: Tensor
    error: float
    level: float | None = None
    misfits: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)


@dataclass
class Problem:
    """y = noise(A(x)), and what is known about x beforehand.

    Attributes
    ----------
    y : Tensor, shape (B or 1, *y_shape)
        The measurement in photoelectrons (or its own units for Gaussian noise).
    prior : Prior
        In prior units.
    operator : MappedOperator
        From prior units to expectation.
    likelihood : Likelihood
        Of y given its expectation.
    valid : Tensor of bool or None
        Which data count, broadcastable to y.
    start : Start or None
        An informed start where one was found.
    noise_level : float or None
        Noise of the best pixels in prior units, where A leaves units as they are or is linear about
        the start: no detail of the posterior is finer.
    noise_levels : list of float or None
        That of each frame, of which ``noise_level`` is the least.
    precisions : list of float or None
        What an affine A tells of each frame's best measured regions: one over the squared noise
        there, in prior units.
    reference : Tensor or None, shape (B or 1, *y_shape)
        Expectation of the informed start: no datum is called more certain than half of it says.
    calls : dict
        Network passes so far, ``forward`` and ``vjp``.
    checkpoint : callable or None
        Called before every network pass; raises to end the run.
    at_once : int or None
        Images a network call may hold; None: as many as there are. Only samplers that draw all
        samples together must heed it, the others get batches that fit.
    """

    y: Tensor
    prior: Prior
    operator: MappedOperator
    likelihood: Likelihood
    valid: Tensor | None = None
    start: Start | None = None
    noise_level: float | None = None
    noise_levels: list[float] | None = None
    precisions: list[float] | None = None
    reference: Tensor | None = None
    calls: dict[str, int] = field(default_factory=lambda: {"forward": 0, "vjp": 0})
    checkpoint: Callable[[], None] | None = None
    at_once: int | None = None

    def _count(self, what: str) -> None:
        """Count a network call; the checkpoint before it may raise to end the run."""
        if self.checkpoint is not None:
            self.checkpoint()
        self.calls[what] += 1

    def select(self, frames: list[int]) -> Problem:
        """Return the problem of the given frames, one batch item each."""
        index = torch.tensor(frames, device=self.y.device)

        def take(value: Tensor) -> Tensor:
            return value if value.shape[0] == 1 else value.index_select(0, index)

        operator = MappedOperator(
            self.operator.operator, take(self.operator.scale), take(self.operator.background)
        )
        start, level = self.start, self.noise_level
        if start is not None:
            start = replace(start, estimate=take(start.estimate))
            if start.errors:
                errors = [start.errors[k] for k in frames]
                start = replace(start, errors=errors, error=max(errors))
        levels = self.noise_levels and [self.noise_levels[k] for k in frames]
        if levels:
            level = min(levels)
        precisions = self.precisions and [self.precisions[k] for k in frames]
        valid = None if self.valid is None else take(self.valid)
        reference = None if self.reference is None else take(self.reference)
        return replace(
            self, y=take(self.y), operator=operator, valid=valid, start=start, reference=reference,
            noise_level=level, noise_levels=levels, precisions=precisions,
        )  # fmt: skip

    def ladders(self, apart: bool = False) -> list[object]:
        """Return what each frame's steps hang on but its data; none are alike if ``apart``."""
        errors = [] if self.start is None else self.start.errors
        known = (errors, self.noise_levels or [], self.precisions or [])
        return [
            (apart * k, *(value for each in known for value in each[k : k + 1]))
            for k in range(len(self.y))
        ]

    @property
    def alike(self) -> bool:
        """Whether one affine measurement is that of all samples of a batch."""
        frames = (self.y, self.operator.scale, self.operator.background)
        return self.operator.is_affine and all(len(of) == 1 for of in frames)

    def variance(self, z: Tensor) -> Tensor:
        """Return the variance of the data for guidance at expectation ``z``.

        A denoised image that is far too dark somewhere, as early ones are, would make its counts
        look certain and pull without bound.
        """
        if self.reference is not None:
            z = torch.maximum(z, 0.5 * self.reference)
        return self.likelihood.variance(z)

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """Return E[x0 | x_sigma], counting the call."""
        self._count("forward")
        with torch.no_grad():
            x0: Tensor = self.prior(x, sigma)
        return x0

    def denoise_moments(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor | None]:
        """Return x0 and the prior's variance fraction where it has one, counting the call."""
        self._count("forward")
        with torch.no_grad():
            return self.prior.moments(x, sigma)

    def linearize(self, x: Tensor, sigma: float) -> tuple[Tensor, Vjp]:
        """Return x0 and its counted vjp."""
        return self.linearize_moments(x, sigma)[:2]

    def linearize_moments(self, x: Tensor, sigma: float) -> tuple[Tensor, Vjp, Tensor | None]:
        """Return x0, its counted vjp, and the prior's variance fraction where it has one."""
        self._count("forward")
        x0, vjp, fraction = self.prior.linearize_moments(x, sigma)

        def counted(v: Tensor) -> Tensor:
            self._count("vjp")
            return vjp(v)

        return x0, counted, fraction

    def residual(self, z: Tensor) -> Tensor:
        """Return y - z, zero where a pixel does not count."""
        r = self.y - z
        return r if self.valid is None else torch.where(self.valid, r, torch.zeros_like(r))

    def misfit(self, z: Tensor) -> Tensor:
        """Return chi-square of the valid data over its expectation if z is the truth, shape (B,).

        About 1 if z explains y, at any level of light; see :meth:`Likelihood.chi2`.
        """
        return self.likelihood.chi2(self.y, z, self.valid)

    def find_noise_level(self) -> float | None:
        """Return the noise in prior units of typical pixels of the least noisy frame."""
        levels = self.find_noise_levels()
        return None if levels is None else min(levels)

    def find_noise_levels(self) -> list[float] | None:
        """Return the noise in prior units of typical pixels of each frame.

        Where A is not affine, that about the start, at most what is taken for unknown noise: the
        start may be far from the object.
        """
        levels = self.frame_noise()
        if levels is None and self.start is not None:
            levels = self._noise_about(self.start).clamp_max(UNKNOWN_NOISE)
        return None if levels is None else levels.expand(len(self.y)).tolist()

    def _noise_about(self, start: Start) -> Tensor:
        """Return the noise of typical pixels by the data's Fisher information about them, (B,).

        The diagonal of J^T V^-1 J is probed with random signs.
        """
        z, _, vjp = self.operator.linearize(start.estimate)
        weight = self.likelihood.variance(z).rsqrt()
        if self.valid is not None:
            weight = torch.where(self.valid, weight, torch.zeros_like(weight))
        random = torch.Generator().manual_seed(0)
        information = torch.zeros_like(start.estimate)
        for _ in range(PROBES):
            signs = torch.randint(0, 2, z.shape, generator=random).to(z) * 2 - 1
            information += vjp(weight * signs) ** 2 / PROBES
        typical = information.flatten(1).median(1).values
        return typical.rsqrt().nan_to_num(torch.inf)

    def find_precisions(self) -> list[float] | None:
        """Return the precision of each frame's best measured regions in prior units.

        With w = A^T V^-1 A 1, the precision of brightness that changes slowly, it is the mean of w
        weighted by w: times the largest variance of a prior's modes about the largest eigenvalue of
        V^-1/2 A C A^T V^-1/2, for steep spectra as for white ones. None where A is not affine.
        """
        if self.start is None or not self.operator.is_affine:
            return None
        z, jvp, vjp = self.operator.linearize(self.start.estimate)
        seen = jvp(torch.ones_like(self.start.estimate)) / self.variance(z)
        if self.valid is not None:
            seen = torch.where(self.valid, seen, torch.zeros_like(seen))
        weight = vjp(seen).flatten(1).double()
        mean = weight.square().sum(1) / weight.abs().sum(1)
        return mean.nan_to_num(0.0).expand(len(self.y)).tolist()

    def frame_noise(self) -> Tensor | None:
        """Return the noise in prior units of typical pixels of each frame, shape (B or 1,)."""
        if not self.operator.is_affine:
            return None
        slope = self.operator.operator.response * self.operator.scale / 2
        deviation = self.likelihood.variance(self.y).sqrt() / slope
        if self.valid is not None:  # what is missing was set to zero, where counts look certain
            deviation = torch.where(self.valid, deviation, torch.full_like(deviation, torch.nan))
        typical = deviation.flatten(1).nanmedian(1).values
        return typical.nan_to_num(torch.inf)
