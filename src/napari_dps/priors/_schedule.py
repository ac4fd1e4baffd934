"""Noise schedules of discrete-time models, in float64 without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import PriorError
from ._card import GuidedCard
from ._diffusers import VPConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray


def linear_betas(start: float, end: float, steps: int) -> NDArray[np.float64]:
    """Return betas that rise evenly."""
    return np.linspace(start, end, steps, dtype=np.float64)


def cosine_betas(steps: int) -> NDArray[np.float64]:
    """Return betas at most 0.999; Nichol and Dhariwal, ICML 2021, equation 17."""
    at = np.arange(steps + 1) / steps
    abar = np.cos((at + 0.008) / 1.008 * np.pi / 2) ** 2
    betas: NDArray[np.float64] = np.minimum(1 - abar[1:] / abar[:-1], 0.999)
    return betas


def guided_abar(card: GuidedCard) -> NDArray[np.float64]:
    """Return abar of a guided-diffusion model.

    Linear betas are scaled so that other numbers of steps than 1000 end at the same level.
    """
    steps = card.diffusion_steps
    if card.noise_schedule == "cosine":
        betas = cosine_betas(steps)
    else:
        betas = np.minimum(linear_betas(1e-4, 0.02, steps) * (1000 / steps), 0.999)
    abar: NDArray[np.float64] = np.cumprod(1 - betas, dtype=np.float64)
    return abar


def vp_abar(config: VPConfig) -> NDArray[np.float64]:
    """Return abar of a diffusers scheduler."""
    start, end, steps = config.beta_start, config.beta_end, config.num_train_timesteps
    if config.trained_betas is not None:
        betas = np.asarray(config.trained_betas, dtype=np.float64)
    elif config.beta_schedule == "linear":
        betas = linear_betas(start, end, steps)
    elif config.beta_schedule == "scaled_linear":
        betas = linear_betas(start**0.5, end**0.5, steps) ** 2
    else:
        betas = cosine_betas(steps)
    abar: NDArray[np.float64] = np.cumprod(1 - betas, dtype=np.float64)
    if config.rescale_betas_zero_snr:
        # Lin et al. 2023 (arXiv 2305.08891), algorithm 1: the signal falls to zero.
        root = np.sqrt(abar)
        abar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return abar


def usable(abar: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return abar without the steps that keep no signal: noise without end is no level at all.

    Raises
    ------
    PriorError
        If what is left does not fall from step to step.
    """
    abar = abar[abar > 1e-10]
    if len(abar) < 2 or not (abar < 1).all() or not (np.diff(abar) < 0).all():
        raise PriorError(
            "The noise schedule of the prior does not rise from step to step; correct its betas."
        )
    return abar


def sigma_range(abar: NDArray[np.float64]) -> tuple[float, float]:
    """Return the lowest and the highest finite noise level.

    Raises
    ------
    PriorError
        If the levels do not rise.
    """
    ends = usable(abar)[[0, -1]]
    low, high = np.sqrt((1 - ends) / ends)
    return float(low), float(high)
