"""The denoiser: diffusers' U-Net behind a 2x2 pixel-unshuffle, preconditioned as in EDM.

Preconditioning: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based
Generative Models", table 1, about the mean of the data instead of about zero: fluorescence
images are mostly dark, so their mean lies far below the middle of [-1, 1].
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from ..core.covariance import power_law_spectrum
from ..core.prior import Prior, per_sample
from ..errors import PriorError
from ._frozen import freeze, pass_bytes
from ._precision import apply_unet, set_precision

SMALLEST_SIDE = 8


class DenoiserNetwork(nn.Module):
    """E[x0 | x_sigma] for single-channel images, with trainable parameters.

    Parameters
    ----------
    channels : tuple of int
        Width of each level, finest first; every level halves the resolution.
    layers_per_block : int
        Residual blocks a level on the way down.
    groups : int
        Groups of the group normalisation; divides every entry of ``channels``.
    stem : int
        Pixels per side that the pixel-unshuffle folds into channels.
    sigma_data, mean_data : float
        Standard deviation and mean of the training patches, in prior units.
    """

    fast: torch.dtype | None = None
    """What the U-Net computes in, where not in the precision of its weights."""

    def __init__(
        self,
        channels: tuple[int, ...] = (32, 64, 128, 128),
        layers_per_block: int = 1,
        groups: int = 8,
        stem: int = 2,
        sigma_data: float = 0.5,
        mean_data: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.layers_per_block = layers_per_block
        self.groups = groups
        self.stem = stem
        self.sigma_data = float(sigma_data)
        self.mean_data = float(mean_data)
        levels = len(self.channels)
        unet: Any = UNet2DModel(  # type: ignore[no-untyped-call]
            in_channels=stem**2,
            out_channels=stem**2,
            layers_per_block=layers_per_block,
            block_out_channels=self.channels,
            down_block_types=("DownBlock2D",) * levels,
            up_block_types=("UpBlock2D",) * levels,
            norm_num_groups=groups,
            add_attention=False,
        )
        self.unet = unet

    @property
    def multiple(self) -> int:
        """Sides of the input must be multiples of this many pixels."""
        return int(self.stem * 2 ** (len(self.channels) - 1))

    def config(self) -> dict[str, object]:
        """Return the constructor's arguments, ready for JSON."""
        return {
            "channels": list(self.channels),
            "layers_per_block": self.layers_per_block,
            "groups": self.groups,
            "stem": self.stem,
            "sigma_data": self.sigma_data,
            "mean_data": self.mean_data,
        }

    def residual(self, scaled: Tensor, sigma: Tensor) -> Tensor:
        """Run the bare U-Net on input of unit variance, shape (B, 1, H, W); sigma is (B,)."""
        time = 250.0 * sigma.log() / 4.0 + 500.0
        folded = functional.pixel_unshuffle(scaled, self.stem)
        out = apply_unet(self.unet, folded, time, self.fast)
        return functional.pixel_shuffle(out, self.stem)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise ``x`` of shape (B, 1, H, W), sides multiples of ``multiple``; sigma is (B,)."""
        level = per_sample(sigma, x)
        total = level**2 + self.sigma_data**2
        centred = x - self.mean_data
        out = self.residual(centred / total**0.5, sigma)
        skip = self.sigma_data**2 / total
        gain = level * self.sigma_data / total**0.5
        denoised: Tensor = self.mean_data + skip * centred + gain * out
        return denoised


class NetworkPrior(Prior):
    """A trained :class:`DenoiserNetwork` as a prior for images of any size from 8 x 8 on.

    Parameters are frozen: gradients reach the input only. Channels beyond the first (complex
    objects, colours) are denoised one by one. Sides are padded by reflection to the network's
    multiple and cropped again.

    Parameters
    ----------
    network : DenoiserNetwork
        The network; put into evaluation mode and frozen.
    sigma_min, sigma_max : float
        Trained range; outside it the network is called at the nearest trained level.
    data_std : float or None
        Standard deviation of clean images; None takes the network's ``sigma_data``.
    pixel_size : float or None
        Micrometres per pixel of the training images, where known.
    spectrum : (float, float, float) or None
        Standard deviation, correlation length in pixels and exponent of the clean images' power
        spectrum; see :func:`napari_dps.core.covariance.power_law_spectrum`.
    """

    learned = True

    def __init__(
        self,
        network: DenoiserNetwork,
        sigma_min: float = 0.002,
        sigma_max: float = 160.0,
        data_std: float | None = None,
        pixel_size: float | None = None,
        spectrum: tuple[float, float, float] | None = None,
    ) -> None:
        super().__init__()
        self.spectrum = spectrum
        self.network = network.eval()
        freeze(network)
        self.sigma_min = float(sigma_min)
        self.sigma_max = float(sigma_max)
        self.data_std = network.sigma_data if data_std is None else float(data_std)
        self.pixel_size, self.multiple = pixel_size, network.multiple

    def set_precision(self, precision: str) -> None:
        """Compute in "float32", in "bfloat16" or, "auto", in what is faster here."""
        self.precision = set_precision(self.network, precision, lambda x: self.linearize(x, 1.0))

    def power_spectrum(self, shape: tuple[int, ...]) -> Tensor | None:
        """Return the variance per Fourier mode of clean images on a grid of ``shape``."""
        return None if self.spectrum is None else power_law_spectrum(shape, *self.spectrum)

    def bytes_per_pixel(self) -> float:
        """Return about how many bytes a pixel of a sample needs; see :func:`pass_bytes`."""
        parameter = next(self.network.parameters())
        width, layers = self.network.channels[0], self.network.layers_per_block
        return pass_bytes(parameter, width, layers) / self.network.stem**2

    def train(self, mode: bool = True) -> NetworkPrior:
        """Stay in evaluation mode whatever is asked: a prior is never trained in place."""
        super().train(False)
        return self

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return E[x0 | x_sigma], shape of ``x``.

        Parameters
        ----------
        x : Tensor, shape (B, C, H, W)
            Noisy images in prior units, H and W at least 8.
        sigma : float or Tensor of shape (B,)
            Their noise level.

        Raises
        ------
        PriorError
            For anything but 2D images of at least 8 x 8 pixels.
        """
        if x.ndim != 4 or min(x.shape[-2:]) < SMALLEST_SIDE:
            raise PriorError(
                f"The network prior got an array of shape {tuple(x.shape)}; it denoises 2D images "
                f"(B, C, H, W) with sides of at least {SMALLEST_SIDE} pixels: "
                "enlarge the image or take the 'gaussian' prior."
            )
        batch, channels, height, width = x.shape
        if isinstance(sigma, Tensor):
            level = sigma.to(x).expand(batch)
        else:  # filled where it is used, not copied there
            level = torch.full((batch,), sigma, dtype=x.dtype, device=x.device)
        level = level.clamp(self.sigma_min, self.sigma_max).repeat_interleave(channels)
        multiple = self.network.multiple
        top, bottom = _margins(height, multiple)
        left, right = _margins(width, multiple)
        flat = x.reshape(batch * channels, 1, height, width)
        if top + bottom + left + right:
            # Half on each side keeps every margin shorter than the image, as reflection needs.
            flat = functional.pad(flat, (left, right, top, bottom), mode="reflect")
        out: Tensor = self.network(flat, level)
        out = out[..., top : top + height, left : left + width]
        return out.reshape(x.shape)


def _margins(side: int, multiple: int) -> tuple[int, int]:
    missing = -side % multiple
    # A side shorter than half the multiple cannot be reflected far enough on one side only.
    return missing // 2, missing - missing // 2
