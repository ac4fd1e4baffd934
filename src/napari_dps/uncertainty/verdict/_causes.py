"""What the residual of the mean tells of the cause: its variance by brightness, its pattern."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dps.uncertainty.verdict._residuals import RINGS, rings

if TYPE_CHECKING:
    from torch import Tensor

    from napari_dps.core.problem import Problem

Array = NDArray[np.float64]

ROUNDS = 3
"""Of weighted least squares: the weights follow the line that was found."""
FEWEST = 64
"""Data below which no line is fitted."""


@dataclass(frozen=True)
class Line:
    """The residual's variance against the one that was assumed.

    Attributes
    ----------
    slope, slope_sd : float
        Of the part that grows with the light: the true gain over the assumed one.
    intercept, intercept_sd : float
        What remains without light, beyond what was assumed, squared electrons: read noise that is
        missing raises it, an offset or a background that is missing lowers it.
    dark, bright : float
        The line over the assumed variance, in the darker and in the brighter half of the data.
    """

    slope: float
    slope_sd: float
    intercept: float
    intercept_sd: float
    dark: float
    bright: float


def variance_line(problem: Problem, mean: Tensor, free: NDArray[np.bool_] | None) -> Line | None:
    """Return the line of the residual's variance; None where the data allow none.

    Parameters
    ----------
    problem : Problem
        Of one frame.
    mean : Tensor, shape y_shape
        Mean expectation over the samples.
    free : ndarray of bool, shape (RINGS,), or None
        Rings of spatial frequency that the samples hardly fit. Only there the residual is the
        noise; None where they are too few.

    Notes
    -----
    With h the filter that keeps these rings, the square of the filtered residual has the mean
    h^2 * variance, a convolution, so that the line is fitted to filtered quantities alone.
    """
    if free is None:
        return None
    likelihood = problem.likelihood
    z = mean[None]
    residual = problem.residual(z).double()
    counts = torch.ones_like(residual)
    if problem.valid is not None:
        counts = counts * problem.valid
    whole = likelihood.variance(z).double() / likelihood.redundancy
    dark = likelihood.variance(torch.zeros_like(z)).double() / likelihood.redundancy
    keep = torch.as_tensor(free, device=z.device)[rings((z.shape[-2], z.shape[-1])).to(z.device)]
    share = float(keep.double().mean())
    kernel = torch.fft.ifft2(keep.double()).real ** 2

    def spread(image: Tensor) -> Array:
        out = torch.fft.ifft2(torch.fft.fft2(image * counts) * torch.fft.fft2(kernel)).real
        chosen = out.expand_as(counts)[counts > 0]
        return np.asarray(chosen.cpu().numpy(), dtype=np.float64)

    filtered = torch.fft.ifft2(torch.fft.fft2(residual * counts) * keep).real
    square = np.asarray((filtered**2)[counts > 0].cpu().numpy())
    light, one, base = spread(whole - dark), spread(counts), spread(dark)
    return _fitted(square - base, light, one, base, share)


def _fitted(excess: Array, light: Array, one: Array, base: Array, share: float) -> Line | None:
    """Fit excess = slope light + intercept one, by weights that follow the variance."""
    if len(excess) < FEWEST or float(light.std()) <= 1e-6 * float(abs(light).mean() + 1e-12):
        return None
    design = np.stack([light, one], 1)
    variance = light + base
    covariance = np.eye(2)
    slope, intercept = 1.0, 0.0
    for _ in range(ROUNDS):
        # A square of noise of variance v scatters by v sqrt(2); filtered neighbours share it.
        weight = 1 / np.maximum(variance, 0.02 * variance.mean()) ** 2
        normal = design.T @ (design * weight[:, None])
        if not np.isfinite(normal).all() or np.linalg.cond(normal) > 1e14:
            return None
        slope, intercept = np.linalg.solve(normal, design.T @ (weight * excess))
        covariance = 2 / share * np.linalg.inv(normal)
        variance = np.maximum(slope, 0) * light + intercept * one + base
    deviation = np.sqrt(np.diag(covariance))
    found, assumed = slope * light + intercept * one + base, light + base
    half = light <= np.median(light)
    ratios = [float(found[h].sum() / max(assumed[h].sum(), 1e-30)) for h in (half, ~half)]
    return Line(float(slope), float(deviation[0]), float(intercept), float(deviation[1]), *ratios)


def peak(white: NDArray[np.float32], at: tuple[float, float]) -> float:
    """Return the power of the strongest frequency over the others of its rings.

    Parameters
    ----------
    white : ndarray, shape y_shape
        Whitened residual of the mean.
    at : tuple of float
        Lowest and highest frequency of the rings, cycles per pixel.

    Notes
    -----
    1 is the usual power, taken from the median, which a few strong frequencies do not raise. White
    noise reaches about ln n among n frequencies; what a wrong PSF leaves is spread over directions.
    """
    planes = np.asarray(white, dtype=np.float64).reshape(-1, *white.shape[-2:])
    power = (np.abs(np.fft.fft2(planes)) ** 2).sum(0)
    number = rings((power.shape[0], power.shape[1])).numpy()
    inside = (number >= round(at[0] * 2 * RINGS)) & (number < round(at[1] * 2 * RINGS))
    found = power[inside]
    usual = float(np.median(found)) / math.log(2) if found.size else 0.0
    return float(found.max()) / usual if usual > 0 else 0.0
