"""What the PSFs of microscopes share: their parameters, and what to warn of."""

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from napari_dps.components import ForwardModel
from napari_dps.errors import InputError
from napari_dps.forward._wavefront import Objective, rms_error
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator
    from napari_dps.forward._kernel import Kernel, Microscope

TOLERANCE = 1.05
"""Sampling that is coarser than Nyquist's by less than this is not spoken of."""
FAINT = 0.05
"""Share of the light in focus below which a plane counts as dark."""
COARSEST = 100
"""From so many times Nyquist's pitch on a PSF is a point, and the unit is wrong."""
MARECHAL = 1 / 14
"""RMS wavefront error, in waves, from which a lens is no longer called diffraction-limited."""
MICROMETRES: dict[str, Any] = {"unit": "um"}
Index = Annotated[float, Field(ge=1.0, le=2.5)]
Pitch = Annotated[float, Field(gt=0, le=1000)]


class MicroscopeModel(ForwardModel):
    """Blur by the PSF of a microscope, computed from its optics."""

    numerical_aperture: float = Field(1.4, gt=0, lt=2.5)
    """Numerical aperture of the objective."""
    wavelength: float = Field(520.0, ge=100, le=3000, json_schema_extra={"unit": "nm"})
    """Wavelength of the light that is detected, in vacuum (emission)."""
    immersion_index: float = Field(1.515, ge=1.0, le=2.5)
    """Refractive index of the immersion medium: oil 1.515, glycerol 1.45, water 1.33, air 1."""
    sample_index: float = Field(1.46, ge=1.0, le=2.5)
    """Refractive index around the object: water and living cells 1.33 to 1.38, mounting media 1.4
    to 1.52."""
    depth: float = Field(0.0, ge=0, le=2000, json_schema_extra=MICROMETRES)
    """Distance of the object from the cover slip."""
    cover_index: float = Field(1.5255, ge=1.0, le=2.5)
    """Refractive index of the cover slip."""
    cover_thickness: float = Field(170.0, ge=0, le=2000, json_schema_extra=MICROMETRES)
    """Thickness of the cover slip."""
    cover_index_design: Index | Literal["auto"] = "auto"
    """Refractive index of the cover slip that the objective is made for (auto: as it is)."""
    cover_thickness_design: Annotated[float, Field(ge=0, le=2000)] | Literal["auto"] = Field(
        "auto", json_schema_extra=MICROMETRES
    )
    """Thickness of the cover slip that the objective is made or set for (auto: as it is)."""
    immersion_index_design: Index | Literal["auto"] = "auto"
    """Refractive index of the immersion that the objective is made for (auto: as it is)."""
    working_distance: float = Field(150.0, gt=0, le=30000, json_schema_extra=MICROMETRES)
    """Thickness of the immersion that the objective is made for; of no effect while the immersion
    is what it should be."""
    model: Literal["vectorial", "scalar"] = "vectorial"
    """Vectorial (exact to high apertures) or scalar (enough below about 0.7)."""
    defocus: float = Field(0.0, ge=-100, le=100, json_schema_extra=MICROMETRES)
    """Plane of the PSF for a 2D image, from the one in focus, positive deeper in the sample; of no
    effect on volumes."""
    planes: Literal["downwards", "upwards"] = "downwards"
    """Whether the planes of a volume go from the cover slip into the sample, or back."""
    pixel_size: Pitch | Literal["auto"] = Field("auto", json_schema_extra=MICROMETRES)
    """Pixel size in the sample (auto: what the image says)."""
    z_step: Pitch | Literal["auto"] = Field("auto", json_schema_extra=MICROMETRES)
    """Distance of the planes of a volume (auto: what the image says)."""
    crop: float = Field(0.98, ge=0.5, le=0.9999)
    """Share of the PSF's light to keep, within the planes that it has; dim tails are cut."""
    margin: float = Field(0.5, gt=0, le=1)
    """How far the PSF may reach, as a share of the image's extent along each axis; what is
    restored extends as far beyond the image, so it bounds memory and time."""

    sections: ClassVar[bool] = True
    """Whether planes far from focus are dark."""

    def dimensions(self, axes: str, shape: tuple[int, ...]) -> int:
        """Return 3 for an image with several planes along Z, else 2."""
        return 3 if "Z" in axes and shape[axes.index("Z")] > 1 else 2

    def object_pixel_size(self, grid: Grid) -> tuple[float, ...] | None:
        """Return the image's pitch; where it has none, the one that was given."""
        if grid.pixel_size is not None:
            return grid.pixel_size
        try:
            return self.pitch(grid)
        except InputError:  # told by `bind` and `warnings`; here unknown is an answer
            return None

    def pitch(self, grid: Grid) -> tuple[float, ...]:
        """Return the pitch of the grid's pixels in micrometres.

        Raises
        ------
        InputError
            If neither the image nor the parameters tell.
        """
        known: list[float | None] = [
            v if v and math.isfinite(v) else None for v in grid.pixel_size or ()
        ]
        known[:0] = [None] * (len(grid.shape) - len(known))
        if self.pixel_size != "auto":
            known[-2:] = [self.pixel_size] * 2
        if len(known) == 3 and self.z_step != "auto":
            known[0] = self.z_step
        missing = {
            "pixel_size": None in known[-2:],
            "z_step": len(known) == 3 and known[0] is None,
        }
        names = [name for name, is_missing in missing.items() if is_missing]
        if names:
            raise InputError(
                f"{self.kind} computes the PSF in micrometres, but the image does not say its "
                f"{' and '.join(names)}; give {' and '.join(names)} in um as a parameter of "
                f"{self.kind}, or the pixel size with the image"
            )
        return tuple(v for v in known if v is not None)

    def objective(self) -> Objective:
        """Return the objective and the layers before it.

        Raises
        ------
        InputError
            If no light of the full aperture can pass a layer.
        """

        def designed(value: float | str, actual: float) -> float:
            return actual if isinstance(value, str) else value

        found = Objective(
            self.numerical_aperture,
            self.immersion_index,
            designed(self.immersion_index_design, self.immersion_index),
            self.working_distance,
            self.cover_index,
            designed(self.cover_index_design, self.cover_index),
            self.cover_thickness,
            designed(self.cover_thickness_design, self.cover_thickness),
            self.sample_index,
            self.depth,
        )
        layers = {
            "immersion_index": found.immersion_index,
            "immersion_index_design": found.immersion_index_design,
        }
        if found.cover_thickness > 0:
            layers["cover_index"] = found.cover_index
        if found.cover_thickness_design > 0:
            layers["cover_index_design"] = found.cover_index_design
        for name, index in layers.items():
            if self.numerical_aperture >= index:
                raise InputError(
                    f"numerical_aperture = {self.numerical_aperture:g} is not below {name} = "
                    f"{index:g}, which no lens can have; correct one of the two"
                )
        return found

    def microscope(self) -> "Microscope":
        """Return what the torch part computes from."""
        raise NotImplementedError

    def kernel(self, grid: Grid) -> "Kernel":
        """Return the kernel on a grid, with what was cut from it (kept for the next time)."""
        from napari_dps.forward._kernel import make_kernel

        pitch = self.pitch(grid)
        self._refuse_units(pitch)
        if len(pitch) == 3 and self.planes == "upwards":
            pitch = (-pitch[0], *pitch[1:])
        limit = tuple(max(1, round(self.margin * n)) for n in grid.shape)
        defocus = self.defocus if len(pitch) == 2 else 0.0
        return make_kernel(self.microscope(), pitch, limit, self.crop, defocus)

    def _refuse_units(self, pitch: tuple[float, ...]) -> None:
        """Refuse a pitch so coarse that it must be in another unit."""
        lateral, axial = (1 / (2 * frequency) for frequency in self.cutoff())
        for name, step, nyquist in (
            ("pixel_size", max(pitch[-2:]), lateral),
            ("z_step", pitch[0] if len(pitch) == 3 else 0.0, axial),
        ):
            if step > COARSEST * nyquist:
                raise InputError(
                    f"{name} = {step:.4g} um is {step / nyquist:.0f} times Nyquist's "
                    f"{nyquist:.3g} um for this {self.kind} PSF; give it in micrometres, or "
                    "correct aperture and wavelength"
                )

    def psf(self, grid: Grid) -> NDArray[np.float64]:
        """Return the PSF on a grid of two or three dimensions: odd sides, centred, of sum one.

        Parameters
        ----------
        grid : Grid
            Shape and pixel size (micrometres) of the image that is to be restored.
        """
        return self.kernel(grid).values.copy()

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._convolution import Convolution

        return Convolution(self.kernel(grid).values, grid)

    def cutoff(self) -> tuple[float, float]:
        """Return the highest lateral and axial frequency that passes, in cycles per micrometre."""
        micrometres = self.wavelength / 1000
        objective = self.objective()
        return 2 * self.numerical_aperture / micrometres, objective.depth_frequency / micrometres

    def white_noise(
        self, frames: Any, grid: Grid | None = None, valid: Any = None
    ) -> tuple[float, float] | None:
        """Return the noise beyond the optics' cutoff, where pixels are fine enough to show it."""
        from napari_dps.forward._beyond import noise_beyond

        if grid is None or valid is not None:
            return None
        try:
            pitch = self.pitch(grid)[-2:]
            cutoff = self.cutoff()[0]
        except InputError:  # told by `bind`, with everything else that these optics lack
            return None
        planes = np.asarray(frames, dtype=np.float64)
        return noise_beyond(planes.reshape(-1, *planes.shape[-2:]), (pitch[0], pitch[1]), cutoff)

    def warnings(self, grid: Grid) -> list[str]:
        """Return what is doubtful about these optics on this grid, with its numbers."""
        objective = self.objective()
        return [
            *self._sampling(grid),
            *self._layers(objective),
            *self._cut(grid),
        ]

    def _sampling(self, grid: Grid) -> list[str]:
        pitch = self.pitch(grid)
        found = []
        lateral, axial = (1 / (2 * frequency) for frequency in self.cutoff())
        coarse = max(pitch[-2:])
        if coarse > TOLERANCE * lateral:
            found.append(
                f"pixels of {coarse:.4g} um are coarser than Nyquist's {lateral:.3g} um for this "
                f"{self.kind} PSF: detail beyond {2 * coarse:.3g} um is aliased, and noise looks "
                "like structure"
            )
        if len(pitch) == 3 and pitch[0] > TOLERANCE * axial:
            found.append(
                f"planes {pitch[0]:.4g} um apart are coarser than Nyquist's {axial:.3g} um for "
                f"this {self.kind} PSF: depth is resolved by the prior more than by the data"
            )
        given = grid.pixel_size or ()
        for name, own, file in (
            ("pixel_size", self.pixel_size, given[-1] if given else None),
            ("z_step", self.z_step, given[0] if len(given) == 3 else None),
        ):
            if own != "auto" and file and abs(own / file - 1) > 0.02:
                found.append(f"{name} = {own:g} um was taken, though the image says {file:.4g} um")
        return found

    def _layers(self, objective: Objective) -> list[str]:
        found = []
        if self.depth > 0 and self.numerical_aperture > self.sample_index:
            found.append(
                f"numerical_aperture = {self.numerical_aperture:g} is above sample_index = "
                f"{self.sample_index:g}: steeper light is totally reflected, so the objective "
                f"works at {self.sample_index:g} in this depth"
            )
        error = rms_error(objective, self.wavelength / 1000)
        if error > MARECHAL:
            found.append(
                f"spherical aberration is large: {error:.2g} waves RMS at a depth of "
                f"{self.depth:g} um (diffraction-limited is below {MARECHAL:.2g}); depth, indices "
                "and cover slip must be right, and the PSF changes with depth"
            )
        return found

    def _cut(self, grid: Grid) -> list[str]:
        kernel = self.kernel(grid)
        found = []
        larger = f"{'raise it, or ' if self.margin < 1 else ''}give a larger field"
        if kernel.bounded:
            size = " x ".join(str(n) for n in kernel.values.shape)
            found.append(
                f"the PSF was cut to {size} pixels, which hold {kernel.share:.0%} of the light of "
                f"its planes, since it may reach {self.margin:g} of the image's extent (`margin`): "
                f"{larger}"
            )
        # A widefield plane holds the same light however far from focus: no stack has them all.
        if self.sections and len(grid.shape) == 3 and kernel.ends > FAINT:
            found.append(
                f"the outermost planes of the PSF still hold {kernel.ends:.0%} of the light of the "
                f"one in focus, since it may reach {self.margin:g} of the stack (`margin`): "
                f"{larger}"
            )
        return found
