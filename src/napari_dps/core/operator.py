"""What an operator is: the expected measurement of an object, and its derivatives.

An operator knows nothing of noise, priors or units. The object map composes it with the
affine map from prior units to the object (:class:`MappedOperator`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from napari_dps.core.svd import Spectral

Linear = Callable[[Tensor], Tensor]


class Operator:
    """A deterministic, differentiable map from object to expected measurement.

    Attributes
    ----------
    x_shape, y_shape : tuple of int
        Shapes without the batch axis, (C, *spatial).
    is_affine : bool
        Whether the map is affine in the object.
    field : tuple of slice
        The part of the object's spatial grid that the image shows; what is outside was added
        because light comes from there too.
    measured : Tensor of bool or None
        Which data were measured at all; None where all were.
    symmetric : bool
        Whether flips and shifts of the object leave the measurement unchanged, so that samples
        must be registered to each other before statistics.
    multimodal : bool
        Whether many different objects explain the measurement nearly as well, so that it pays to
        search before sampling.
    phase_free : bool
        Whether only the global phase of a complex object leaves the measurement unchanged.
    response : float
        Root-mean-square of what structure of a few pixels adds to the measurement, over its own:
        about 1 unless data are sums over many pixels.
    """

    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    is_affine: bool = True
    measured: Tensor | None = None
    symmetric: bool = False
    multimodal: bool = False
    phase_free: bool = False
    response: float = 1.0
    field: tuple[slice, ...]

    def __init__(
        self,
        x_shape: tuple[int, ...],
        y_shape: tuple[int, ...],
        field: tuple[slice, ...] | None = None,
    ) -> None:
        self.x_shape = tuple(x_shape)
        self.y_shape = tuple(y_shape)
        self.field = field or tuple(slice(0, n) for n in x_shape[1:])

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the expected measurement (B, *y_shape) of objects ``x`` (B, *x_shape)."""
        raise NotImplementedError

    def adjoint(self, v: Tensor, x: Tensor | None = None) -> Tensor:
        """Return J_A(x)^T v for ``v`` of shape (B, *y_shape); ``x`` matters if not affine."""
        at = x if x is not None else v.new_zeros((v.shape[0], *self.x_shape))
        return self.linearize(at)[2](v)

    def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
        """Return (A(x), jvp, vjp), exact at ``x``; by autodiff unless overridden.

        Parameters
        ----------
        x : Tensor, shape (B, *x_shape)
            The object at which to linearize.

        Returns
        -------
        z : Tensor, shape (B, *y_shape)
            A(x).
        jvp, vjp : callable
            Products with the Jacobian and with its transpose.
        """
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            z = self(leaf)

        def vjp(v: Tensor) -> Tensor:
            return torch.autograd.grad(z, leaf, grad_outputs=v, retain_graph=True)[0]

        def jvp(v: Tensor) -> Tensor:
            product: Tensor = torch.func.jvp(lambda q: self(q), (x.detach(),), (v,))[1]
            return product

        return z.detach(), jvp, vjp

    def axis_matrices(self) -> list[Tensor] | None:
        """Return one matrix per spatial axis (measurement, object) where A is their product.

        None, the default: it is no such product. What was not measured may be left to
        :attr:`measured`.
        """
        return None

    def spectral(self) -> Spectral | None:
        """Return a cheap singular value decomposition; None where there is none.

        The default has one where there are :meth:`axis_matrices`. Data that were not measured
        may be left to :attr:`measured`, unless the decomposition is pixelwise.
        """
        from napari_dps.core.svd import Separable

        matrices = self.axis_matrices()
        return None if matrices is None else Separable(matrices)

    def normal(self, transfer: Tensor | float) -> Linear | None:
        """Return A F^-1 T F A^T as one product where the operator has a shorter way to it.

        Parameters
        ----------
        transfer : Tensor or float
            T, real, for a real FFT over all axes of the object's grid.
        """
        return None

    def normal_inverse(self, transfer: Tensor | float, variance: float) -> Linear | None:
        """Return (A F^-1 T F A^T + v I)^-1 where Fourier modes are the operator's own, else None.

        Parameters
        ----------
        transfer : Tensor or float
            T, as :meth:`normal` has it.
        variance : float
            v, of every datum.
        """
        return None

    def embed(self, image: Tensor) -> Tensor:
        """Put an image of the field (B, C, *spatial) on the object's grid, mirrored outside."""
        pad: list[int] = []
        for axis in range(len(self.field) - 1, -1, -1):
            size, part = self.x_shape[1 + axis], self.field[axis]
            pad += [part.start, size - part.stop]
        if not any(pad):
            return image
        return mirror_pad(image, pad)

    def crop(self, x: Tensor) -> Tensor:
        """Return the part of an object (B, C, *spatial) that the image shows."""
        index: tuple[Any, ...] = (..., *self.field)
        return x[index]


def mirror_pad(image: Tensor, pad: list[int]) -> Tensor:
    """Pad by reflection any number of times (torch allows one reflection only)."""
    for axis in range(len(pad) // 2):
        before, after = pad[2 * axis], pad[2 * axis + 1]
        dim = image.ndim - 1 - axis
        n = image.shape[dim]
        index = torch.arange(-before, n + after, device=image.device)
        period = max(2 * (n - 1), 1)
        index = torch.remainder(index, period)
        index = torch.where(index >= n, period - index, index)
        image = image.index_select(dim, index)
    return image


class LinearOperator(Operator):
    """An operator that is linear: the Jacobian is the map itself."""

    is_affine = True

    def transpose(self, v: Tensor) -> Tensor:
        """Return A^T v for ``v`` of shape (B, *y_shape)."""
        raise NotImplementedError

    def adjoint(self, v: Tensor, x: Tensor | None = None) -> Tensor:
        """Return A^T v."""
        return self.transpose(v)

    def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
        """Return (A x, A, A^T)."""
        return self(x), self, self.transpose


class MappedOperator(Operator):
    """An operator seen from prior units: x -> A(b + a (x + 1)/2).

    Parameters
    ----------
    operator : Operator
        The physics, acting on objects in photoelectrons.
    scale, background : Tensor, shape (B or 1, C, 1, ...)
        a and b of the object map, per frame and channel.
    """

    def __init__(self, operator: Operator, scale: Tensor, background: Tensor) -> None:
        super().__init__(operator.x_shape, operator.y_shape, operator.field)
        self.operator = operator
        self.scale = scale
        self.background = background
        self.is_affine = operator.is_affine
        # Then no rounding shall take part: weak objects are far below one.
        self._same = bool((scale == 2).all()) and bool((background == -1).all())

    def to_object(self, x: Tensor) -> Tensor:
        """Turn prior units into photoelectrons."""
        return x if self._same else self.background + self.scale * (x + 1) / 2

    def from_object(self, values: Tensor) -> Tensor:
        """Turn photoelectrons into prior units."""
        return values if self._same else (values - self.background) / self.scale * 2 - 1

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the expected measurement in photoelectrons."""
        return self.operator(self.to_object(x), theta)

    def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
        """Return the composed map and its Jacobian products, slope a/2 included."""
        z, jvp, vjp = self.operator.linearize(self.to_object(x))
        slope = self.scale / 2
        return z, (lambda v: jvp(slope * v)), (lambda v: slope * vjp(v))

    def normal(self, transfer: Tensor | float) -> Linear | None:
        """Return the shorter way of the physics, slope included; see :meth:`Operator.normal`."""
        if self.x_shape[0] != 1:
            return None
        return self.operator.normal((self.scale / 2) ** 2 * transfer)

    def normal_inverse(self, transfer: Tensor | float, variance: float) -> Linear | None:
        """Return that of the physics, slope included; see :meth:`Operator.normal_inverse`."""
        if self.x_shape[0] != 1:
            return None
        return self.operator.normal_inverse((self.scale / 2) ** 2 * transfer, variance)


def dot_test(
    operator: Operator, x: Tensor, generator: torch.Generator | None = None
) -> tuple[float, float]:
    """Return <J u, v> and <u, J^T v> for random u and v; they must agree.

    Parameters
    ----------
    operator : Operator
        The operator to test.
    x : Tensor, shape (B, *x_shape)
        Where to linearize.
    generator : torch.Generator, optional
        Source of u and v.
    """
    z, jvp, vjp = operator.linearize(x)
    u = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    v = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    return float((jvp(u) * v).sum()), float((u * vjp(v)).sum())
