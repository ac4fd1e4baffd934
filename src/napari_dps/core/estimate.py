"""A quick classical estimate of the object: for the object map, and for an informed start.

For affine operators the object is taken as a Gaussian field with a power-law spectrum about a
flat level, and its posterior mean is found by conjugate gradients (a Wiener filter that knows
masks and borders). The field's variance is the one at which the residual is as large as the
noise says (discrepancy principle). One posterior draw of the same model tells how far the
estimate may be from the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_dps.core.contrast import contrast, lost_contrast
from napari_dps.core.flat import shown_flat
from napari_dps.core.gaussian_field import GaussianField
from napari_dps.core.likelihood import Likelihood
from napari_dps.core.linalg import column, smooth
from napari_dps.core.operator import Operator
from napari_dps.core.streams import Streams

BOX, SIGNIFICANT = 9, 4.0
"""Side of the boxes whose mean residual is looked at, and how many errors away it counts."""
UNSEEN = 0.5
"""Least error of an estimate, in units of a pixel's noise. Of a field that shows nothing the
estimate is flat and calls itself certain; but a spot four times this high, a pixel or two wide,
can hardly be seen in the data, and belongs inside the prior's range."""


@dataclass
class Estimate:
    """A classical estimate.

    Attributes
    ----------
    image : Tensor, shape (B, C, *spatial)
        The object, in photoelectrons, on the operator's grid.
    error : Tensor, shape (B,)
        Largest local root-mean-square error expected of it, in photoelectrons.
    noise : Tensor, shape (B,)
        Error of the object's darkest and flattest parts: a few times this may hide in the noise.
    details : dict
        What is worth reporting, e.g. the restarts' misfits.
    candidates : Tensor or None, shape (B, K, C, *spatial)
        Other solutions where the problem has several, the best first.
    lost : callable or None
        Returns the factor, shape (B,), by which the object has more contrast than the estimate;
        it costs two more estimates, and only an object map that is "auto" asks. None means one.
    """

    image: Tensor
    error: Tensor
    noise: Tensor
    details: dict[str, object]
    candidates: Tensor | None = None
    lost: Callable[[], Tensor] | None = None


def gaussian_field_estimate(
    operator: Operator,
    y: Tensor,
    likelihood: Likelihood,
    valid: Tensor | None,
    streams: Streams,
    *,
    positive: bool,
    iterations: int = 50,
) -> Estimate:
    """Return the estimate of an affine operator's object.

    Parameters
    ----------
    operator : Operator
        Acting on photoelectrons.
    y : Tensor, shape (B, *y_shape)
        Measurement.
    likelihood : Likelihood
        Gives the variance.
    valid : Tensor of bool or None
        Data that count.
    streams : Streams
        One per frame.
    positive : bool
        Clip the estimate at zero.
    """
    field = GaussianField(operator, y, likelihood, valid, iterations=iterations)
    for _ in field.explain_steps():
        pass
    weight, variance, s2 = field.weight, field.variance, field.s2
    # One draw of the Gaussian model's posterior error: prior draw minus what data would tell.
    normal = streams.normal(operator.x_shape).to(y)
    draw = column(s2.sqrt(), normal) * field.draw(normal, 0.5)
    noise = variance.sqrt() * streams.normal(operator.y_shape).to(y)
    spread = draw - field.solve(s2, weight * (field.linear(draw) + noise))
    local_rms = smooth(operator.crop(spread) ** 2, 9).sqrt().flatten(1)
    estimate = field.level + field.image
    if positive:
        estimate = estimate.clamp_min(0)

    def again(residual: Tensor) -> Tensor:
        return field.solve(s2, residual)

    own, redundancy = field.own, likelihood.redundancy
    missed = _unexplained(field.y - field.linear(estimate), own, weight, redundancy)
    seen_flat, shown = shown_flat(field.flat, weight, operator.response)
    missed = missed / seen_flat.abs()
    floor = UNSEEN * _dark_noise(variance, field.flat, weight, operator.response)
    return Estimate(
        estimate,
        torch.maximum(torch.maximum(local_rms.max(1).values, floor), missed),
        torch.maximum(local_rms.median(1).values, floor),
        {"field_variance": s2.flatten().tolist(), "level_shown": bool(shown.all())},
        lost=lambda: lost_contrast(
            operator, field.residual, weight, own, again, streams, redundancy
        ),
    )


def _unexplained(residual: Tensor, variance: Tensor, weight: Tensor, redundancy: float) -> Tensor:
    """Return the largest local mean of a residual that is no noise, shape (B,).

    One field variance for a whole image is too small where a few bright objects lie on a wide
    dark ground: there the estimate stays far below the data, and does not know.
    """
    share = smooth(weight, BOX).clamp_min(1e-6)
    mean = smooth(weight * residual, BOX) / share
    noise = (redundancy * smooth(weight * variance, BOX)).sqrt() / (BOX * share)
    counts = (mean.abs() > SIGNIFICANT * noise) & (smooth(weight, BOX) > 0.5)
    return torch.where(counts, mean.abs(), torch.zeros_like(mean)).flatten(1).amax(1)


def _dark_noise(variance: Tensor, flat: Tensor, weight: Tensor, response: float) -> Tensor:
    """Return the noise of a dark pixel in the object's unit, shape (B,)."""
    seen, _ = shown_flat(flat, torch.ones_like(flat), response)
    found = [
        torch.quantile(v[w > 0].double(), 0.05) if bool((w > 0).any()) else v.double().amin()
        for v, w in zip(variance.flatten(1), weight.flatten(1), strict=True)
    ]
    return (torch.stack(found).sqrt() / seen.abs().double()).to(variance)


def object_map(
    estimate: Tensor, noise: Tensor, lost: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (scale, background) per frame such that the object spans about [-1, 1].

    Parameters
    ----------
    estimate : Tensor, shape (B, C, *spatial)
        The object's field in photoelectrons.
    noise : Tensor, shape (B,)
        Error of the estimate; a contrast below a few times this is not stretched.
    lost : Tensor or None, shape (B,)
        Factor by which the object has more contrast than the estimate.

    Returns
    -------
    scale, background : Tensor, shape (B, 1, 1, ...)
    """
    background, high = contrast(estimate)
    # Sparse bright spots lie far above the quantile: as in training, nothing shall exceed 3.
    top = estimate.flatten(1).double().amax(1)
    span = torch.maximum(high - background, (top - background) / 2)
    if lost is not None:
        span = span * lost.double()
    span = torch.maximum(span, 4 * noise.double())
    # In any unit: what is measured in metres or amperes may be as small as single precision goes.
    least = 1e-6 * estimate.flatten(1).double().abs().amax(1)
    span = torch.maximum(span, least).clamp_min(torch.finfo(estimate.dtype).tiny)
    return column(span, estimate).to(estimate), column(background, estimate).to(estimate)
