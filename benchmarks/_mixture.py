"""A prior with many modes, and posteriors of it that are known exactly.

A mixture of equal Gaussians gives the denoiser, its Jacobian and, with a linear operator and
Gaussian noise, the posterior in closed form. The design of 25 modes at (8i, 8j), tiled to d
dimensions, is that of Cardoso et al., "Monte Carlo guided Diffusion for Bayesian linear inverse
problems", ICLR 2024; here divided by 16 so that modes fill the prior's range [-1, 1].
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from napari_dps.core.likelihood import GaussianLikelihood
from napari_dps.core.operator import LinearOperator, MappedOperator
from napari_dps.core.prior import Prior, Vjp, per_sample
from napari_dps.core.problem import Problem
from napari_dps.core.streams import Streams

UNIT = 1 / 16
"""The standard deviation of a mode, in prior units; distances are reported in this unit."""


class MixturePrior(Prior):
    """x0 ~ sum_k w_k N(mu_k, s^2 I), as images of shape (1, 1, d).

    Parameters
    ----------
    means : Tensor, shape (K, d)
        mu.
    weights : Tensor, shape (K,)
        w, which add to one.
    std : float
        s.
    """

    def __init__(self, means: Tensor, weights: Tensor, std: float) -> None:
        super().__init__()
        self.means, self.weights, self.std = means, weights, float(std)
        centre = weights @ means
        self.data_std = math.sqrt(std**2 + float(weights @ (means - centre) ** 2 @ _mean(means)))

    def _parts(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (x0, modes' shares, each mode's x0 less x0, share of a mode that x tells)."""
        flat = x.flatten(1)
        level2 = torch.as_tensor(per_sample(sigma, flat), dtype=x.dtype).reshape(-1, 1) ** 2
        means = self.means.to(x)
        offset = flat[:, None] - means
        total = self.std**2 + level2
        share = torch.softmax(
            self.weights.to(x).log() - offset.square().sum(2) / (2 * total), dim=1
        )
        gain = self.std**2 / total
        each = means + gain[..., None] * offset
        x0 = (share[:, :, None] * each).sum(1)
        return x0, share, each - x0[:, None], gain

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x0 | x_sigma], exactly."""
        return self._parts(x, sigma)[0].reshape(x.shape)

    def linearize(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Vjp]:
        """Return E[x0 | x_sigma] and Cov[x0 | x_sigma] / sigma^2, which is the Jacobian."""
        x0, share, apart, gain = self._parts(x, sigma)
        level2 = torch.as_tensor(per_sample(sigma, x0), dtype=x.dtype).reshape(-1, 1) ** 2

        def vjp(v: Tensor) -> Tensor:
            flat = v.flatten(1)
            along = share * (apart @ flat[:, :, None])[:, :, 0]
            out = gain * flat + (along[:, :, None] * apart).sum(1) / level2
            return out.reshape(v.shape)

        return x0.reshape(x.shape), vjp

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Return ``n`` draws (n, d)."""
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[chosen] + self.std * noise

    def posterior(self, a: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return weights (K,), means (K, d) and the covariance of x0 given y = a x0 + noise n."""
        eye = torch.eye(len(a), dtype=a.dtype)
        m = self.std**2 * a @ a.T + noise**2 * eye
        gain = self.std**2 * torch.linalg.solve(m, a).T
        left = y - self.means @ a.T
        log = self.weights.log() - 0.5 * (left * torch.linalg.solve(m, left.T).T).sum(1)
        identity = torch.eye(a.shape[1], dtype=a.dtype)
        return (
            torch.softmax(log, 0),
            self.means + left @ gain.T,
            self.std**2 * (identity - gain @ a),
        )


def _mean(means: Tensor) -> Tensor:
    """Return the vector that averages over dimensions."""
    return torch.full((means.shape[1],), 1 / means.shape[1], dtype=means.dtype)


def draw_posterior(
    posterior: tuple[Tensor, Tensor, Tensor], n: int, generator: torch.Generator
) -> Tensor:
    """Return ``n`` draws (n, d) from what :meth:`MixturePrior.posterior` gives."""
    weights, means, covariance = posterior
    chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
    values, axes = torch.linalg.eigh(covariance)
    noise = torch.randn(n, means.shape[1], generator=generator, dtype=means.dtype)
    return means[chosen] + (noise * values.clamp_min(0).sqrt()) @ axes.T


def grid_of_modes(d: int, generator: torch.Generator | None = None) -> MixturePrior:
    """Return 25 modes at (8i, 8j), i, j = -2..2, repeated to ``d`` dimensions, in prior units.

    Parameters
    ----------
    d : int
        An even number of dimensions.
    generator : torch.Generator, optional
        Draws unequal weights (chi-square, normalised); equal ones without it.
    """
    pairs = [(8.0 * i, 8.0 * j) for i, j in product(range(-2, 3), repeat=2)]
    means = torch.tensor(pairs, dtype=torch.float64).repeat(1, d // 2) * UNIT
    weights = torch.ones(25, dtype=torch.float64)
    if generator is not None:
        weights = torch.randn(25, 3, generator=generator, dtype=torch.float64).square().sum(1)
    return MixturePrior(means, weights / weights.sum(), UNIT)


class MatrixOperator(LinearOperator):
    """z = a x for objects (1, 1, d) and data (1, 1, m)."""

    def __init__(self, a: Tensor) -> None:
        super().__init__((1, 1, a.shape[1]), (1, 1, a.shape[0]))
        self.a = a

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return a x."""
        return x @ self.a.to(x).T

    def transpose(self, v: Tensor) -> Tensor:
        """Return a^T v."""
        return v @ self.a.to(v)


def linear_problem(prior: MixturePrior, a: Tensor, y: Tensor, noise: float) -> Problem:
    """Return y = a x0 + noise n as samplers see it; the object is x0 itself."""
    one = torch.ones((1, 1, 1, 1), dtype=a.dtype)
    operator = MappedOperator(MatrixOperator(a), 2 * one, -one)
    return Problem(y.reshape(1, 1, 1, -1), prior, operator, GaussianLikelihood(noise))


def measurement(
    prior: MixturePrior, data: int, noise: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a random (a, y, truth): rows of a are unit vectors."""
    generator = torch.Generator().manual_seed(seed)
    d = prior.means.shape[1]
    a = torch.randn(data, d, generator=generator, dtype=torch.float64)
    a = a / a.norm(dim=1, keepdim=True)
    truth = prior.draw(1, generator)[0]
    y = a @ truth + noise * torch.randn(data, generator=generator, dtype=torch.float64)
    return a, y, truth


def sliced_distance(one: Tensor, other: Tensor, directions: int = 128) -> float:
    """Return the sliced Wasserstein-1 distance of two sets of the same size, in modes' widths."""
    generator = torch.Generator().manual_seed(0)
    along = torch.randn(one.shape[1], directions, generator=generator, dtype=torch.float64)
    along = along / along.norm(dim=0)
    first, second = ((values @ along).sort(dim=0).values for values in (one, other))
    return float((first - second).abs().mean() / UNIT)


def mode_error(samples: Tensor, posterior: tuple[Tensor, Tensor, Tensor]) -> float:
    """Return the total variation between the shares of samples in each mode and the exact ones.

    A sample belongs to the mode most likely to have made it.
    """
    weights, means, covariance = posterior
    offset = samples[:, None] - means
    inverse = torch.linalg.inv(covariance)
    distance = ((offset @ inverse) * offset).sum(2)
    nearest = (weights.clamp_min(1e-300).log() - 0.5 * distance).argmax(1)
    shares = torch.bincount(nearest, minlength=len(weights)).to(weights) / len(samples)
    return float((shares - weights).abs().sum() / 2)


def run(sampler: object, problem: Problem, n: int, seed: int) -> tuple[Tensor, object]:
    """Return ``n`` samples (n, d) of a bound sampler and its last step."""
    streams = Streams(seed, range(n), dtype=torch.float64)
    *_, last = sampler.sample(problem, n, streams)  # type: ignore[attr-defined]
    return last.x0.flatten(1), last
