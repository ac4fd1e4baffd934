"""Overlapping illuminations: the scan's geometry, and ePIE.

Maiden and Rodenburg, "An improved ptychographical phase retrieval algorithm for diffractive
imaging", Ultramicroscopy 109 (2009): patterns one after the other in random order, each corrects
the object where its light fell, and the probe too where that is to be refined.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_dps.core.interrupt import ask

STEP = 0.9


@dataclass
class Scan:
    """Where a probe stood on the object.

    Attributes
    ----------
    corners : Tensor of int, shape (N, 2)
        First row and column of every patch.
    fractions : Tensor, shape (N, 2)
        What is left of the positions, in pixels: by so much the probe itself is shifted.
    shape : tuple of int
        The object's shape.
    side : tuple of int
        The probe's shape.
    """

    corners: Tensor
    fractions: Tensor
    shape: tuple[int, int]
    side: tuple[int, int]

    def index(self) -> Tensor:
        """Return the flat pixel of the object behind every pixel of every patch, (N, Y, X)."""
        device = self.corners.device
        rows = self.corners[:, 0, None] + torch.arange(self.side[0], device=device)
        columns = self.corners[:, 1, None] + torch.arange(self.side[1], device=device)
        return rows[:, :, None] * self.shape[1] + columns[:, None, :]

    def ramps(self, dtype: torch.dtype) -> Tensor:
        """Return the phase ramps that shift a probe to every position, (N, Y, X), complex."""
        device = self.corners.device
        turns = []
        for axis, n in enumerate(self.side):
            k = torch.fft.fftfreq(n, dtype=torch.float64, device=device)
            turns.append(self.fractions[:, axis, None].double() * k)
        angle = -2 * torch.pi * (turns[0][:, :, None] + turns[1][:, None, :])
        return torch.polar(torch.ones_like(angle), angle).to(dtype)


def shifted(probe: Tensor, ramps: Tensor) -> Tensor:
    """Return the probe at every position, shape of ``ramps``."""
    moved: Tensor = torch.fft.ifft2(torch.fft.fft2(probe) * ramps)
    return moved


def epie(
    magnitude: Tensor,
    known: Tensor | None,
    scan: Scan,
    probe: Tensor,
    iterations: int,
    *,
    refine: bool = False,
    begin: Tensor | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (object, probe, squared misfit of the magnitudes per datum).

    Parameters
    ----------
    magnitude : Tensor, shape (N, Y, X)
        Measured magnitudes, zero frequency in the corner.
    known : Tensor of bool, shape (N, Y, X), or None
        Which of them count.
    scan : Scan
        Positions.
    probe : Tensor, complex, shape (Y, X)
        Illumination.
    iterations : int
        Passes over all patterns.
    refine : bool
        Whether the probe is corrected too, from the second pass on; its power stays.
    begin : Tensor, optional
        First object, complex; else a flat one that transmits as much light as was measured.
    seed : int
        Of the order of the patterns.
    """
    ramps = scan.ramps(probe.dtype)
    power = probe.abs().pow(2).sum()
    if begin is None:
        level = (magnitude.pow(2).sum((1, 2)).mean() / power).sqrt()
        begin = torch.ones(scan.shape, dtype=probe.dtype, device=probe.device) * level
    image, probe = begin.clone(), probe.clone()
    generator = torch.Generator().manual_seed(seed)
    tiny = torch.finfo(magnitude.dtype).tiny
    corners = scan.corners.tolist()
    misfit = magnitude.new_zeros(())
    for sweep in range(iterations):
        misfit = magnitude.new_zeros(())
        for n in torch.randperm(len(corners), generator=generator).tolist():
            ask()
            top, left = corners[n]
            place = (slice(top, top + scan.side[0]), slice(left, left + scan.side[1]))
            light = shifted(probe, ramps[n])
            patch = image[place]
            wave = light * patch
            far = torch.fft.fft2(wave, norm="ortho")
            size = far.abs()
            fixed = far * (magnitude[n] / size.clamp_min(tiny))
            if known is not None:
                fixed = torch.where(known[n], fixed, far)
            off = fixed - far
            misfit += off.abs().pow(2).sum()
            change = torch.fft.ifft2(off, norm="ortho")
            image[place] = patch + STEP * light.conj() * change / light.abs().pow(2).amax()
            if refine and sweep > 0:
                brightest = patch.abs().pow(2).amax().clamp_min(tiny)
                step = STEP * patch.conj() * change / brightest
                probe = probe + shifted(step, ramps[n].conj())
                probe = probe * (power / probe.abs().pow(2).sum()).sqrt()
    return image, probe, misfit / magnitude.numel()
