"""Point spread functions of round pupils, by the integrals over the pupil (torch part).

Scalar and vectorial (Richards and Wolf, Proc. R. Soc. A 253, 1959) in the aplanatic form, with the
path of Gibson and Lanni in the phase. Light is unpolarised and emitters turn freely, so that the
intensity is round, and a table over the radius is all that is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from napari_dps.forward._wavefront import Objective, path_difference

PANEL = 16
"""Nodes of one Gauss-Legendre panel."""
PANEL_PHASE = 12.0
"""Radians that the phase may turn within a panel; 16 nodes are then exact to rounding."""
DARK = 20.0
"""Decay of a wave's amplitude, in powers of e, from which it is left out."""
TABLE = 64
"""Radii per wavelength/NA: cubic interpolation is then good to 1e-4 of the finest detail."""
BLOCK = 1 << 21
"""Values of a Bessel function that are held at once."""


@dataclass(frozen=True)
class Light:
    """What a PSF is of: an objective, a wavelength in micrometres, scalar or vectorial."""

    objective: Objective
    wavelength: float
    vectorial: bool = True


@dataclass
class Pupil:
    """Quadrature over the pupil of one light.

    Attributes
    ----------
    angle : Tensor, shape (N,)
        Angle to the axis in the immersion medium.
    weight : Tensor of complex, shape (N,)
        sqrt(cos) sin d(angle), times the phase (and loss) of the layers.
    measure : Tensor, shape (N,)
        d(angle).
    """

    light: Light
    angle: Tensor
    weight: Tensor
    measure: Tensor

    @property
    def q(self) -> Tensor:
        """Return n sin(angle)."""
        return self.light.objective.immersion_index * torch.sin(self.angle)

    def defocus(self, z: Tensor) -> Tensor:
        """Return the phase factors (Z, N) of a focal plane ``z`` deeper than paraxial focus."""
        n = self.light.objective.immersion_index
        phase = 2 * math.pi / self.light.wavelength * n * (1 - torch.cos(self.angle))
        return torch.exp(1j * z[:, None] * phase)

    def light_per_plane(self) -> float:
        """Return the integral of the intensity over any one plane, by Parseval's theorem."""
        n = self.light.objective.immersion_index
        kappa = 2 * math.pi / self.light.wavelength
        sine, cosine = torch.sin(self.angle), torch.cos(self.angle)
        amplitude = self.weight.abs() ** 2 / self.measure / (n**2 * sine * cosine)
        polarisations = 4.0 if self.light.vectorial else 1.0
        return 2 * math.pi / kappa**2 * polarisations * float(amplitude.sum())


def make_pupil(light: Light, radius: float, depth: float) -> Pupil:
    """Return a quadrature that is exact up to a radius and a defocus (micrometres)."""
    objective = light.objective
    kappa = 2 * math.pi / light.wavelength
    top = objective.half_angle
    bounds = [0.0, top]
    grazing = objective.sample_index / objective.immersion_index
    if objective.depth > 0 and math.sin(top) > grazing:
        # Beyond, waves decay within the sample; past exp(-DARK) nothing is left of them.
        last = math.hypot(objective.sample_index, DARK / (kappa * objective.depth))
        top = min(top, math.asin(min(1.0, last / objective.immersion_index)))
        bounds = [0.0, math.asin(grazing), top]
    probe = np.sin(np.linspace(0, top, 200)) * objective.immersion_index
    length = np.abs(np.diff(path_difference(objective, probe))).sum()
    turns = kappa * (
        radius * objective.numerical_aperture + depth * objective.depth_frequency + length
    )
    panels = math.ceil(turns / PANEL_PHASE) + 2
    nodes, weights = np.polynomial.legendre.leggauss(PANEL)
    unit = ((np.arange(panels)[:, None] + (nodes + 1) / 2) / panels).ravel()
    share = np.tile(weights / 2 / panels, panels)
    angles, measures = [], []
    for low, high in pairwise(bounds):
        # The path has a root's edge where rays graze the sample, at one end or just beyond it:
        # nodes crowd there by a square.
        if low == 0:
            angle, slope = high - (high - low) * (1 - unit) ** 2, 2 * (high - low) * (1 - unit)
        else:
            angle, slope = low + (high - low) * unit**2, 2 * (high - low) * unit
        angles.append(angle)
        measures.append(share * slope)
    angle, measure = np.concatenate(angles), np.concatenate(measures)
    path = path_difference(objective, objective.immersion_index * np.sin(angle))
    weight = np.sqrt(np.cos(angle)) * np.sin(angle) * measure * np.exp(1j * kappa * path)
    return Pupil(
        light, torch.from_numpy(angle), torch.from_numpy(weight), torch.from_numpy(measure)
    )


def intensity(pupil: Pupil, r: Tensor, z: Tensor) -> Tensor:
    """Return the intensity (Z, R) at radii ``r`` in planes ``z`` (micrometres).

    Parameters
    ----------
    pupil : Pupil
        From :func:`make_pupil`, for at least this radius and defocus.
    r : Tensor, shape (R,)
        Distance from the axis.
    z : Tensor, shape (Z,)
        How much deeper in the sample than the paraxial focus the objective looks.
    """
    kappa = 2 * math.pi / pupil.light.wavelength
    field = pupil.weight * pupil.defocus(z)
    cosine, sine = torch.cos(pupil.angle), torch.sin(pupil.angle)
    out = []
    for part in torch.split(r, max(1, BLOCK // len(pupil.angle))):
        x = kappa * pupil.q[:, None] * part
        j0 = torch.special.bessel_j0(x)
        if not pupil.light.vectorial:
            out.append(_power(field, j0))
            continue
        j1 = torch.special.bessel_j1(x)
        tiny = x < 1e-4  # where 2 J1(x)/x - J0(x) would lose its digits; it is x^2/8 there
        j2 = torch.where(tiny, x**2 / 8, 2 * j1 / torch.where(tiny, 1.0, x) - j0)
        out.append(
            _power(field * (1 + cosine), j0)
            + 2 * _power(field * sine, j1)
            + _power(field * (1 - cosine), j2)
        )
    return torch.cat(out, dim=1)


def _power(field: Tensor, bessel: Tensor) -> Tensor:
    """Return |field @ bessel|^2, complex times real without making the latter complex."""
    return (field.real @ bessel) ** 2 + (field.imag @ bessel) ** 2


def on_axis(pupil: Pupil, z: Tensor) -> Tensor:
    """Return the intensity (Z,) on the axis in planes ``z``."""
    amplitude = pupil.weight * (1 + torch.cos(pupil.angle) if pupil.light.vectorial else 1.0)
    return (pupil.defocus(z) @ amplitude).abs() ** 2


def cubic(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return indices and weights (..., 4) of cubic interpolation in an even table.

    Parameters
    ----------
    position : Tensor
        Where, in steps of the table; non-negative.
    size : int
        Entries of the table.
    """
    base = position.floor().clamp(max=size - 3)
    t = position - base
    weights = torch.stack(
        [
            -t * (t - 1) * (t - 2) / 6,
            (t + 1) * (t - 1) * (t - 2) / 2,
            -(t + 1) * t * (t - 2) / 2,
            (t + 1) * t * (t - 1) / 6,
        ],
        dim=-1,
    )
    index = base[..., None].long() + torch.arange(-1, 3)
    return index.abs(), weights  # a round function is even: radius -1 is radius 1


def through_pinhole(table: Tensor, step: float, pinhole: float, count: int) -> Tensor:
    """Return the light (Z, count) that a round pinhole collects, centred at each radius.

    Parameters
    ----------
    table : Tensor, shape (Z, R)
        Intensity at radii 0, step, 2 step, ... up to the last centre plus the pinhole's radius.
    step, pinhole : float
        The table's step, and the pinhole's radius in object space (micrometres).
    count : int
        How many centres.
    """
    # Detail of the table is a wavelength/NA/2 fine, which is TABLE/2 steps.
    order = 8 + math.ceil(2 * math.pi * pinhole / (step * TABLE / 2) / 2)
    nodes, weights = np.polynomial.legendre.leggauss(order)
    rho = torch.from_numpy((nodes + 1) / 2 * pinhole)
    share = torch.from_numpy(weights) * rho / (rho * torch.from_numpy(weights)).sum()
    turn = (torch.arange(2 * order, dtype=torch.float64) + 0.5) * math.pi / (2 * order)
    x, y = rho[:, None] * torch.cos(turn), rho[:, None] * torch.sin(turn)
    spread = (share[:, None] / (2 * order)).expand_as(x)
    centres = torch.arange(count, dtype=torch.float64) * step
    out = []
    for centre in torch.split(centres, 64):
        radius = torch.hypot(centre[:, None, None] + x, y.expand(len(centre), -1, -1))
        index, weight = cubic(radius / step, table.shape[1])
        matrix = table.new_zeros((len(centre), table.shape[1]))
        matrix.scatter_add_(1, index.flatten(1), (weight * spread[..., None]).flatten(1))
        out.append(table @ matrix.T)
    return torch.cat(out, dim=1)


def over_pixels(
    table: Tensor, step: float, pitch: tuple[float, float], reach: tuple[int, int], detail: float
) -> Tensor:
    """Return the light (Z, 2 ry + 1, 2 rx + 1) that each pixel of the camera collects.

    Parameters
    ----------
    table : Tensor, shape (Z, R)
        Intensity at radii 0, step, 2 step, ...
    step : float
        Micrometres.
    pitch, reach : tuple
        Pixel's sides (Y, X) in micrometres; pixels on each side of the centre.
    detail : float
        Period of the finest detail in micrometres.
    """
    places, shares = [], []
    for side, count in zip(pitch, reach, strict=True):
        order = 3 + math.ceil(2 * math.pi * side / detail / 4)
        nodes, weights = np.polynomial.legendre.leggauss(order)
        centres = np.arange(count + 1)[:, None] * side
        places.append(torch.from_numpy(np.abs(centres + nodes / 2 * side)))
        shares.append(torch.from_numpy(weights / 2 * side))
    rows = []
    for row in places[0]:  # one row of pixels at a time bounds the memory
        radius = torch.hypot(row[:, None, None], places[1])
        index, weight = cubic(radius / step, table.shape[1])
        weight = weight * shares[0][:, None, None, None] * shares[1][:, None]
        # (row nodes, pixels, column nodes, 4) -> (pixels, everything that one pixel sums)
        index, weight = (v.movedim(1, 0).flatten(1) for v in (index, weight))
        rows.append(torch.stack([(plane[index] * weight).sum(1) for plane in table]))
    quadrant = torch.stack(rows, dim=1)
    half = torch.cat([quadrant[:, 1:].flip(1), quadrant], dim=1)
    return torch.cat([half[..., 1:].flip(2), half], dim=2)
