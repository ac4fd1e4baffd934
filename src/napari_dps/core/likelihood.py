"""What a likelihood is: the statistics of a measurement given its expectation."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_dps.core.streams import Streams

Z_MIN = 0.05
"""Expectation in electrons below which Poisson likelihoods continue quadratically."""


class Likelihood:
    """The distribution of y given its expectation z, pixel by pixel.

    ``valid`` masks pixels that carry no information; shapes are (B, *y_shape) throughout.
    """

    redundancy: float = 1.0
    """Pixels that share one value of noise; each counts with so many times its variance."""

    def log_prob(self, y: Tensor, z: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return log p(y | z) per sample, shape (B,)."""
        return masked_sum(self.log_density(y, z), valid)

    def log_density(self, y: Tensor, z: Tensor) -> Tensor:
        """Return log p(y_j | z_j) per datum, up to terms free of z, shape of z."""
        raise NotImplementedError

    def score(self, y: Tensor, z: Tensor) -> Tensor:
        """Return d log p(y_j | z_j) / d z_j per datum."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_(True)
            total = self.log_density(y, leaf).sum()
            return torch.autograd.grad(total, leaf)[0]

    def variance(self, z: Tensor) -> Tensor:
        """Return the variance of y_j at expectation z_j, per datum."""
        raise NotImplementedError

    @property
    def constant_variance(self) -> float | None:
        """The variance where it is one number, whatever is expected; else None."""
        return None

    def drawn_mean(self, z: Tensor) -> Tensor:
        """Return the mean of what :meth:`sample` draws at ``z``: none below zero of counts."""
        return z

    def drawn_variance(self, z: Tensor) -> Tensor:
        """Return the variance of what :meth:`sample` draws at ``z``, without any floor."""
        return self.variance(z) / self.redundancy

    def chi2(self, y: Tensor, z: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return chi-square over its expectation, shape (B,): 1 on average where z is the truth.

        Of sparse counts the variance is held above a floor, without which single counts where
        none are expected would be all there is. So a perfect fit has less than one per datum, and
        what it has on average is what the sum is compared with.
        """
        weight = self.redundancy / self.variance(z)
        seen = masked_sum(weight * (y - self.drawn_mean(z)) ** 2, valid)
        expected = masked_sum(weight * self.drawn_variance(z), valid)
        # Of a field where nothing is expected even no count is a count of one.
        return seen / expected.clamp_min(1.0)

    def curvature(self, y: Tensor, z: Tensor) -> Tensor:
        """Return a positive weight per datum for Gauss-Newton steps: the Fisher information."""
        return 1 / self.variance(z)

    def dps_weight(self, y: Tensor) -> Tensor:
        """Return the weight Lambda_jj of the norm in the paper's DPS step."""
        raise NotImplementedError

    def sample(self, z: Tensor, streams: Streams) -> Tensor:
        """Draw a measurement of expectation ``z``."""
        raise NotImplementedError


def masked_sum(values: Tensor, valid: Tensor | None) -> Tensor:
    """Sum everything but the batch axis, over valid pixels."""
    if valid is not None:
        values = torch.where(valid, values, torch.zeros_like(values))
    return values.flatten(1).sum(1)


class GaussianLikelihood(Likelihood):
    """y = z + sigma n.

    Parameters
    ----------
    sigma : float
        Standard deviation of a pixel's noise.
    redundancy : float
        Pixels that share one value of noise; see :class:`PoissonGaussianLikelihood`.
    """

    def __init__(self, sigma: float, redundancy: float = 1.0) -> None:
        self.sigma = float(sigma)
        self.redundancy = float(redundancy)

    def log_density(self, y: Tensor, z: Tensor) -> Tensor:
        """Return -(y - z)^2 / (2 sigma^2), over the redundancy."""
        return -((y - z) ** 2) / (2 * self.sigma**2 * self.redundancy)

    def score(self, y: Tensor, z: Tensor) -> Tensor:
        """Return (y - z) / sigma^2, over the redundancy."""
        return (y - z) / (self.sigma**2 * self.redundancy)

    def variance(self, z: Tensor) -> Tensor:
        """Return the variance with which a pixel counts: sigma^2 times the redundancy."""
        return torch.full_like(z, self.constant_variance)

    @property
    def constant_variance(self) -> float:
        """The variance of every datum."""
        return self.sigma**2 * self.redundancy

    def dps_weight(self, y: Tensor) -> Tensor:
        """Return 1: the plain norm."""
        return torch.ones_like(y)

    def sample(self, z: Tensor, streams: Streams) -> Tensor:
        """Draw z + sigma n."""
        return z + self.sigma * streams.normal(z.shape[1:]).to(z)


class PoissonLikelihood(Likelihood):
    """Counts: y ~ Poisson(max(z, 0)). Below ``Z_MIN`` the logarithm continues quadratically."""

    read_variance = 0.0

    def log_density(self, y: Tensor, z: Tensor) -> Tensor:
        """Return y log z - z, the logarithm continued quadratically below Z_MIN.

        There is no light below none: a dark pixel is no likelier for an object that is negative.
        """
        safe = z.clamp_min(Z_MIN)
        step = z - safe  # zero above, negative below
        log = safe.log() + step / safe - step**2 / (2 * safe**2)
        return y * log - z.clamp_min(0)

    def score(self, y: Tensor, z: Tensor) -> Tensor:
        """Return the derivative of :meth:`log_density`."""
        safe = z.clamp_min(Z_MIN)
        slope: Tensor = y / safe * (1 - (z - safe) / safe) - (z > 0).to(z)
        return slope

    def variance(self, z: Tensor) -> Tensor:
        """Return z, at least Z_MIN."""
        return z.clamp_min(Z_MIN)

    def drawn_mean(self, z: Tensor) -> Tensor:
        """Return z, at least zero."""
        return z.clamp_min(0)

    def drawn_variance(self, z: Tensor) -> Tensor:
        """Return z, at least zero."""
        return z.clamp_min(0)

    @staticmethod
    def bounded_information(y: Tensor, variance: Tensor) -> Tensor:
        """Return the Fisher information, and more where a step would overshoot.

        Far more counts than expected pull by y / z: without the bound one step would multiply
        the expectation by more than four.
        """
        bound: Tensor = torch.maximum(1 / variance, y / (4 * variance**2))
        return bound

    def curvature(self, y: Tensor, z: Tensor) -> Tensor:
        """Return the bounded Fisher information."""
        return self.bounded_information(y, self.variance(z))

    def dps_weight(self, y: Tensor) -> Tensor:
        """Return 1 / (2 max(y, 1)): the paper's weight, biased at low counts."""
        return 0.5 / y.clamp_min(1.0)

    def sample(self, z: Tensor, streams: Streams) -> Tensor:
        """Draw Poisson counts."""
        return streams.poisson(z.clamp_min(0))


class PoissonGaussianLikelihood(Likelihood):
    """Photoelectrons with read noise: y ~ Poisson(z) + sigma_r n, in electrons.

    Density: Gaussian of variance z + sigma_r^2, the shot-noise approximation, with its
    log-determinant; it is what a camera with more than about one electron of read noise
    does, and below that it errs as a Gaussian errs for counts.

    Parameters
    ----------
    read_noise : float or Tensor
        Standard deviation in electrons; a tensor has one per pixel, and the shape of the last axes
        of a measurement.
    redundancy : float
        Pixels that share one value of noise. An image that was interpolated has fewer values than
        pixels: its log-density is the pixels' mean over the values they share, so that scales
        coarser than the correlation are weighted right.
    """

    def __init__(self, read_noise: float | Tensor, redundancy: float = 1.0) -> None:
        self.read_variance: float | Tensor = (
            read_noise**2 if isinstance(read_noise, Tensor) else float(read_noise) ** 2
        )
        self.redundancy = float(redundancy)

    def _single(self, z: Tensor) -> Tensor:
        """Return the variance of one pixel: z + sigma_r^2, with z at least Z_MIN."""
        return z.clamp_min(Z_MIN) + self.read_variance

    def log_density(self, y: Tensor, z: Tensor) -> Tensor:
        """Return the Gaussian log-density with variance z + sigma_r^2, over the redundancy."""
        variance = self._single(z)
        density: Tensor = -((y - z) ** 2) / (2 * variance) - 0.5 * variance.log()
        return density / self.redundancy

    def score(self, y: Tensor, z: Tensor) -> Tensor:
        """Return the derivative of :meth:`log_density`, variance included."""
        variance = self._single(z)
        residual = y - z
        own = (z > Z_MIN).to(z) * (residual**2 / variance - 1) / (2 * variance)
        total: Tensor = residual / variance + own
        return total / self.redundancy

    def variance(self, z: Tensor) -> Tensor:
        """Return the variance with which a pixel counts: z + sigma_r^2, times the redundancy."""
        return self._single(z) * self.redundancy

    def drawn_mean(self, z: Tensor) -> Tensor:
        """Return z, at least zero."""
        return z.clamp_min(0)

    def drawn_variance(self, z: Tensor) -> Tensor:
        """Return z + sigma_r^2, with z at least zero."""
        return z.clamp_min(0) + self.read_variance

    def curvature(self, y: Tensor, z: Tensor) -> Tensor:
        """Return the weight of counts of the same variance; see :class:`PoissonLikelihood`."""
        bound = PoissonLikelihood.bounded_information(y + self.read_variance, self._single(z))
        return bound / self.redundancy

    def dps_weight(self, y: Tensor) -> Tensor:
        """Return 1 / (2 max(y + sigma_r^2, 1)), over the redundancy."""
        weight: Tensor = 0.5 / (y + self.read_variance).clamp_min(1.0) / self.redundancy
        return weight

    def sample(self, z: Tensor, streams: Streams) -> Tensor:
        """Draw counts and add read noise."""
        counts = streams.poisson(z.clamp_min(0))
        drawn: Tensor = counts + self.read_variance**0.5 * streams.normal(z.shape[1:]).to(z)
        return drawn
