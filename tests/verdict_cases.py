"""Cases for the verdict's findings: data with given expectations, and a problem of closed form.

The latter has a Gaussian prior, a filter and Gaussian noise.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_dps.core.covariance import power_law_spectrum
from napari_dps.core.likelihood import GaussianLikelihood, Likelihood
from napari_dps.core.operator import LinearOperator, MappedOperator
from napari_dps.core.problem import Problem
from napari_dps.grid import Grid
from napari_dps.priors._gaussian import GaussianPrior
from napari_dps.recipe import Recipe
from napari_dps.uncertainty.verdict._fit import fit
from napari_dps.uncertainty.verdict._residuals import Residuals
from napari_dps.uncertainty.verdict.datafit import data_fit
from napari_dps.uncertainty.verdict.evidence import Evidence, Finding

SIDE, SIGMA = 8, 0.5
BLUR = {"kind": "gaussian-blur", "sigma": 1.5}


class Filter(LinearOperator):
    """A periodic blur with a given transfer function."""

    def __init__(self, transfer: Tensor) -> None:
        super().__init__((1, *transfer.shape), (1, *transfer.shape))
        self.transfer = transfer

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(x) * self.transfer).real

    def transpose(self, v: Tensor) -> Tensor:
        return self(v)


SPECTRUM = power_law_spectrum((SIDE, SIDE), 0.5, 3.0, 2.0)
TRANSFER = 1 / (1 + torch.fft.fftfreq(SIDE).double().square()[:, None] * 40) + torch.zeros(SIDE)


def problem_of(
    transfer: Tensor = TRANSFER, scale: float = 2.0, likelihood: Likelihood | None = None
) -> Problem:
    """Return a problem of closed form: Gaussian prior, filter, Gaussian noise."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    operator = MappedOperator(Filter(transfer), scale * one, -scale / 2 * one)
    prior = GaussianPrior(0.0, SPECTRUM)
    truth = drawn(SPECTRUM, 1, 0)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(5)).double()
    y = operator(truth) + SIGMA * scale / 2 * noise
    return Problem(y, prior, operator, likelihood or GaussianLikelihood(SIGMA * scale / 2))


def drawn(spectrum: Tensor, count: int, seed: int) -> Tensor:
    """Return periodic Gaussian fields of zero mean."""
    white = torch.randn(
        (count, 1, *spectrum.shape), generator=torch.Generator().manual_seed(seed)
    ).double()
    return torch.fft.ifft2(torch.fft.fft2(white) * spectrum.sqrt()).real


def posterior(problem: Problem, count: int, seed: int = 1) -> Tensor:
    """Return exact posterior samples of :func:`problem_of` at scale 2."""
    gain = SPECTRUM * TRANSFER / (SPECTRUM * TRANSFER**2 + SIGMA**2)
    mean = torch.fft.ifft2(torch.fft.fft2(problem.y) * gain).real
    return mean + drawn(SPECTRUM * (1 - gain * TRANSFER), count, seed)


def evidence_of(problem: Problem, x: Tensor, pairs: bool = False) -> Evidence:
    samples = problem.operator.to_object(x)[:, 0].numpy().astype(np.float32)
    return Evidence(problem, x, samples, Recipe(), 0, pairs)


def scene(n: int = 48, peak: float = 200.0) -> np.ndarray:
    """Return narrow spots on a background."""
    rows, columns = np.mgrid[:n, :n]
    places = np.random.default_rng(5).uniform(4, n - 4, (14, 2))
    return 10 + peak * sum(np.exp(-((rows - a) ** 2 + (columns - b) ** 2) / 6.0) for a, b in places)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    f = np.hypot(*np.meshgrid(*[np.fft.fftfreq(n) for n in image.shape], indexing="ij"))
    return np.fft.ifft2(np.fft.fft2(image) * np.exp(-2 * (np.pi * sigma * f) ** 2)).real


def judge(
    y, z, *, noise="poisson", forward=BLUR, valid=None, seed=0, sampler="mmps", restarts=None
) -> Finding:
    """Return the finding on data ``y`` whose samples have the expectations ``z`` (S, Y, X)."""
    recipe = Recipe(forward=forward, noise=noise, sampler=sampler)
    likelihood = recipe.noise.bind(Grid(y.shape, None, "cpu", "float32"))
    mask = None if valid is None else torch.as_tensor(valid)[None, None]
    problem = Problem(torch.as_tensor(y).float()[None, None], None, None, likelihood, mask)
    residuals = Residuals(seed)
    images = torch.as_tensor(np.asarray(z)).float()[:, None]
    residuals.add(problem, images, [(s, 0) for s in range(len(images))])
    return data_fit(fit(residuals.frames[0], problem), recipe, restarts)
