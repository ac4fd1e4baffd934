"""From a prior on disk to a torch module, whatever its format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor

from ..core.prior import Prior
from ..core.tiling import TiledPrior
from ..errors import PriorError
from ._card import Card
from ._denoiser import Denoiser, EDMDenoiser, ImagePrior, VPDenoiser
from ._diffusers import EDMConfig, UNetConfig, configurations, find_layout
from ._folder import load_prior
from ._formats import Found, diffusers_card, guided_card
from ._guided import Guided
from ._schedule import guided_abar, vp_abar
from ._weights import difference, read_weights

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names in folders that diffusers wrote before 2023."""


def load(
    found: Found,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    colour: bool = True,
    tile: int | None = None,
) -> Prior:
    """Load a prior.

    Parameters
    ----------
    found : Found
        See :func:`napari_dps.priors._formats.find`.
    device : torch.device or str
        Where the network goes.
    dtype : torch.dtype or None
        Its precision; None means float32.
    colour : bool
        Whether images of three channels are colours to a network of three.
    tile : int or None
        Side in pixels above which the network works on tiles of that side; 0: never; None: the
        side of its training images, if it has attention and states one.

    Raises
    ------
    PriorError
        If configuration and weights are wrong or do not fit each other.
    """
    card: Card | None = None
    prior: Prior
    if found.format == "napari-dps":
        prior, side = load_prior(found.path, device, dtype), None
    else:
        if found.format == "diffusers":
            denoiser, config, card = _diffusers(found.path)
        else:
            denoiser, config, card = _guided(found.path)
        side = config.side if config.attention else None
        spectrum = None
        if card.spectrum is not None:
            stated = card.spectrum
            spectrum = (stated.std, stated.correlation_length, stated.exponent)
        prior = ImagePrior(
            denoiser.to(device=device, dtype=dtype or torch.float32),
            card.data_std,
            card.pixel_size,
            spectrum,
            colour=colour,
        )
    side = side if tile is None else tile
    if side:
        prior = TiledPrior(prior, side, side // 4, full=True)
        prior.trained_side = side
    return prior


def _diffusers(folder: Path) -> tuple[Denoiser, UNetConfig, Card]:
    layout = find_layout(folder)
    config, schedule = configurations(layout.unet, layout.scheduler)
    state = {_renamed(name): value for name, value in read_weights(layout.weights).items()}
    unet = fill(config, state, layout.weights)
    denoiser: Denoiser
    if isinstance(schedule, EDMConfig):
        denoiser = EDMDenoiser(
            unet,
            schedule.sigma_data,
            schedule.sigma_min,
            schedule.sigma_max,
            schedule.prediction_type,
        )
        if denoiser.learned:
            raise PriorError(
                f"{str(layout.unet)!r}: {config.out_channels} outputs for {config.in_channels} "
                "channels do not go with an EDM scheduler."
            )
    else:
        abar = torch.from_numpy(vp_abar(schedule))
        # Only learned_range is a fraction between two variances; others are not passed on.
        ranged = schedule.variance_type in (None, "learned_range")
        denoiser = VPDenoiser(unet, abar, schedule.prediction_type, ranged=ranged)
    return denoiser, config, diffusers_card(layout)


def _guided(path: Path) -> tuple[Denoiser, UNetConfig, Card]:
    state, card = read_weights(path), guided_card(path)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    guided = Guided(shapes, path, card)
    unet = fill(guided.config, guided.convert(state), path)
    return VPDenoiser(unet, torch.from_numpy(guided_abar(card))), guided.config, card


def _renamed(name: str) -> str:
    """Return today's name of a tensor."""
    parts = name.split(".")
    if "attentions" in parts and len(parts) > 2:
        parts[-2] = OLD_ATTENTION.get(parts[-2], parts[-2])
    return ".".join(parts)


def fill(config: UNetConfig, state: dict[str, Tensor], path: Path) -> Any:
    """Return the U-Net with its weights, float32.

    It is built without memory first, so that a configuration cannot ask for more than the file of
    weights holds.

    Raises
    ------
    PriorError
        If the weights do not fit, or are not finite.
    """
    arguments = config.model_dump()
    try:
        with torch.device("meta"):
            unet: Any = UNet2DModel(**arguments)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PriorError(
            f"The U-Net of {str(path)!r} cannot be built ({reason}); correct its configuration."
        ) from None
    expected = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    differing = difference(expected, {name: tuple(value.shape) for name, value in state.items()})
    if differing:
        raise PriorError(
            f"The weights {str(path)!r} do not fit the U-Net: {differing}; copy configuration and "
            "weights of the same model."
        )
    whole = {name: value.to(torch.float32) for name, value in state.items()}
    if not all(bool(torch.isfinite(value).all()) for value in whole.values()):
        raise PriorError(f"The weights {str(path)!r} are not all finite; the prior is of no use.")
    unet.load_state_dict(whole, assign=True)
    return unet
