"""How much of an object's contrast a classical estimate shows: a parametric bootstrap.

A linear estimate from few photons is smooth: its brightest and darkest parts lie closer together
than the object's, by a factor of two and more at five photons a pixel. Objects like the present
one are drawn, measured and estimated in the same way, and the ratio tells. They are Gaussian
fields whose variance and correlation length explain what the measurement shows above its noise,
pixel by pixel and in boxes of 5 x 5 pixels, where the noise is five times weaker.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_dps.core.covariance import power_law_spectrum
from napari_dps.core.linalg import column, smooth
from napari_dps.core.operator import Operator
from napari_dps.core.streams import Streams

LOW, HIGH = 0.005, 0.998
"""Quantiles of the object that bound its contrast."""
LENGTHS = (1.5, 3.0, 6.0, 12.0, 24.0)
EXPONENT = 2.2
"""Slope of microscopy's power spectra, amplitudes falling with the square of the frequency."""
BOX = 5
DRAWS = 2
MOST = 2.0
"""A larger factor would rest on the model more than on the data."""


def contrast(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the low and the high end of each frame (B,), in float64."""
    flat = image.flatten(1).double()
    q = torch.tensor([LOW, HIGH], dtype=flat.dtype, device=flat.device)
    low, high = torch.quantile(flat, q, dim=1)
    return low, high


def lost_contrast(
    operator: Operator,
    residual: Tensor,
    weight: Tensor,
    variance: Tensor,
    estimate: Callable[[Tensor], Tensor],
    streams: Streams,
    redundancy: float = 1.0,
) -> Tensor:
    """Return the factor by which objects have more contrast than their estimates, shape (B,).

    Parameters
    ----------
    operator : Operator
        Affine.
    residual : Tensor, shape (B, *y_shape)
        Measurement less that of the object's flat level; zero where it does not count.
    weight : Tensor, shape (B, *y_shape)
        One where a datum counts, else zero.
    variance : Tensor, shape (B, *y_shape)
        Variance of each pixel's noise.
    estimate : callable
        From such a residual to the estimate's deviation from the flat level.
    streams : Streams
        One per frame.
    redundancy : float
        Pixels that share one value of noise: boxes average so much less of it out.

    Returns
    -------
    Tensor
        Between 1 and 2.
    """
    y_like, tiny = residual, torch.finfo(residual.dtype).tiny
    share = smooth(weight, BOX)
    inside = (share > 0.5).to(y_like)

    def box(v: Tensor) -> Tensor:
        return smooth(weight * v, BOX) / share.clamp_min(1e-6)

    def spread(v: Tensor, w: Tensor) -> Tensor:
        count = w.flatten(1).sum(1).clamp_min(1.0)
        centre = column((w * v).flatten(1).sum(1) / count, v)
        return (w * (v - centre) ** 2).flatten(1).sum(1) / count

    def average(v: Tensor, w: Tensor) -> Tensor:
        return (w * v).flatten(1).sum(1) / w.flatten(1).sum(1).clamp_min(1.0)

    # What the measurement varies beyond its noise: by pixel, and by box.
    noise_of_box = smooth(weight * variance, BOX) / share.clamp_min(1e-6) ** 2
    noise_of_box = noise_of_box * min(1.0, redundancy / BOX**2)
    fine = (spread(residual, weight) - average(variance, weight)).clamp_min(0)
    coarse = (spread(box(residual), inside) - average(noise_of_box, inside)).clamp_min(0)
    wanted = (coarse / fine.clamp_min(tiny)).clamp(1e-3, 1e3).log()

    shape = operator.x_shape
    axes = tuple(range(2, 1 + len(shape)))
    roots = [power_law_spectrum(shape[1:], 1.0, n, EXPONENT).sqrt().to(y_like) for n in LENGTHS]

    def field(root: Tensor, white: Tensor) -> Tensor:
        drawn: Tensor = torch.fft.ifftn(torch.fft.fftn(white, dim=axes) * root, dim=axes).real
        return drawn

    def measured(x: Tensor) -> Tensor:
        return weight * (operator(x) - operator(torch.zeros_like(x)))

    white = streams.normal(shape).to(y_like)
    off, gains = [], []
    for root in roots:
        z = measured(field(root, white))
        seen = spread(box(z), inside)
        gains.append(coarse / seen.clamp_min(tiny))
        ratio = seen / spread(z, weight).clamp_min(tiny)
        off.append((ratio.clamp(1e-3, 1e3).log() - wanted).abs())
    choice = torch.stack(off).argmin(0)
    size = torch.stack(gains).gather(0, choice[None])[0].sqrt()
    root = torch.stack(roots)[choice][:, None]
    total = torch.zeros_like(size, dtype=torch.float64)
    for _ in range(DRAWS):
        truth = column(size, white) * field(root, streams.normal(shape).to(y_like))
        noise = (redundancy * variance).sqrt() * streams.normal(operator.y_shape).to(y_like)
        low, high = contrast(operator.crop(truth))
        low_seen, high_seen = contrast(operator.crop(estimate(measured(truth) + weight * noise)))
        total += (high - low) / (high_seen - low_seen).clamp_min(tiny)
    return (total / DRAWS).clamp(1.0, MOST)
