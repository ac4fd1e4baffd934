"""Problems whose posterior is known: Gaussian prior, affine operator, Gaussian noise.

A :class:`Case` holds the operator, the exact posterior and its eigenmodes, draws truths and
measurements, and judges samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_dps.core.covariance import power_law_spectrum
from napari_dps.core.estimate import gaussian_field_estimate
from napari_dps.core.likelihood import GaussianLikelihood
from napari_dps.core.operator import MappedOperator, Operator
from napari_dps.core.problem import Problem, Start
from napari_dps.core.streams import Streams
from napari_dps.forward.downsample import Downsample
from napari_dps.forward.gaussian_blur import GaussianBlur
from napari_dps.forward.random_inpaint import RandomInpaint
from napari_dps.grid import Grid
from napari_dps.priors._gaussian import GaussianPrior

DTYPE = torch.float64
MEAN, STD = -0.2, 0.3
"""Of a pixel of the prior."""
SPECTRA = {"white": (0.5, 1.0), "smooth": (2.0, 1.5), "steep": (4.0, 2.5)}
"""Correlation length L in pixels and exponent p: variance per mode as (1 + (2 pi L k)^2)^(-p).
From the lowest to the highest frequency along an axis it falls 3.5, 260 and 320,000 times."""
TASKS = ("blur", "half", "downsample")
"""Gaussian blur of 1.5 px (periodic), half the pixels missing, camera binning 2 x 2."""
NOISE = (0.02, 0.1, 0.4)
LEVELS = (50, 80, 90, 95)
WELL, UNMEASURED = 0.1, 0.9
"""Posterior over prior variance below which a mode is well measured, above which not at all."""
SEEN = 0.01
"""Modes whose posterior deviation is below this share of a pixel's prior one do not count:
nobody sees them, and ladders end above them."""
PARTNERS = 8
"""Samples that also get an antithetic partner, from which the bias is told without noise."""


def operator_of(task: str, size: int) -> Operator:
    """Return the task's operator; objects have ``size`` pixels a side."""
    if task == "downsample":
        return Downsample(factor=2).bind(Grid((size // 2, size // 2), dtype="float64"))
    grid = Grid((size, size), dtype="float64")
    if task == "half":
        return RandomInpaint(missing=0.5).bind(grid)
    return GaussianBlur(sigma=1.5, boundary="periodic").bind(grid)


@dataclass
class Judgement:
    """Figures of the samples of one measurement, squared where they are to be averaged so."""

    error: float
    bias: float
    spread: dict[str, float]
    coverage: dict[str, dict[int, float]]


class Case:
    """One prior spectrum, one task, one noise level.

    Parameters
    ----------
    task : str
        One of :data:`TASKS`.
    noise : float
        Standard deviation of the noise, in prior units.
    spectrum : str
        One of :data:`SPECTRA`.
    size : int
        Side of the object in pixels.
    """

    def __init__(self, task: str, noise: float, spectrum: str = "smooth", size: int = 24) -> None:
        self.task, self.noise, self.name, self.size = task, noise, spectrum, size
        self.spectrum = power_law_spectrum((size, size), STD, *SPECTRA[spectrum])
        self.operator = operator_of(task, size)
        n = size * size
        eye = torch.eye(n, dtype=DTYPE).reshape(n, 1, size, size)
        self.prior = torch.fft.ifft2(torch.fft.fft2(eye) * self.spectrum).real.reshape(n, n)
        self.a = self.operator(eye).reshape(n, -1).T
        s = self.a @ self.prior @ self.a.T + noise**2 * torch.eye(len(self.a), dtype=DTYPE)
        self.gain = torch.linalg.solve(s, self.a @ self.prior).T
        self.covariance = self.prior - self.gain @ self.a @ self.prior
        self.covariance = (self.covariance + self.covariance.T) / 2
        self.std = self.covariance.diagonal().clamp_min(0).sqrt()
        values, self.modes = torch.linalg.eigh(self.covariance)
        self.mode_std = values.clamp_min(0).sqrt()
        before = torch.einsum("ij,ik,kj->j", self.modes, self.prior, self.modes)
        self.left = values.clamp_min(0) / before
        """Posterior over prior variance of every mode."""

    def groups(self) -> dict[str, Tensor]:
        """Return masks over pixels and over modes, by name; empty ones are left out."""
        found = {"pixels": torch.ones(self.size**2, dtype=torch.bool)}
        seen = self.operator.measured
        if seen is not None:
            found |= {"measured pixels": seen.flatten(), "missing pixels": ~seen.flatten()}
        counts = self.mode_std > SEEN * STD
        found["well measured modes"] = counts & (self.left < WELL)
        found["partly measured modes"] = counts & (self.left >= WELL) & (self.left <= UNMEASURED)
        found["unmeasured modes"] = counts & (self.left > UNMEASURED)
        return {name: mask for name, mask in found.items() if bool(mask.any())}

    def draw(self, t: int) -> Tensor:
        """Return the measurement of truth ``t``, (1, *y_shape)."""
        streams = Streams(7, [("truth", t)], dtype=DTYPE)
        white = streams.normal((1, self.size, self.size))
        truth = MEAN + torch.fft.ifft2(torch.fft.fft2(white) * self.spectrum.sqrt()).real
        y = GaussianLikelihood(self.noise).sample(self.operator(truth), streams)
        seen = self.operator.measured
        return y if seen is None else torch.where(seen, y, torch.zeros_like(y))

    def mean(self, y: Tensor) -> Tensor:
        """Return the exact posterior mean, (pixels,)."""
        flat = torch.full((self.size**2,), MEAN, dtype=DTYPE)
        return flat + self.gain @ (y.flatten() - self.a @ flat)

    def problem(self, y: Tensor, informed: bool) -> Problem:
        """Return what a sampler gets to see."""
        likelihood, seen, start = GaussianLikelihood(self.noise), self.operator.measured, None
        if informed:
            streams = Streams(1, [0], dtype=DTYPE)
            found = gaussian_field_estimate(
                self.operator, y, likelihood, seen, streams, positive=False
            )
            start = Start(found.image, float(found.error.max()))
        one = torch.ones((1, 1, 1, 1), dtype=DTYPE)
        problem = Problem(
            y,
            GaussianPrior(MEAN, self.spectrum),
            MappedOperator(self.operator, 2 * one, -one),
            likelihood,
            None if seen is None else seen[None, None],
            start,
        )
        problem.noise_level = problem.find_noise_level()
        return problem

    def judge(self, x: Tensor, mean: Tensor, partners: Tensor | None) -> Judgement:
        """Compare samples with the exact posterior.

        Parameters
        ----------
        x : Tensor, shape (S, pixels)
            Independent samples.
        mean : Tensor, shape (pixels,)
            The exact mean.
        partners : Tensor or None, shape (P, pixels)
            Antithetic partners of the first of them.
        """
        z = {"pixels": (x - mean) / self.std, "modes": (x - mean) @ self.modes / self.mode_std}
        chances = [(1 + sign * level / 100) / 2 for level in LEVELS for sign in (-1, 1)]
        normal = torch.distributions.Normal(0.0, 1.0)
        # Against the exact posterior and not against one truth, which would need many of them.
        below = {
            k: normal.cdf(
                torch.as_tensor(np.quantile(v.numpy(), chances, axis=0, method="weibull"))
            )
            for k, v in z.items()
        }
        spread, coverage = {}, {}
        for name, mask in self.groups().items():
            kind = name.split()[-1]
            # Weighted by variance: of modes, those count that make up the pixels' spread.
            weight = (self.std if kind == "pixels" else self.mode_std)[mask] ** 2
            if kind == "pixels":
                weight = torch.ones_like(weight)
            spread[name] = float((weight * z[kind][:, mask].var(0)).sum() / weight.sum())
            inside = (below[kind][1::2] - below[kind][::2])[:, mask].mean(1)
            coverage[name] = {level: float(v) for level, v in zip(LEVELS, inside, strict=True)}
        bias = float("nan")
        if partners is not None:
            middle = (x[: len(partners)] + partners).mean(0) / 2
            bias = float((((middle - mean) / self.std) ** 2).mean())
        return Judgement(float((z["pixels"].mean(0) ** 2).mean()) * len(x), bias, spread, coverage)


def average(judged: list[Judgement]) -> dict[str, Any]:
    """Return the figures over several measurements."""
    first = judged[0]

    def root(values: list[float]) -> float | None:
        found = float(np.mean(values)) ** 0.5
        return None if np.isnan(found) else round(found, 3)

    return {
        "error": root([j.error for j in judged]),
        "bias": root([j.bias for j in judged]),
        "spread": {k: root([j.spread[k] for j in judged]) for k in first.spread},
        "coverage": {
            k: {
                level: round(float(np.mean([j.coverage[k][level] for j in judged])), 3)
                for level in LEVELS
            }
            for k in first.coverage
        },
    }
