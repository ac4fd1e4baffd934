"""Training patches: real images and synthetic ones, in prior units, with their own noise.

A real image is never free of noise, and a denoiser trained on it at lower noise would learn to
draw that noise. So each patch carries an estimate of its own noise, and the trainer uses it at
noise levels above that only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from .images import Array, Source
from .phantoms import phantom
from .textures import dead_leaves, power_law_image


@dataclass(frozen=True)
class Mixture:
    """Shares of the kinds of patch; they are normalised to sum to one.

    Attributes
    ----------
    real : float
        Real images.
    phantoms, textures : float
        Procedural fluorescence; dead leaves and power-law noise.
    """

    real: float = 9.0
    phantoms: float = 5.0
    textures: float = 2.0


def _orient(rng: np.random.Generator, patch: Array) -> Array:
    patch = np.rot90(patch, int(rng.integers(4)))
    return patch[::-1] if rng.random() < 0.5 else patch


def _regrade(rng: np.random.Generator, patch: Array) -> tuple[Array, float]:
    """Draw a gain and an offset: the object map of a restoration is never exact."""
    if rng.random() < 0.2:
        gain = rng.uniform(0.1, 0.7)
    else:
        gain = float(np.exp(np.clip(rng.normal(0.0, 0.15), -0.5, 0.4)))
    offset = rng.normal(0.0, 0.06) + (rng.uniform(0.0, 0.5) if rng.random() < 0.2 else 0.0)
    return (patch + 1.0) * gain - 1.0 + offset, gain


class Patches(IterableDataset[tuple[Array, Array]]):
    """Endless batches of patches: ``(x, noise)`` with shapes (B, 1, size, size) and (B,).

    Parameters
    ----------
    sources : list of Source
        Real images; may be empty, then all patches are synthetic. A group is drawn as often as
        its weight times the square root of its number of images says.
    batch, size : int
        Patches a batch and their side. A share ``large`` of the batches holds a quarter as many
        patches of twice the side, for context.
    mixture : Mixture
        Shares of the kinds of image.
    seed : int
        First seed; give another one after resuming, or the same patches return.
    pool : int
        Synthetic images of each kind that are kept and reused with fresh crops, over all the
        processes that draw.
    fresh : float
        Share of the batches after which one image of each pool is drawn anew.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        batch: int = 16,
        size: int = 64,
        mixture: Mixture | None = None,
        seed: int = 0,
        large: float = 0.2,
        pool: int = 1500,
        fresh: float = 0.25,
    ) -> None:
        super().__init__()
        self.sources = list(sources)
        self.batch, self.size, self.large = batch, size, large
        self.mixture = Mixture() if mixture is None else mixture
        self.seed, self.pool, self.fresh = seed, pool, fresh
        groups: dict[str, list[Source]] = {}
        for source in self.sources:
            groups.setdefault(source.group, []).append(source)
        self._groups = list(groups.values())
        # Groups are of very different size; the square root keeps small ones in sight.
        odds = np.array([group[0].weight * len(group) ** 0.5 for group in self._groups])
        self._odds = odds / odds.sum() if len(odds) else odds

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        worker = get_worker_info()
        # Every process has a stream and a part of the pool of its own.
        number, processes = (0, 1) if worker is None else (worker.id, worker.num_workers)
        rng = np.random.default_rng((self.seed, number) if number else self.seed)
        limit = max(self.pool // processes, 1)
        pools: dict[str, list[Array]] = {"phantoms": [], "textures": []}
        while True:
            large = rng.random() < self.large
            size = 2 * self.size if large else self.size
            count = max(self.batch // 4, 1) if large else self.batch
            drawn = [self._draw(rng, size, pools, limit) for _ in range(count)]
            for kind, held in pools.items():
                # The pool fills over the first batches and then turns over slowly.
                if len(held) >= limit and rng.random() < self.fresh:
                    held[int(rng.integers(len(held)))] = self._synthetic(rng, kind)
            x = np.stack([patch for patch, _ in drawn])[:, None].astype(np.float32)
            yield x, np.array([noise for _, noise in drawn], np.float32)

    def _draw(
        self, rng: np.random.Generator, size: int, pools: dict[str, list[Array]], limit: int
    ) -> tuple[Array, float]:
        shares = self.mixture
        odds = np.array([shares.real * bool(self.sources), shares.phantoms, shares.textures])
        kind = ("real", "phantoms", "textures")[rng.choice(3, p=odds / odds.sum())]
        noise = 0.0
        if kind in pools:
            held = pools[kind]
            if len(held) < limit:
                held.append(self._synthetic(rng, kind))
                whole = held[-1]
            else:
                whole = held[int(rng.integers(len(held)))]
            top, left = rng.integers(0, whole.shape[0] - size + 1, 2)
            patch = whole[top : top + size, left : left + size]
        else:
            patch, noise = self._real(rng, size)
        patch, gain = _regrade(rng, _orient(rng, patch))
        return patch, noise * gain

    def _real(self, rng: np.random.Generator, size: int) -> tuple[Array, float]:
        patch, noise = np.zeros((size, size), np.float32), 0.0
        for _ in range(4):
            group = self._groups[int(rng.choice(len(self._groups), p=self._odds))]
            source = group[int(rng.integers(len(group)))]
            patch, noise = self._crop(rng, source, size)
            # Mostly empty fields teach little; one in six is enough to know them.
            if patch.std() > 0.04 or rng.random() < 0.15:
                break
        return patch, noise

    def _crop(self, rng: np.random.Generator, source: Source, size: int) -> tuple[Array, float]:
        height, width = source.pixels.shape
        # Averaging 2x2 pixels halves the noise of noisy images and sharpens blurred ones.
        wanted = 0.5 if source.noise > 0.02 else 0.25
        factor = 2 if min(height, width) >= 2 * size and rng.random() < wanted else 1
        side = size * factor
        if min(height, width) < side:
            pad = [(0, max(side - height, 0)), (0, max(side - width, 0))]
            grown = np.pad(source.pixels, pad, mode="symmetric")
            source = replace(source, pixels=grown)
            height, width = grown.shape
        top = int(rng.integers(height - side + 1))
        left = int(rng.integers(width - side + 1))
        patch = source.patch(top, left, side)
        if factor == 2:
            patch = patch.reshape(size, 2, size, 2).mean(axis=(1, 3))
        return patch, source.noise / factor

    def _synthetic(self, rng: np.random.Generator, kind: str) -> Array:
        side = 2 * self.size
        if kind == "phantoms":
            image = phantom(rng, side)
        else:
            image = (dead_leaves if rng.random() < 0.6 else power_law_image)(rng, side)
        return np.asarray(2.0 * image - 1.0, np.float32)


def statistics(patches: Patches, batches: int = 60) -> dict[str, object]:
    """Measure mean, standard deviation and power spectrum of the training patches.

    Returns
    -------
    dict
        ``mean_data``, ``sigma_data`` (over all pixels of all patches), ``data_std`` (of a patch
        about its own mean, root mean square) and ``spectrum``: ``std``, ``correlation_length`` in
        pixels and ``exponent`` of the fit std^2 (1 + (2 pi L k)^2)^-p.
    """
    flow = iter(patches)
    stack: list[Array] = []
    for _ in range(batches):
        x, _noise = next(flow)
        if x.shape[-1] == patches.size:
            stack.append(x[:, 0])
    values = np.concatenate(stack).astype(np.float64)
    spread = float(np.sqrt(values.var(axis=(1, 2)).mean()))
    return {
        "mean_data": float(values.mean()),
        "sigma_data": float(values.std()),
        "data_std": spread,
        "spectrum": fit_spectrum(values),
    }


def fit_spectrum(values: NDArray[np.float64]) -> dict[str, float]:
    """Fit (1 + (2 pi L |k|)^2)^-p to the mean power spectrum of patches (N, size, size).

    Least squares on the logarithm of the radially averaged spectrum of the patches about their
    common mean, under a Hann window; the fit is normalised to the patches' variance.

    Returns
    -------
    dict
        ``std`` in prior units, ``correlation_length`` in pixels, ``exponent``.
    """
    from scipy.optimize import least_squares

    size = values.shape[-1]
    window = np.outer(np.hanning(size), np.hanning(size))
    # Each patch about its own mean: the common mean's leak would swamp the lowest modes.
    centred = values - values.mean(axis=(1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(centred * window)) ** 2).mean(axis=0)
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :])
    ring = np.rint(k * size).astype(int)
    # The window blurs the lowest modes and real images end in noise at the highest.
    rings = np.arange(2, size // 2 - 1)
    mean = np.array([power[ring == r].mean() for r in rings])
    radius = np.array([k[ring == r].mean() for r in rings])

    def shape(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        length, exponent = np.exp(parameters[:2])
        curve = parameters[2] - exponent * np.log1p((2 * np.pi * length * radius) ** 2)
        return np.asarray(curve - np.log(mean))

    start = np.array([np.log(3.0), np.log(1.5), np.log(mean[0])])
    bounds = (np.log([0.3, 0.55, 1e-300]), np.log([size / 2.0, 5.0, 1e300]))
    fit = least_squares(shape, start, bounds=bounds)
    length, exponent = np.exp(fit.x[:2])
    return {
        "std": float(values.std()),
        "correlation_length": float(length),
        "exponent": float(exponent),
    }
