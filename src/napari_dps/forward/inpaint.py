"""Inpainting: a known mask of measured pixels."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from napari_dps.arrays import ArrayRef, load_mask
from napari_dps.components import ForwardModel
from napari_dps.errors import InputError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class Inpaint(ForwardModel):
    """Missing pixels: only those where the mask is nonzero were measured."""

    kind: Literal["inpaint"] = "inpaint"
    title: ClassVar[str] = "Missing pixels (mask)"

    mask: ArrayRef | None = None
    """Mask of the image's shape, nonzero where measured; left out: NaN pixels are missing."""

    def measured_pixels(self, frames: Any) -> Any:
        """Return True where measured: the mask's pixels or, without one, those that are not NaN.

        Raises
        ------
        InputError
            If there is no mask and no pixel is NaN.
        """
        if self.mask is not None:
            return super().measured_pixels(frames)
        finite = np.isfinite(frames) if frames.dtype.kind == "f" else np.ones(frames.shape, bool)
        if finite.all():
            raise InputError(
                "inpaint was chosen without a mask, and no pixel is NaN; give a mask that is "
                "nonzero where pixels were measured"
            )
        return finite

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._mask import Mask

        if self.mask is None:
            return Mask(None, grid)
        mask = load_mask(self.mask, grid.shape, "mask")
        if mask.all():
            raise InputError(
                "the mask is nonzero everywhere, so nothing is missing; set missing pixels to 0 "
                "or use the forward model 'identity'"
            )
        return Mask(mask, grid)
