"""Solve (K + I) u = r where K should be a covariance, and a learned Jacobian makes it only nearly.

The Jacobian of a denoiser that is a posterior mean is symmetric and positive semi-definite; that
of a network is so only in part, and at high noise K may have eigenvalues far below -1. Conjugate
gradients, GMRES and every other solver that takes K at its word then step far off, and stopping
early is no cure. Here K is projected on a space of few directions, made symmetric, and every
eigenvalue is trusted only as far as it stands out of the part that was not symmetric.

A product costs a pass through the network, a guess of K next to nothing. So each new direction is
what the guess would answer to the residual that is left (Davidson, "The iterative calculation of
a few of the lowest eigenvalues and corresponding eigenvectors of large real-symmetric matrices",
J. Comput. Phys. 17 (1975)): two to four products do what dozens without a guess do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_dps.core.linalg import cheap_to_read, column

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
    guess: Callable[[Tensor], Tensor] | None = None,
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
        Stop when what is left of every right-hand side is below this share of it. Up to twice as
        much the next direction counts in part, so that no rounding decides a whole direction.
    guess : callable, optional
        Returns about (K + I)^-1 r; need not be linear. Left out: r itself.

    Notes
    -----
    With an orthonormal basis Q of the directions so far and Q^T K Q = S + N, the symmetric part
    and the rest, S = U diag(l) U^T, l+ = max(l, 0) and d_i = |N u_i|/4,

        u = Q U diag(l+^2 / (l+^2 (1 + l+) + d^2)) U^T Q^T rhs:

    1/(1 + l) where an eigenvalue stands out of its doubt d, nothing where it does not or is
    negative. For an exact covariance d is 0 and this is Galerkin's solution; without a guess that
    of conjugate gradients.
    """
    shape, flat = rhs.shape, rhs.flatten(1)
    size = flat.norm(dim=1)
    b = flat * _inverse(size)[:, None]
    basis, products, images = b[:, None][:, :0], b[:, None][:, :0], []
    projected = torch.zeros((len(b), iterations, iterations), dtype=torch.float64)
    target = torch.zeros((len(b), iterations), dtype=torch.float64)
    left, going = b, size > 0
    found, share_left = torch.zeros_like(target).to(b), torch.ones_like(size)
    for k in range(iterations):
        if k and cheap_to_read(b) and not bool(going.any()):
            break  # before the guess, which costs transforms; asked again below, as on a GPU
        wanted = left if guess is None else guess(left.reshape(shape)).flatten(1)
        direction = _apart(wanted, basis)
        length = direction.norm(dim=1)
        going = going & (length > BREAKDOWN * wanted.norm(dim=1))
        if k and not bool(going.any()):
            break
        # A sample that is good enough gets no further direction, whatever its batch still does.
        direction = torch.where(going[:, None], direction * _inverse(length)[:, None], 0)
        vector, image = product(direction.reshape(shape))
        images.append(image)
        basis = torch.cat([basis, direction[:, None]], 1)
        products = torch.cat([products, vector.flatten(1)[:, None]], 1)
        row = (products @ direction[:, :, None])[..., 0]
        col = (basis @ products[:, -1, :, None])[..., 0]
        share = (direction * b).sum(1, keepdim=True)
        # Read back at once: a GPU is waited for here and where it is asked whether to go on.
        read = torch.cat([row, col, share], 1).cpu().double()
        projected[:, k, : k + 1], projected[:, : k + 1, k] = read[:, : k + 1], read[:, k + 1 : -1]
        target[:, k] = read[:, -1]
        weights = _weights(projected[:, : k + 1, : k + 1], target[:, : k + 1]).to(b)
        left = _apart(b - ((basis + products) * weights[:, :, None]).sum(1), basis)
        more = _ramp(left.norm(dim=1), tolerance) if k + 1 < iterations else 0 * size
        found[:, : k + 1] += (share_left * (1 - more))[:, None] * weights
        share_left, going = share_left * more, going & (more > 0)
    # A direction that came to nothing ends a sample that was not done: what it had counts.
    found[:, : len(images)] += share_left[:, None] * weights
    solution = torch.zeros_like(images[0])
    for k, image in enumerate(images):
        solution = solution + column(found[:, k] * size, image) * image
    return MomentSolution(solution, len(images))


def _ramp(left: Tensor, tolerance: float) -> Tensor:
    """Return 0 where what is left is below the tolerance, 1 from twice as much on."""
    return (left > 0).to(left) if tolerance == 0 else (left / tolerance - 1).clamp(0, 1)


def _apart(vector: Tensor, basis: Tensor) -> Tensor:
    """Return what of (B, n) vectors is orthogonal to bases (B, k, n)."""
    # Twice: one pass of Gram and Schmidt leaves rounding that grows.
    for _ in range(2):
        vector = vector - ((basis @ vector[:, :, None]) * basis).sum(1)
    return vector


def _inverse(length: Tensor) -> Tensor:
    """Return 1 / length, zero where there is none."""
    return torch.where(length > 0, 1 / torch.where(length > 0, length, 1), 0)


def _weights(projected: Tensor, target: Tensor) -> Tensor:
    """Return the solution's coefficients in the basis."""
    symmetric, rest = (projected + projected.mT) / 2, (projected - projected.mT) / 2
    values, vectors = torch.linalg.eigh(symmetric)
    values = values.clamp_min(0)
    doubt = DOUBT * (rest @ vectors).square().sum(-2).sqrt()
    trust = values**2 * (1 + values) + doubt**2
    filtered = torch.where(trust > 0, values**2 / torch.where(trust > 0, trust, 1), 0)
    weights: Tensor = (vectors @ (filtered[:, :, None] * (vectors.mT @ target[:, :, None])))[..., 0]
    return weights
