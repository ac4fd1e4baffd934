"""Identity: the measurement shows the object itself; only noise is removed."""

from typing import TYPE_CHECKING, ClassVar, Literal

from napari_dps.components import ForwardModel
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class Identity(ForwardModel):
    """No blur: the expected measurement is the object. Use it to denoise."""

    kind: Literal["identity"] = "identity"
    title: ClassVar[str] = "Identity (denoise)"
    only_masks: ClassVar[bool] = True

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._mask import Mask

        return Mask(None, grid)
