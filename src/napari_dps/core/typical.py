"""The data's linear system for a prior that is taken as stationary: a guess that costs no network.

With C0 the covariance of x0 given x_sigma that a prior of the same power spectrum would have, all
of (V^-1/2 A C0 A^T V^-1/2 + I) u = r is transforms and multiplications. Exact for a stationary
Gaussian prior; for a learned one of the right size scale by scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_dps.core.covariance import Covariance
from napari_dps.core.linalg import conjugate_gradients
from napari_dps.core.operator import Linear


@dataclass
class TypicalSystem:
    """The system in units of the noise, about one linearisation of A.

    Attributes
    ----------
    covariance : Covariance
        C0.
    jvp, vjp : callable
        Products with the Jacobian of A and with its transpose.
    root : Tensor, shape (B or 1, *y_shape)
        V^1/2.
    mask : callable
        Projection onto data that count.
    normal : callable or None
        A C0 A^T as one product where the operator has a shorter way to it.
    """

    covariance: Covariance
    jvp: Linear
    vjp: Linear
    root: Tensor
    mask: Callable[[Tensor], Tensor]
    normal: Linear | None = None

    def solve(self, rhs: Tensor, *, iterations: int, tolerance: float) -> Tensor:
        """Return u, shape of ``rhs``."""
        found = conjugate_gradients(self._product, rhs, iterations=iterations, tolerance=tolerance)
        return found.u

    def image(self, u: Tensor) -> Tensor:
        """Return C0 A^T V^-1/2 u, shape (B, *x_shape)."""
        image: Tensor = self.covariance(self.vjp(self.mask(u / self.root)))
        return image

    def _product(self, p: Tensor) -> Tensor:
        if self.normal is None:
            seen = self.jvp(self.image(p))
        else:
            seen = self.normal(self.mask(p / self.root))
        return torch.addcdiv(p, self.mask(seen), self.root)
