"""U-Nets of others as denoisers E[x0 | x_sigma], and as a prior for images of any size and colour.

Time. A discrete ladder has levels sigma_t = sqrt((1 - abar_t)/abar_t). Between two of them the
timestep is interpolated, linearly in log sigma: sinusoidal embeddings take fractional times, the
denoiser becomes continuous in sigma, and at the trained levels it is exactly what was trained. With
the nearest timestep instead, the network would be told a wrong noise level by up to half a step. A
learned table of embeddings has integers only: there the nearest is taken.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..core.covariance import power_law_spectrum
from ..core.operator import mirror_pad
from ..core.prior import Prior, Vjp, per_sample
from ..errors import PriorError
from ._frozen import freeze, pass_bytes
from ._precision import apply_unet, set_precision
from ._schedule import usable

SMALLEST_SIDE = 8


class Denoiser(nn.Module):
    """E[x0 | x_sigma] of images of its own channels, sides multiples of its own.

    Parameters
    ----------
    unet : UNet2DModel
        The network, of ``channels`` images; twice as many outputs are noise and variance.
    """

    sigma_min: float
    sigma_max: float
    fast: torch.dtype | None = None
    """What the network computes in, where not in the precision of its weights."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet.eval()
        freeze(unet)
        self.channels = int(unet.config.in_channels)
        self.both = unet.config.out_channels == 2 * self.channels
        self.learned = self.both
        self.multiple = 2 ** (len(unet.config.block_out_channels) - 1)

    def forward(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (x0, variance fraction or None) of x (B, C, H, W) at levels sigma (B,)."""
        raise NotImplementedError

    def output(self, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Run the network; split what it says of the variance off."""
        out = apply_unet(self.unet, x, time, self.fast)
        if not self.both:
            return out, None
        mean, variance = out.chunk(2, dim=1)
        return mean, (variance + 1) / 2 if self.learned else None


class VPDenoiser(Denoiser):
    """A network of DDPM: x_vp = x_sigma / sqrt(1 + sigma^2) at a timestep.

    Parameters
    ----------
    unet : UNet2DModel
        The network.
    abar : Tensor, shape (T,)
        Product of (1 - beta), falling from nearly 1.
    prediction : {"epsilon", "v_prediction", "sample"}
        What it predicts.
    ranged : bool
        Whether what it says of the variance is a fraction between the small and the large one.
    """

    def __init__(
        self, unet: Any, abar: Tensor, prediction: str = "epsilon", *, ranged: bool = True
    ) -> None:
        super().__init__(unet)
        self.learned = self.both and ranged
        abar = torch.from_numpy(usable(abar.double().numpy()))
        sigmas = ((1 - abar) / abar).sqrt()
        self.log_sigmas = sigmas.log()
        self.sigma_min, self.sigma_max = float(sigmas[0]), float(sigmas[-1])
        self.prediction = prediction
        self.whole_steps = unet.config.time_embedding_type == "learned"

    def timestep(self, sigma: Tensor) -> Tensor:
        """Return the fractional timestep of each level, float64 on the CPU."""
        wanted, table = sigma.detach().cpu().double().log(), self.log_sigmas
        upper = torch.searchsorted(table, wanted).clamp(1, len(table) - 1)
        lower = upper - 1
        share = (wanted - table[lower]) / (table[upper] - table[lower])
        return lower + share.clamp(0, 1)

    def forward(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (x0, variance fraction or None); see :class:`Denoiser`."""
        time = self.timestep(sigma)
        time = time.round().long() if self.whole_steps else time.float()
        level = per_sample(sigma.to(x), x)
        total = (1 + level**2) ** 0.5
        out, fraction = self.output(x / total, time.to(x.device))
        if self.prediction == "epsilon":
            x0: Tensor = x - level * out
        elif self.prediction == "v_prediction":
            x0 = x / total**2 - level / total * out
        else:
            x0 = out
        return x0, fraction


class EDMDenoiser(Denoiser):
    """A network preconditioned as in Karras et al. 2022, table 1.

    Parameters
    ----------
    unet : UNet2DModel
        The network; its time is log(sigma)/4.
    sigma_data, sigma_min, sigma_max : float
        Of its training.
    prediction : {"epsilon", "v_prediction"}
        The sign of its output: diffusers writes ``epsilon`` for F as published.
    """

    def __init__(
        self,
        unet: Any,
        sigma_data: float,
        sigma_min: float,
        sigma_max: float,
        prediction: str = "epsilon",
    ) -> None:
        super().__init__(unet)
        self.sigma_data, self.sigma_min, self.sigma_max = sigma_data, sigma_min, sigma_max
        self.sign = -1.0 if prediction == "v_prediction" else 1.0

    def forward(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (x0, None); see :class:`Denoiser`."""
        level = per_sample(sigma.to(x), x)
        total = level**2 + self.sigma_data**2
        out, _ = self.output(x / total**0.5, (sigma.log() / 4).to(x))
        x0 = self.sigma_data**2 / total * x
        return x0 + self.sign * level * self.sigma_data / total**0.5 * out, None


class ImagePrior(Prior):
    """A denoiser as a prior for images of any size and colour.

    Sides are padded by reflection to what the network takes, and cropped again. Images of three
    channels are colours to a network of three; all others are gray, channel by channel, and go
    through a network of three as three equal channels u = (x, x, x) at sqrt(3) times the noise
    level, averaged afterwards:

        E[x0 | x_sigma] = mean over channels of D((x, x, x), sqrt(3) sigma).

    The three copies share their noise, so that their mean is as noisy as each; the mean of three
    independent ones would be sqrt(3) times less. Where brightness and colour of the prior's
    images are independent this is the posterior mean exactly; at level sigma, brightness would
    keep noise that the network takes for image.

    Parameters
    ----------
    denoiser : Denoiser
        The network.
    data_std : float
        Standard deviation of clean images, prior units.
    pixel_size : float or None
        Micrometres per pixel of the training images.
    spectrum : (float, float, float) or None
        Standard deviation, correlation length in pixels and exponent of their power spectrum.
    colour : bool
        Whether three channels are colours.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        data_std: float = 0.5,
        pixel_size: float | None = None,
        spectrum: tuple[float, float, float] | None = None,
        *,
        colour: bool = True,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser.eval()
        self.colour = colour and denoiser.channels == 3
        self.sigma_min, self.sigma_max = denoiser.sigma_min, denoiser.sigma_max
        self.data_std, self.pixel_size, self.spectrum = data_std, pixel_size, spectrum
        self.learned_variance, self.multiple = denoiser.learned, denoiser.multiple
        self.learned = True

    def train(self, mode: bool = True) -> ImagePrior:
        """Stay in evaluation mode whatever is asked."""
        super().train(False)
        return self

    def set_precision(self, precision: str) -> None:
        """Compute in "float32", in "bfloat16" or, "auto", in what is faster here."""
        self.precision = set_precision(self.denoiser, precision, lambda x: self.linearize(x, 1.0))

    def power_spectrum(self, shape: tuple[int, ...]) -> Tensor | None:
        """Return the variance per Fourier mode of clean images, where it is stated."""
        return None if self.spectrum is None else power_law_spectrum(shape, *self.spectrum)

    def bytes_per_pixel(self) -> float:
        """Return about how many bytes a pixel of a sample needs; see :func:`pass_bytes`."""
        config, parameter = self.denoiser.unet.config, next(self.denoiser.parameters())
        return pass_bytes(parameter, config.block_out_channels[0], config.layers_per_block)

    def _fold(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor, bool]:
        """Return images of the network's channels, their levels, and whether they are gray."""
        if x.ndim != 4 or min(x.shape[-2:]) < SMALLEST_SIDE:
            raise PriorError(
                f"The network prior got an array of shape {tuple(x.shape)}; it denoises 2D images "
                f"(B, C, H, W) with sides of at least {SMALLEST_SIDE} pixels: "
                "enlarge the image or take the 'gaussian' prior."
            )
        batch, channels, *sides = x.shape
        # Levels stay on the CPU in float64: the table of timesteps is there.
        level = torch.as_tensor(sigma, dtype=torch.float64).cpu().expand(batch)
        if self.colour and channels == 3:
            return x, level, False
        flat = x.reshape(batch * channels, 1, *sides)
        level = level.repeat_interleave(channels)
        if self.denoiser.channels == 1:
            return flat, level, False
        return flat.expand(-1, 3, -1, -1), math.sqrt(3) * level, True

    def moments(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor | None]:
        """Return (E[x0 | x_sigma], variance fraction or None), shape of x (B, C, H, W).

        Raises
        ------
        PriorError
            For anything but 2D images of at least 8 x 8 pixels.
        """
        flat, level, gray = self._fold(x, sigma)
        height, width = flat.shape[-2:]
        top, bottom = _margins(height, self.denoiser.multiple)
        left, right = _margins(width, self.denoiser.multiple)
        if top + bottom + left + right:
            flat = mirror_pad(flat, [left, right, top, bottom])
        level = level.clamp(self.denoiser.sigma_min, self.denoiser.sigma_max)
        x0, fraction = self.denoiser(flat, level)

        def back(out: Tensor) -> Tensor:
            out = out[..., top : top + height, left : left + width]
            return (out.mean(1, keepdim=True) if gray else out).reshape(x.shape)

        return back(x0), None if fraction is None else back(fraction)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x0 | x_sigma], shape of x; see :meth:`moments`."""
        return self.moments(x, sigma)[0]

    def linearize_moments(
        self, x: Tensor, sigma: Tensor | float
    ) -> tuple[Tensor, Vjp, Tensor | None]:
        """Return image, product and variance fraction from one call of the network."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            x0, fraction = self.moments(leaf, sigma)

        def vjp(v: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(x0, leaf, grad_outputs=v, retain_graph=True)
            return gradient

        return x0.detach(), vjp, None if fraction is None else fraction.detach()


def _margins(side: int, multiple: int) -> tuple[int, int]:
    missing = -side % multiple
    return missing // 2, missing - missing // 2
