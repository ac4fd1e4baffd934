"""A camera's response after an affine operator (torch part)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_dps.core.linearised import NonlinearOperator
from napari_dps.core.operator import Linear, Operator
from napari_dps.grid import Grid

TOE = 1 / 256
"""Share of full light below which a power continues as a line: its slope at zero is infinite."""


class Curve:
    """A response, piecewise smooth, with its slope.

    Parameters
    ----------
    white : float
        Light at which the response saturates.
    gamma : float
        z = white (u / white)^(1 / gamma).
    """

    def __init__(self, white: float, gamma: float) -> None:
        self.white, self.power = white, 1 / gamma
        self._toe = TOE ** (self.power - 1)

    def __call__(self, u: Tensor) -> Tensor:
        """Return the response."""
        share = (u / self.white).clamp_max(1)
        curved = share.clamp_min(TOE) ** self.power
        return self.white * torch.where(share > TOE, curved, self._toe * share)

    def slope(self, u: Tensor) -> Tensor:
        """Return its derivative."""
        share = u / self.white
        curved = self.power * share.clamp(TOE, 1) ** (self.power - 1)
        slope = torch.where(share > TOE, curved, torch.full_like(share, self._toe))
        return torch.where(share < 1, slope, torch.zeros_like(slope))


class TableCurve:
    """A response given by points, linear between them; the first piece goes on below.

    Parameters
    ----------
    light, value : ndarray, shape (N,)
        Increasing light and its response, which does not fall.
    """

    def __init__(self, light: np.ndarray, value: np.ndarray, grid: Grid) -> None:
        def tensor(v: np.ndarray) -> Tensor:
            return torch.tensor(v.copy(), dtype=getattr(torch, grid.dtype), device=grid.device)

        self.light, self.value = tensor(light), tensor(value)
        self.steps = (self.value[1:] - self.value[:-1]) / (self.light[1:] - self.light[:-1])

    def _piece(self, u: Tensor) -> Tensor:
        found = torch.searchsorted(self.light, u.detach().contiguous(), right=True) - 1
        return found.clamp(0, len(self.steps) - 1)

    def __call__(self, u: Tensor) -> Tensor:
        """Return the response."""
        u = torch.minimum(u, self.light[-1])
        k = self._piece(u)
        return self.value[k] + self.steps[k] * (u - self.light[k])

    def slope(self, u: Tensor) -> Tensor:
        """Return its derivative."""
        slope = self.steps[self._piece(u)]
        return torch.where(u < self.light[-1], slope, torch.zeros_like(slope))


class Responding(NonlinearOperator):
    """z = curve(B x) with B linear.

    Parameters
    ----------
    light : Operator
        B: what reaches the detector.
    curve : Curve or TableCurve
        What the detector makes of it.
    """

    def __init__(self, light: Operator, curve: Curve | TableCurve) -> None:
        super().__init__(light.x_shape, light.y_shape, light.field)
        self.light, self.curve = light, curve

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the expected measurement."""
        return self.curve(self.light(x, theta))

    def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
        """Return z and the exact products."""
        u, jvp, vjp = self.light.linearize(x)
        slope = self.curve.slope(u)
        return self.curve(u), (lambda v: slope * jvp(v)), (lambda w: vjp(slope * w))
