"""Solve (K + I) u = r where K should be a covariance, and a learned Jacobian makes it only nearly.

The Jacobian of a denoiser that is a posterior mean is symmetric and positive semi-definite; that
of a network is so only in part, and at high noise K may have eigenvalues far below -1. Conjugate
gradients, GMRES and every other solver that takes K at its word then step far off, and stopping
early is no cure. Here K is projected on its Krylov space, made symmetric, and every eigenvalue is
trusted only as far as it stands out of the part that was not symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_dps.core.linalg import column, dot

BREAKDOWN = 1e-5
"""A new direction that is shorter than this share of its product is rounding, not direction."""

DOUBT = 0.25
"""How much of the asymmetry along an eigenvector counts as an error of its eigenvalue.

From 0.1 to 0.5 restorations differ by 0.2 dB either way; at 0 they run away at high noise."""


@dataclass
class MomentSolution:
    """What :func:`solve_moments` found.

    Attributes
    ----------
    image : Tensor, shape (B, ...)
        The image of the solution under the map that ``product`` hands out.
    iterations : int
        Products made.
    """

    image: Tensor
    iterations: int


def solve_moments(
    product: Callable[[Tensor], tuple[Tensor, Tensor]],
    rhs: Tensor,
    *,
    iterations: int,
    tolerance: float,
) -> MomentSolution:
    """Solve (K + I) u = rhs for each sample, with K nearly a covariance.

    Parameters
    ----------
    product : callable
        Returns (K p, image of p), both linear in p.
    rhs : Tensor, shape (B, ...)
        Right-hand sides: residuals in units of their noise.
    iterations : int
        At most this many products.
    tolerance : float
        Stop when every residual norm is below this share of its right-hand side.

    Notes
    -----
    Arnoldi's process gives an orthonormal basis Q of the Krylov space and H = Q^T K Q = S + N, the
    symmetric part and the rest. With S = U diag(l) U^T, l+ = max(l, 0) and d_i = |N u_i|/4,

        u = Q U diag(l+^2 / (l+^2 (1 + l+) + d^2)) U^T Q^T rhs:

    1/(1 + l) where an eigenvalue stands out of its doubt d, nothing where it does not or is
    negative. For an exact covariance d is 0 and this is the method of conjugate gradients.
    """
    size = dot(rhs, rhs).flatten().sqrt()
    basis, images = [rhs * column(_inverse(size), rhs)], []
    hessenberg = torch.zeros((len(rhs), iterations + 1, iterations), dtype=torch.float64)
    for k in range(iterations):
        vector, image = product(basis[k])
        images.append(image)
        length = dot(vector, vector).flatten().sqrt()
        shares = []
        # Twice: one pass of Gram and Schmidt leaves rounding that grows.
        for _ in range(2):
            for known in basis:
                share = dot(vector, known)
                shares.append(share.flatten())
                vector = vector - share * known
        rest = dot(vector, vector).flatten().sqrt()
        rest = torch.where(rest > BREAKDOWN * length, rest, 0)
        # Read back at once: a GPU is waited for here and nowhere else, once a product.
        read = torch.stack([*shares, rest]).cpu().double()
        first, second, left = read[: k + 1], read[k + 1 : -1], read[-1]
        hessenberg[:, : k + 1, k] = (first + second).T
        values, doubt, vectors = _spectrum(hessenberg[:, : k + 1, : k + 1])
        weights = _weights(values, doubt, vectors)
        # A sample that is good enough gets no further direction, whatever its batch still does.
        going = left * weights[:, k].abs() > tolerance
        hessenberg[:, k + 1, k] = torch.where(going, left, 0)
        if not bool(going.any()):
            break
        rest = torch.where(going.to(rest.device), rest, 0)
        basis.append(vector * column(_inverse(rest), rhs))
    scaled = weights.to(rhs) * size[:, None]
    found = torch.zeros_like(images[0])
    for k, image in enumerate(images):
        found = found + column(scaled[:, k], image) * image
    return MomentSolution(found, len(images))


def _inverse(length: Tensor) -> Tensor:
    """Return 1 / length, zero where there is none."""
    return torch.where(length > 0, 1 / torch.where(length > 0, length, 1), 0)


def _spectrum(projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (eigenvalues, their doubts, eigenvectors) of a projection's symmetric part."""
    symmetric, rest = (projected + projected.mT) / 2, (projected - projected.mT) / 2
    values, vectors = torch.linalg.eigh(symmetric)
    return values.clamp_min(0), DOUBT * (rest @ vectors).square().sum(-2).sqrt(), vectors


def _weights(values: Tensor, doubt: Tensor, vectors: Tensor) -> Tensor:
    """Return the solution's coefficients in the Krylov basis, for a unit right-hand side."""
    trust = values**2 * (1 + values) + doubt**2
    filtered = torch.where(trust > 0, values**2 / torch.where(trust > 0, trust, 1), 0)
    weights: Tensor = (vectors * (filtered * vectors[:, 0])[:, None]).sum(-1)
    return weights
