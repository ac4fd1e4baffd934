"""Tomography: projections of a slice at many angles, a sinogram."""

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.arrays import ArrayRef
from napari_dps.components import ForwardModel
from napari_dps.errors import InputError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class Radon(ForwardModel):
    """Parallel-beam tomography: a slice from its projections, at any angles.

    Every datum is the sum over the strip of the object that one detector pixel sees. Of
    transmission images give minus the logarithm of their transmittance, with Gaussian noise.
    """

    kind: Literal["radon"] = "radon"
    title: ClassVar[str] = "Tomography (parallel beam)"

    angles: ArrayRef | None = Field(None, json_schema_extra={"unit": "degrees"})
    """Angle of every projection, one number each; left out: evenly spread, by the three below."""
    first_angle: float = Field(0.0, ge=-360, le=360, json_schema_extra={"unit": "degrees"})
    """Angle of the first projection; at 0 the slice is summed along its columns."""
    angular_range: float = Field(180.0, gt=0, le=360, json_schema_extra={"unit": "degrees"})
    """Angle that the projections are spread over, its end left out."""
    count: Literal["auto"] | Annotated[int, Field(ge=1, le=100_000)] = "auto"
    """Number of projections; auto: as many as the sinogram holds (in a simulation pi/2 per
    detector pixel and half turn, as full sampling needs)."""
    layout: Literal["angles-detector", "detector-angles"] = "angles-detector"
    """What rows and columns of the sinogram are; scikit-image writes detector-angles."""
    centre: Literal["auto"] | Annotated[float, Field(ge=0, le=100_000)] = Field(
        "auto", json_schema_extra={"unit": "px"}
    )
    """Detector pixel that the rotation axis falls on, counted from 0; auto: the middle.
    scikit-image turns about half the number of pixels, rounded down."""

    def _given_angles(self) -> np.ndarray | None:
        if self.angles is None:
            return None
        values = np.asarray(self.angles.load(), dtype=np.float64)
        if values.ndim != 1 and values.size != max(values.shape):
            raise InputError(
                f"the angles have shape {values.shape}; give a list with one number of degrees "
                "per projection"
            )
        if not np.isfinite(values).all():
            raise InputError("the angles have NaN or infinite values; give degrees")
        if self.count not in ("auto", values.size):
            raise InputError(
                f"count = {self.count}, but {values.size} angles were given; leave `count` out, "
                "or the angles"
            )
        return values.ravel()

    def angle_list(self, count: int) -> np.ndarray:
        """Return the angles of ``count`` projections in degrees.

        Raises
        ------
        InputError
            If others were given.
        """
        given = self._given_angles()
        expected = (len(given) if given is not None else self.count) or count
        if expected not in ("auto", count):
            raise InputError(
                f"the sinogram has {count} projections, but {expected} angles were given; check "
                "the angles, or whether `layout` is 'detector-angles'"
            )
        if given is not None:
            return given
        return self.first_angle + self.angular_range * np.arange(count) / count

    def measurement_shape(self, object_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the sinogram's shape for a square slice."""
        if len(object_shape) != 2 or object_shape[0] != object_shape[1]:
            raise InputError(
                f"the slice has shape {tuple(object_shape)}, but tomography needs as many rows as "
                "columns; crop or pad it to a square"
            )
        side = object_shape[0]
        given = self._given_angles()
        if given is not None:
            count = len(given)
        elif self.count == "auto":
            count = math.ceil(math.pi / 2 * side * min(1.0, self.angular_range / 180))
        else:
            count = self.count
        return (count, side) if self.layout == "angles-detector" else (side, count)

    def object_pixel_size(self, grid: Grid) -> tuple[float, ...] | None:
        """Return the detector's pitch, along both axes."""
        if grid.pixel_size is None:
            return None
        pitch = grid.pixel_size[-1] if self.layout == "angles-detector" else grid.pixel_size[-2]
        return pitch, pitch

    def object_axes_from(self, count: int) -> tuple[int, ...]:
        """Return the detector's axis for rows and columns of the slice."""
        return (count - 1,) * 2 if self.layout == "angles-detector" else (count - 2,) * 2

    def warnings(self, grid: Grid) -> list[str]:
        """Warn where the angles leave parts of the object unseen."""
        count, side = self._sides(grid)
        angles = np.sort(np.mod(self.angle_list(count), 180.0))
        gaps = np.diff(np.append(angles, angles[0] + 180.0))
        widest = float(gaps.max())
        even = 180.0 / max(count, 1)
        if widest > max(3.0 * even, 10.0):
            return [
                f"no projection lies within a gap of {widest:.0f} degrees, so edges along these "
                "directions come from the prior alone"
            ]
        if count < side / 4:
            return [
                f"{count} projections of {side} pixels each see little of the slice "
                f"({math.ceil(math.pi / 2 * side)} see all of it); the prior fills the rest"
            ]
        return []

    def _sides(self, grid: Grid) -> tuple[int, int]:
        rows, columns = grid.shape[-2:]
        return (rows, columns) if self.layout == "angles-detector" else (columns, rows)

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._radon import ParallelBeam

        count, side = self._sides(grid)
        if side < 8:
            raise InputError(
                f"the detector has {side} pixels; at least 8 are needed (rows are "
                f"{self.layout.split('-')[0]} by `layout`)"
            )
        centre: Any = (side - 1) / 2 if self.centre == "auto" else self.centre
        if centre > side - 1:
            raise InputError(
                f"the rotation axis at pixel {centre:g} lies beyond the detector of {side} pixels; "
                f"give 0 to {side - 1}"
            )
        return ParallelBeam(
            grid,
            np.deg2rad(self.angle_list(count)),
            float(centre),
            angles_first=self.layout == "angles-detector",
        )
