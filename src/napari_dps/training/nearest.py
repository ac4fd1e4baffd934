"""Did the prior learn its images by heart? The nearest training patch of each sample.

Nearness is the correlation of two patches, each about its own mean, over all positions, the
eight orientations and both scales that training uses. Its value alone says little: simple
structures always find a good match. So held-out patches, which cannot have been learnt, are
measured in the same way; a prior that draws its training images gives samples that are nearer
to them than those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from .images import Array, Source, hash_share

COARSE = 4
"""The search runs on averages of so many pixels squared, the best matches are then refined."""
KEPT = 4
FLOOR = 0.03
"""Standard deviation, prior units, below which structure counts as none: flat patches match
anything."""


@dataclass
class Match:
    """The nearest training patch of one patch.

    Attributes
    ----------
    correlation : float
        Between -1 and 1.
    name : str
        The training image.
    patch : ndarray, shape (size, size)
        Cut from it, oriented as the patch, prior units.
    """

    correlation: float
    name: str
    patch: Array


def nearest(patches: NDArray[np.float32], sources: Sequence[Source]) -> list[Match]:
    """Return the nearest training patch of each of ``patches`` (N, size, size), size from 16 on.

    Parameters
    ----------
    patches : ndarray
        Prior units.
    sources : sequence of Source
        The training images; those smaller than a patch are passed over.
    """
    size = patches.shape[-1]
    turned = np.stack([_turn(p, k) for p in patches for k in range(8)])
    small = _unit(torch.as_tensor(_average(turned, COARSE)))
    full = _unit(torch.as_tensor(turned))
    found: list[list[tuple[float, int, int, int, int, int]]] = [[] for _ in patches]
    for number, source in enumerate(sources):
        for factor in (1, 2):
            image = _scaled(source, factor)
            if min(image.shape) < size:
                continue
            map_ = _correlate(_average(image[None], COARSE)[0], small)
            best, where = map_.flatten(1).max(dim=1)
            width = map_.shape[-1]
            for index in range(len(patches)):
                eight = best[8 * index : 8 * index + 8]
                turn = int(eight.argmax())
                at = int(where[8 * index + turn])
                place = (COARSE * (at // width), COARSE * (at % width))
                found[index].append((float(eight[turn]), number, factor, turn, *place))
    return [
        _refine(patch, sorted(options, reverse=True)[:KEPT], sources, full[8 * k : 8 * k + 8])
        for k, (patch, options) in enumerate(zip(patches, found, strict=True))
    ]


def _refine(
    patch: Array,
    options: list[tuple[float, int, int, int, int, int]],
    sources: Sequence[Source],
    templates: torch.Tensor,
) -> Match:
    size = patch.shape[-1]
    result = Match(-1.0, "", np.zeros_like(patch))
    for _, number, factor, turn, top, left in options:
        image = _scaled(sources[number], factor)
        y0 = int(np.clip(top - COARSE, 0, image.shape[0] - size))
        x0 = int(np.clip(left - COARSE, 0, image.shape[1] - size))
        window = image[y0 : top + size + COARSE, x0 : left + size + COARSE]
        map_ = _correlate(window, templates[turn : turn + 1])[0]
        at = int(map_.argmax())
        value = float(map_.flatten()[at])
        if value > result.correlation:
            y, x = at // map_.shape[1], at % map_.shape[1]
            cut = window[y : y + size, x : x + size]
            result = Match(value, sources[number].name, _turn_back(cut, turn))
    return result


def _scaled(source: Source, factor: int) -> Array:
    height, width = source.pixels.shape
    pixels = source.pixels[: height // factor * factor, : width // factor * factor]
    unit = 2.0 / (source.high - source.low)
    image = (pixels.astype(np.float32) - source.low) * unit - 1.0
    return np.asarray(_average(image[None], factor)[0], np.float32)


def _average(images: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    count, height, width = images.shape
    rows, columns = height // factor, width // factor
    cut = images[:, : rows * factor, : columns * factor]
    blocks = cut.reshape(count, rows, factor, columns, factor)
    return np.ascontiguousarray(blocks.mean(axis=(2, 4)))


def _turn(patch: Array, k: int) -> Array:
    turned = np.rot90(patch, k % 4)
    return np.ascontiguousarray(turned[::-1] if k >= 4 else turned)


def _turn_back(patch: Array, k: int) -> Array:
    straight = patch[::-1] if k >= 4 else patch
    return np.ascontiguousarray(np.rot90(straight, -(k % 4)))


def _unit(patches: torch.Tensor) -> torch.Tensor:
    """Return patches about their mean, divided by their (floored) norm."""
    flat = patches - patches.mean(dim=(-2, -1), keepdim=True)
    count = patches.shape[-1] * patches.shape[-2]
    power = flat.square().sum(dim=(-2, -1), keepdim=True) + count * FLOOR**2
    return flat / power.sqrt()


def _correlate(image: Array, templates: torch.Tensor) -> torch.Tensor:
    """Return normalised correlations of an image with unit templates, (N, rows, columns)."""
    x = torch.as_tensor(np.ascontiguousarray(image))[None, None]
    x = x - x.mean()  # local sums of squares lose digits to a large mean
    size = templates.shape[-1]
    count = size * size
    total = functional.avg_pool2d(x, size, stride=1) * count
    squares = functional.avg_pool2d(x.square(), size, stride=1) * count
    power = (squares - total**2 / count).clamp(min=0) + count * FLOOR**2
    product = functional.conv2d(x, templates[:, None])
    return (product / power.sqrt())[0]


def unseen_patches(sources: Sequence[Source], count: int, size: int) -> NDArray[np.float32]:
    """Return patches of held-out images that hold structure, chosen by the images' names."""
    drawn: list[Array] = []
    able = [s for s in sources if min(s.pixels.shape) >= size]
    for attempt in range(8 * count):
        if not able or len(drawn) == count:
            break
        source = able[attempt % len(able)]
        rng = np.random.default_rng((round(hash_share(source.name) * 2**32), attempt))
        height, width = source.pixels.shape
        top, left = (int(rng.integers(n - size + 1)) for n in (height, width))
        patch = source.patch(top, left, size)
        if patch.std() > 0.04 or attempt >= 6 * count:
            drawn.append(patch)
    return np.stack(drawn) if drawn else np.zeros((0, size, size), np.float32)


def memorisation(
    samples: NDArray[np.float32],
    train: Sequence[Source],
    held_out: Sequence[Source],
    limit: int = 600,
) -> tuple[dict[str, Any], list[Match]]:
    """Measure how near samples are to training patches, and held-out patches for comparison.

    Parameters
    ----------
    samples : ndarray, shape (N, size, size)
        Prior units.
    train, held_out : sequence of Source
        Images the prior learned from, and those it never saw.
    limit : int
        Training images searched at most, chosen by their names.

    Returns
    -------
    numbers : dict
        ``searched`` (training images), ``samples`` and ``held_out`` (sorted correlations), and
        ``nearer``: samples nearer to a training patch than nine tenths of the held-out ones.
    matches : list of Match
        Of the samples.
    """
    searched = sorted(train, key=lambda s: (hash_share(s.name), s.name))[:limit]
    unseen = unseen_patches(held_out, len(samples), samples.shape[-1])
    matches = nearest(np.concatenate([samples, unseen]).astype(np.float32), searched)
    own, others = matches[: len(samples)], matches[len(samples) :]
    values = [m.correlation for m in own]
    rest = [m.correlation for m in others]
    return {
        "searched": len(searched),
        "samples": [round(v, 3) for v in sorted(values)],
        "held_out": [round(v, 3) for v in sorted(rest)],
        # Not the largest: a held-out patch may overlap a training image, where crops were cut
        # from one field.
        "nearer": int(np.sum(np.array(values) > np.quantile(rest, 0.9))) if rest else None,
    }, own
