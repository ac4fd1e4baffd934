"""From averaged beads to a PSF: how wide it is, and the bead's own width taken out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_dps._beads import FWHM, MARGIN, Averaged, crossing
from napari_dps.errors import InputError
from napari_dps.forward._measured import SIGNIFICANT, light_only

Array = NDArray[np.float64]

SMOOTHING = 0.35
"""Of the full width: how far a PSF is smoothed to read its width off."""


def finished(
    averaged: Averaged, diameter: float | None, steps: Sequence[float]
) -> tuple[Array, Array, Array]:
    """Return the PSF, its widths in pixels, and each bead's widths; without the bead's own."""
    image = averaged.psf
    clean = light_only(image if image.ndim == 3 else image[None], averaged.noise)
    clean = clean.reshape(image.shape)
    # What stands out pixel by pixel stays as it was measured.
    clean = np.where((clean > 0) & (image > SIGNIFICANT * averaged.noise), image, clean)
    spans = widths(image)
    each = np.abs(averaged.scales) * spans
    psf = clean
    if diameter is not None:
        size = np.asarray(steps)
        own = FWHM * diameter / np.sqrt(20)  # of a Gaussian as wide as a sphere along an axis
        if diameter > 1.3 * float((spans * size).min()):
            raise InputError(
                f"a bead of {diameter:g} µm cannot look {(spans * size).min():.3g} µm wide; check "
                "the bead diameter and the pixel size, both in micrometres"
            )
        rough = np.sqrt(np.maximum((spans * size) ** 2 - own**2, (0.3 * spans * size) ** 2))
        psf = without_bead(clean, averaged.noise, steps, diameter, rough)
        # Where the beads' image is dark the PSF is too: what the filter leaves there is ringing.
        psf = np.where(clean > 0, np.clip(psf, 0, None), 0.0)
        taken = spans**2 - widths(psf) ** 2
        spans = widths(psf)
        each = np.sqrt(np.maximum(each**2 - taken, 0.0))
    inner: tuple[slice, ...] = tuple(slice(MARGIN, n - MARGIN) for n in psf.shape)
    psf = psf[inner]
    return psf / psf.sum(), spans, each


def widths(box: Array) -> Array:
    """Return the full width at half maximum through the middle, per axis in pixels.

    Read off an image smoothed by a third of the width, so that the noise of one pixel does not
    decide; what the smoothing adds, in squares, is taken off again.
    """
    rough = _read_off(box)
    first = _read_off(_smoothed(box, rough))
    added = SMOOTHING * np.minimum(rough, first)
    return np.sqrt(np.maximum(_read_off(_smoothed(box, added / SMOOTHING)) ** 2 - added**2, 0.0))


def _smoothed(box: Array, width: Array) -> Array:
    """Return the box smoothed by a Gaussian of a share of the width, exact where it is narrow."""
    spectrum = np.fft.fftn(box)
    for axis, (n, w) in enumerate(zip(box.shape, width, strict=True)):
        turn = np.exp(-2 * (np.pi * np.fft.fftfreq(n) * SMOOTHING * w / FWHM) ** 2)
        spectrum = spectrum * turn.reshape([-1 if a == axis else 1 for a in range(box.ndim)])
    return np.asarray(np.fft.ifftn(spectrum).real)


def _read_off(box: Array) -> Array:
    fine = 20
    found = []
    height = float(box[tuple(m // 2 for m in box.shape)])
    for axis, n in enumerate(box.shape):
        line = box[tuple(slice(None) if a == axis else m // 2 for a, m in enumerate(box.shape))]
        # Between pixels as the lens, which passes no finer detail, has it; splines are too wide.
        curve = np.fft.irfft(np.fft.rfft(line), fine * n) * fine
        found.append(crossing(curve, fine * (n // 2), height / 2) / fine)
    return np.array(found)


def sphere_spectrum(
    shape: Sequence[int], pixel_size: Sequence[float], diameter: float
) -> NDArray[np.float64]:
    """Return the Fourier transform of an evenly bright sphere, one at frequency zero.

    3 (sin x - x cos x) / x^3 with x = 2 pi k R. In 2D, for a sphere seen whole, the same formula
    holds: the projection's transform is the central slice.
    """
    square: Array = np.zeros(tuple(shape))
    for axis, (n, step) in enumerate(zip(shape, pixel_size, strict=True)):
        k = np.fft.fftfreq(n, step)
        square = square + (k**2).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    x = np.pi * diameter * np.sqrt(square)
    safe = np.where(x < 0.02, 1.0, x)
    return np.where(x < 0.02, 1 - x**2 / 10, 3 * (np.sin(safe) - safe * np.cos(safe)) / safe**3)


def without_bead(
    image: Array, noise: float, pixel_size: Sequence[float], diameter: float, width: Array
) -> Array:
    """Return a bead's image freed of the bead's own width, by a Wiener filter.

    Parameters
    ----------
    image : ndarray
        Average of beads, centred.
    noise : float
        Standard deviation of a value's noise, white.
    pixel_size : sequence of float
        Micrometres.
    diameter : float
        Micrometres.
    width : ndarray
        Full widths at half maximum that the result roughly has, in micrometres: a Gaussian of
        these stands for the signal's power.
    """
    sphere = sphere_spectrum(image.shape, pixel_size, diameter)
    exponent: Array = np.zeros(image.shape)
    for axis, (n, step, w) in enumerate(zip(image.shape, pixel_size, width, strict=True)):
        k = np.fft.fftfreq(n, step)
        part = (2 * np.pi * k * w / FWHM) ** 2
        exponent = exponent + part.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    power = np.exp(-exponent)
    relative = image.size * noise**2 / float(image.sum()) ** 2
    # Rounding alone leaves this much where the sphere's transform has its zeros.
    filtered = sphere * power / (sphere**2 * power + max(relative, 1e-9))
    return np.asarray(np.fft.ifftn(np.fft.fftn(image) * filtered).real)
