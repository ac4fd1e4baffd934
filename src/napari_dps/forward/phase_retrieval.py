"""Phase retrieval: only the magnitude of the object's far field was recorded."""

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from napari_dps.arrays import ArrayRef, load_mask
from napari_dps.components import ForwardModel
from napari_dps.errors import InputError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class PhaseRetrieval(ForwardModel):
    """Coherent diffraction: y = |F(pad(x))| or its square, of a real, non-negative object."""

    kind: Literal["phase-retrieval"] = "phase-retrieval"
    title: ClassVar[str] = "Phase retrieval"

    oversampling: float = Field(2.0, ge=1, le=16)
    """Pixels of the measurement per pixel of the object, along each axis."""
    measured: Literal["intensity", "magnitude"] = "intensity"
    """What was recorded: the intensity (counts) or the magnitude."""
    origin: Literal["centre", "corner"] = "centre"
    """Where the zero frequency lies in the measurement."""
    mask: ArrayRef | None = None
    """Beam stop and dead pixels: nonzero where measured, of the measurement's shape."""
    support: ArrayRef | None = None
    """Nonzero where the object may be, of the object's shape."""

    def measurement_shape(self, object_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the diffraction pattern."""
        return tuple(round(n * self.oversampling) for n in object_shape)

    def object_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the object behind a diffraction pattern of ``shape``."""
        small = tuple(round(n / self.oversampling) for n in shape)
        if min(small) < 8:
            raise InputError(
                f"a diffraction pattern of {tuple(shape)} pixels with oversampling "
                f"{self.oversampling:g} leaves an object of {small}; at least 8 pixels a side are "
                "needed"
            )
        return small

    def object_pixel_size(self, grid: Grid) -> tuple[float, ...] | None:
        """Return None: the object lies in another plane, whose pitch the pattern does not tell."""
        return None

    def object_to_input(self, values: Any, gain: float, offset: float) -> Any:
        """Turn the object's amplitude (root electrons) into the root of the input's units."""
        return values * (math.sqrt(gain) if self.measured == "intensity" else gain)

    def object_from_input(self, values: Any, gain: float, offset: float) -> Any:
        """Turn the object's amplitude in the root of the input's units into root electrons."""
        return values / (math.sqrt(gain) if self.measured == "intensity" else gain)

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._fourier import FourierMagnitude

        small = self.object_shape(grid.shape)
        return FourierMagnitude(
            grid,
            small,
            intensity=self.measured == "intensity",
            centred=self.origin == "centre",
            measured=None if self.mask is None else load_mask(self.mask, grid.shape, "mask"),
            support=None if self.support is None else load_mask(self.support, small, "support"),
        )
