"""Ptychography: diffraction patterns of an object under a probe that scans it, overlapping."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from napari_dps.arrays import ArrayRef, load_mask
from napari_dps.components import ForwardModel, NoiseModel
from napari_dps.errors import InputError
from napari_dps.forward._recorded import refuse_counts_of_magnitudes
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator

MULTIPLE = 8
"""The object's sides are multiples of this, as networks want them."""

Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Ptychography(ForwardModel):
    """Far-field ptychography: y[n] = |F(probe x object at position n)|^2, a complex object.

    All patterns of a scan, a stack (N, Y, X), are one measurement. The object comes as real and
    imaginary part, an axis C of length 2, on the grid that the scan and the probe span.
    """

    kind: Literal["ptychography"] = "ptychography"
    title: ClassVar[str] = "Ptychography (far field)"

    probe: ArrayRef | None = None
    """Illumination on the object's grid, of a pattern's shape: real and imaginary part (2, Y, X);
    Python takes complex arrays. Its power is the photons of a pattern of an object that is one."""
    positions: ArrayRef | None = None
    """Where the probe stood, shape (N, 2): Y and X of every pattern."""
    position_unit: Literal["px", "m"] = "px"
    """Unit of the positions: pixels of the object, or metres; these need the next three."""
    wavelength: Length | None = Field(None, json_schema_extra={"unit": "nm"})
    """Wavelength."""
    distance: Length | None = Field(None, json_schema_extra={"unit": "m"})
    """From the object to the detector."""
    detector_pixel: Length | None = Field(None, json_schema_extra={"unit": "um"})
    """Pitch of the detector."""
    measured: Literal["intensity", "magnitude"] = "intensity"
    """What was recorded: the intensity (counts) or the magnitude, which takes Gaussian noise."""
    origin: Literal["centre", "corner"] = "centre"
    """Where the zero frequency lies in the patterns."""
    mask: ArrayRef | None = None
    """Beam stop and dead pixels: nonzero where measured, of a pattern's shape."""
    refine_probe: bool = False
    """Correct the probe by ePIE before sampling, and give it the mean photons of a pattern as
    power, so that the object is about one. The recipe of the result holds the corrected one."""
    refinement_passes: int = Field(50, ge=2, le=10_000)
    """Passes over all patterns of that correction."""

    @field_validator("probe", mode="before")
    @classmethod
    def _complex_probe(cls, value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype.kind == "c":
            return np.stack((value.real, value.imag))
        return value

    def dimensions(self, axes: str, shape: tuple[int, ...]) -> int:
        """Return 3: all patterns are one measurement."""
        return 3

    def object_dimensions(self, axes: str, shape: tuple[int, ...]) -> int:
        """Return 2: the object is a plane."""
        return 2

    def object_channels(self) -> int:
        """Return 2: the object is complex."""
        return 2

    def complex_probe(self) -> np.ndarray:
        """Return the probe, complex, shape (Y, X)."""
        if self.probe is None:
            raise InputError(
                "ptychography needs the probe; give its real and imaginary part (2, Y, X)"
            )
        values = np.asarray(self.probe.load(), dtype=np.float64)
        if values.ndim != 3 or values.shape[0] != 2:
            raise InputError(
                f"the probe has shape {values.shape}; give its real and imaginary part, (2, Y, X), "
                "or a complex array (Y, X)"
            )
        if not np.isfinite(values).all() or not values.any():
            raise InputError(
                "the probe has NaN or infinite values, or is zero everywhere; give finite ones"
            )
        return np.asarray(values[0] + 1j * values[1])

    def pitch(self, side: tuple[int, ...]) -> tuple[float, float] | None:
        """Return the object's pixel in micrometres, wavelength x distance / detector side."""
        if self.wavelength is None or self.distance is None or self.detector_pixel is None:
            return None
        # nanometres times metres over micrometres are thousands of micrometres.
        found = [1e3 * self.wavelength * self.distance / (n * self.detector_pixel) for n in side]
        return found[0], found[1]

    def places(self) -> np.ndarray:
        """Return the positions in pixels, shape (N, 2), the least of each axis zero."""
        if self.positions is None:
            raise InputError(
                "ptychography needs the positions of the probe; give Y and X of every pattern, "
                "(N, 2)"
            )
        values = np.asarray(self.positions.load(), dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != 2 or not np.isfinite(values).all():
            raise InputError(
                f"the positions have shape {values.shape}; give finite numbers (N, 2), Y and X of "
                "every pattern"
            )
        if self.position_unit == "m":
            pitch = self.pitch(self.complex_probe().shape)
            if pitch is None:
                raise InputError(
                    "positions in metres need wavelength, distance and detector_pixel; give all "
                    "three, or positions in pixels"
                )
            values = values * 1e6 / np.asarray(pitch)
        return np.asarray(values - values.min(0))

    def object_shape(self) -> tuple[int, int]:
        """Return the object's shape: what the scan spans, and the probe beyond it."""
        reach = np.rint(self.places()).astype(int).max(0)
        side = self.complex_probe().shape
        rows, columns = (
            MULTIPLE * -(-(int(r) + n) // MULTIPLE) for r, n in zip(reach, side, strict=True)
        )
        if max(rows, columns) > 16_384:
            raise InputError(
                f"the scan spans {rows} x {columns} pixels of the object; check the unit of the "
                "positions"
            )
        return rows, columns

    def measurement_shape(self, object_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return (N, Y, X)."""
        wanted = self.object_shape()
        if tuple(object_shape[-2:]) != wanted:
            raise InputError(
                f"the object has shape {tuple(object_shape[-2:])}, but scan and probe span "
                f"{wanted}; give an object of that shape"
            )
        return (len(self.places()), *self.complex_probe().shape)

    def object_pixel_size(self, grid: Grid) -> tuple[float, ...] | None:
        """Return the object's pixel in micrometres, where the geometry is given."""
        return self.pitch(grid.shape[-2:])

    def measured_pixels(self, frames: Any) -> Any:
        """Return the detector's mask for every pattern."""
        if self.mask is None:
            return None
        mask = load_mask(self.mask, frames.shape[-2:], "mask", "pattern")
        return np.broadcast_to(mask, frames.shape[1:])

    def check_noise(self, noise: NoiseModel) -> None:
        """Refuse noise of counts where magnitudes were recorded."""
        refuse_counts_of_magnitudes(self.measured, noise)

    def object_to_input(self, values: Any, gain: float, offset: float) -> Any:
        """Return the object as it is: its unit is the probe's matter."""
        return values

    def object_from_input(self, values: Any, gain: float, offset: float) -> Any:
        """Return the object as it is."""
        return values

    def warnings(self, grid: Grid) -> list[str]:
        """Warn where neighbouring illuminations hardly overlap."""
        places, probe = self.places(), np.abs(self.complex_probe()) ** 2
        if len(places) < 2:
            return ["a scan of one position is plain phase retrieval, with no overlap to help"]
        gaps = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
        np.fill_diagonal(gaps, np.inf)
        step = float(np.median(gaps.min(1)))
        # Diameter of the disk that would hold the probe's light at its mean intensity.
        width = 2 * float(np.sqrt(probe.sum() ** 2 / (probe**2).sum() / np.pi))
        if step <= 0.6 * width:
            return []
        return [
            f"positions are {step:.1f} pixels apart and the probe is {width:.1f} wide, so they "
            "overlap little; below 60 percent of the width is usual"
        ]

    def resolved(self, frames: Any, grid: Grid, report: dict[str, Any]) -> "Ptychography":
        """Return the model with the probe corrected on the first scan, where that is wanted."""
        if not self.refine_probe:
            return self
        import torch

        from napari_dps.core.ptychography import epie

        operator: Any = self.bind(grid)
        y = torch.as_tensor(np.asarray(frames[0], np.float64)).to(operator.probe.real)
        known = None
        if operator.measured is not None:
            known = operator._corner(operator.measured.reshape(operator.y_shape[1:]))
        magnitude = operator.magnitudes(y)
        photons = magnitude.pow(2).sum((1, 2)).mean()
        old = operator.probe * (photons / operator.probe.abs().pow(2).sum()).sqrt()
        given = (magnitude, known, operator.scan, old)
        _, _, before = epie(*given, self.refinement_passes)
        _, probe, after = epie(*given, self.refinement_passes, refine=True)
        overlap = (old.conj() * probe).sum().abs() / (old.norm() * probe.norm())
        report["probe"] = {
            "misfit_before": float(before),
            "misfit_after": float(after),
            "overlap": float(overlap),
        }
        values = torch.stack((probe.real, probe.imag)).cpu().numpy()
        return self.model_copy(update={"probe": ArrayRef(values), "refine_probe": False})

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward import _ptychography

        probe, places = self.complex_probe(), self.places()
        if len(grid.shape) != 3 or grid.shape[1:] != probe.shape or grid.shape[0] != len(places):
            raise InputError(
                f"the patterns have shape {tuple(grid.shape)}, but the probe has {probe.shape} and "
                f"there are {len(places)} positions: give patterns (N, Y, X), a probe of their "
                "shape and one position each"
            )
        return _ptychography.Ptychography(
            grid,
            _ptychography.make_scan(places, self.object_shape(), probe.shape, grid.device),
            probe,
            intensity=self.measured == "intensity",
            centred=self.origin == "centre",
            measured=None
            if self.mask is None
            else load_mask(self.mask, probe.shape, "mask", "pattern"),
        )
