"""Random inpainting: a given fraction of the pixels is lost."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.components import ForwardModel
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class RandomInpaint(ForwardModel):
    """Random missing pixels: a fraction is lost, the same ones for a given seed.

    Chung et al. (ICLR 2023) lose 92 %, the same pixels of every colour: ``missing`` 0.92.
    """

    kind: Literal["random-inpaint"] = "random-inpaint"
    title: ClassVar[str] = "Random missing pixels"
    only_masks: ClassVar[bool] = True

    missing: float = Field(0.8, gt=0, lt=1)
    """Fraction of the pixels that is lost."""
    mask_seed: int = Field(0, ge=0, lt=2**31)
    """Seed of the mask."""

    def mask(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the mask, True where measured: exactly the given fraction, at least one pixel."""
        count = int(np.prod(shape))
        kept = max(1, round((1 - self.missing) * count))
        flat = np.zeros(count, dtype=bool)
        flat[np.random.default_rng(self.mask_seed).permutation(count)[:kept]] = True
        return flat.reshape(shape)

    def measured_pixels(self, frames: Any) -> Any:
        """Return True where measured."""
        return self.mask(frames.shape[1:])

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._mask import Mask

        return Mask(self.mask(grid.shape), grid)
