"""What data say of noisy images before these are clean: the twist of sequential Monte Carlo.

p(x0 | x_sigma) is taken as Gaussian about the denoised image, with covariance C = B B^T, the
operator as the straight line that fits it best under that Gaussian, and the likelihood of each
datum as the Gaussian that does the same to its expectation (:mod:`napari_dps.core.sites`). Then

    psi(x_sigma) = int N(x0; x0_hat, C) p(y | x0) dx0,  E[x0 | x_sigma, y],  Cov[x0 | x_sigma, y]

are closed formulas. With a small image they are dense matrices of its pixels; with many pixels and
few data, of the data. Linear algebra runs in float64 on the CPU, for determinants.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from napari_dps.core.likelihood import GaussianLikelihood
from napari_dps.core.linalg import column
from napari_dps.core.moments import DOUBT
from napari_dps.core.problem import Problem
from napari_dps.core.sites import Sites, gaussian_sites, matched_sites

POINTS = 64
"""Points at which an operator that is not affine is looked at for each line, at least."""
MOST = 4.0
"""No image is more uncertain than this many times the prior's variance."""
LINES = 4
"""Lines laid through it, each about what data made of the one before."""


@dataclass
class Twisted:
    """What the twist says of particles at one noise level; float64, on the CPU.

    Attributes
    ----------
    log_twist : Tensor, shape (P,)
        log psi, up to terms that depend on y alone.
    mean, guided : Tensor, shape (P, d)
        E[x0 | x_sigma] and E[x0 | x_sigma, y].
    axes, spread : Tensor or None, shape (P, d, d) and (P, d)
        Eigenvectors and eigenvalues of Cov[x0 | x_sigma]; None where it is not known.
    root : Tensor or None, shape (P, d, d)
        R with Cov[x0 | x_sigma, y] = R^T R.
    """

    log_twist: Tensor
    mean: Tensor
    guided: Tensor
    axes: Tensor | None = None
    spread: Tensor | None = None
    root: Tensor | None = None

    @staticmethod
    def join(parts: list[Twisted]) -> Twisted:
        """Put the particles of several calls one after another."""
        if len(parts) == 1:
            return parts[0]
        columns: list[list[Any]] = [[getattr(p, f.name) for p in parts] for f in fields(Twisted)]
        joined: list[Any] = [None if c[0] is None else torch.cat(c) for c in columns]
        return Twisted(*joined)

    def take(self, index: Tensor) -> Twisted:
        """Return the particles numbered ``index``."""
        values: list[Any] = [getattr(self, f.name) for f in fields(self)]
        taken: list[Any] = [None if v is None else v[index] for v in values]
        return Twisted(*taken)

    def ahead(self, last: Twisted, before: float, sigma: float, lower: float) -> Twisted:
        """Return means extrapolated to the middle of the step, in log sigma.

        As in :class:`napari_dps.core.sampler.SecondOrderMove`. The prior's move then hangs on where
        the particle was before, which changes nothing in what its weight is.

        Parameters
        ----------
        last : Twisted
            What was said of the same particles at the level before.
        before, sigma, lower : float
            That level, this one and the next.
        """
        if lower == 0:
            return self
        reach = 0.5 * math.log(sigma / lower) / math.log(before / sigma)
        return replace(
            self,
            mean=self.mean + reach * (self.mean - last.mean),
            guided=self.guided + reach * (self.guided - last.guided),
        )


@dataclass
class Joint:
    """What all data say together of e, with x0 = x0_hat + B e.

    Attributes
    ----------
    log_twist : Tensor, shape (B,)
        log psi.
    factor : Tensor, shape (B, k, k)
        L with L L^T the precision of e given y.
    pulled : Tensor, shape (B, k, 1)
        L^-T of it is the mean of e given y.
    force : Tensor, shape (B, m)
        The gradient of the log-likelihood by the expectation, at that mean.
    """

    log_twist: Tensor
    factor: Tensor
    pulled: Tensor
    force: Tensor

    def better(self, other: Joint) -> Joint:
        """Return, particle by particle, the one that gives y more probability."""
        more = other.log_twist > self.log_twist
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Joint(*(torch.where(column(more, mine), its, mine) for mine, its in pairs))


class Twist:
    """The twist of one frame's problem.

    Parameters
    ----------
    problem : Problem
        Of one frame: y of shape (1, *y_shape).
    moments : bool
        Whether C is the prior's own, sigma^2 J with J the denoiser's Jacobian; otherwise it is the
        scalar of PiGDM and costs no products.
    dense : bool
        Whether to work with matrices of pixels; otherwise of data.
    points : Tensor, shape (Q, d)
        Standard normal numbers for operators that are not affine.
    """

    def __init__(self, problem: Problem, moments: bool, dense: bool, points: Tensor) -> None:
        self.problem, self.moments, self.dense = problem, moments, dense
        y = problem.y
        valid = torch.ones_like(y, dtype=torch.bool)
        if problem.valid is not None:
            valid = problem.valid.expand_as(y)
        self._seen = valid[0].flatten().nonzero().flatten()
        self.pixels, self.data = math.prod(problem.operator.x_shape), len(self._seen)
        self._y = self._data(y)
        self._best = self._data(problem.likelihood.log_density(y, y))
        self._points = _standardised(points) if dense and not problem.operator.is_affine else None
        self._matrix = self._affine_matrix() if dense and self._points is None else None
        self.constant = float(self._best.sum())

    def _data(self, values: Tensor) -> Tensor:
        """Return the data that count of (B, *y_shape), as (B, m)."""
        return values.flatten(1).index_select(1, self._seen).double().cpu()

    def _whole(self, data: Tensor) -> Tensor:
        """Return data (B, m) in the measurement's shape, zero where none counts."""
        whole = self.problem.y.new_zeros((len(data), math.prod(self.problem.operator.y_shape)))
        whole[:, self._seen] = data.to(whole)
        return whole.reshape(-1, *self.problem.operator.y_shape)

    def _image(self, flat: Tensor) -> Tensor:
        """Return (B, d) as images where the network and the operator are."""
        return flat.reshape(-1, *self.problem.operator.x_shape).to(self.problem.y)

    def _affine_matrix(self) -> Tensor:
        """Return the operator's slope as a matrix (m, d)."""
        eye = self._image(torch.eye(self.pixels))
        return self._data(self.problem.operator.linearize(torch.zeros_like(eye))[1](eye)).T

    def log_likelihood(self, flat: Tensor) -> Tensor:
        """Return log p(y | x0) of clean images (B, d), on the scale of ``log_twist``."""
        with torch.no_grad():
            z = self.problem.operator(self._image(flat))
        exact = self._data(self.problem.likelihood.log_density(self.problem.y, z))
        total: Tensor = (exact - self._best).sum(1)
        return total

    def size(self) -> int:
        """Return how many particles one call may hold, by the matrices they need."""
        per_particle = self.pixels * (max(self.pixels, self.data) if self.dense else self.data)
        memory = max(1, 2**24 // per_particle)
        return memory if self.problem.at_once is None else min(memory, self.problem.at_once)

    def __call__(self, x: Tensor, sigma: float) -> Twisted:
        """Return what data say of particles (P, d) at ``sigma``, in calls of :meth:`size`."""
        work = self._of_pixels if self.dense else self._of_data
        return Twisted.join(
            [work(self._image(part), sigma) for part in torch.split(x, self.size())]
        )

    # -- the covariance ------------------------------------------------------------------------

    def _denoised(self, x: Tensor, sigma: float) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return x0 and the product with C."""
        if not self.moments:
            tau2 = self.problem.prior.data_std**2
            scalar = tau2 * sigma**2 / (tau2 + sigma**2)
            return self.problem.denoise(x, sigma), lambda v: scalar * v
        x0, vjp = self.problem.linearize(x, sigma)
        return x0, lambda v: sigma**2 * vjp(v)

    def _eigen(self, x0: Tensor, product: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return eigenvalues (B, d) and eigenvectors (B, d, d) of C.

        A network's Jacobian is only nearly a covariance. Eigenvalues count as far as they stand out
        of the part that is not symmetric, as in :mod:`.moments`, not where they are negative, and
        together not more than MOST times the prior's variance. An exact one stays as it is.
        """
        count, d = len(x0), self.pixels
        if not self.moments:
            scalar = product(torch.ones((1,), dtype=torch.float64))
            axes = torch.eye(d, dtype=torch.float64).expand(count, d, d)
            return scalar.expand(count, d), axes
        rows = []
        for k in range(d):
            unit = torch.zeros((count, d), dtype=x0.dtype, device=x0.device)
            unit[:, k] = 1
            rows.append(product(unit.reshape(x0.shape)).flatten(1).double().cpu())
        c = torch.stack(rows, 1)
        values, axes = torch.linalg.eigh((c + c.mT) / 2)
        doubt = DOUBT * ((c - c.mT) / 2 @ axes).square().sum(1).sqrt()
        values = values.clamp_min(0)
        trust = values**2 + doubt**2
        values = torch.where(trust > 0, values**3 / trust.clamp_min(1e-300), 0)
        most = MOST * self.problem.prior.data_std**2 * d
        return values * (most / values.sum(1, keepdim=True).clamp_min(1e-300)).clamp_max(1), axes

    # -- few pixels ----------------------------------------------------------------------------

    def _of_pixels(self, x: Tensor, sigma: float) -> Twisted:
        x0, product = self._denoised(x, sigma)
        mean = x0.flatten(1).double().cpu()
        values, axes = self._eigen(x0, product)
        b = axes * values.sqrt()[:, None]  # C = B B^T
        best = (
            self._settled(mean, b) if self._matrix is None else self._joined(*self._straight(x0, b))
        )
        root = torch.linalg.solve_triangular(best.factor, b.mT, upper=False)
        guided = mean + (root.mT @ best.pulled)[:, :, 0]
        if not self.moments:
            return Twisted(best.log_twist, mean, guided)
        return Twisted(best.log_twist, mean, guided, axes, values, root)

    def _settled(self, mean: Tensor, b: Tensor) -> Joint:
        """Return what data say by an operator that is not affine: the best of several lines.

        The first line is laid under p(x0 | x_sigma), the next ones under what y made of it. Far
        from the data the first would call y impossible where it is only unlikely.
        """
        best: Joint | None = None
        at = torch.zeros_like(mean)
        factor = torch.eye(self.pixels, dtype=mean.dtype).expand(len(mean), -1, -1)
        for _ in range(LINES):
            found = self._joined(*self._fitted(mean, b, at, factor))
            best = found if best is None else best.better(found)
            factor = found.factor
            at = torch.linalg.solve_triangular(factor.mT, found.pulled, upper=True)[:, :, 0]
        assert best is not None
        return best

    def _fitted(
        self, mean: Tensor, b: Tensor, at: Tensor, factor: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Fit A(mean + b e) by a line for e ~ N(at, (L L^T)^-1), with L the ``factor``.

        Returns its value at e = 0, its slope, and the variance that it leaves.
        """
        assert self._points is not None
        points = self._points
        away = torch.linalg.solve_triangular(
            factor.mT, points.T.expand(len(mean), -1, -1), upper=True
        )
        x = mean[:, None] + (b @ (at[:, :, None] + away)).mT
        once = max(1, 2**19 // x[0].numel())
        with torch.no_grad():
            parts = [self._data(self.problem.operator(self._image(p))) for p in x.split(once)]
        z = torch.cat(parts).reshape(len(mean), len(points), -1)
        value = z.mean(1)
        apart = z - value[:, None]
        slope = apart.mT @ points / len(points)
        bend = (apart.square().mean(1) - slope.square().sum(2)).clamp_min(0)
        slope = slope @ factor.mT
        return value - (slope @ at[:, :, None])[:, :, 0], slope, bend

    def _straight(self, x0: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same of an affine operator, which is its own line."""
        assert self._matrix is not None
        with torch.no_grad():
            z = self._data(self.problem.operator(x0))
        return z, self._matrix @ b, torch.zeros_like(z)

    def _joined(self, z: Tensor, slope: Tensor, bend: Tensor) -> Joint:
        """Integrate the data's Gaussians over z + slope e + bend^(1/2) e', e and e' ~ N(0, I)."""
        straight = slope.square().sum(2)
        found = self._sites(z, straight + bend)
        soft = 1 + found.precision * bend
        precision, force = found.precision / soft, found.force / soft
        gain = 1 + precision * straight
        each = found.log_mass - 0.5 * straight * force**2 / gain + 0.5 * gain.log()
        white = slope * precision.sqrt()[:, :, None]
        eye = torch.eye(slope.shape[2], dtype=torch.float64)
        factor = torch.linalg.cholesky(eye + white.mT @ white)
        pulled = torch.linalg.solve_triangular(factor, slope.mT @ force[:, :, None], upper=False)
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        twist = each.sum(1) + 0.5 * pulled.square().sum((1, 2)) - log_det
        shift = slope @ torch.linalg.solve_triangular(factor.mT, pulled, upper=True)
        return Joint(twist, factor, pulled, force - precision * shift[:, :, 0])

    def _sites(self, z: Tensor, variance: Tensor) -> Sites:
        """Return the data's Gaussians for expectations of this mean and variance."""
        likelihood, y = self.problem.likelihood, self.problem.y
        if isinstance(likelihood, GaussianLikelihood):
            noise = self._data(likelihood.variance(self._whole(z)))
            return gaussian_sites(self._y - z, noise, variance)

        def each(function: Callable[[Tensor, Tensor], Tensor], at: Tensor) -> Tensor:
            whole = self._whole(at.reshape(-1, self.data))
            return self._data(function(y, whole)).reshape(at.shape)

        return matched_sites(
            lambda at: each(likelihood.log_density, at) - self._best,
            lambda at: each(likelihood.score, at),
            z,
            variance,
        )

    # -- few data ------------------------------------------------------------------------------

    def _of_data(self, x: Tensor, sigma: float) -> Twisted:
        x0, product = self._denoised(x, sigma)
        mean = x0.flatten(1).double().cpu()
        z0, jvp, vjp = self.problem.operator.linearize(x0)
        images, rows = [], []
        for k in self._seen:
            unit = torch.zeros_like(z0).flatten(1)
            unit[:, k] = 1
            image = product(vjp(unit.reshape(z0.shape)))
            images.append(image.flatten(1).double().cpu())
            rows.append(self._data(jvp(image)))
        matrix = torch.stack(rows, 1)  # A C A^T
        values, axes = torch.linalg.eigh((matrix + matrix.mT) / 2)
        slope = axes * values.clamp_min(0).sqrt()[:, None]
        z = self._data(z0)
        found = self._joined(z, slope, torch.zeros_like(z))
        moved = torch.einsum("bm,bmd->bd", found.force, torch.stack(images, 1))
        return Twisted(found.log_twist, mean, mean + moved)


def _standardised(points: Tensor) -> Tensor:
    """Return points (Q, d) of mean zero and unit covariance, in antithetic pairs."""
    half = points.double().cpu()
    half = half[: len(half) // 2]
    factor = torch.linalg.cholesky(half.T @ half / len(half))
    half = torch.linalg.solve_triangular(factor, half.T, upper=False).T
    return torch.cat([half, -half])
