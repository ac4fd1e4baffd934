"""Light sheet: the detection PSF, lit by a sheet of Gaussian profile."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_dps.forward._microscope import MicroscopeModel
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.forward._kernel import Microscope


class LightSheet(MicroscopeModel):
    """Blur by the PSF of a light-sheet microscope, the sheet lying in focus, in 2D or 3D."""

    kind: Literal["lightsheet"] = "lightsheet"
    title: ClassVar[str] = "Light-sheet microscope"

    numerical_aperture: float = Field(1.0, gt=0, lt=2.5)
    """Numerical aperture of the detection objective."""
    immersion_index: float = Field(1.33, ge=1.0, le=2.5)
    """Refractive index of the immersion medium: water 1.33, cleared tissue 1.45 to 1.56, air 1."""
    sample_index: float = Field(1.33, ge=1.0, le=2.5)
    """Refractive index around the object."""
    cover_thickness: float = Field(0.0, ge=0, le=2000, json_schema_extra={"unit": "um"})
    """Thickness of a cover slip before the detection objective; 0 for none."""
    sheet_thickness: float = Field(3.0, gt=0, le=1000, json_schema_extra={"unit": "um"})
    """Full width at half maximum of the sheet's intensity along the detection axis."""

    def microscope(self) -> "Microscope":
        """Return what the torch part computes from."""
        from napari_dps.forward._kernel import Microscope
        from napari_dps.forward._optics import Light

        light = Light(self.objective(), self.wavelength / 1000, self.model == "vectorial")
        return Microscope(light, sheet=self.sheet_thickness)

    def warnings(self, grid: Grid) -> list[str]:
        """Return what is doubtful about these optics on this grid, with its numbers."""
        found = super().warnings(grid)
        pitch = self.pitch(grid)
        if len(pitch) == 3 and pitch[0] > self.sheet_thickness:
            found.append(
                f"planes {pitch[0]:.4g} um apart are wider than the sheet of "
                f"{self.sheet_thickness:g} um: what lies between them was never lit"
            )
        return found
