"""Training patches: real images and synthetic ones, in prior units, with their own noise.

A real image is never free of noise, and a denoiser trained on it at lower noise would learn to
draw that noise. So each patch carries an estimate of its own noise, and the trainer uses it at
noise levels above that only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from ..errors import InputError
from .phantoms import phantom
from .textures import dead_leaves, power_law_image

Array = NDArray[np.float32]
SUFFIXES = (".png", ".tif", ".tiff", ".npy")


@dataclass(frozen=True)
class Source:
    """One grey training image as stored, and how to bring it to [-1, 1].

    Attributes
    ----------
    pixels : ndarray, shape (H, W)
        Grey levels as stored.
    low, high : float
        Grey levels that become -1 and 1.
    noise : float
        Estimated standard deviation of the image's own noise, in prior units.
    group : str
        Name of the folder the image came from; groups are drawn equally often.
    """

    pixels: NDArray[np.generic]
    low: float
    high: float
    noise: float
    group: str

    def patch(self, top: int, left: int, size: int) -> Array:
        """Return a (size, size) patch in prior units."""
        cut = self.pixels[top : top + size, left : left + size].astype(np.float32)
        return np.asarray((cut - self.low) * (2.0 / (self.high - self.low)) - 1.0, np.float32)


@dataclass(frozen=True)
class Mixture:
    """Shares of the sources in a batch; they are normalised to sum to one.

    Attributes
    ----------
    largest : float
        Real images of the largest group (nuclei, in the shipped prior's data).
    others : float
        Real images of all other groups.
    phantoms, textures : float
        Procedural fluorescence; dead leaves and power-law noise.
    """

    largest: float = 4.0
    others: float = 5.0
    phantoms: float = 5.0
    textures: float = 2.0


def normalise(pixels: NDArray[np.generic], group: str = "") -> Source | None:
    """Wrap a grey image as a :class:`Source`; a constant one gives None.

    The 0.5 and 99.8 percentiles become -1 and 1; sparse images whose peaks lie far above the
    99.8 percentile are scaled down so that nothing exceeds 3.
    """
    from skimage.restoration import estimate_sigma

    values = pixels.astype(np.float64)
    low, high = np.percentile(values, (0.5, 99.8))
    high = max(high, low + (values.max() - low) / 2.0)
    if not np.isfinite(high - low) or high <= low:
        return None
    unit = 2.0 / (high - low)
    noise = float(estimate_sigma(values)) * unit  # type: ignore[no-untyped-call]
    # Grey levels are steps: an 8-bit image stretched from few levels is noisy by rounding.
    levels = np.unique(pixels[:: max(len(pixels) // 256, 1)])
    step = float(np.median(np.diff(levels))) * unit if levels.size > 1 else 0.0
    return Source(pixels, float(low), float(high), float(np.hypot(noise, step / 12**0.5)), group)


def _read(path: Path) -> NDArray[np.generic]:
    if path.suffix.lower() == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        return np.asarray(tifffile.imread(path))
    from skimage.io import imread

    return np.asarray(imread(path))


def load_images(images: Sequence[str | Path], smallest: int = 64) -> list[Source]:
    """Read grey images from files and folders (searched through).

    Parameters
    ----------
    images : sequence of path
        PNG, TIFF or npy files, or folders of them; a folder's name is its images' group.
        Stacks are taken apart into planes.
    smallest : int
        Images with a side below this many pixels are left out.

    Returns
    -------
    list of Source
        At least one.

    Raises
    ------
    InputError
        If a path does not exist or no usable image is found.
    """
    files: list[Path] = []
    for name in images:
        path = Path(name)
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"Training image {str(path)!r} does not exist: give files or folders.")
    sources = []
    for path in files:
        pixels = _read(path)
        if pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
            pixels = pixels[..., :3].mean(axis=-1)
        for plane in pixels.reshape(-1, *pixels.shape[-2:]) if pixels.ndim >= 2 else ():
            source = normalise(plane, path.parent.name) if min(plane.shape) >= smallest else None
            if source is not None:
                sources.append(source)
    if not sources:
        raise InputError(
            f"No usable training image in {', '.join(map(str, images))}: grey PNG, TIFF or npy of "
            f"at least {smallest} x {smallest} pixels, not constant, are needed."
        )
    return sources


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
        Real images; may be empty, then all patches are synthetic.
    batch, size : int
        Patches a batch and their side. A share ``large`` of the batches holds a quarter as many
        patches of twice the side, for context.
    mixture : Mixture
        Shares of the kinds of image.
    seed : int
        First seed; give another one after resuming, or the same patches return.
    pool : int
        Synthetic images of each kind that are kept and reused with fresh crops.
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
        ranked = sorted(groups.values(), key=len, reverse=True)
        self._largest = ranked[0] if ranked else []
        self._others = ranked[1:]

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        rng = np.random.default_rng(self.seed)
        pools: dict[str, list[Array]] = {"phantoms": [], "textures": []}
        while True:
            large = rng.random() < self.large
            size = 2 * self.size if large else self.size
            count = max(self.batch // 4, 1) if large else self.batch
            drawn = [self._draw(rng, size, pools) for _ in range(count)]
            for kind, held in pools.items():
                # The pool fills over the first batches and then turns over slowly.
                if len(held) >= self.pool and rng.random() < self.fresh:
                    held[int(rng.integers(len(held)))] = self._synthetic(rng, kind)
            x = np.stack([patch for patch, _ in drawn])[:, None].astype(np.float32)
            yield x, np.array([noise for _, noise in drawn], np.float32)

    def _draw(
        self, rng: np.random.Generator, size: int, pools: dict[str, list[Array]]
    ) -> tuple[Array, float]:
        shares = self.mixture
        odds = np.array([shares.largest, shares.others, shares.phantoms, shares.textures])
        odds[0] *= bool(self._largest)
        odds[1] *= bool(self._others)
        kind = ("largest", "others", "phantoms", "textures")[rng.choice(4, p=odds / odds.sum())]
        noise = 0.0
        if kind in pools:
            held = pools[kind]
            if len(held) < self.pool:
                held.append(self._synthetic(rng, kind))
                whole = held[-1]
            else:
                whole = held[int(rng.integers(len(held)))]
            top, left = rng.integers(0, whole.shape[0] - size + 1, 2)
            patch = whole[top : top + size, left : left + size]
        else:
            patch, noise = self._real(rng, size, kind)
        patch, gain = _regrade(rng, _orient(rng, patch))
        return patch, noise * gain

    def _real(self, rng: np.random.Generator, size: int, kind: str) -> tuple[Array, float]:
        patch, noise = np.zeros((size, size), np.float32), 0.0
        for _ in range(4):
            if kind == "largest":
                group = self._largest
            else:
                # Groups are of very different size; the square root keeps small ones in sight.
                odds = np.array([len(g) for g in self._others]) ** 0.5
                group = self._others[rng.choice(len(odds), p=odds / odds.sum())]
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
            source = Source(grown, source.low, source.high, source.noise, source.group)
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
