"""Widefield fluorescence: the PSF from the objective, the layers and the wavelength."""

from typing import TYPE_CHECKING, ClassVar, Literal

from napari_dps.forward._microscope import MicroscopeModel

if TYPE_CHECKING:
    from napari_dps.forward._kernel import Microscope


class Widefield(MicroscopeModel):
    """Blur by the PSF of a widefield fluorescence microscope, in 2D or 3D."""

    kind: Literal["widefield"] = "widefield"
    title: ClassVar[str] = "Widefield microscope"
    sections: ClassVar[bool] = False

    def microscope(self) -> "Microscope":
        """Return what the torch part computes from."""
        from napari_dps.forward._kernel import Microscope
        from napari_dps.forward._optics import Light

        return Microscope(
            Light(self.objective(), self.wavelength / 1000, self.model == "vectorial")
        )
