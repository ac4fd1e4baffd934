"""From the optics of a microscope to the kernel on its camera's grid (torch part)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_dps.forward._optics import (
    TABLE,
    Light,
    Pupil,
    intensity,
    make_pupil,
    on_axis,
    over_pixels,
    through_pinhole,
)
from napari_dps.forward._wavefront import focus_range

FIRST_REACH = 6.0
"""Radius of the first table, in wavelengths/NA; it doubles until it holds the light."""


@dataclass(frozen=True)
class Microscope:
    """What makes a kernel, apart from the grid; lengths in micrometres.

    Attributes
    ----------
    emission : Light
        The light that is detected.
    excitation : Light or None
        The light that is focused into the sample (confocal).
    pinhole : float
        Radius of the pinhole in object space (confocal).
    sheet : float or None
        Full width at half maximum of the sheet of light along the axis (light sheet).
    """

    emission: Light
    excitation: Light | None = None
    pinhole: float = 0.0
    sheet: float | None = None

    @property
    def lights(self) -> list[Light]:
        """Return the light or lights."""
        return [self.emission] + ([self.excitation] if self.excitation else [])


@dataclass(frozen=True)
class Kernel:
    """A kernel and what was left out of it.

    Attributes
    ----------
    values : ndarray
        The PSF with odd sides, centred, of sum one.
    share : float
        Its share of the light, in the planes that it has.
    bounded : bool
        Whether the grid kept it from holding the share that was asked for.
    ends : float
        Light of the outermost planes that the grid allows, as a share of the most of any plane.
    focus : float
        How much deeper than paraxial focus the brightest plane lies, in micrometres.
    """

    values: NDArray[np.float64]
    share: float
    bounded: bool
    ends: float
    focus: float


@lru_cache(maxsize=8)
def make_kernel(
    microscope: Microscope,
    pitch: tuple[float, ...],
    limit: tuple[int, ...],
    keep: float,
    defocus: float = 0.0,
) -> Kernel:
    """Compute a kernel.

    Parameters
    ----------
    microscope : Microscope
        The optics.
    pitch : tuple of float
        (Y, X) or (Z, Y, X) in micrometres; a negative one in Z where planes go up.
    limit : tuple of int
        The largest reach on each side, in pixels.
    keep : float
        Share of the light to keep.
    defocus : float
        Plane of a 2D kernel, in micrometres deeper than the brightest one.
    """
    focus = find_focus(microscope)
    if len(pitch) == 2:
        planes = torch.tensor([focus + defocus], dtype=torch.float64)
    else:
        planes = focus + pitch[0] * torch.arange(-limit[0], limit[0] + 1, dtype=torch.float64)
    sides, most = (pitch[-2], pitch[-1]), (limit[-2], limit[-1])
    widest = max(n * a for n, a in zip(most, sides, strict=True))
    detail = min(
        light.wavelength / light.objective.numerical_aperture for light in microscope.lights
    )
    radius = min(FIRST_REACH * detail, widest)
    while True:
        table, step, total = radial_table(microscope, planes, radius)
        inside = enclosed(table, step)
        # A confocal plane's light is not known beforehand; what the outer half adds bounds it.
        if total is None:
            total, settled = inside[:, -1], _settled(inside, keep)
        else:
            settled = bool(inside[:, -1].sum() >= keep * total.sum())
        if settled or radius >= widest:
            break
        radius = min(2 * radius, widest)
    depth = _axial_reach(total, keep)
    middle = len(planes) // 2
    chosen = slice(middle - depth, middle + depth + 1)
    held = inside[chosen].sum(0) >= keep * total.sum()
    reach_radius = float(held.double().argmax()) * step if bool(held.any()) else radius
    reach = [min(n, math.ceil(reach_radius / a)) for n, a in zip(most, sides, strict=True)]
    corner = math.hypot(*((n + 1) * a for n, a in zip(reach, sides, strict=True)))
    if corner > (table.shape[1] - 3) * step or depth < middle:
        table, step, _ = radial_table(microscope, planes[chosen], corner)
    values = over_pixels(table, step, sides, (reach[0], reach[1]), detail / 2)
    share = float(values.sum() / total.sum())
    out = (values if len(pitch) == 3 else values[0]).numpy()
    out = out / out.sum()
    out.flags.writeable = False
    ends = float(torch.maximum(total[0], total[-1]) / total.max())
    return Kernel(out, share, share < keep, ends, focus)


def _settled(inside: Tensor, keep: float) -> bool:
    half = inside[:, inside.shape[1] // 2].sum()
    return bool(half >= (1 - (1 - keep) / 2) * inside[:, -1].sum())


def _axial_reach(total: Tensor, keep: float) -> int:
    """Return how many planes on each side hold all but half of what may be left out."""
    middle = len(total) // 2
    for reach in range(middle + 1):
        part = total[middle - reach : middle + reach + 1].sum()
        if part >= (1 - (1 - keep) / 2) * total.sum():
            return reach
    return middle


def enclosed(table: Tensor, step: float) -> Tensor:
    """Return the light (Z, R) within each radius of a table."""
    radius = torch.arange(table.shape[1], dtype=torch.float64) * step
    density = 2 * math.pi * radius * table
    rings = (density[:, 1:] + density[:, :-1]) / 2 * step
    return torch.cat([torch.zeros_like(rings[:, :1]), rings.cumsum(1)], dim=1)


def radial_table(
    microscope: Microscope, planes: Tensor, radius: float
) -> tuple[Tensor, float, Tensor | None]:
    """Return the PSF (Z, R) over the radius, its step, and the light of each plane if known.

    Parameters
    ----------
    microscope : Microscope
        The optics.
    planes : Tensor, shape (Z,)
        How much deeper than paraxial focus the objective looks, in micrometres.
    radius : float
        How far the table goes.
    """
    step = min(x.wavelength / x.objective.numerical_aperture for x in microscope.lights) / TABLE
    count = math.ceil(radius / step) + 4
    depth = float(planes.abs().max())
    wide = count + math.ceil(microscope.pinhole / step)
    r = torch.arange(wide + 3, dtype=torch.float64) * step
    pupil = make_pupil(microscope.emission, float(r[-1]), depth)
    table = intensity(pupil, r, planes)
    total: Tensor | None = torch.full_like(planes, pupil.light_per_plane())
    if microscope.excitation is not None:
        if microscope.pinhole > 0:
            table = through_pinhole(table, step, microscope.pinhole, count)
        table = table[:, :count]
        pupil = make_pupil(microscope.excitation, float(r[count - 1]), depth)
        table = table * intensity(pupil, r[:count], planes)
        total = None
    if microscope.sheet is not None and total is not None:
        # The sheet lies in the brightest plane: that is how it is adjusted.
        off = planes - find_focus(microscope)
        sheet = torch.exp(-4 * math.log(2) * (off / microscope.sheet) ** 2)
        table, total = table * sheet[:, None], total * sheet
    return table, step, total


@lru_cache(maxsize=64)
def find_focus(microscope: Microscope) -> float:
    """Return how much deeper than paraxial focus the plane brightest on the axis lies."""
    lights = microscope.lights
    objective = lights[0].objective
    fine = min(x.wavelength for x in lights) / objective.depth_frequency / 8

    def brightness(z: Tensor, pupils: list[Pupil]) -> Tensor:
        return torch.stack([on_axis(pupil, z) for pupil in pupils]).prod(0)

    low, high = (edge / fine for edge in focus_range(objective))
    z = torch.arange(math.floor(low) - 16, math.ceil(high) + 17, dtype=torch.float64) * fine
    pupils = [make_pupil(light, 0.0, float(z.abs().max())) for light in lights]
    best = float(z[torch.cat([brightness(part, pupils) for part in torch.split(z, 512)]).argmax()])
    for _ in range(4):  # each round looks around the best with a tenth of the step
        fine /= 10
        z = best + fine * torch.arange(-12, 13, dtype=torch.float64)
        best = float(z[brightness(z, pupils).argmax()])
    return best
