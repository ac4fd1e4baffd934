"""How fine is what the samples agree on: Fourier ring correlation with error bars."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dps._quantiles import check_level
from napari_dps.errors import InputError
from napari_dps.uncertainty.measure import Measurement, _note, _samples, from_draws

if TYPE_CHECKING:
    from napari_dps.result import Result

__all__ = ["fourier_ring_correlation", "resolution", "ring_correlation"]

THRESHOLD = 1 / 7


def ring_correlation(
    first: NDArray[Any], second: NDArray[Any], rings: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the correlation of two images per ring of spatial frequency.

    Parameters
    ----------
    first, second : ndarray, shape (Y, X)
        Two images of one object. A Hann window takes the edges' cross out of the spectrum.
    rings : int, optional
        Number of rings up to half a cycle per pixel, 1 or more; half the shorter side where left
        out.

    Returns
    -------
    frequency, correlation : ndarray, shape (rings,)
        Cycles per pixel at the ring's middle, and -1 to 1; NaN where a ring holds no power.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise InputError(
            f"a ring correlation needs two planes of one shape; got {first.shape} and "
            f"{second.shape}"
        )
    if rings is not None and (not isinstance(rings, int | np.integer) or rings < 1):
        raise InputError(f"rings = {rings!r} is not allowed; give a whole number of 1 or more")
    window = np.hanning(first.shape[0] + 2)[1:-1, None] * np.hanning(first.shape[1] + 2)[1:-1]
    a, b = (np.fft.fft2(window * (v - v.mean())) for v in (first, second))
    ky, kx = (np.fft.fftfreq(n) for n in first.shape)
    radius = np.hypot(ky[:, None], kx)
    count = min(first.shape) // 2 if rings is None else int(rings)
    ring = np.minimum((radius * 2 * count).astype(int), count).ravel()

    def per_ring(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(ring, values.ravel(), count + 1)[:count].astype(np.float64)

    cross = per_ring((a * b.conj()).real)
    power = np.sqrt(per_ring(np.abs(a) ** 2) * per_ring(np.abs(b) ** 2))
    correlation = np.divide(cross, power, out=np.full(count, np.nan), where=power > 0)
    return (np.arange(count) + 0.5) / (2 * count), correlation


def fourier_ring_correlation(
    result: Result | NDArray[Any],
    *,
    rings: int | None = None,
    pixel_size: float | None = None,
    length_unit: str = "px",
    level: float = 0.8,
) -> Measurement:
    """Return the ring correlation between samples: 1 where the data fix a frequency, 0 where not.

    What two posterior samples share comes from the measurement and from what the prior is sure
    of; frequencies at which they differ were filled in. It says how fine the structure is that is
    not one of many possibilities, not how sharp a picture looks.

    Parameters
    ----------
    result : Result, or array of shape (S, Y, X)
        Posterior samples of a plane.
    rings : int, optional
        See :func:`ring_correlation`.
    pixel_size : float, optional
        Of square pixels, in ``length_unit``; the result's own where it has one.
    length_unit : str
        Of ``pixel_size``.
    level : float
        Of the interval over pairs of samples; each sample is in one pair, never with its
        antithetic partner, and no two pairs are of the same partners.

    Returns
    -------
    Measurement
        ``position`` is the frequency in cycles per unit of length.

    Raises
    ------
    InputError
        If there are too few samples, no planes, or pixels that are not square.
    """
    samples = _samples(result)
    half = len(samples) // 2
    check_level(level, len(samples), each=2)
    pixel, unit = _pixel(result, pixel_size, length_unit)
    # Partners are neighbours (0 and 1, 2 and 3): the other half is never one's partner.
    pairs = [(k, half + (k + 2 * (half % 2)) % half) for k in range(half)]
    if getattr(result, "pairs", False):
        # The first of two partners with the second of the next two: (0, 2) and (1, 3), which are
        # each other mirrored, would agree so well that they were one.
        pairs = [(2 * k, (2 * k + 3) % (2 * half)) for k in range(half)]
    draws, frequency = [], None
    for one, two in pairs:
        frequency, correlation = ring_correlation(samples[one], samples[two], rings)
        draws.append(correlation)
    assert frequency is not None
    names = [f"ring {k}" for k in range(len(frequency))]
    return from_draws(
        np.array(draws),
        names,
        level=level,
        unit="correlation",
        position=frequency / pixel,
        position_unit=f"cycles/{unit}",
        note=_note(result),
    )


def resolution(rings: Measurement, threshold: float = THRESHOLD) -> Measurement:
    """Return the length at which a ring correlation first falls below a threshold.

    Parameters
    ----------
    rings : Measurement
        Of :func:`fourier_ring_correlation`.
    threshold : float
        1/7 is customary.

    Returns
    -------
    Measurement
        One value, in units of length; NaN for pairs that stay above it up to the last ring.
    """
    if rings.position is None:
        raise InputError("the resolution follows from a ring correlation; measure that first")
    found = [_crossing(rings.position, draw, threshold) for draw in rings.draws]
    return from_draws(
        np.array(found)[:, None],
        ["resolution"],
        level=rings.level,
        unit=rings.position_unit.removeprefix("cycles/"),
        note=rings.note,
    )


def _crossing(frequency: NDArray[Any], draw: NDArray[Any], threshold: float) -> float:
    below = np.flatnonzero(draw < threshold)
    if len(below) == 0:
        return float("nan")
    k = int(below[0])
    if k == 0:
        return float(1 / frequency[0])
    share = (draw[k - 1] - threshold) / (draw[k - 1] - draw[k])
    return float(1 / (frequency[k - 1] + share * (frequency[k] - frequency[k - 1])))


def _pixel(result: Any, given: float | None, unit: str) -> tuple[float, str]:
    scale: Any = getattr(result, "scale", None)
    units: Any = getattr(result, "units", None)
    known = bool(scale and units and units[-1] != "pixel")
    if known and not square(scale[-2:]):
        raise InputError(
            f"pixels are {scale[-2]:.4g} by {scale[-1]:.4g} {units[-1]}: rings of spatial "
            "frequency need square ones; resample the image first"
        )
    if given is not None:
        told: Any = given
        if not (isinstance(told, Real) and 0 < float(told) < math.inf):
            raise InputError(f"pixel_size = {given!r} is no length; give a number above 0")
        return float(given), unit
    return (float(scale[-1]), str(units[-1])) if known else (1.0, "px")


def square(steps: Any) -> bool:
    """Whether the sides of a pixel agree to a hundredth."""
    return bool(abs(abs(steps[0] / steps[1]) - 1) <= 0.01)
