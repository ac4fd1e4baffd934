"""A forward model of your own: one torch function, used as any other.

python examples/own_model.py
"""

from importlib.resources import files
from typing import ClassVar, Literal

import torch
from pydantic import Field

import napari_dps
from napari_dps.forward import FunctionModel
from napari_dps.io import read_image

SAMPLES = files("napari_dps") / "sample_data"


class Ghost(FunctionModel):
    """A reflection: the object once more, weaker and to the right."""

    kind: Literal["ghost"] = "ghost"
    affine: ClassVar[bool] = True
    margin: ClassVar[int] = 100
    shift: int = Field(12, ge=1, le=100, json_schema_extra={"unit": "px"})
    """How far the reflection lies."""

    def measure(self, x: torch.Tensor) -> torch.Tensor:
        """Return the object and its reflection."""
        return 0.7 * x + 0.3 * torch.roll(x, self.shift, dims=-1)


def main() -> None:
    """Give a sample's truth a ghost, and take it away again."""
    truth = read_image(str(SAMPLES / "nuclei_blur_truth.tif")).data
    measured = napari_dps.simulate(truth, forward=Ghost(), noise="poisson")
    result = napari_dps.reconstruct(measured, forward=Ghost(), noise="poisson", samples=4)
    print(f"misfit: {result.report['misfit']:.2f}")
    print(f"written: {result.save('without_ghost.ome.tif')}")


if __name__ == "__main__":
    main()
