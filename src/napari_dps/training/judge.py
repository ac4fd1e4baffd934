"""What a prior is worth: denoising of held-out images, draws, and whether it learnt by heart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.prior import Prior
from ..core.sampler import SecondOrderMove
from ..core.schedule import karras_ladder
from ..core.streams import Streams
from .images import Source, hash_share

LEVELS = (0.05, 0.1, 0.25, 0.5)
Array = NDArray[np.float64]


def crops(sources: Sequence[Source], count: int, side: int = 128) -> list[Array]:
    """Return the central crops of some images, evenly from all groups, in prior units.

    Parameters
    ----------
    sources : sequence of Source
        To choose from; the choice follows from their names.
    count : int
        How many at most.
    side : int
        Of the crops in pixels; smaller images give what they have, a multiple of 8.
    """
    groups: dict[str, list[Source]] = {}
    for source in sorted(sources, key=lambda s: (hash_share(s.name), s.name)):
        groups.setdefault(source.group, []).append(source)
    ranked = [(rank, s) for group in groups.values() for rank, s in enumerate(group)]
    ranked.sort(key=lambda pair: pair[0])
    chosen = []
    for _, source in ranked[:count]:
        height, width = source.pixels.shape
        size = min(side, height, width) // 8 * 8
        cut = source.patch((height - size) // 2, (width - size) // 2, size)
        chosen.append(cut.astype(np.float64))
    return chosen


def add_noise(truth: Array, level: float, index: int) -> Array:
    """Add white Gaussian noise, the same for the same image, level and index."""
    rng = np.random.default_rng((index, round(level * 1e6)))
    return truth + level * rng.standard_normal(truth.shape)


def psnr(estimate: Array, truth: Array) -> float:
    """Return the peak signal-to-noise ratio in dB for a range of 2, the width of [-1, 1]."""
    return float(10 * np.log10(4.0 / max(float(np.mean((estimate - truth) ** 2)), 1e-12)))


def denoise(prior: Prior, noisy: Array, level: float) -> Array:
    """Return one denoiser call's estimate."""
    device = next(prior.parameters()).device
    with torch.no_grad():
        x = torch.as_tensor(noisy, dtype=torch.float32, device=device)
        out = prior(x[None, None], level)
    return np.asarray(out[0, 0].double().cpu().numpy())


def scores(
    prior: Prior, truths: Sequence[Array], levels: Sequence[float] = LEVELS
) -> dict[str, float]:
    """Return the mean PSNR (dB) of one denoiser call by noise level (prior units)."""
    return {
        f"{level:g}": round(
            float(
                np.mean(
                    [
                        psnr(denoise(prior, add_noise(truth, level, k), level), truth)
                        for k, truth in enumerate(truths)
                    ]
                )
            ),
            3,
        )
        for level in levels
    }


def classical_denoiser() -> tuple[str, Callable[[Array, float], Array]]:
    """Return BM3D where it is installed (extra ``bench``), else non-local means, by name."""
    if find_spec("bm3d") is not None:
        module = import_module("bm3d")

        def bm3d(noisy: Array, level: float) -> Array:
            # BM3D's own constants assume a range of [0, 1].
            return np.asarray(module.bm3d((noisy + 1) / 2, sigma_psd=level / 2)) * 2 - 1

        return "BM3D", bm3d
    from skimage.restoration import denoise_nl_means

    def nl_means(noisy: Array, level: float) -> Array:
        out = denoise_nl_means(
            noisy, patch_size=5, patch_distance=6, h=0.6 * level, sigma=level, fast_mode=True
        )
        return np.asarray(out)

    return "non-local means", nl_means


def table(
    prior: Prior, held_out: Sequence[Source], count: int, start: Prior | None = None
) -> dict[str, Any]:
    """Compare one call with a classical denoiser, and with the prior the training began from.

    Returns
    -------
    dict
        ``images``, ``classical`` (its name), ``own_noise`` (median of the images' own) and
        ``psnr``: by noise level, by method, mean dB.
    """
    truths = crops(held_out, count)
    name, method = classical_denoiser()
    columns = {"input": {}, "this prior": scores(prior, truths)}
    if start is not None:
        columns["before"] = scores(start, truths)
    classical: dict[str, float] = {}
    for level in LEVELS:
        pairs = [(add_noise(truth, level, k), truth) for k, truth in enumerate(truths)]
        key = f"{level:g}"
        columns["input"][key] = round(float(np.mean([psnr(y, x) for y, x in pairs])), 3)
        classical[key] = round(float(np.mean([psnr(method(y, level), x) for y, x in pairs])), 3)
    columns[name] = classical
    return {
        "images": len(truths),
        "classical": name,
        "own_noise": round(float(np.median([s.noise for s in held_out])), 4),
        "psnr": columns,
    }


def draw(
    prior: Prior, count: int, side: int = 64, steps: int = 50, seed: int = 0
) -> NDArray[np.float32]:
    """Return unconditional samples (count, side, side) in prior units, drawn as one batch."""
    device = next(prior.parameters()).device
    where = device if device.type == "cuda" else torch.device("cpu")
    streams = Streams(seed, [("sheet", k) for k in range(count)], where, torch.float32)
    sigmas = karras_ladder(steps, min(80.0, prior.sigma_max), 0.005)
    move = SecondOrderMove()

    def noise() -> torch.Tensor:
        return streams.normal((1, side, side)).to(device)

    with torch.no_grad():
        x = sigmas[0] * noise()
        for sigma, lower in pairwise(sigmas):
            x = move(x, prior(x, sigma), sigma, lower, noise)
    return np.asarray(x[:, 0].float().cpu().numpy())
