"""From an image to a problem: what is checked, what is missing, what is constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.arrays import ArrayRef, load_mask
from napari_dps.datum import Datum, with_datum_last
from napari_dps.errors import InputError
from napari_dps.image import Image
from napari_dps.saturation import saturated_pixels

if TYPE_CHECKING:
    from napari_dps.recipe import Recipe

SMALLEST = 8

__all__ = ["Prepared", "open_image", "prepare"]


@dataclass
class Prepared:
    """Frames that are fit to be restored.

    Attributes
    ----------
    frames : ndarray, shape (F, Y, X), (F, Z, Y, X) of volumes, (F, 3, Y, X) in colour
        In the image's own units; zero where missing.
    valid : ndarray of bool, shape of frames, or None
        Which pixels count; None where all do.
    constant : list of int
        Frames without any contrast, which are copied and not restored.
    warnings : list of str
        What the user should know.
    saturated : dict
        How many pixels were saturated, at what value, and whether they were left out.
    """

    frames: NDArray[Any]
    valid: NDArray[np.bool_] | None
    constant: list[int]
    warnings: list[str]
    saturated: dict[str, Any]


def open_image(
    image: Any, axes: str | None = None, pixel_size: float | tuple[float, ...] | None = None
) -> Image:
    """Return an Image from an Image, an array or a path."""
    from napari_dps.io import read_image

    if isinstance(image, Image):
        return image
    if isinstance(image, str) or hasattr(image, "__fspath__"):
        return read_image(image, axes=axes, pixel_size=pixel_size)
    return Image.from_array(image, axes=axes, pixel_size=pixel_size)


def prepare(image: Image, recipe: Recipe, datum: Datum | None = None) -> Prepared:
    """Check an image against a recipe and sort its frames and pixels.

    ``image`` comes from :func:`napari_dps.colours.arrange`, ``datum`` from
    :func:`napari_dps.datum.datum_of`.

    Raises
    ------
    InputError
        RGB, too small, constant, or with NaN that nothing declares missing.
    """
    if image.is_rgb:
        raise InputError(
            f"'{image.name}' is a colour (RGB) image of shape {image.shape}, which holds no photon "
            "counts; give one gray channel, or a prior of colour images, or, if these are frames, "
            "name the axes, such as TYX"
        )
    datum = datum or Datum()
    axes, image = image.axes, with_datum_last(image, datum.axes)
    plane = image.data.shape[-2:]
    if min(plane) < SMALLEST:
        raise InputError(
            f"'{image.name}' has {plane[0]} x {plane[1]} pixels; at least {SMALLEST} x {SMALLEST} "
            "are needed"
        )
    whole = image.data.shape[-len(datum.axes) :]
    # Colours are masked, and measured, one by one.
    shape = plane if datum.colour else whole
    frames = image.data.reshape(-1, *shape)
    if frames.dtype == bool:
        frames = frames.astype(np.uint16)  # frames of a detector that counts to one
    valid = _valid(image, axes, frames, recipe)
    valid, saturated, warnings = _without_saturated(frames, valid, recipe)
    kept = frames if valid is None else np.where(valid, frames, np.zeros((), frames.dtype))
    kept = kept.reshape(-1, *whole)
    valid = None if valid is None else valid.reshape(kept.shape)
    constant = [
        f for f in range(len(kept)) if np.ptp(kept[f] if valid is None else kept[f][valid[f]]) == 0
    ]
    if len(constant) == len(kept):
        value = kept.flat[0] if valid is None else kept[valid][0]
        where = "everywhere" if valid is None else f"in all {int(valid.sum())} pixels that count"
        raise InputError(
            f"'{image.name}' is constant ({float(value):g} {where}), so there is nothing "
            "to restore; give an image with contrast"
        )
    if constant:
        warnings.append(
            f"frames without contrast were copied as they are: {', '.join(map(str, constant))}"
        )
    if image.metadata.get("zero_is_white"):
        warnings.append(
            "the file says that zero is white; its numbers are taken for light as they are: invert "
            "them if more light has smaller ones"
        )
    return Prepared(kept, valid, constant, warnings, saturated)


def _valid(
    image: Image, axes: str, frames: NDArray[Any], recipe: Recipe
) -> NDArray[np.bool_] | None:
    """Return which pixels count, after the recipe's mask and the forward model's.

    A mask of the whole image has its axes in the order of ``axes``, as the image came.
    """
    shape = frames.shape[1:]
    valid = np.ones(frames.shape, dtype=bool)
    declared = False
    if recipe.valid is not None:
        valid &= _given(recipe.valid, image, axes, shape)
        declared = True
    model = recipe.forward.laid_out(lambda ref: _laid_out(ref, image, axes, frames.shape))
    measured = model.measured_pixels(frames)
    if measured is not None:
        valid &= measured
        declared = True
    if frames.dtype.kind == "f":
        bad = int((~np.isfinite(frames) & valid).sum())
        if bad:
            raise InputError(
                f"{bad} pixels are NaN or infinite; mark them as missing with a `valid` mask or "
                "the forward model 'inpaint', or replace them"
            )
    if declared and not valid.reshape(len(frames), -1).any(1).all():
        raise InputError("a frame has no valid pixel left; mark some as measured")
    return valid if declared else None


def _given(ref: ArrayRef, image: Image, axes: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask of the whole image, of one measurement, or of one plane, to broadcast.

    A mask of the whole image has its axes in the order in which the image came, ``axes``.
    """
    whole = tuple(image.shape[image.axes.index(letter)] for letter in axes)
    found = ref.load().shape
    if len(axes) == 2 or (found == whole and len(whole) > len(shape)):
        mask = load_mask(ref, whole, "valid mask")
        return mask.transpose([axes.index(letter) for letter in image.axes]).reshape(-1, *shape)
    if found == whole:  # one measurement, its axes perhaps in another order
        order = [axes.index(letter) for letter in image.axes]
        return load_mask(ref, whole, "valid mask").transpose(order)
    return load_mask(ref, shape[-2:] if found == shape[-2:] else shape, "valid mask")


def _laid_out(ref: ArrayRef, image: Image, axes: str, shape: tuple[int, ...]) -> ArrayRef:
    """Return a mask of the whole image with the shape of its frames, any other as it is."""
    whole = tuple(image.shape[image.axes.index(letter)] for letter in axes)
    if ref.shape() != whole or len(whole) < len(shape):
        return ref
    values = ref.load().transpose([axes.index(letter) for letter in image.axes])
    return ArrayRef(values.reshape(shape))


def _without_saturated(
    frames: NDArray[Any], valid: NDArray[np.bool_] | None, recipe: Recipe
) -> tuple[NDArray[np.bool_] | None, dict[str, Any], list[str]]:
    """Return which pixels count once saturated ones do not, what was found, and a warning.

    Where counts are expected a full pixel tells only that there was at least so much light.
    Gaussian noise may stand for images whose white is no full detector: there they count.
    """
    level, full = saturated_pixels(frames, recipe.forward.saturation_level())
    if valid is not None:
        full = full & valid
    count = int(full.sum())
    counting = recipe.noise.kind.startswith("poisson")
    report = {"pixels": count, "value": level if count else None, "left_out": counting}
    if not count:
        return valid, report, []
    if not counting:
        return (
            valid,
            report,
            [
                f"{count} pixels are at {level:g}, the end of the scale, and count as measured; if "
                "the detector was full there, leave them out (a `valid` mask, or inpaint with "
                "`saturated`)"
            ],
        )
    rest = ~full if valid is None else valid & ~full
    if not rest.reshape(len(frames), -1).any(1).all():
        raise InputError(
            f"every pixel of a frame is saturated (at {level:g}), so there is nothing to restore; "
            "give one with less light, or the camera's `full_scale`"
        )
    text = (
        f"{count} pixels are saturated (at {level:g}) and were left out; if {level:g} is not the "
        "camera's full scale, give `full_scale` of the forward model"
    )
    return rest, report, [text]
