"""The shipped prior: fluorescence microscopy of many structures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from napari_dps.components import PriorSource
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.prior import Prior

FOLDER = Path(__file__).parent / "weights" / "fluorescence"


class Fluorescence(PriorSource):
    """The shipped prior, trained on open fluorescence microscopy and procedural phantoms."""

    kind: Literal["fluorescence"] = "fluorescence"
    title: ClassVar[str] = "Fluorescence (shipped)"

    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of the network's inside; bfloat16 is faster on many processors; auto: the faster here."""

    def identity(self) -> dict[str, Any]:
        """Return name, format, hash, licence, pixel size and training range."""
        from napari_dps.priors._formats import describe, find

        return {**super().identity(), **describe(find(FOLDER)).identity()}

    def bind(self, grid: Grid) -> "Prior":
        """Load the weights."""
        import torch

        from napari_dps.priors._folder import load_prior

        prior = load_prior(FOLDER, grid.device, getattr(torch, grid.dtype))
        prior.set_precision(self.precision)
        return prior

    def settled(self, prior: "Prior") -> "Fluorescence":
        """Return the choice with the precision that was found faster."""
        return self.model_copy(update={"precision": prior.precision})
