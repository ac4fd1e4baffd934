"""The Gaussian that stands for a datum's likelihood where its expectation is not yet known.

Given z ~ N(m, S), a likelihood p(y | z) of any form gives the product a mass, a mean and a
variance; the site is the Gaussian factor that gives it the same three. This is one step of
expectation propagation (Minka, "Expectation Propagation for Approximate Bayesian Inference", UAI
2001), with integrals along one axis by the trapezoidal rule. As S falls to zero the mass becomes
the likelihood itself. Counts need this: at zero counts the Poisson likelihood is exp(-z), which
no variance at the expectation describes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

POINTS, REACH, ROUNDS, HALVINGS = 33, 6.0, 3, 50
"""Points of the rule, over so many deviations either side; placed anew in so many rounds."""


@dataclass
class Sites:
    """Factors mass * N-like(z), one per datum: exp(force (z - m) - precision (z - m)^2 / 2 + c).

    Attributes
    ----------
    log_mass : Tensor
        log of the integral of N(z; m, S) p(y | z).
    force : Tensor
        Gradient of the factor's logarithm at m.
    precision : Tensor
        Its curvature there, not negative.
    """

    log_mass: Tensor
    force: Tensor
    precision: Tensor


def gaussian_sites(residual: Tensor, noise: Tensor, variance: Tensor) -> Sites:
    """Return the sites of exp(-(y - z)^2 / (2 noise)), which is its own.

    Parameters
    ----------
    residual : Tensor
        y - m.
    noise, variance : Tensor
        Of the datum, and S.
    """
    mass = -0.5 * residual**2 / (noise + variance) - 0.5 * (variance / noise).log1p()
    return Sites(mass, residual / noise, 1 / noise)


def matched_sites(
    log_density: Callable[[Tensor], Tensor],
    score: Callable[[Tensor], Tensor],
    mean: Tensor,
    variance: Tensor,
) -> Sites:
    """Return the sites of a likelihood by matching mass, mean and variance.

    Parameters
    ----------
    log_density, score : callable
        log p(y | z) and its derivative, for z of shape (..., m).
    mean, variance : Tensor, shape (B, m)
        m and S.
    """
    tiny = 1e-12 * (1 + mean**2)
    width = torch.maximum(variance, tiny).sqrt()
    # In t = (z - m) / width. The mode of a log-concave product lies between 0 and the first pull.
    edge = width * score(mean)
    low, high = edge.clamp_max(0), edge.clamp_min(0)
    for _ in range(HALVINGS):
        centre = (low + high) / 2
        rising = width * score(mean + width * centre) > centre
        low, high = torch.where(rising, centre, low), torch.where(rising, high, centre)
    centre = (low + high) / 2
    step = 1e-3
    bend = score(mean + width * (centre - step)) - score(mean + width * (centre + step))
    spread = (1 + (width * bend / (2 * step)).clamp_min(0)).rsqrt()
    nodes = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64)[:, None, None]
    spacing = 2 * REACH / (POINTS - 1)
    for _ in range(ROUNDS):
        at = centre + spread * nodes
        log = log_density(mean + width * at) - at**2 / 2
        top = log.amax(0)
        weight = (log - top).exp()
        total = weight.sum(0)
        first = (weight * at).sum(0) / total
        second = (weight * (at - first) ** 2).sum(0) / total
        mass = top + (total * spread * (spacing / (2 * torch.pi) ** 0.5)).log()
        # A peak between two points looks like no width at all: close in on it step by step.
        centre, spread = first, torch.maximum(second.sqrt(), spacing * spread)
    gain = (1 / second.clamp_min(1e-300)).clamp_min(1)
    return Sites(mass, first * gain / width, (gain - 1) / width**2)
