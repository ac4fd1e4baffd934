"""What a prior is: a denoiser that can be differentiated, and nothing more.

Every prior speaks of the variance-exploding variable ``x_sigma = x0 + sigma n`` with
``n ~ N(0, I)``; sigma is the only time there is. Samplers never call autograd on a prior:
they use :meth:`Prior.linearize`, so that tiling or slicing stay invisible to them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Vjp = Callable[[Tensor], Tensor]


class Prior(nn.Module):
    """A diffusion prior: the posterior mean of a clean image given a noisy one.

    Attributes
    ----------
    sigma_min, sigma_max : float
        Noise levels the prior was made for; outside them it is called at the nearest one.
    data_std : float
        Standard deviation of clean images about their mean, in prior units ([-1, 1]).
    pixel_size : float or None
        Pixel size of the training images in micrometres, where it is known.
    learned_variance : bool
        Whether the network says how much noise an ancestral move should add.
    trained_side : int or None
        Side in pixels of the training images, where the network depends on it: it works on larger
        images tile by tile, so that they need no more memory.
    learned : bool
        Whether the denoiser was fitted to images: its Jacobian is then too sure of what those
        lacked.
    whole : bool
        Whether it knows an image as a whole alone, so that tiles are no use to it.
    multiple : int
        Pixels by which an image may be shifted so that its denoised image only shifts.
    precision : {"float32", "bfloat16"}
        What the network's inside computes in where its weights are float32.
    """

    sigma_min: float = 0.0
    sigma_max: float = float("inf")
    data_std: float = 0.5
    pixel_size: float | None = None
    learned_variance: bool = False
    learned: bool = False
    trained_side: int | None = None
    whole: bool = False
    multiple: int = 1
    precision: str = "float32"

    def set_precision(self, precision: str) -> None:
        """Choose what the network computes in; only priors with a network have a choice."""

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x0 | x_sigma]; ``x`` is (B, C, spatial), sigma a float or (B,)."""
        raise NotImplementedError

    def power_spectrum(self, shape: tuple[int, ...]) -> Tensor | None:
        """Return the variance per Fourier mode on a grid of ``shape``, where it is stated."""
        return None

    def half_spectrum(self, like: Tensor) -> Tensor | None:
        """Return the power spectrum for a real FFT of images ``like``, and keep it.

        Half of the last axis says all of real images, whose modes k and -k are alike.
        """
        shape = tuple(like.shape[2:])
        key = (shape, like.dtype, like.device)
        kept: tuple[object, Tensor | None] = self.__dict__.get("_half_spectrum", (None, None))
        if kept[0] != key:
            whole, half = self.power_spectrum(shape), None
            if whole is not None:
                axes = tuple(range(-len(shape), 0))
                mirrored = whole.flip(axes).roll((1,) * len(shape), axes)
                half = ((whole + mirrored) / 2)[..., : shape[-1] // 2 + 1].to(like)
            kept = self.__dict__["_half_spectrum"] = (key, half)
        return kept[1]

    def largest_power(self, shape: tuple[int, ...]) -> float:
        """Return the largest variance of a mode on a grid of ``shape``, and keep it."""
        kept: tuple[object, float] = self.__dict__.get("_largest_power", (None, 0.0))
        if kept[0] != shape:
            spectrum = self.power_spectrum(shape)
            largest = self.data_std**2 if spectrum is None else float(spectrum.max())
            kept = self.__dict__["_largest_power"] = (shape, largest)
        return kept[1]

    def bytes_per_pixel(self) -> float:
        """Return about how many bytes one pixel of one sample needs in :meth:`linearize`."""
        return 64.0

    def linearize(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Vjp]:
        """Return the denoised image and the product with its transposed Jacobian.

        Parameters
        ----------
        x : Tensor, shape (B, C, *spatial)
            Noisy images.
        sigma : float or Tensor of shape (B,)
            Their noise level.

        Returns
        -------
        x0 : Tensor, shape of ``x``
            E[x0 | x_sigma], detached.
        vjp : callable
            ``vjp(v) = (d x0 / d x)^T v``; may be called repeatedly.
        """
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            x0 = self(leaf, sigma)

        def vjp(v: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(x0, leaf, grad_outputs=v, retain_graph=True)
            return gradient

        return x0.detach(), vjp

    def moments(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor | None]:
        """Return the denoised image and the learned variance fraction, None where there is none.

        The fraction f, shape of ``x``, interpolates the logarithm of the variance of an ancestral
        move between the smallest (0) and the largest (1) sensible one: Nichol and Dhariwal,
        "Improved Denoising Diffusion Probabilistic Models", ICML 2021, equation 15.
        """
        return self(x, sigma), None

    def linearize_moments(
        self, x: Tensor, sigma: Tensor | float
    ) -> tuple[Tensor, Vjp, Tensor | None]:
        """Return what :meth:`linearize` returns and the fraction, from the same network call."""
        return (*self.linearize(x, sigma), None)


class NoPrior(Prior):
    """Stands where a classical method needs none."""

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Refuse: nothing is known beforehand."""
        raise RuntimeError("a classical sampler has no prior to call")


class WrappedPrior(Prior):
    """A prior that calls another one in its own way, and states what that one states."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior
        self.sigma_min, self.sigma_max = prior.sigma_min, prior.sigma_max
        self.data_std, self.pixel_size = prior.data_std, prior.pixel_size
        self.learned_variance, self.trained_side = prior.learned_variance, prior.trained_side
        self.whole = prior.whole
        self.learned = prior.learned
        self.multiple, self.precision = prior.multiple, prior.precision

    def set_precision(self, precision: str) -> None:
        """Choose what the wrapped prior computes in."""
        self.prior.set_precision(precision)
        self.precision = self.prior.precision

    def power_spectrum(self, shape: tuple[int, ...]) -> Tensor | None:
        """Return the wrapped prior's spectrum."""
        return self.prior.power_spectrum(shape)

    def largest_power(self, shape: tuple[int, ...]) -> float:
        """Return the wrapped prior's, which is kept from batch to batch."""
        return self.prior.largest_power(shape)

    def bytes_per_pixel(self) -> float:
        """Return the wrapped prior's need."""
        return self.prior.bytes_per_pixel()


def per_sample(value: Tensor | float, like: Tensor) -> Tensor | float:
    """Shape a (B,) tensor so that it broadcasts over the images of ``like``."""
    if isinstance(value, Tensor) and value.ndim == 1:
        return value.reshape(-1, *([1] * (like.ndim - 1)))
    return value
