"""Training images: read, brought to [-1, 1], their own noise estimated, some held out.

A prior is judged on images it never saw, so a share of the files is kept apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..image import Image
from ..io import read_image
from .folders import find, names, weigh, weight_of
from .split import hash_share as hash_share
from .split import keep, split

Array = NDArray[np.float32]
SMALLEST = 64
NEEDED = (
    f"grey or RGB PNG, TIFF or npy images of at least {SMALLEST} x {SMALLEST} pixels, "
    "not constant, are needed"
)


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
        Folder the image came from, by as much of its path as tells it from the others.
    name : str
        Folder and file, and the plane of a stack.
    weight : float
        How much more often than usual its group is drawn.
    """

    pixels: NDArray[np.generic]
    low: float
    high: float
    noise: float
    group: str
    name: str = ""
    weight: float = 1.0

    def patch(self, top: int, left: int, size: int) -> Array:
        """Return a (size, size) patch in prior units."""
        cut = self.pixels[top : top + size, left : left + size].astype(np.float32)
        return np.asarray((cut - self.low) * (2.0 / (self.high - self.low)) - 1.0, np.float32)


def own_noise(pixels: NDArray[np.generic]) -> float:
    """Return the standard deviation of an image's own noise, in its own grey levels.

    From the finest wavelets, so that very fine structure counts as noise; and of rounding, since
    grey levels are steps: an 8-bit image stretched from few levels is noisy by them.
    """
    from skimage.restoration import estimate_sigma

    noise = float(estimate_sigma(pixels.astype(np.float64)))  # type: ignore[no-untyped-call]
    levels = np.unique(pixels[:: max(len(pixels) // 256, 1)])
    step = float(np.median(np.diff(levels))) if levels.size > 1 else 0.0
    return float(np.hypot(noise, step / 12**0.5))


def normalise(pixels: NDArray[np.generic], group: str = "", name: str = "") -> Source | None:
    """Wrap a grey image as a :class:`Source`; a constant one gives None.

    The 0.5 and 99.8 percentiles become -1 and 1; sparse images whose peaks lie far above the
    99.8 percentile are scaled down so that nothing exceeds 3.
    """
    values = pixels.astype(np.float64)
    low, high = np.percentile(values, (0.5, 99.8))
    high = max(high, low + (values.max() - low) / 2.0)
    if not np.isfinite(high - low) or high <= low:
        return None
    noise = own_noise(pixels) * 2.0 / float(high - low)
    return Source(pixels, float(low), float(high), noise, group, name)


@dataclass
class Collection:
    """What was read.

    Attributes
    ----------
    train, held_out : list of Source
        Images to learn from, and to judge by.
    left_out : Counter
        How many planes were not used, by reason.
    colour : Counter
        How many RGB images were averaged to grey, by group.
    pixel_sizes : set
        Pixel sizes (um) that the files state; None for a file that states none.
    none_held_out : str
        Why there is nothing to judge by, where there should be.
    """

    train: list[Source] = field(default_factory=list)
    held_out: list[Source] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    colour: Counter[str] = field(default_factory=Counter)
    pixel_sizes: set[float | None] = field(default_factory=set)
    none_held_out: str = ""

    @property
    def pixel_size(self) -> float | None:
        """Micrometres per pixel, where all images agree to 2 %."""
        sizes = [s for s in self.pixel_sizes if s is not None]
        if not sizes or None in self.pixel_sizes or max(sizes) > 1.02 * min(sizes):
            return None
        return float(np.median(sizes))

    def patches(self, size: int) -> float:
        """Return how many patches of ``size`` x ``size`` fit side by side."""
        return sum(s.pixels.size for s in self.train) / size**2

    def facts(self) -> dict[str, dict[str, float]]:
        """Return, by group, numbers of images and medians of how they were normalised."""
        learned = Counter(s.group for s in self.train)
        groups: dict[str, list[Source]] = {}
        for source in [*self.train, *self.held_out]:
            groups.setdefault(source.group, []).append(source)
        facts = {}
        for name, every in groups.items():
            group = every[: learned[name]] or every  # a group may have been held out whole
            facts[name] = {
                "images": learned[name],
                "held_out": len(every) - learned[name],
                "low": float(np.median([s.low for s in group])),
                "high": float(np.median([s.high for s in group])),
                "noise": round(float(np.median([s.noise for s in group])), 4),
                "weight": group[0].weight,
            }
        return facts

    def notes(self) -> Iterator[str]:
        """Yield one line a group: how many images, how normalised, how noisy."""
        for name, fact in self.facts().items():
            weight = f", weight {fact['weight']:g}" if fact["weight"] != 1 else ""
            colour = self.colour[name]
            rgb = f", {colour} of them RGB and averaged to grey" if colour else ""
            yield (
                f"{name}: {fact['images']} images to learn from and {fact['held_out']} held out"
                f"{rgb}; grey levels {fact['low']:g} to {fact['high']:g} (0.5 and 99.8 % of a "
                f"typical image) become -1 to 1, own noise {fact['noise']:.3f}: used above that "
                f"noise level{weight}"
            )
        for reason, count in self.left_out.items():
            yield f"{count} left out: {reason}"
        if self.none_held_out:
            yield self.none_held_out


def load_images(images: Sequence[str | Path | ArrayLike], smallest: int = SMALLEST) -> list[Source]:
    """Read grey images from files, folders (searched through) and arrays.

    Parameters
    ----------
    images : sequence of path or array
        PNG, TIFF or npy files, folders of them, arrays. Each folder's images are a group; stacks
        are taken apart into planes; RGB is averaged to grey.
    smallest : int
        Images with a side below this many pixels are left out.

    Returns
    -------
    list of Source
        At least one.

    Raises
    ------
    InputError
        If a path does not exist or cannot be read, pixels are not finite, or no usable image is
        found.
    """
    return collect(images, smallest=smallest, held_out=0.0).train


def collect(
    images: Sequence[str | Path | ArrayLike],
    *,
    smallest: int = SMALLEST,
    held_out: float = 0.1,
    weights: Mapping[str, float] | None = None,
    earlier: Mapping[str, Iterable[str]] | None = None,
) -> Collection:
    """Read images as :func:`load_images` does, weigh their groups and hold some out.

    Parameters
    ----------
    images : sequence of path or array
        As for :func:`load_images`.
    smallest : int
        Least side in pixels.
    held_out : float
        Share of each group's files that is held out, 0 to 0.5; see
        :func:`~napari_dps.training.split.split`.
    weights : mapping of str to float or None
        By path of a folder, or the end of one (anywhere between the one given and the image): how
        much more often than usual its images are drawn. The folder next to the image decides.
    earlier : mapping of str to iterable of str or None
        Names of images that a run to be resumed has ``"held_out"`` and ``"learned"``: they stay so.

    Raises
    ------
    InputError
        As :func:`load_images`; or if a weight is not positive, or names no folder or several.
    """
    places = find(images)
    heavy = weigh(weights or {}, places.folders)
    shown = names(places.folders)
    found = Collection(left_out=places.ignored)
    items: list[list[Source]] = []
    for item in places.items:
        group = shown[item.folder]
        name = f"{group}/{item.label}"
        if isinstance(item.content, Path):
            image = read_image(item.content)
        else:
            image = Image.from_array(item.content, name=item.label)
        planes = list(_planes(name, group, image, smallest, found))
        if planes:
            weight = weight_of(item.folder, heavy)
            items.append([replace(plane, weight=weight) for plane in planes])
            size = image.pixel_size_yx
            found.pixel_sizes.add(None if size is None else float(np.sqrt(size[0] * size[1])))
    if not items:
        reasons = "".join(f" ({n} {reason})" for reason, n in found.left_out.items())
        given = ", ".join(str(i) if isinstance(i, (str, Path)) else "an array" for i in images)
        raise InputError(f"No usable training image in {given}{reasons}: {NEEDED}.")
    parts = split(items, held_out)
    if earlier is not None:
        keep(parts, earlier)
    found.train, found.held_out, found.none_held_out = parts.train, parts.held_out, parts.reason
    return found


def _planes(
    name: str, group: str, image: Image, smallest: int, found: Collection
) -> Iterator[Source]:
    axes, data = image.axes, image.data
    if image.is_rgb:
        samples = np.moveaxis(data, axes.index("S"), 0)
        axes = axes.replace("S", "")
        if len(samples) >= 3:
            data = samples[:3].mean(axis=0, dtype=np.float32)
            found.colour[group] += 1
        else:  # grey, and how opaque it is
            data = samples[0]
    stack = np.moveaxis(data, [axes.index("Y"), axes.index("X")], [-2, -1])
    stack = stack.reshape(-1, *stack.shape[-2:])
    bad = int((~np.isfinite(stack)).sum()) if stack.dtype.kind == "f" else 0
    if bad:
        raise InputError(
            f"Training image {name!r} holds {bad} pixels that are not finite (NaN or infinite): "
            "mend them or leave the image out."
        )
    for index, plane in enumerate(stack):
        if min(plane.shape) < smallest:
            found.left_out[f"smaller than {smallest} x {smallest} pixels"] += 1
            continue
        label = name if len(stack) == 1 else f"{name} plane {index}"
        source = normalise(np.ascontiguousarray(plane), group, label)
        if source is None:
            found.left_out["constant"] += 1
        else:
            yield source


def describe(collection: Collection) -> dict[str, Any]:
    """Return what a prior's config.json says about its images."""
    return {
        "real_images": len(collection.train),
        "held_out_images": len(collection.held_out),
        "groups": collection.facts(),
    }
