"""A prior of plane images on objects that are more: volumes plane by plane, channels one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_dps.core.prior import Prior, Vjp, WrappedPrior


class SlicewisePrior(WrappedPrior):
    """A prior of planes, applied to every plane of a volume (B, C, Z, Y, X).

    Planes are independent in the prior; the measurement ties them together.

    Parameters
    ----------
    prior : Prior
        Of images (B, C, Y, X).
    at_once : int or None
        Planes that :meth:`linearize` may keep for its product. More are computed chunk by chunk,
        and again with the incoming vector: twice the forward passes, bounded memory.
    """

    def __init__(self, prior: Prior, at_once: int | None = None) -> None:
        super().__init__(prior)
        self.at_once = at_once

    def power_spectrum(self, shape: tuple[int, ...]) -> Tensor | None:
        """Return the planes' spectrum at every axial frequency: planes are not correlated."""
        plane = self.prior.power_spectrum(shape[1:])
        return None if plane is None else plane.expand(shape)

    @staticmethod
    def _fold(x: Tensor) -> Tensor:
        return x.movedim(2, 1).reshape(-1, x.shape[1], *x.shape[3:])

    @staticmethod
    def _unfold(planes: Tensor, like: Tensor) -> Tensor:
        b, c, z = like.shape[:3]
        return planes.reshape(b, z, c, *like.shape[3:]).movedim(1, 2)

    @staticmethod
    def _levels(sigma: Tensor | float, depth: int) -> Tensor | float:
        if isinstance(sigma, Tensor) and sigma.ndim == 1:
            return sigma.repeat_interleave(depth)
        return sigma

    def _chunks(self, planes: Tensor, sigma: Tensor | float) -> list[tuple[Tensor, Tensor | float]]:
        size = len(planes) if self.at_once is None else max(1, self.at_once)
        parts = torch.split(planes, size)
        if isinstance(sigma, Tensor) and sigma.ndim == 1:
            return list(zip(parts, torch.split(sigma, size), strict=True))
        return [(part, sigma) for part in parts]

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x0 | x_sigma] of every plane."""
        chunks = self._chunks(self._fold(x), self._levels(sigma, x.shape[2]))
        return self._unfold(torch.cat([self.prior(part, level) for part, level in chunks]), x)

    def moments(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor | None]:
        """Return the denoised planes and their variance fraction; see :meth:`Prior.moments`."""
        chunks = self._chunks(self._fold(x), self._levels(sigma, x.shape[2]))
        done = [self.prior.moments(part, level) for part, level in chunks]
        there = [fraction for _, fraction in done if fraction is not None]
        x0 = self._unfold(torch.cat([mean for mean, _ in done]), x)
        return x0, self._unfold(torch.cat(there), x) if there else None

    def linearize(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Vjp]:
        """Return the denoised volume and its product; see :meth:`Prior.linearize`."""
        return self.linearize_moments(x, sigma)[:2]

    def linearize_moments(
        self, x: Tensor, sigma: Tensor | float
    ) -> tuple[Tensor, Vjp, Tensor | None]:
        """Return volume, product and fraction; see :meth:`Prior.linearize_moments`."""
        chunks = self._chunks(self._fold(x), self._levels(sigma, x.shape[2]))
        if len(chunks) == 1:
            x0, vjp, fraction = self.prior.linearize_moments(*chunks[0])

            def product(v: Tensor) -> Tensor:
                return self._unfold(vjp(self._fold(v)), v)

            whole = None if fraction is None else self._unfold(fraction, x)
            return self._unfold(x0, x), product, whole

        with torch.no_grad():
            mean, fraction = self.moments(x, sigma)

        def again(v: Tensor) -> Tensor:
            parts = torch.split(self._fold(v), [len(part) for part, _ in chunks])
            done = [
                self.prior.linearize(part, level)[1](piece)
                for (part, level), piece in zip(chunks, parts, strict=True)
            ]
            return self._unfold(torch.cat(done), v)

        return mean, again, fraction


class ChannelwisePrior(WrappedPrior):
    """A prior of gray images, applied to every channel by itself, such as real and imaginary part.

    Parameters
    ----------
    prior : Prior
        Of objects of one channel, of any number of spatial axes.
    """

    @staticmethod
    def _fold(x: Tensor) -> Tensor:
        return x.reshape(-1, 1, *x.shape[2:])

    @staticmethod
    def _levels(x: Tensor, sigma: Tensor | float) -> Tensor | float:
        if isinstance(sigma, Tensor) and sigma.ndim == 1:
            return sigma.repeat_interleave(x.shape[1])
        return sigma

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x0 | x_sigma] of every channel."""
        x0: Tensor = self.prior(self._fold(x), self._levels(x, sigma))
        return x0.reshape(x.shape)

    def moments(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor | None]:
        """Return the denoised channels and their variance fraction; see :meth:`Prior.moments`."""
        x0, fraction = self.prior.moments(self._fold(x), self._levels(x, sigma))
        return x0.reshape(x.shape), None if fraction is None else fraction.reshape(x.shape)

    def linearize(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Vjp]:
        """Return the denoised channels and their product; see :meth:`Prior.linearize`."""
        return self.linearize_moments(x, sigma)[:2]

    def linearize_moments(
        self, x: Tensor, sigma: Tensor | float
    ) -> tuple[Tensor, Vjp, Tensor | None]:
        """Return channels, product and fraction; see :meth:`Prior.linearize_moments`."""
        x0, vjp, fraction = self.prior.linearize_moments(self._fold(x), self._levels(x, sigma))
        whole = None if fraction is None else fraction.reshape(x.shape)
        return x0.reshape(x.shape), (lambda v: vjp(self._fold(v)).reshape(v.shape)), whole
