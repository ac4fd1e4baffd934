"""Optics with what lies around them: uneven sensitivity, and light that is not the object's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.arrays import NumberOrArray
from napari_dps.errors import InputError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from torch import Tensor

    from napari_dps.components import ForwardModel, NoiseModel
    from napari_dps.core.likelihood import Likelihood
    from napari_dps.core.operator import Operator

__all__ = ["darkness_warnings", "gain_of", "illuminated"]

CERTAIN, TELLING = 5.0, 0.98
"""Standard errors by which a frame is darker than its background before it is told, and the share
of it above which a background is off by no more than backgrounds usually are."""


def gain_of(noise: NoiseModel, grid: Grid) -> float | NDArray[np.float64]:
    """Return the noise's ADU per electron: a number, or a map where every pixel has its own."""
    each = getattr(noise, "pixel_gain", None)
    found: float | NDArray[np.float64] = noise.camera()[0] if each is None else each(grid.shape)
    return found


def illuminated(
    model: ForwardModel, grid: Grid, gain: float | NDArray[np.float64] = 1.0
) -> Operator:
    """Bind a forward model, with its flat field and background where they are given.

    Parameters
    ----------
    model : ForwardModel
        The optics.
    grid : Grid
        The measurement's grid.
    gain : float or ndarray
        ADU per electron, for the background: an image of it was recorded by the very pixels, a
        number is even light as a typical pixel sees it.

    Raises
    ------
    InputError
        If background or flat field have another shape, or are negative or not finite.
    """
    operator: Operator = model.bind(grid)
    flat = _flat(model, grid)
    dark = model.background.on(grid.shape, "background", minimum=0)
    if flat is None and not dark.any():
        return operator
    own = gain if dark.ndim else np.median(gain)
    import torch

    from napari_dps.core.illumination import IlluminatedOperator

    def tensor(values: NDArray[np.float64]) -> Any:
        dtype = getattr(torch, grid.dtype)
        made = torch.as_tensor(values, dtype=dtype, device=grid.device)
        return made.reshape(operator.y_shape) if made.ndim else made

    return IlluminatedOperator(
        operator,
        None if flat is None else tensor(flat),
        tensor(dark / own) if dark.any() else None,
    )


def darkness_warnings(
    operator: Operator, y: Tensor, valid: Tensor | None, likelihood: Likelihood
) -> list[str]:
    """Warn where a frame holds less light than its background alone would give.

    Parameters
    ----------
    operator : Operator
        The physics, background included; of photoelectrons.
    y : Tensor, shape (B, *y_shape)
        Measurement.
    valid : Tensor of bool or None
        Data that count.
    likelihood : Likelihood
        Gives their variance.
    """
    import torch

    with torch.no_grad():
        empty = operator(torch.zeros((1, *operator.x_shape), dtype=y.dtype, device=y.device))
    counts = torch.ones_like(y) if valid is None else valid.expand_as(y).to(y)
    dark = (counts * empty).double().flatten(1).sum(1)
    light = (counts * y).double().flatten(1).sum(1)
    spread = (counts * likelihood.variance(empty)).double().flatten(1).sum(1).sqrt()
    missing = (dark > 0) & (light < dark - CERTAIN * spread) & (light < TELLING * dark)
    if not bool(missing.any()):
        return []
    share = float((light / dark.clamp_min(1e-30)).min())
    return [
        f"{'a frame' if len(y) > 1 else 'the image'} holds {share:.0%} of the light that its "
        "background alone would give, so that the object would have to be negative; check "
        "`background`, and the camera's gain and offset"
    ]


def _flat(model: ForwardModel, grid: Grid) -> NDArray[np.float64] | None:
    """Return the flat field with a mean of one."""
    if model.flat_field is None:
        return None
    flat = NumberOrArray.parse(model.flat_field).on(grid.shape, "flat field", minimum=0)
    mean = float(flat.mean())
    if mean <= 0 or not flat.ndim:
        raise InputError(
            "the flat field is zero everywhere or one number; give an image of the relative "
            "sensitivity of every pixel"
        )
    return np.asarray(flat / mean)
