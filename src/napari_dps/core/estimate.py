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
from napari_dps.core.covariance import power_law_spectrum
from napari_dps.core.likelihood import Likelihood
from napari_dps.core.linalg import column, conjugate_gradients, smooth
from napari_dps.core.operator import Operator
from napari_dps.core.streams import Streams

LENGTH = 3.0
EXPONENT = 1.5
GRID = tuple(4.0**k for k in range(-4, 2))
"""Trial variances of the field, in units of the variance that the data show."""
BOX, SIGNIFICANT = 9, 4.0
"""Side of the boxes whose mean residual is looked at, and how many errors away it counts."""
ENOUGH = 1.02
"""Chi-square per datum at which the data are explained."""
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
    weight = torch.ones_like(y) if valid is None else valid.expand_as(y).to(y)
    y = torch.where(weight > 0, y, torch.zeros_like(y))
    ones = torch.ones((y.shape[0], *operator.x_shape), dtype=y.dtype, device=y.device)
    # What is measured without an object: below, everything is linear in the object.
    dark = operator(torch.zeros_like(ones))

    def linear(x: Tensor) -> Tensor:
        return operator(x) - dark

    y, flat = y - dark, linear(ones)
    y = torch.where(weight > 0, y, torch.zeros_like(y))
    level = (weight * y).flatten(1).sum(1) / (weight * flat).flatten(1).sum(1).clamp_min(1e-12)
    m = column(level, ones) * ones
    # Variance from a smoothed measurement: y itself would call dark noise peaks certain.
    seen = smooth(weight, 5)
    local = smooth(weight * y, 5) / seen.clamp_min(1e-6)
    local = torch.where(seen > 1e-6, local, column(level, y).expand_as(y))
    variance = likelihood.variance(local + dark)
    r = weight * (y - linear(m))
    # What a pixel scatters by: less than it counts with where pixels share their noise.
    own = variance / likelihood.redundancy
    shown = ((r**2 - weight * own).flatten(1).sum(1) / weight.flatten(1).sum(1)).clamp_min(0)
    floor = 1e-3 * (weight * own).flatten(1).sum(1) / weight.flatten(1).sum(1)
    contrast = column(torch.maximum(shown, floor), y) / operator.response**2
    spectrum = power_law_spectrum(operator.x_shape[1:], 1.0, LENGTH, EXPONENT).to(y)
    axes, root = tuple(range(2, ones.ndim)), spectrum**0.5

    def field(v: Tensor, transfer: Tensor = spectrum) -> Tensor:
        modes = torch.fft.fftn(v, dim=axes) * transfer
        filtered: Tensor = torch.fft.ifftn(modes, dim=axes).real
        return filtered

    def solve(s2: Tensor, rhs: Tensor) -> Tensor:
        def matvec(p: Tensor) -> tuple[Tensor, Tensor]:
            image = column(s2, ones) * field(operator.adjoint(weight * p))
            return weight * linear(image) + variance * p, image

        found = conjugate_gradients(
            matvec, rhs, iterations=iterations, tolerance=1e-3, precondition=lambda q: q / variance
        )
        nothing = torch.zeros((rhs.shape[0], *operator.x_shape), dtype=y.dtype, device=y.device)
        return nothing if found.image is None else found.image

    best = torch.full_like(contrast, GRID[0])
    least = torch.full_like(contrast, float("inf"))
    image = torch.zeros((y.shape[0], *operator.x_shape), dtype=y.dtype, device=y.device)
    count = weight.flatten(1).sum(1)
    for factor in GRID:
        trial = solve(factor * contrast, r)
        chi2 = ((weight * (r - linear(trial))) ** 2 / own).flatten(1).sum(1) / count
        # A weaker field explains less; a stronger one may not have converged, and shows by it.
        better = (column(chi2, y) < least) & (least > ENOUGH)
        image = torch.where(column(better.flatten(), ones), trial, image)
        best = torch.where(better, torch.full_like(best, factor), best)
        rising = column(chi2, y) > 1.2 * least
        least = torch.where(better, column(chi2, y), least)
        if bool((rising | (least <= ENOUGH)).all()):
            break
    s2 = best * contrast
    # One draw of the Gaussian model's posterior error: prior draw minus what data would tell.
    draw = column(s2.sqrt(), ones) * field(streams.normal(operator.x_shape).to(y), root)
    noise = variance.sqrt() * streams.normal(operator.y_shape).to(y)
    spread = draw - solve(s2, weight * (linear(draw) + noise))
    local_rms = smooth(operator.crop(spread) ** 2, 9).sqrt().flatten(1)
    estimate = m + image
    if positive:
        estimate = estimate.clamp_min(0)

    def again(residual: Tensor) -> Tensor:
        return solve(s2, residual)

    missed = _unexplained(y - linear(estimate), own, weight, likelihood.redundancy)
    seen_flat = (weight * flat).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1.0)
    missed = missed / seen_flat.clamp_min(1e-12)
    floor = UNSEEN * _dark_noise(variance, flat, weight)
    return Estimate(
        estimate,
        torch.maximum(torch.maximum(local_rms.max(1).values, floor), missed),
        torch.maximum(local_rms.median(1).values, floor),
        {"field_variance": s2.flatten().tolist()},
        lost=lambda: lost_contrast(operator, r, weight, own, again, streams, likelihood.redundancy),
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


def _dark_noise(variance: Tensor, flat: Tensor, weight: Tensor) -> Tensor:
    """Return the noise of a dark pixel in the object's unit, shape (B,)."""
    response = flat.flatten(1).mean(1, keepdim=True).clamp_min(1e-12)
    found = [
        torch.quantile(v[w > 0].double(), 0.05) if bool((w > 0).any()) else v.double().amin()
        for v, w in zip(variance.flatten(1), weight.flatten(1), strict=True)
    ]
    return (torch.stack(found).sqrt() / response[:, 0].double()).to(variance)


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
    span = torch.maximum(span, 1e-6 * estimate.flatten(1).double().abs().amax(1).clamp_min(1e-6))
    return column(span, estimate).to(estimate), column(background, estimate).to(estimate)
