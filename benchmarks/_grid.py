"""Posteriors of one or two pixels by integration on a grid, whatever noise and operator.

The prior is a Gaussian field in closed form (:class:`napari_dps.priors._gaussian.GaussianPrior`)
of 1 x 1 or 1 x 2 pixels; the likelihood is asked as samplers ask it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_dps.core.likelihood import Likelihood, PoissonLikelihood
from napari_dps.core.operator import LinearOperator, MappedOperator, Operator
from napari_dps.core.problem import Problem
from napari_dps.priors._gaussian import GaussianPrior

DTYPE = torch.float64
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass
class GridPosterior:
    """A posterior on a grid of one or two axes.

    Attributes
    ----------
    axis : Tensor, shape (N,)
        Values of every pixel, in prior units.
    density : Tensor, shape (N,) or (N, N)
        Probability of every point; adds to one.
    log_evidence : float
        log p(y), up to what the likelihood leaves out.
    """

    axis: Tensor
    density: Tensor
    log_evidence: float

    def marginal(self, pixel: int) -> Tensor:
        """Return the probabilities of one pixel's values."""
        other = tuple(k for k in range(self.density.ndim) if k != pixel)
        return self.density.sum(other) if other else self.density

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation per pixel."""
        found = []
        for k in range(self.density.ndim):
            p = self.marginal(k)
            mean = p @ self.axis
            found.append((mean, (p @ (self.axis - mean) ** 2).sqrt()))
        means, stds = zip(*found, strict=True)
        return torch.stack(means), torch.stack(stds)

    def cdf(self, pixel: int, value: Tensor) -> Tensor:
        """Return the share of one pixel's posterior below ``value``."""
        edges = torch.cat([self.axis[:1] * 0, self.marginal(pixel).cumsum(0)])
        step = self.axis[1] - self.axis[0]
        at = ((value - self.axis[0]) / step + 0.5).clamp(0, len(self.axis) - 1e-9)
        low = at.floor().long()
        return edges[low] + (at - low) * (edges[low + 1] - edges[low])

    def quantiles(self, pixel: int, levels: tuple[float, ...] = LEVELS) -> Tensor:
        """Return quantiles of one pixel."""
        total = self.marginal(pixel).cumsum(0)
        index = torch.searchsorted(total, torch.tensor(levels, dtype=DTYPE))
        return self.axis[index.clamp_max(len(self.axis) - 1)]


def integrate(problem: Problem, points: int = 801, widths: float = 7.0) -> GridPosterior:
    """Return the posterior of a problem of one or two pixels with a Gaussian prior.

    Parameters
    ----------
    problem : Problem
        Its prior is a GaussianPrior.
    points : int
        Per pixel.
    widths : float
        Prior standard deviations on either side of its mean.
    """
    prior = problem.prior
    assert isinstance(prior, GaussianPrior)
    spectrum = prior.spectrum.flatten().to(DTYPE)
    count = len(spectrum)
    if count > 2:
        raise ValueError(f"a grid over {count} pixels is too large; one or two are allowed")
    reach = widths * float(spectrum.mean().sqrt())
    axis = torch.linspace(prior.mean - reach, prior.mean + reach, points, dtype=DTYPE)
    x = torch.stack(torch.meshgrid(*[axis] * count, indexing="ij"), -1).reshape(-1, 1, 1, count)
    z = problem.operator(x)
    exact = problem.likelihood.log_prob(problem.y.expand_as(z), z, problem.valid)
    modes = torch.fft.fft(x.flatten(1) - prior.mean, norm="ortho").abs() ** 2
    log_prior = -0.5 * (modes / spectrum + (2 * torch.pi * spectrum).log()).sum(1)
    log = exact + log_prior
    whole = torch.logsumexp(log, 0)
    cell = count * float((axis[1] - axis[0]).log())
    density = (log - whole).exp().reshape([points] * count)
    return GridPosterior(axis, density, float(whole) + cell)


class Pixels(LinearOperator):
    """z = x for 1 x 1 or 1 x 2 pixels."""

    def __init__(self, count: int) -> None:
        super().__init__((1, 1, count), (1, 1, count))

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return x."""
        return x

    def transpose(self, v: Tensor) -> Tensor:
        """Return v."""
        return v


class PairIntensity(Operator):
    """z = |F x|^2 of two pixels, F the orthonormal DFT: their sum and difference, squared."""

    is_affine = False

    def __init__(self) -> None:
        super().__init__((1, 1, 2), (1, 1, 2))

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return half of the squared sum and difference."""
        total, apart = x.sum(-1), x[..., 0] - x[..., 1]
        return torch.stack([total, apart], -1).square() / 2


def counts(y: list[float], scale: float, background: float, prior: GaussianPrior) -> Problem:
    """Return Poisson counts ``y`` of pixels z = background + scale (x + 1) / 2."""
    one = torch.ones((1, 1, 1, 1), dtype=DTYPE)
    data = torch.tensor(y, dtype=DTYPE).reshape(1, 1, 1, -1)
    operator = MappedOperator(Pixels(len(y)), scale * one, background * one)
    return Problem(data, prior, operator, PoissonLikelihood())


def phase(y: list[float], likelihood: Likelihood, prior: GaussianPrior) -> Problem:
    """Return intensities ``y`` of the Fourier transform of two pixels; the object is x itself."""
    one = torch.ones((1, 1, 1, 1), dtype=DTYPE)
    data = torch.tensor(y, dtype=DTYPE).reshape(1, 1, 1, 2)
    return Problem(data, prior, MappedOperator(PairIntensity(), 2 * one, -one), likelihood)


def compare(samples: Tensor, exact: GridPosterior) -> dict[str, float]:
    """Return how far samples (n, pixels) are from the posterior; the worst pixel counts.

    Parameters
    ----------
    samples : Tensor, shape (n, pixels)
        In prior units.
    exact : GridPosterior
        The posterior.
    """
    mean, std = exact.moments()
    rows = []
    for k in range(samples.shape[1]):
        values = samples[:, k].sort().values
        share = exact.cdf(k, values)
        # Kolmogorov's distance: the largest difference between the two distribution functions.
        steps = torch.arange(len(values) + 1, dtype=DTYPE) / len(values)
        largest = torch.maximum((share - steps[:-1]).abs(), (share - steps[1:]).abs()).max()
        inside = exact.cdf(k, values[[int(0.95 * len(values))]]) - exact.cdf(
            k, values[[int(0.05 * len(values))]]
        )
        bias = ((values.mean() - mean[k]) / std[k]).abs()
        rows.append((float(bias), float(values.std() / std[k]), float(inside), float(largest)))
    worst_spread = max((r[1] for r in rows), key=lambda v: abs(v - 1))
    worst_inside = max((r[2] for r in rows), key=lambda v: abs(v - 0.9))
    return {
        "bias": round(max(r[0] for r in rows), 3),
        "spread": round(worst_spread, 3),
        "coverage": round(worst_inside, 3),
        "distribution": round(max(r[3] for r in rows), 3),
    }
