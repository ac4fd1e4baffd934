"""A prior from a folder: what ``napari-dps train`` writes."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_dps.components import PriorSource
from napari_dps.errors import PriorError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.prior import Prior


class Checkpoint(PriorSource):
    """A prior of your own, from the folder that training wrote. Weights are safetensors only."""

    kind: Literal["checkpoint"] = "checkpoint"
    title: ClassVar[str] = "Folder of a trained prior"

    path: str = Field("", json_schema_extra={"unit": "folder"})
    """Folder with config.json and model.safetensors."""

    def bind(self, grid: Grid) -> "Prior":
        """Load the weights."""
        if not self.path.strip():
            raise PriorError("the checkpoint prior has no path; name the folder of a trained prior")
        import torch

        from napari_dps.priors._folder import load_prior

        return load_prior(self.path, grid.device, getattr(torch, grid.dtype))
