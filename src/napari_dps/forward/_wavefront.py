"""The wavefront of a point in a layered sample: Gibson and Lanni, J. Opt. Soc. Am. A 8, 1991."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PUPIL_SAMPLES = 400


@dataclass(frozen=True)
class Objective:
    """An objective, and the layers between it and the point; lengths in micrometres.

    The names are those of the forward models' fields; ``*_design`` is what the objective was
    corrected for.
    """

    numerical_aperture: float
    immersion_index: float
    immersion_index_design: float
    working_distance: float
    cover_index: float
    cover_index_design: float
    cover_thickness: float
    cover_thickness_design: float
    sample_index: float
    depth: float

    @property
    def half_angle(self) -> float:
        """Return the largest angle to the axis in the immersion medium, in radians."""
        return float(np.arcsin(self.numerical_aperture / self.immersion_index))

    @property
    def depth_frequency(self) -> float:
        """Return n (1 - cos(half angle)): times 1/wavelength, the axial cut-off frequency."""
        return self.immersion_index * (1 - float(np.cos(self.half_angle)))


def cosine_path(index: float, q: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return sqrt(n^2 - q^2); imaginary, so that the wave decays, where the ray cannot enter."""
    return np.sqrt((index**2 - q**2).astype(np.complex128))


def path_difference(objective: Objective, q: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the optical path beyond the design's, in micrometres, against that on the axis.

    The immersion layer is as thick as brings the point into paraxial focus.

    Parameters
    ----------
    objective : Objective
        The layers.
    q : ndarray
        n sin(angle), the same in every layer: from 0 to the numerical aperture.
    """
    o = objective
    thickness = o.immersion_index * (
        o.cover_thickness_design / o.cover_index_design
        + o.working_distance / o.immersion_index_design
        - o.cover_thickness / o.cover_index
        - o.depth / o.sample_index
    )
    layers = [
        (o.depth, o.sample_index),
        (o.cover_thickness, o.cover_index),
        (thickness, o.immersion_index),
        (-o.cover_thickness_design, o.cover_index_design),
        (-o.working_distance, o.immersion_index_design),
    ]
    total = np.zeros(q.shape, dtype=np.complex128)
    for length, index in layers:
        if length != 0:  # else an index below the aperture would still be looked at
            total += length * (cosine_path(index, q) - index)
    return total


def focus_range(objective: Objective) -> tuple[float, float]:
    """Return between which focal planes the rings of the pupil meet, in micrometres.

    A ring's own focus is where the phase is stationary in the angle. The outermost rings are left
    out: next to total reflection their focus runs away, and they hold little light.
    """
    limit = 0.97 * objective.numerical_aperture
    if objective.depth > 0:
        limit = min(limit, 0.97 * objective.sample_index)
    angle = np.arcsin(limit / objective.immersion_index) * np.linspace(0, 1, PUPIL_SAMPLES)
    q = objective.immersion_index * np.sin(angle)
    path = path_difference(objective, q).real
    depth = objective.immersion_index * (1 - np.cos(angle))
    foci = -np.diff(path) / np.diff(depth)
    return min(0.0, float(foci.min())), max(0.0, float(foci.max()))


def rms_error(objective: Objective, wavelength: float) -> float:
    """Return the wavefront's RMS error after the best focus, in waves.

    Piston and the exact defocus of the immersion medium are removed by least squares over the
    part of the pupil that light reaches.
    """
    # Midpoints of rings of equal area.
    ring = np.sqrt((np.arange(PUPIL_SAMPLES) + 0.5) / PUPIL_SAMPLES)
    limit = objective.numerical_aperture
    if objective.depth > 0:
        limit = min(limit, objective.sample_index)
    q = ring * limit
    path = path_difference(objective, q).real / wavelength
    focus = np.sqrt(objective.immersion_index**2 - q**2)
    basis = np.stack([np.ones_like(q), focus], axis=1)
    rest = path - basis @ np.linalg.lstsq(basis, path, rcond=None)[0]
    return float(np.sqrt(np.mean(rest**2)))
