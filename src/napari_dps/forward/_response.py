"""A camera's response after an affine operator (torch part)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_dps.core.estimate import Estimate, gaussian_field_estimate
from napari_dps.core.interrupt import ask
from napari_dps.core.likelihood import Likelihood
from napari_dps.core.linalg import column
from napari_dps.core.linearised import (
    KnownVariance,
    NonlinearOperator,
    linearised_estimate,
    local_variance,
)
from napari_dps.core.operator import Linear, Operator
from napari_dps.core.streams import Streams
from napari_dps.grid import Grid

TOE = 1 / 256
"""Share of full light below which a power continues as a line: its slope at zero is infinite."""

STEPS = 30
"""Richardson-Lucy steps of a first estimate, at most."""


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
        self.white, self.power, self.least = white, 1 / gamma, 0.0
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

    def inverse(self, z: Tensor) -> Tensor:
        """Return the least light of that response: white's where it saturates."""
        share = (z / self.white).clamp_max(1)
        light = share.clamp_min(0) ** (1 / self.power)
        return self.white * torch.where(light > TOE, light, share / self._toe)


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

        self.light, self.value, self.least = tensor(light), tensor(value), float(light[0])
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

    def inverse(self, z: Tensor) -> Tensor:
        """Return the least light of that response; below the table that of its first piece."""
        z = torch.minimum(z, self.value[-1])
        k = torch.searchsorted(self.value, z.detach().contiguous()) - 1
        k = k.clamp(0, len(self.steps) - 1)
        step = self.steps[k]
        rise = torch.where(step > 0, (z - self.value[k]) / torch.where(step > 0, step, 1), 0 * z)
        return self.light[k] + rise


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

    def classical_estimate(
        self, y: Tensor, likelihood: Likelihood, valid: Tensor | None, streams: Streams
    ) -> Estimate:
        """Return a first estimate: with the response undone all is affine, and then near enough.

        A pixel's light is as uncertain as the light of its neighbourhood's mean, a standard
        deviation up and down.
        """
        weight = torch.ones_like(y) if valid is None else valid.expand_as(y).to(y)
        local, variance = local_variance(y, likelihood, weight)
        deviation = (variance / likelihood.redundancy).sqrt()
        spread = self.curve.inverse(local + deviation) - self.curve.inverse(local - deviation)
        # Far beyond saturation both are white; and on a dark ground, where the response is steep,
        # light is told so exactly that a solver would see nothing else.
        least = 3e-2 * spread.flatten(1).amax(1).clamp_min(1e-12)
        spread = (spread / 2).maximum(column(least, y))
        known = KnownVariance(likelihood.redundancy * spread**2, likelihood.redundancy)
        begun = gaussian_field_estimate(
            self.light, self.curve.inverse(y), known, valid, streams, positive=False
        )
        found = linearised_estimate(self, y, likelihood, valid, streams, begun.image)
        own = variance / likelihood.redundancy
        noise = (weight * likelihood.drawn_variance(local) / own).flatten(1).sum(1)
        # Scaled such that the squared misfit of the truth adds up to about one.
        share = weight / own / column(noise.clamp_min(1e-12), y)
        found.image = self._multiplied(found.image, y, share)
        # What blur and noise take of the light's contrast is the same here.
        found.lost = begun.lost
        return found

    def _multiplied(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Return an object that explains y better, by Richardson-Lucy steps through the response.

        On a dark ground the tangents of a steep response lead nowhere: light that is not negative
        is what is known of it. Each step multiplies light by J^T (w y) / J^T (w z), which leaves
        alone what explains y. The best of them counts, the first that explains y like noise.

        Parameters
        ----------
        x : Tensor, shape (B, *x_shape)
            Where to begin.
        y, weight : Tensor, shape (B, *y_shape)
            Data, and with how much each counts; the truth's misfit is about one.
        """
        least = min(0.0, self.curve.least)
        y, floor = y.clamp_min(0), least + 1e-3 * x.flatten(1).amax(1).clamp_min(1e-6)
        x = x.clamp_min(least)
        best = self._misfit(x, y, weight)
        trial = torch.maximum(x, column(floor, x))
        for _ in range(STEPS):
            if not bool((best > 1).any()):
                break
            ask()
            z, _, vjp = self.linearize(trial)
            wanted, have = vjp(weight * y).clamp_min(0), vjp(weight * z)
            seen = have > 1e-6 * column(have.flatten(1).amax(1), have)
            ratio = torch.where(seen, wanted / torch.where(seen, have, 1), 1)
            trial = least + (trial - least) * ratio
            value = self._misfit(trial, y, weight)
            better = (value < best) & (best > 1)
            x = torch.where(column(better, x), trial, x)
            best = torch.where(better, value, best)
        return x

    def _misfit(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted sum of squares that an object leaves, shape (B,)."""
        return (weight * (y - self(x)) ** 2).flatten(1).sum(1)
