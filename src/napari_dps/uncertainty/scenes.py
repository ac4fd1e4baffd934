"""Objects whose truth is known: crops of clean images, phantoms and draws of the prior itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError
from napari_dps.grid import Grid
from napari_dps.light import illuminated
from napari_dps.recipe import Recipe

__all__ = ["Bench", "Scene", "seed_of"]

Array = NDArray[np.float64]

TRIES = 16
EMPTY = 0.1
"""A crop with less than this share of its image's contrast is drawn again."""
LOOKS = 200
"""Crops looked at for one that is clean enough."""
PEAK = 3.33
"""Brightest pixel over the 99.8th percentile, as priors are trained."""


def seed_of(seed: int, index: int, what: int) -> int:
    """Return the seed of one purpose of one crop."""
    return int(np.random.SeedSequence([seed, index, what]).generate_state(1)[0])


@dataclass(frozen=True)
class Scene:
    """One simulated measurement and its truth.

    Attributes
    ----------
    source : str
        ``"phantoms"``, ``"prior"`` or ``"images"``.
    name : str
        Of the image.
    measured : ndarray, shape (Y, X)
        The measurement in its own units.
    truth : ndarray, shape (Y, X)
        The object on the image's field, in the same units.
    wide : Tensor, shape (1, 1, Y, X)
        The object with what lies beyond the field, in photoelectrons.
    """

    source: str
    name: str
    measured: Array
    truth: Array
    wide: Any


class Bench:
    """Makes the scenes of a recipe, each from its number alone.

    Parameters
    ----------
    recipe : Recipe
        Forward model, noise, prior and intensity are used.
    images : sequence of path or array, or None
        Clean images; None: phantoms and draws of the prior in turn.
    size : int
        Side of the object's field in pixels.
    seed : int
        Of everything.
    photons, background : float or None
        Brightness and darkest value; None: of the recipe's intensity or, for the background, one
        photoelectron where counts are expected.
    pixel_size : float or tuple of float, optional
        Of the measurement, in micrometres.
    device : str
        For draws of the prior.
    own_noise : float or None
        In photoelectrons: crops of images whose own noise is estimated to be larger are passed
        over. None takes all.

    Raises
    ------
    InputError
        If such a recipe cannot be calibrated.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: Sequence[Any] | None,
        *,
        size: int,
        seed: int,
        photons: float | None,
        background: float | None,
        pixel_size: float | tuple[float, ...] | None,
        device: str,
        own_noise: float | None = None,
    ) -> None:
        self.recipe, self.size, self.seed, self.device = recipe, size, seed, device
        self.own_noise = own_noise
        self.counting = recipe.noise.kind != "gaussian"
        self.photons, self.background = self._brightness(photons, background)
        forward = recipe.forward
        shape = forward.measurement_shape((size, size))
        self.grid = Grid(tuple(shape), _pixels(pixel_size, len(shape)), "cpu", "float64")
        self.noise = recipe.noise.resolve(np.zeros((1, *shape)), {})
        self.gain, self.offset = self.noise.camera()
        self.operator = illuminated(forward, self.grid, self.gain)
        self.likelihood = self.noise.bind(self.grid)
        self._check()
        self._check_own_noise(images)
        self.side = max(self.operator.x_shape[1:])
        self._images = self._load(images)

    def _brightness(self, photons: float | None, background: float | None) -> tuple[float, float]:
        intensity = self.recipe.intensity
        known = None if intensity == "auto" else intensity
        if background is None:
            background = known.background if known else (1.0 if self.counting else 0.0)
        if photons is None:
            if known is None:
                raise InputError(
                    "a calibration needs the brightness of the objects: give photons (the 99.8th "
                    "percentile of an object), or the recipe's intensity"
                )
            photons = known.scale + known.background
        if not (np.isfinite(photons) and np.isfinite(background) and photons > background):
            raise InputError(
                f"photons = {photons:g} is not above the background {background:g}; give a "
                "brighter object"
            )
        if self.counting and background < 0:
            raise InputError(f"background = {background:g} is no light; give 0 or more")
        return float(photons), float(background)

    def _check(self) -> None:
        operator, kind = self.operator, self.recipe.forward.kind
        if operator.symmetric or operator.phase_free or operator.x_shape[0] != 1:
            raise InputError(
                f"the forward model {kind!r} cannot be calibrated: its objects are known only up "
                "to shifts, flips or a phase, or are complex"
            )
        if len(operator.x_shape) != 3 or len(self.grid.shape) != 2:
            raise InputError(
                f"the forward model {kind!r} cannot be calibrated: its objects or its measurements "
                "are no planes (volumes, stacks, complex data)"
            )
        if self.recipe.prior.image_channels() != 1:
            raise InputError(
                f"the prior {self.recipe.prior.kind!r} is of colour images, which cannot be "
                "calibrated"
            )

    def _check_own_noise(self, images: Sequence[Any] | None) -> None:
        limit = self.own_noise
        if limit is None:
            return
        if images is None:
            raise InputError(
                "own_noise chooses among the crops of clean images, and phantoms and draws of the "
                "prior have no noise of their own; give images, or leave it out"
            )
        if not (math.isfinite(limit) and limit > 0):
            raise InputError(
                f"own_noise = {limit:g} is no noise level; give a number of photons above 0, such "
                "as a quarter of the standard deviations that the recipe finds"
            )

    def _load(self, images: Sequence[Any] | None) -> list[Any] | None:
        if images is None:
            return None
        from napari_dps.training.images import SMALLEST, load_images

        try:
            return load_images(images, smallest=self.side)
        except InputError as error:
            told = str(error).replace("Training image", "Image").replace("training image", "image")
            # Crops have a size of their own, which decides how small an image may be.
            told = told.replace(f"{SMALLEST} x {SMALLEST}", f"{self.side} x {self.side}")
            raise InputError(f"{told} Crops of {self.side} pixels are taken.") from error

    def scene(self, index: int) -> Scene:
        """Return scene number ``index``."""
        for attempt in range(TRIES):
            found = self._scene(index, attempt)
            pixels = found.measured
            if self.operator.measured is not None:
                pixels = pixels[self.operator.measured.numpy().reshape(pixels.shape)]
            if np.ptp(pixels) > 0:
                return found
        raise InputError(
            f"{TRIES} simulated images in a row hold no light at all; give more photons"
        )

    def _scene(self, index: int, attempt: int) -> Scene:
        import torch

        from napari_dps.core.streams import Streams

        source, name, objects = self._object(index, attempt)
        wide = torch.as_tensor(objects, dtype=torch.float64)[None, None]
        z = self.operator(wide)
        seed = seed_of(self.seed, index, 10 + attempt)
        streams = Streams(seed, [("calibrate", index)], "cpu", torch.float64)
        y = self.likelihood.sample(z, streams)
        seen = self.operator.measured
        y = y if seen is None else torch.where(seen, y, torch.zeros_like(y))
        measured = self.noise.recorded(y.numpy().reshape(self.grid.shape))
        field = self.operator.crop(wide)[0, 0].numpy()
        truth = self.recipe.forward.object_to_input(field, self.gain, self.offset)
        return Scene(source, name, np.asarray(measured), np.asarray(truth, dtype=np.float64), wide)

    def _object(self, index: int, attempt: int) -> tuple[str, str, Array]:
        """Return source, name and photoelectrons of an object, beyond the field too."""
        rows, columns = self.operator.x_shape[1:]
        rng = np.random.default_rng([self.seed, index, attempt])
        if self._images is not None:
            return "images", *self._clean_crop(self._images, index, rng)
        if index % 2 == 0:
            from napari_dps.training.phantoms import phantom

            drawn = phantom(rng, max(128, self.side))
            return "phantoms", "phantom", self._lit(self._cut(drawn, rng))
        from napari_dps.api import sample_prior

        seed = seed_of(self.seed, index, attempt)
        draw = sample_prior(self.recipe.prior, 1, (rows, columns), seed, device=self.device)[0]
        share = (draw.astype(np.float64) + 1) / 2
        # A draw may lie below zero, light may not.
        share = np.clip(share, 0, None) if self.counting else share
        return "prior", "draw", self.background + (self.photons - self.background) * share

    def _clean_crop(
        self, images: list[Any], index: int, rng: np.random.Generator
    ) -> tuple[str, Array]:
        """Return name and photoelectrons of a crop: of the images in turn, noisy crops passed over.

        What is passed over is replaced by a crop of any image.
        """
        order = np.random.default_rng([self.seed, index // len(images)])
        place = int(order.permutation(len(images))[index % len(images)])
        for _ in range(LOOKS):
            crop = self._cut(images[place].pixels, rng)
            if self.own_noise is None or self._own_noise(crop) <= self.own_noise:
                return images[place].name, self._lit(crop)
            place = int(rng.integers(len(images)))
        raise InputError(
            f"{LOOKS} crops in a row have more noise of their own than own_noise = "
            f"{self.own_noise:g} photons; allow more, simulate fewer photons, or give cleaner "
            "images"
        )

    def _own_noise(self, crop: Array) -> float:
        """Return a crop's own noise as it will be lit, in photoelectrons."""
        from napari_dps.training.images import own_noise

        low, high = self._range(crop)
        return own_noise(crop) * (self.photons - self.background) / (high - low)

    def _cut(self, image: Any, rng: np.random.Generator) -> Array:
        """Return a crop at a random place where there is something to see."""
        rows, columns = self.operator.x_shape[1:]
        if image.dtype == bool:
            image = image.astype(np.uint8)
        low, high = np.percentile(image, (0.5, 99.8))
        best, most = np.zeros((rows, columns)), -1.0
        for _ in range(TRIES):
            top, left = (int(rng.integers(0, n - m + 1)) for n, m in zip(
                image.shape, (rows, columns), strict=True
            ))  # fmt: skip
            crop = image[top : top + rows, left : left + columns].astype(np.float64)
            dark, bright = np.percentile(crop, (0.5, 99.8))
            if bright - dark > most:
                best, most = crop, float(bright - dark)
            if most >= EMPTY * (high - low):
                break
        return best

    def _lit(self, crop: Array) -> Array:
        """Return a crop with the 99.8th percentile of its field at the brightness wanted."""
        low, high = self._range(crop)
        share = np.clip((crop - low) / (high - low), 0, PEAK)
        return np.asarray(self.background + (self.photons - self.background) * share)

    def _range(self, crop: Array) -> tuple[float, float]:
        """Return the grey levels of a crop that become background and brightness."""
        low, high = (float(v) for v in np.percentile(crop[self.operator.field], (0.5, 99.8)))
        if high <= low:
            low, high = float(crop.min()), max(float(crop.max()), float(crop.min()) + 1.0)
        return low, high


def _pixels(given: Any, axes: int) -> tuple[float, ...] | None:
    """Return the pixel size per axis; refuse what is none."""
    if given is None:
        return None
    values: list[Any] = np.ravel(np.asarray(given, dtype=object)).tolist()
    numbers = [float(v) for v in values if isinstance(v, Real) and 0 < float(v) < math.inf]
    if len(numbers) != len(values) or len(values) not in (1, axes):
        raise InputError(
            f"pixel_size = {given!r} is not allowed; give one number above 0, or {axes}, in "
            "micrometres"
        )
    return tuple(numbers if len(numbers) == axes else numbers * axes)
