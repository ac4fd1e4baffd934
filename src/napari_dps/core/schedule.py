"""Ladders: the noise levels that a sampler visits, largest first, ending in 0."""

from __future__ import annotations

import math

from napari_dps.errors import RecipeError


def ddpm_timesteps(steps: int, total: int = 1000) -> list[int]:
    """Return ``steps`` of ``total`` training timesteps, evenly strided from 0 to total - 1.

    Parameters
    ----------
    steps : int
        How many, 1 to ``total``.
    """
    if steps == 1:
        return [total - 1]
    stride = (total - 1) / (steps - 1)
    return [round(i * stride) for i in range(steps)]


def ddpm_ladder(steps: int, total: int = 1000) -> list[float]:
    """Return the sigmas of the DDPM's 1000 linear betas 1e-4..0.02, respaced; then 0.

    Notes
    -----
    ``sigma^2 = (1 - abar)/abar``; the ladder starts at sigma = 157. Ho et al., "Denoising
    Diffusion Probabilistic Models", NeurIPS 2020.
    """
    abar, product = [], 1.0
    for i in range(total):
        product *= 1.0 - (1e-4 + (0.02 - 1e-4) * i / (total - 1))
        abar.append(product)
    chosen = sorted(set(ddpm_timesteps(steps, total)), reverse=True)
    return [math.sqrt((1 - abar[t]) / abar[t]) for t in chosen] + [0.0]


def karras_ladder(
    steps: int, sigma_max: float = 80.0, sigma_min: float = 0.01, rho: float = 7.0
) -> list[float]:
    """Return ``steps`` sigmas evenly spaced in sigma^(1/rho), then 0.

    Raises
    ------
    RecipeError
        If the ladder would not fall.

    Notes
    -----
    Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models",
    NeurIPS 2022, equation 5.
    """
    if steps == 1:
        return [sigma_max, 0.0]
    if not 0 < sigma_min < sigma_max:
        raise RecipeError(
            f"the smallest noise level, {sigma_min:g}, is not below the one to begin at, "
            f"{sigma_max:g} (the sampler's sigma_max, or less where a classical estimate is a good "
            "start): lower its sigma_min, or raise sigma_max if it is as small"
        )
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(top + i / (steps - 1) * (bottom - top)) ** rho for i in range(steps)] + [0.0]


def informed_sigma(
    error: float | None, sigma_max: float = 80.0, *, factor: float = 10.0, floor: float = 1.0
) -> float:
    """Return where the ladder starts given the error of an estimate (prior units).

    At ``factor`` times the error, what the estimate has wrong is below the noise, and the
    first steps remove it; see the closed-form test of the informed start. Half as high, images at
    five photons a pixel kept some of the estimate's blur: 0.1 to 0.4 dB.
    """
    if error is None:
        return sigma_max
    return min(sigma_max, max(floor, factor * error))
