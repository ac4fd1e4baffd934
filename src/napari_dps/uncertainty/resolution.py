"""How fine is what the samples agree on: Fourier ring correlation with error bars."""

from __future__ import annotations

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
        Number of rings up to half a cycle per pixel; half the shorter side where left out.

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
    window = np.hanning(first.shape[0] + 2)[1:-1, None] * np.hanning(first.shape[1] + 2)[1:-1]
    a, b = (np.fft.fft2(window * (v - v.mean())) for v in (first, second))
    ky, kx = (np.fft.fftfreq(n) for n in first.shape)
    radius = np.hypot(ky[:, None], kx)
    count = rings or min(first.shape) // 2
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
        In ``length_unit``; the result's own where it has one.
    length_unit : str
        Of ``pixel_size``.
    level : float
        Of the interval over pairs of samples; each sample is in one pair, never with its
        antithetic partner.

    Returns
    -------
    Measurement
        ``position`` is the frequency in cycles per unit of length.
    """
    samples = _samples(result)
    half = len(samples) // 2
    check_level(level, half)
    pixel, unit = _pixel(result, pixel_size, length_unit)
    # Partners are neighbours (0 and 1, 2 and 3): the other half is never one's partner.
    pairs = [(k, half + (k + 2 * (half % 2)) % half) for k in range(half)]
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
    if given is not None:
        return float(given), unit
    scale, units = getattr(result, "scale", None), getattr(result, "units", None)
    if scale and units and units[-1] != "pixel":
        return float(scale[-1]), str(units[-1])
    return 1.0, "px"
