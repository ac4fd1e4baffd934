"""Motion blur: the camera or the specimen moved while light was collected."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.components import ForwardModel
from napari_dps.forward._reach import cut_warnings, reach_warnings, within_reach
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class MotionBlur(ForwardModel):
    """Blur by a path along which the image moved during the exposure, straight or random.

    The random path of 61 pixels and intensity 0.5 is the case of Chung et al. (ICLR 2023); the
    generator is this project's own.
    """

    kind: Literal["motion-blur"] = "motion-blur"
    title: ClassVar[str] = "Motion blur"

    path: Literal["straight", "random"] = "straight"
    """Shape of the path: a straight line, or a random walk with inertia."""
    length: float = Field(15.0, gt=0, le=500, json_schema_extra={"unit": "px"})
    """Length of a straight path."""
    angle: float = Field(0.0, ge=-360, le=360, json_schema_extra={"unit": "degrees"})
    """Direction of a straight path: from the X axis towards the top of the image."""
    extent: float = Field(61.0, ge=3, le=501, json_schema_extra={"unit": "px"})
    """Side of the square that a random path just fits, centred on its light."""
    intensity: float = Field(0.5, ge=0, le=1)
    """How tangled a random path is: 0 is straight, 1 the most."""
    path_seed: int = Field(0, ge=0, lt=2**31)
    """Seed of a random path."""
    boundary: Literal["extend", "periodic"] = "extend"
    """Whether the object continues beyond the field (extend) or repeats itself (periodic)."""

    def psf(self) -> np.ndarray:
        """Return the PSF with odd sides, of sum one, its centre of light in the middle."""
        from napari_dps.forward._motion import rasterised, straight, wandering

        if self.path == "straight":
            return rasterised(straight(self.length, self.angle))
        return rasterised(wandering(self.extent, self.intensity, self.path_seed))

    def _volume(self, grid: Grid) -> np.ndarray:
        """Return the PSF with a grid's axes: a volume moves as a whole, every plane alike."""
        psf = self.psf()
        return psf.reshape((1,) * (len(grid.shape) - 2) + psf.shape)

    def warnings(self, grid: Grid) -> list[str]:
        """Warn where the path is as long as the image."""
        if self.boundary == "periodic":
            return []
        psf = self._volume(grid)
        cut = within_reach(psf, grid, self.boundary)
        shorter = "a smaller `length`" if self.path == "straight" else "a smaller `extent`"
        return [*cut_warnings([psf], [cut]), *reach_warnings(cut.shape, grid, shorter)]

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._convolution import Convolution

        psf = within_reach(self._volume(grid), grid, self.boundary)
        return Convolution(psf, grid, self.boundary)
