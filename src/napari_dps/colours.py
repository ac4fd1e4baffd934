"""Colour pictures as images of three channels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_dps.errors import InputError
from napari_dps.image import Image

if TYPE_CHECKING:
    from napari_dps.recipe import Recipe

__all__ = ["arrange", "colours_as_channels"]


def arrange(image: Image, recipe: Recipe) -> tuple[Image, bool]:
    """Return the image with its colours as an axis C, and whether three channels are one picture.

    They are where the prior is one of colour images, and the image is a colour picture or has
    three channels; to other priors every channel is a gray image of its own.
    """
    three = "C" in image.axes and image.shape[image.axes.index("C")] == 3
    if not (image.is_rgb or three) or recipe.prior.image_channels() != 3:
        return image, False
    return (colours_as_channels(image) if image.is_rgb else image), True


def colours_as_channels(image: Image) -> Image:
    """Return a colour picture with red, green and blue as an axis C before Y and X.

    Raises
    ------
    InputError
        If it has not three samples a pixel (or four, the fourth the same everywhere), or has an
        axis C as well.
    """
    if "C" in image.axes:
        raise InputError(
            f"'{image.name}' has colours (S) and channels (C); give one channel at a time"
        )
    last = image.picture_last()
    data = last.data
    if data.shape[-1] == 4 and np.ptp(data[..., 3]) == 0:
        data = data[..., :3]  # the same opacity everywhere says nothing
    if data.shape[-1] != 3:
        raise InputError(
            f"'{image.name}' has {data.shape[-1]} samples a pixel; give red, green and blue "
            "without transparency"
        )
    rest = image.axes.replace("S", "")
    first = min(rest.index("Y"), rest.index("X"))
    channels = replace(last, data=data, axes=last.axes.replace("S", "C"))
    return channels.with_axes(rest[:first] + "C" + rest[first:])
