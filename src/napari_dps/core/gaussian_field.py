"""The object as a Gaussian field with a power-law spectrum: its posterior mean, a Wiener filter.

The filter knows masks, borders and any affine operator, because it is found by conjugate
gradients and not by dividing spectra.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from napari_dps.core.covariance import power_law_spectrum
from napari_dps.core.flat import flat_level
from napari_dps.core.likelihood import Likelihood
from napari_dps.core.linalg import Solution, column, conjugate_gradient_steps, smooth
from napari_dps.core.operator import Operator

LENGTH = 3.0
EXPONENT = 1.5
GRID = tuple(4.0**k for k in range(-4, 2))
"""Trial variances of the field, in units of the variance that the data show."""
ENOUGH = 1.02
"""Chi-square over its expectation at which the data are explained."""


class GaussianField:
    """A Gaussian field about a flat level, seen through an affine operator.

    Parameters
    ----------
    operator : Operator
        Acting on photoelectrons.
    y : Tensor, shape (B, *y_shape)
        Measurement.
    likelihood : Likelihood
        Gives the variance.
    valid : Tensor of bool or None
        Data that count.
    length : float
        Correlation length in pixels.
    exponent : float
        Of the spectrum (1 + (2 pi L |k|)^2)^-exponent.
    iterations : int
        Conjugate-gradient iterations of a solve.
    tolerance : float
        Relative residual at which a solve ends.

    Attributes
    ----------
    weight : Tensor, shape of y
        One where a datum counts, else zero.
    flat : Tensor, shape of y
        Measurement of an object of ones.
    level : Tensor, shape (B, *x_shape)
        The flat object that explains the total.
    variance, own : Tensor, shape of y
        With how much a datum counts, and by how much it scatters: less where pixels share noise.
    residual : Tensor, shape of y
        Measurement less that of the level; zero where it does not count.
    contrast : Tensor, shape (B, 1, ...)
        Variance of the object that the data show.
    """

    def __init__(
        self,
        operator: Operator,
        y: Tensor,
        likelihood: Likelihood,
        valid: Tensor | None,
        *,
        length: float = LENGTH,
        exponent: float = EXPONENT,
        iterations: int = 50,
        tolerance: float = 1e-3,
    ) -> None:
        self.operator, self.iterations, self.tolerance = operator, iterations, tolerance
        self.weight = weight = torch.ones_like(y) if valid is None else valid.expand_as(y).to(y)
        y = torch.where(weight > 0, y, torch.zeros_like(y))
        ones = torch.ones((y.shape[0], *operator.x_shape), dtype=y.dtype, device=y.device)
        # What is measured without an object: below, everything is linear in the object.
        self._dark = dark = operator(torch.zeros_like(ones))
        y, self.flat = y - dark, self.linear(ones)
        self.y = y = torch.where(weight > 0, y, torch.zeros_like(y))
        level = flat_level(self.flat, weight, y, operator.response)
        self.level = column(level, ones) * ones
        # Variance from a smoothed measurement: y itself would call dark noise peaks certain.
        share = smooth(weight, 5)
        local = smooth(weight * y, 5) / share.clamp_min(1e-6)
        local = torch.where(share > 1e-6, local, column(level, y).expand_as(y))
        self.variance = likelihood.variance(local + dark)
        self.residual = weight * (y - self.linear(self.level))
        self.own = self.variance / likelihood.redundancy
        self.count = weight.flatten(1).sum(1)
        noise = weight * likelihood.drawn_variance(local + dark)
        # What chi-square is on average where all is explained: less than one per datum where
        # the variance is held above a floor.
        self._expected = (noise / self.own).flatten(1).sum(1).clamp_min(1.0)
        shown = ((self.residual**2 - noise).flatten(1).sum(1) / self.count).clamp_min(0)
        floor = 1e-3 * self.noise_variance
        self.contrast = column(torch.maximum(shown, floor), y) / operator.response**2
        spectrum = power_law_spectrum(operator.x_shape[1:], 1.0, length, exponent)
        self._spectrum = spectrum.to(y)
        self._axes = tuple(range(2, ones.ndim))

    @property
    def noise_variance(self) -> Tensor:
        """Mean variance of the data that count, shape (B,)."""
        return (self.weight * self.own).flatten(1).sum(1) / self.count

    def linear(self, x: Tensor) -> Tensor:
        """Return the operator's linear part."""
        return self.operator(x) - self._dark

    def draw(self, v: Tensor, power: float = 1.0) -> Tensor:
        """Return S^power v, S the field's covariance at unit variance."""
        modes = torch.fft.fftn(v, dim=self._axes) * self._spectrum**power
        filtered: Tensor = torch.fft.ifftn(modes, dim=self._axes).real
        return filtered

    def chi2(self, image: Tensor) -> Tensor:
        """Return chi-square over its expectation, shape (B,), of an image about the level."""
        r = self.weight * (self.residual - self.linear(image))
        return (r**2 / self.own).flatten(1).sum(1) / self._expected

    def solve_steps(self, s2: Tensor, rhs: Tensor) -> Iterator[Solution]:
        """Yield the solve of the posterior mean for data ``rhs`` of zero level.

        Parameters
        ----------
        s2 : Tensor, shape (B, 1, ...)
            Variance of the field.
        rhs : Tensor, shape of y
            Data, zero where they do not count.
        """
        s2 = s2.reshape(-1, *[1] * (len(self.operator.x_shape)))

        def matvec(p: Tensor) -> tuple[Tensor, Tensor]:
            image = s2 * self.draw(self.operator.adjoint(self.weight * p))
            return self.weight * self.linear(image) + self.variance * p, image

        return conjugate_gradient_steps(
            matvec,
            rhs,
            iterations=self.iterations,
            tolerance=self.tolerance,
            precondition=lambda q: q / self.variance,
        )

    def solve(self, s2: Tensor, rhs: Tensor) -> Tensor:
        """Return the posterior mean of :meth:`solve_steps`."""
        image: Tensor | None = None
        for step in self.solve_steps(s2, rhs):
            image = step.image
        return torch.zeros_like(self.level) if image is None else image

    def explain_steps(self) -> Iterator[Tensor]:
        """Yield images on the way to the smoothest field that explains the data.

        Discrepancy principle: trial variances grow until chi-square per datum reaches
        :data:`ENOUGH`, for every frame on its own. Afterwards ``s2`` and ``image`` hold what was
        found, ``least`` its chi-square.
        """
        ones = self.level
        self.image = torch.zeros_like(ones)
        best = torch.full_like(self.contrast, GRID[0])
        self.least = least = torch.full_like(self.contrast, float("inf"))
        ended = torch.zeros_like(least, dtype=torch.bool)
        for factor in GRID:
            trial = torch.zeros_like(ones)
            for step in self.solve_steps(factor * self.contrast, self.residual):
                trial = trial if step.image is None else step.image
                yield trial
            chi2 = column(self.chi2(trial), least)
            # A weaker field explains less; a stronger one may not have converged, and shows by it.
            better = (chi2 < least) & ~ended
            self.image = torch.where(column(better.flatten(), ones), trial, self.image)
            best = torch.where(better, torch.full_like(best, factor), best)
            ended = ended | (chi2 > 1.2 * least)
            self.least = least = torch.where(better, chi2, least)
            ended = ended | (least <= ENOUGH)
            if bool(ended.all()):
                break
        self.s2 = best * self.contrast
