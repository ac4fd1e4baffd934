"""Confocal fluorescence: excitation PSF times what the pinhole lets through."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_dps.forward._microscope import MicroscopeModel

if TYPE_CHECKING:
    from napari_dps.forward._kernel import Microscope


class Confocal(MicroscopeModel):
    """Blur by the PSF of a confocal microscope with a round pinhole, in 2D or 3D."""

    kind: Literal["confocal"] = "confocal"
    title: ClassVar[str] = "Confocal microscope"

    excitation: float = Field(488.0, ge=100, le=3000, json_schema_extra={"unit": "nm"})
    """Wavelength of the laser, in vacuum."""
    pinhole: float = Field(1.0, ge=0, le=10, json_schema_extra={"unit": "AU"})
    """Diameter of the pinhole in Airy units (1.22 wavelength/NA of the emission); 0 is a point."""

    def cutoff(self) -> tuple[float, float]:
        """Return the highest lateral and axial frequency that passes, in cycles per micrometre.

        Those of excitation and emission add up; a pinhole of d Airy units passes of the latter
        what lies below the first zero of its own spectrum, NA/(d wavelength).
        """
        lateral, axial = super().cutoff()
        passed = min(1.0, 0.5 / self.pinhole) if self.pinhole > 0 else 1.0
        factor = self.wavelength / self.excitation + passed
        return lateral * factor, axial * factor

    def microscope(self) -> "Microscope":
        """Return what the torch part computes from."""
        from napari_dps.forward._kernel import Microscope
        from napari_dps.forward._optics import Light

        objective, vectorial = self.objective(), self.model == "vectorial"
        emission = self.wavelength / 1000
        return Microscope(
            Light(objective, emission, vectorial),
            Light(objective, self.excitation / 1000, vectorial),
            pinhole=self.pinhole / 2 * 1.22 * emission / self.numerical_aperture,
        )
