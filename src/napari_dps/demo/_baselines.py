"""What people use today, to compare with: Richardson-Lucy and hybrid input-output, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Array = NDArray[np.float64]

__all__ = [
    "Blur",
    "best_by",
    "counts_misfit",
    "far_field_intensity",
    "filtered_back_projection",
    "hio",
    "richardson_lucy",
]


class Blur:
    """Convolution of an object that is wider than its image by the PSF's reach.

    Parameters
    ----------
    psf : ndarray, shape (2 r + 1, 2 q + 1)
        Of sum one.
    shape : tuple of int
        The image's shape; ``wide`` is the object's.
    """

    def __init__(self, psf: Array, shape: tuple[int, int]) -> None:
        self.reach = [n // 2 for n in psf.shape]
        least = [n + 2 * r for n, r in zip(shape, self.reach, strict=True)]
        self.wide = tuple(scipy.fft.next_fast_len(n, real=True) for n in least)
        self._field: tuple[Any, ...] = tuple(
            slice(r, r + n) for n, r in zip(shape, self.reach, strict=True)
        )
        kernel = np.zeros(self.wide)
        kernel[: psf.shape[0], : psf.shape[1]] = psf
        kernel = np.roll(kernel, [-r for r in self.reach], axis=(0, 1))
        self.transfer = scipy.fft.rfft2(kernel)

    def _filter(self, image: Array, transfer: NDArray[np.complex128]) -> Array:
        out: Array = scipy.fft.irfft2(scipy.fft.rfft2(image) * transfer, s=self.wide)
        return out

    def forward(self, wide: Array) -> Array:
        """Return the image of an object."""
        return np.asarray(self._filter(wide, self.transfer)[self._field])

    def transpose(self, image: Array) -> Array:
        """Return the transposed product."""
        wide = np.zeros(self.wide)
        wide[self._field] = image
        return self._filter(wide, self.transfer.conj())

    def crop(self, wide: Array) -> Array:
        """Return the part of an object that its image shows."""
        return np.asarray(wide[self._field])

    def embed(self, image: Array) -> Array:
        """Return an image on the object's grid, mirrored outside."""
        pad = [(part.start, n - part.stop) for part, n in zip(self._field, self.wide, strict=True)]
        return np.pad(image, pad, mode="symmetric")


def richardson_lucy(counts: Array, blur: Blur) -> Iterator[tuple[Array, Array]]:
    """Yield (estimate, expected counts) after each iteration, without end.

    Richardson 1972, Lucy 1974, with the object continued beyond the field and the sensitivity
    that this gives (Bertero and Boccacci 2005), so that borders do not ring.

    Parameters
    ----------
    counts : ndarray, shape (Y, X)
        Non-negative.
    blur : Blur
        The known blur.
    """
    sensitivity = blur.transpose(np.ones(counts.shape))
    inside = sensitivity > 0.01
    estimate = np.full(blur.wide, max(float(counts.mean()), 1e-12))
    expected = blur.forward(estimate)
    while True:
        ratio = blur.transpose(counts / np.maximum(expected, 1e-9))
        factor = np.where(inside, ratio / np.maximum(sensitivity, 0.01), 1.0)
        estimate = estimate * np.maximum(factor, 0)
        expected = blur.forward(estimate)
        yield blur.crop(estimate), expected


def best_by(counts: Array, blur: Blur, truth: Array, iterations: int = 200) -> tuple[Array, int]:
    """Return Richardson-Lucy's iterate nearest to the truth, and its number.

    Nobody has the truth when it matters: this flatters Richardson-Lucy.
    """
    best, number, least = counts, 0, np.inf
    for k, (estimate, _) in enumerate(islice(richardson_lucy(counts, blur), iterations)):
        error = float(np.mean((estimate - truth) ** 2))
        if error < least:
            best, number, least = estimate, k + 1, error
    return best, number


def counts_misfit(counts: Array, expected: Array) -> Array:
    """Return chi-square of Poisson counts over its expectation, over the last two axes."""
    weight = 1 / np.maximum(expected, 0.05)
    seen = np.sum(weight * (counts - expected) ** 2, axis=(-2, -1))
    return np.asarray(seen / np.sum(weight * expected, axis=(-2, -1)))


def _centre(small: tuple[int, ...], large: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(slice((n - m) // 2, (n - m) // 2 + m) for m, n in zip(small, large, strict=True))


def far_field_intensity(image: Array, shape: tuple[int, int]) -> Array:
    """Return |F(pad(image))|^2 with an orthonormal FFT, zero frequency in the centre."""
    wide = np.zeros((*image.shape[:-2], *shape))
    wide[(..., *_centre(image.shape[-2:], shape))] = image
    spectrum = scipy.fft.fft2(wide, norm="ortho")
    return np.asarray(scipy.fft.fftshift(np.abs(spectrum) ** 2, axes=(-2, -1)))


def hio(
    counts: Array,
    object_shape: tuple[int, int],
    *,
    restarts: int = 4,
    iterations: int = 1000,
    polish: int = 100,
    beta: float = 0.9,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Return objects found by hybrid input-output, best first, and their misfits.

    Fienup 1982: real, non-negative, known support (the object's grid), random start phases,
    then error reduction.

    Parameters
    ----------
    counts : ndarray, shape (Y, X)
        Photon counts of the far field, zero frequency in the centre.
    object_shape : tuple of int
        The object's grid.
    restarts, iterations, polish : int
        Random starts; steps of hybrid input-output, then of error reduction.
    beta : float
        Feedback.
    seed : int
        Of the starts.

    Returns
    -------
    images : ndarray, shape (restarts, *object_shape)
    misfits : ndarray, shape (restarts,)
        Chi-square per datum.
    """
    rng = np.random.default_rng(seed)
    half = counts.shape[1] // 2 + 1  # a real object: the other half of the plane says the same
    full = np.sqrt(np.maximum(scipy.fft.ifftshift(counts), 0))
    mirrored = np.roll(full[::-1, ::-1], 1, axis=(0, 1))
    magnitude = np.sqrt((full**2 + mirrored**2) / 2)[:, :half]
    inside = _centre(object_shape, counts.shape)
    support = np.zeros(counts.shape, dtype=bool)
    support[inside] = True
    start = magnitude * np.exp(2j * np.pi * rng.random((restarts, *magnitude.shape)))
    iterate = scipy.fft.irfft2(start, s=counts.shape, norm="ortho")
    for k in range(iterations + polish):
        field = scipy.fft.rfft2(iterate, norm="ortho")
        field *= magnitude / np.maximum(np.abs(field), 1e-12)
        fitted = scipy.fft.irfft2(field, s=counts.shape, norm="ortho")
        outside = iterate - beta * fitted if k < iterations else 0.0
        iterate = np.where(support & (fitted >= 0), fitted, outside)
    images = np.maximum(iterate[(..., *inside)], 0)
    misfits = counts_misfit(counts, far_field_intensity(images, counts.shape))
    order = np.argsort(misfits, kind="stable")
    return images[order], misfits[order]


def filtered_back_projection(sinogram: Array, angles: Array, centre: float | None = None) -> Array:
    """Return the slice of a sinogram (angles, detector) by filtered back-projection.

    Parameters
    ----------
    sinogram : ndarray, shape (A, N)
        Parallel projections.
    angles : ndarray, shape (A,)
        Degrees, evenly spread over a half turn.
    centre : float, optional
        Detector pixel of the rotation axis; the middle if left out.

    Notes
    -----
    Kak and Slaney, "Principles of Computerized Tomographic Imaging" (1988), chapter 3: the ramp
    filter sampled in space, linear interpolation on the detector.
    """
    count, side = sinogram.shape
    centre = (side - 1) / 2 if centre is None else centre
    size = scipy.fft.next_fast_len(2 * side, real=True)
    distance = np.minimum(np.arange(size), size - np.arange(size))
    kernel = np.zeros(size)
    kernel[0] = 0.25
    odd = distance % 2 == 1
    kernel[odd] = -1 / (np.pi * distance[odd]) ** 2
    ramp = scipy.fft.rfft(kernel).real
    filtered = scipy.fft.irfft(scipy.fft.rfft(sinogram, size, axis=1) * ramp, size, axis=1)
    offset = np.arange(side) - centre
    found = np.zeros((side, side))
    for line, angle in zip(filtered[:, :side], np.deg2rad(angles), strict=True):
        place = centre + np.cos(angle) * offset[None, :] - np.sin(angle) * offset[:, None]
        found += np.interp(place, np.arange(side), line, left=0, right=0)
    return np.asarray(found * np.pi / count)
