"""Inpainting: pixels that are missing by a mask, by boxes, as NaN, or since they are saturated."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from napari_dps.arrays import ArrayRef, load_mask
from napari_dps.components import ForwardModel
from napari_dps.errors import InputError
from napari_dps.grid import Grid
from napari_dps.saturation import saturated_pixels

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator

Box = tuple[int, int, int, int]


class Inpaint(ForwardModel):
    """Missing pixels: by a mask, boxes, NaN or saturation; all that are named are missing."""

    kind: Literal["inpaint"] = "inpaint"
    title: ClassVar[str] = "Missing pixels (mask)"
    only_masks: ClassVar[bool] = True

    mask: ArrayRef | None = None
    """Mask of the image's shape, or of one frame's or plane's, nonzero where measured. NaN pixels
    are missing with or without one."""
    box: tuple[Box, ...] = Field((), json_schema_extra={"unit": "px"})
    """A missing box [y0, x0, y1, x1], its last row and column not included, or a list of boxes."""
    saturated: bool = False
    """Whether saturated pixels are missing too; see full_scale."""

    @field_validator("box", mode="before")
    @classmethod
    def _boxes(cls, value: Any) -> Any:
        if value is None:
            return ()
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, (list, tuple)):
            raise ValueError("give [y0, x0, y1, x1] in whole pixels, or a list of such boxes")
        boxes = [value] if value and not isinstance(value[0], (list, tuple)) else value
        for one in boxes:
            whole = all(isinstance(n, int) and not isinstance(n, bool) for n in one)
            if len(one) != 4 or not whole:
                raise ValueError("give [y0, x0, y1, x1] in whole pixels, or a list of such boxes")
            y0, x0, y1, x1 = one
            if not (0 <= y0 < y1 and 0 <= x0 < x1):
                raise ValueError(
                    "a box is [y0, x0, y1, x1] with y0 below y1, x0 below x1 and none negative"
                )
        return tuple(tuple(one) for one in boxes)

    def known(self, shape: tuple[int, ...], frames: int | None = None) -> np.ndarray | None:
        """Return True where mask and boxes leave pixels; None where neither is given.

        Parameters
        ----------
        shape : tuple of int
            Of one measurement.
        frames : int, optional
            How many there are: then a mask may have all of them, and so has what is returned.

        Raises
        ------
        InputError
            If they do not fit the shape or leave nothing.
        """
        if self.mask is None and not self.box:
            return None
        known = np.ones(shape, bool)
        if self.mask is not None:
            given = self.mask.shape()
            wanted = shape[-2:] if given == shape[-2:] else shape
            if frames is not None and given == (frames, *shape):
                wanted = given
            of = "image" if frames in (None, 1) else "frame"
            known = known & load_mask(self.mask, wanted, "mask", of)
        for y0, x0, y1, x1 in self.box:
            if y1 > shape[-2] or x1 > shape[-1]:
                raise InputError(
                    f"the box [{y0}, {x0}, {y1}, {x1}] leaves the image of {shape[-2]} x "
                    f"{shape[-1]} pixels; give one inside it"
                )
            known[..., y0:y1, x0:x1] = False
        if not known.any():
            raise InputError("mask and boxes leave no pixel that was measured; leave some")
        return known

    def laid_out(self, lay: Callable[[ArrayRef], ArrayRef]) -> "Inpaint":
        """Return the model with a mask of a whole image laid out as its frames are."""
        if self.mask is None:
            return self
        return self.model_copy(update={"mask": lay(self.mask)})

    def of_frame(self, index: int, dimensions: int) -> "Inpaint":
        """Return the model of one frame, whose mask is its own where every frame has one."""
        if self.mask is None or len(self.mask.shape()) <= dimensions:
            return self
        own = self.mask.load()[index]
        # Of a frame that lacks nothing no mask is asked.
        return self.model_copy(update={"mask": None if (own != 0).all() else ArrayRef(own)})

    def measurement_shape(self, object_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the object's shape."""
        shape = tuple(object_shape)
        if self._stacked(shape):
            raise InputError(
                "the mask is one of a whole stack, but here every frame is measured alike: give a "
                f"mask of one frame's shape {shape}"
            )
        return shape

    def _stacked(self, shape: tuple[int, ...]) -> bool:
        """Return whether the mask has more axes than one measurement: one of a whole image."""
        return self.mask is not None and len(self.mask.shape()) > len(shape)

    def measured_pixels(self, frames: Any) -> Any:
        """Return True where measured.

        Raises
        ------
        InputError
            If nothing is missing at all.
        """
        known = self.known(frames.shape[1:], len(frames))
        found = np.ones(frames.shape, bool)
        if known is not None:
            found &= known
        if frames.dtype.kind == "f":
            found &= np.isfinite(frames)
        if self.saturated:
            found &= ~saturated_pixels(frames, self.saturation_level())[1]
        if known is None and found.all():
            raise InputError(
                "inpaint was chosen without a mask, and no pixel is "
                + ("saturated or NaN" if self.saturated else "NaN")
                + "; give a mask that is nonzero where pixels were measured, or a box that was not"
            )
        return found

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._mask import Mask

        # Frames with missing pixels of their own leave them out, see `measured_pixels`.
        if self.mask is not None and self._stacked(grid.shape):
            known: np.ndarray | None = self.mask.load() != 0
            operator = Mask(None, grid)
        else:
            known = self.known(grid.shape)
            operator = Mask(known, grid)
        if known is not None and known.all() and not self.saturated:
            raise InputError(
                "the mask is nonzero everywhere, so nothing is missing; set missing pixels to 0 "
                "or use the forward model 'identity'"
            )
        return operator
