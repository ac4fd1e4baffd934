"""Projections for phase retrieval from one far field, and the iterations that are made of them.

The iterate is an image on the padded plane, held as its far field: what it has outside the
support, and below zero there, is what lets all but error reduction leave a wrong solution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from napari_dps.core.interrupt import ask
from napari_dps.core.linalg import column

Pause = Callable[[], None]


@runtime_checkable
class FarFieldOperator(Protocol):
    """An operator that recorded the magnitudes of one far field, as the iterations need it.

    Attributes
    ----------
    pixels : int or None
        Bright pixels of a real object, at most; None where that is not known.
    """

    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    pixels: int | None

    def far_field(self, x: Tensor) -> Tensor:
        """Return the complex far field (B, 1, *y spatial): a padded orthonormal FFT."""

    def back(self, field: Tensor) -> Tensor:
        """Return the adjoint of :meth:`far_field`: the support's part of the padded plane."""

    def magnitude(self, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return measured magnitudes, and where they are known (None: everywhere).

        Parameters
        ----------
        y : Tensor, shape (B, *y_shape)
            Measurement.
        valid : Tensor of bool or None
            Which data count, broadcastable to y.
        """

    def low_pass(self, width: float, like: Tensor) -> Tensor:
        """Return exp(-(k/width)^2 / 2) on the far field, k in cycles per pixel, as ``like``."""


@dataclass(frozen=True)
class Projections:
    """What is known of one frame: its magnitudes, and what its object may be.

    Attributes
    ----------
    far_field, back : callable
        The padded orthonormal FFT of the object's grid, and the real part of its adjoint (which
        is the projection onto the support).
    y : Tensor, shape (1, 1, *y spatial)
        Measured magnitudes.
    known : Tensor of bool or None
        Which of them count; the others stay free.
    positive : bool
        Whether the object is real and non-negative; complex ones (two channels) have their support
        alone.
    pixels : int or None
        Bright pixels of a real object, at most: all others are zero.
    """

    far_field: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    y: Tensor
    known: Tensor | None
    positive: bool = True
    pixels: int | None = None

    def begin(self, x: Tensor) -> Tensor:
        """Return the far fields of first objects (R, *x_shape), as bright as what was measured."""
        field = self.far_field(x)
        power = field.abs().pow(2).flatten(1).sum(1).mean()
        return field * (self.y.pow(2).sum() / power).sqrt()

    def to_data(self, field: Tensor) -> Tensor:
        """Give a far field the measured magnitudes; unmeasured ones stay free."""
        y = self.y
        fixed = field * (y / field.abs().clamp_min(torch.finfo(y.dtype).tiny))
        return fixed if self.known is None else torch.where(self.known, fixed, field)

    def to_object(self, x: Tensor) -> Tensor:
        """Make an image within the support one that an object may be."""
        if not self.positive:
            return x
        x = x.clamp_min(0)
        if self.pixels is None or self.pixels >= x[0].numel():
            return x
        faintest = x.flatten(1).topk(self.pixels, 1).values[:, -1]
        return torch.where(x >= column(faintest, x), x, torch.zeros_like(x))

    def estimate(self, field: Tensor) -> Tensor:
        """Return the objects (R, *x_shape) that iterates stand for: both projections."""
        return self.to_object(self.back(self.to_data(field)))

    def misfit(self, x: Tensor) -> Tensor:
        """Return the mean squared misfit of the magnitudes of objects, shape (R,)."""
        difference = self.far_field(x).abs() - self.y
        if self.known is not None:
            difference = torch.where(self.known, difference, torch.zeros_like(difference))
        return difference.pow(2).flatten(1).mean(1)


def error_reduction(p: Projections, field: Tensor, iterations: int, pause: Pause = ask) -> Tensor:
    """Run error reduction: one projection after the other."""
    for _ in range(iterations):
        pause()
        field = p.far_field(p.estimate(field))
    return field


def raar(p: Projections, field: Tensor, iterations: int, beta: float, pause: Pause = ask) -> Tensor:
    """Run relaxed averaged alternating reflections on a batch of far fields (R, *y_shape)."""
    for _ in range(iterations):
        pause()
        data = p.to_data(field)
        reflected = 2 * data - field
        inside = p.far_field(p.to_object(p.back(reflected)))
        field = 0.5 * beta * (2 * inside - reflected + field) + (1 - beta) * data
    return field


def hybrid_input_output(
    p: Projections,
    field: Tensor,
    iterations: int,
    beta: float,
    pause: Pause = ask,
    smooth: Tensor | None = None,
) -> Tensor:
    """Run hybrid input-output on a batch of far fields (R, *y_shape).

    With g the iterate and d its projection onto the data, the next one is d where d is what an
    object may be, and g - beta d elsewhere: outside the support, and where d is negative.

    Parameters
    ----------
    smooth : Tensor or None
        Transfer function of a low-pass on the far field, for what is fed back outside the support:
        oversampling smoothness.
    """
    inside = p.back(field)
    for _ in range(iterations):
        pause()
        data = p.to_data(field)
        d = p.back(data)
        # The object's grid is a part of the padded plane: both keep their iterate, so that one
        # transform there and one back are enough.
        fed_back = inside - beta * d
        inside = torch.where(p.to_object(d) == d, d, fed_back)
        field = field - beta * data
        if smooth is not None:
            field = smooth * field
            fed_back = p.back(field)
        field = field + p.far_field(inside - fed_back)
    return field


def polished(p: Projections, field: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Return objects after error reduction, and the mean squared misfit of their magnitudes."""
    x = p.estimate(field)
    for _ in range(iterations):
        ask()
        x = p.estimate(p.far_field(x))
    return x, p.misfit(x)


def with_real_sum(x: Tensor) -> Tensor:
    """Return complex objects (R, 2, *spatial) with the global phase that makes their sum real."""
    total = x.flatten(2).sum(2)
    size = total.pow(2).sum(1).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
    shape = [-1, *[1] * (x.ndim - 2)]
    cos, sin = (total[:, k] / size for k in range(2))
    cos, sin = cos.reshape(shape), sin.reshape(shape)
    return torch.stack((cos * x[:, 0] + sin * x[:, 1], cos * x[:, 1] - sin * x[:, 0]), 1)
