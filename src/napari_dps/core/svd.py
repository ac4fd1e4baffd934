"""Singular value decompositions that cost no more than a few transforms.

An operator that has one says so by :meth:`napari_dps.core.operator.Operator.spectral`; what lies
around the optics (illumination, colours) is seen through by :func:`decompose`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from napari_dps.core.channelwise import ChannelwiseOperator
from napari_dps.core.illumination import IlluminatedOperator
from napari_dps.core.operator import Operator


class Spectral:
    """A = U S V^H: an operator in the basis in which it is diagonal.

    Coefficients have a batch axis and may be complex, those of a real object then being Hermitian;
    a real, elementwise function of them is one of the object. Normal numbers stay normal numbers.
    Only :meth:`ut` ever sees a measurement.

    Attributes
    ----------
    singular : Tensor, broadcastable to the coefficients
        S, never negative; zero where the object leaves no trace.
    pixelwise : bool
        Whether U and V leave pixels alone, so that each may have its own sensitivity, noise and
        validity.
    """

    singular: Tensor
    pixelwise: bool = False

    def vt(self, x: Tensor) -> Tensor:
        """Return V^H x of objects (B, *x_shape)."""
        raise NotImplementedError

    def v(self, c: Tensor) -> Tensor:
        """Return the objects V c of coefficients."""
        raise NotImplementedError

    def factor(self, scale: Tensor) -> Tensor:
        """Return a factor per frame and channel (B, C, 1, ...) as the coefficients have it."""
        return scale

    def ut(self, y: Tensor) -> Tensor:
        """Return U^H y of measurements (B, *y_shape), zero where S is."""
        raise NotImplementedError

    def u(self, c: Tensor) -> Tensor:
        """Return the measurements U c of coefficients."""
        raise NotImplementedError

    def place(self, y: Tensor) -> Tensor:
        """Put data where U has them: on a wider grid where it has more, zero (False) there."""
        return y

    def restricted(self, known: Tensor) -> Spectral | None:
        """Return the decomposition of these data alone; None where it is no longer cheap.

        Parameters
        ----------
        known : Tensor of bool, shape (B or 1, *y_shape)
            Which data count.
        """
        return self if bool(known.all()) else None


class Pixelwise(Spectral):
    """z = w x, pixel by pixel.

    Parameters
    ----------
    weight : Tensor, broadcastable to x
        w, never negative.
    """

    pixelwise = True

    def __init__(self, weight: Tensor) -> None:
        self.singular = weight

    def vt(self, x: Tensor) -> Tensor:
        """Return x."""
        return x

    def v(self, c: Tensor) -> Tensor:
        """Return c."""
        return c

    def ut(self, y: Tensor) -> Tensor:
        """Return y where it was measured."""
        return y * (self.singular > 0)

    def restricted(self, known: Tensor) -> Spectral:
        """Return what is left: pixels do not mix."""
        return Pixelwise(self.singular * known)


class Periodic(Spectral):
    """A periodic convolution: the basis is the real object's Fourier modes.

    Parameters
    ----------
    transfer : Tensor, complex
        The transfer function on the half plane of ``rfftn``.
    shape : tuple of int
        The grid.
    field : tuple of slice or None
        The part of it that is measured; None: all.
    """

    def __init__(
        self, transfer: Tensor, shape: tuple[int, ...], field: tuple[slice, ...] | None = None
    ) -> None:
        self.shape, self._axes, self._field = shape, tuple(range(-len(shape), 0)), field
        self.singular = transfer.abs()
        tiny = torch.finfo(self.singular.dtype).tiny
        self._turn = transfer.conj() / self.singular.clamp_min(tiny)

    def place(self, y: Tensor) -> Tensor:
        """Put data on the whole grid."""
        if self._field is None:
            return y
        wide = y.new_zeros((*y.shape[: -len(self.shape)], *self.shape))
        index: tuple[Any, ...] = (..., *self._field)
        wide[index] = y
        return wide

    def vt(self, x: Tensor) -> Tensor:
        """Return the orthonormal DFT."""
        spectrum: Tensor = torch.fft.rfftn(x, dim=self._axes, norm="ortho")
        return spectrum

    def v(self, c: Tensor) -> Tensor:
        """Return its inverse."""
        image: Tensor = torch.fft.irfftn(c, s=self.shape, dim=self._axes, norm="ortho")
        return image

    def ut(self, y: Tensor) -> Tensor:
        """Return the DFT without the transfer function's phase."""
        return self.vt(y) * self._turn

    def u(self, c: Tensor) -> Tensor:
        """Return the measurement with these coefficients."""
        return self.v(c * self._turn.conj())


class Separable(Spectral):
    """A product of one matrix per axis: its decomposition is the product of theirs.

    The way of the authors of DDRM for separable blurs and super-resolution; borders are exact.

    Parameters
    ----------
    matrices : sequence of Tensor, shape (n, m)
        One per spatial axis, from m object pixels to n of the measurement.
    """

    def __init__(self, matrices: Sequence[Tensor]) -> None:
        self._u: list[Tensor] = []
        self._vh: list[Tensor] = []
        values = []
        for matrix in matrices:
            # On the host, since not every device has double precision or this decomposition.
            u, s, vh = torch.linalg.svd(matrix.cpu().double(), full_matrices=True)
            count = matrix.shape[1]
            wide = s.new_zeros(count)
            wide[: len(s)] = s
            # Rounding is no singular value, and its vector in U is arbitrary.
            least = 100 * torch.finfo(matrix.dtype).eps * s.amax()
            wide = torch.where(wide > least, wide, torch.zeros_like(wide))
            both = min(len(s), count)
            rows = u.new_zeros((count, matrix.shape[0]))
            rows[:both] = u[:, :both].T
            self._u.append((rows * (wide > 0)[:, None]).to(matrix))
            self._vh.append(vh.to(matrix))
            values.append(wide.to(matrix))
        axes = len(values)
        spread = [
            s.reshape([-1 if a == axis else 1 for a in range(axes)])
            for axis, s in enumerate(values)
        ]
        self.singular = reduce(torch.mul, spread)

    @staticmethod
    def _apply(matrices: Sequence[Tensor], x: Tensor) -> Tensor:
        for axis, matrix in enumerate(matrices):
            dim = x.ndim - len(matrices) + axis
            x = (x.movedim(dim, -1) @ matrix.T).movedim(-1, dim)
        return x

    def vt(self, x: Tensor) -> Tensor:
        """Return the coefficients along every axis."""
        return self._apply(self._vh, x)

    def v(self, c: Tensor) -> Tensor:
        """Return the object."""
        return self._apply([m.T for m in self._vh], c)

    def ut(self, y: Tensor) -> Tensor:
        """Return the measurement's coefficients."""
        return self._apply(self._u, y)

    def u(self, c: Tensor) -> Tensor:
        """Return the measurement with these coefficients."""
        return self._apply([m.T for m in self._u], c)


class Sampled(Spectral):
    """Sampled k-space, real and imaginary part along an axis of length 2 in y.

    Of a real object a frequency and its opposite are one: two measurements of it, or one.

    Parameters
    ----------
    sampled : Tensor of bool, shape (Y, X)
        Which frequencies count, zero frequency in the corner.
    channels : int
        1: a real object; 2: real and imaginary part.
    centred : bool
        Whether zero frequency lies in the centre of y.
    dtype : torch dtype
        Of the object.
    """

    def __init__(
        self, sampled: Tensor, *, channels: int, centred: bool, dtype: torch.dtype
    ) -> None:
        self.channels, self.centred = channels, centred
        self._sampled = sampled
        self._weight = sampled.to(dtype)
        if channels == 1:
            self._twice = self._weight + opposite(self._weight)
            self.singular = (self._twice / 2).sqrt()
        else:
            self.singular = self._weight

    def vt(self, x: Tensor) -> Tensor:
        """Return the orthonormal DFT, (B, Y, X)."""
        image = torch.complex(x[:, 0], x[:, 1] if self.channels == 2 else torch.zeros_like(x[:, 0]))
        spectrum: Tensor = torch.fft.fft2(image, norm="ortho")
        return spectrum

    def v(self, c: Tensor) -> Tensor:
        """Return the object's channels."""
        image = torch.fft.ifft2(c, norm="ortho")
        return torch.stack((image.real, image.imag)[: self.channels], 1)

    def factor(self, scale: Tensor) -> Tensor:
        """Return the factor without the axis of channels: they make one complex coefficient."""
        return scale[:, 0]

    def ut(self, y: Tensor) -> Tensor:
        """Return the sampled frequencies, of a real object the mean of each pair."""
        data = torch.complex(y[:, 0], y[:, 1])
        data = torch.fft.ifftshift(data, (-2, -1)) if self.centred else data
        data = data * self._weight
        if self.channels == 1:
            data = (data + opposite(data).conj()) / self._twice.clamp_min(1) * self.singular
        return data

    def restricted(self, known: Tensor) -> Spectral:
        """Return what is left: a frequency counts where both of its parts do."""
        both = known.all(1)
        both = torch.fft.ifftshift(both, (-2, -1)) if self.centred else both
        return Sampled(
            self._sampled & both,
            channels=self.channels,
            centred=self.centred,
            dtype=self._weight.dtype,
        )


def opposite(v: Tensor) -> Tensor:
    """Return the values at the opposite frequencies, zero frequency in the corner."""
    return torch.roll(v.flip(-2, -1), (1, 1), (-2, -1))


def decompose(operator: Operator) -> Spectral | None:
    """Return an operator's decomposition, seen through illumination and colours.

    None where there is none that is cheap.
    """
    if isinstance(operator, IlluminatedOperator):
        inner = decompose(operator.inner)
        if inner is not None and inner.pixelwise and operator.flat is not None:
            return Pixelwise(inner.singular * operator.flat)
        return inner if even(operator) else None
    if isinstance(operator, ChannelwiseOperator):
        single = operator.single
        return decompose(single) if single.x_shape[0] == single.y_shape[0] == 1 else None
    return operator.spectral()


def even(operator: IlluminatedOperator) -> bool:
    """Return whether the sensitivity is one everywhere."""
    return operator.flat is None or bool((operator.flat - 1).abs().amax() <= 1e-6)
