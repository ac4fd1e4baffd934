"""Phase retrieval: only the magnitude of the object's far field was recorded."""

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.arrays import ArrayRef, load_mask
from napari_dps.components import ForwardModel, NoiseModel
from napari_dps.errors import InputError
from napari_dps.forward._recorded import refuse_counts_of_magnitudes
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator

FROM_DATA = "autocorrelation"

Factor = Annotated[float, Field(ge=1, le=16)]


class PhaseRetrieval(ForwardModel):
    """Coherent diffraction: y = |F(pad(x))| or its square, of a real or complex object.

    Flips and shifts of the object (and the phase of a complex one as a whole) leave the pattern as
    it is: samples are registered to the one that explains it best. A complex object has no
    positivity to hold it: give a tight support, or an oversampling well above 2.
    """

    kind: Literal["phase-retrieval"] = "phase-retrieval"
    title: ClassVar[str] = "Phase retrieval"
    words: ClassVar[dict[str, tuple[str, ...]]] = {"support": (FROM_DATA,)}

    oversampling: Factor | tuple[Factor, Factor] = 2.0
    """Pixels of the measurement per pixel of the object along each axis: one number, or one along
    Y and one along X."""
    measured: Literal["intensity", "magnitude"] = "intensity"
    """What was recorded: the intensity (counts) or the magnitude, which takes Gaussian noise."""
    origin: Literal["centre", "corner"] = "centre"
    """Where the zero frequency lies in the measurement."""
    mask: ArrayRef | None = None
    """Beam stop and dead pixels: nonzero where measured, of the measurement's shape."""
    support: ArrayRef | None = None
    """Nonzero where the object may be, of the object's shape; or the word autocorrelation: from
    the pattern itself, which a beam stop of more than a few pixels falsifies."""
    support_threshold: float = Field(0.04, gt=0, lt=1)
    """Share of the autocorrelation's maximum above which a shift belongs to the support, where
    that is 'autocorrelation'."""
    support_pixels: Annotated[int, Field(ge=1)] | None = None
    """Bright pixels of a real object, at most, where their number is known and their places are
    not (Elser's support size); the solution that samples start from has no more."""
    object: Literal["real", "complex"] = "real"
    """Real and non-negative, or complex: then its real and imaginary part are an axis C of
    length 2."""

    def _factors(self) -> tuple[float, float]:
        if isinstance(self.oversampling, tuple):
            return self.oversampling
        return self.oversampling, self.oversampling

    def object_channels(self) -> int:
        """Return 2 of a complex object, else 1."""
        return 2 if self.object == "complex" else 1

    def measurement_shape(self, object_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the diffraction pattern."""
        return tuple(round(n * f) for n, f in zip(object_shape, self._factors(), strict=True))

    def object_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the object behind a diffraction pattern of ``shape``."""
        factors = self._factors()
        small = tuple(round(n / f) for n, f in zip(shape, factors, strict=True))
        if min(small) < 8:
            named = f"{factors[0]:g}" if factors[0] == factors[1] else f"{factors}"
            raise InputError(
                f"a diffraction pattern of {tuple(shape)} pixels with oversampling {named} leaves "
                f"an object of {small}; at least 8 pixels a side are needed"
            )
        return small

    def object_pixel_size(self, grid: Grid) -> tuple[float, ...] | None:
        """Return None: the object lies in another plane, whose pitch the pattern does not tell."""
        return None

    def object_to_input(self, values: Any, gain: float, offset: float) -> Any:
        """Turn the object's amplitude (root electrons) into the root of the input's units."""
        return values * (math.sqrt(gain) if self.measured == "intensity" else gain)

    def object_from_input(self, values: Any, gain: float, offset: float) -> Any:
        """Turn the object's amplitude in the root of the input's units into root electrons."""
        return values / (math.sqrt(gain) if self.measured == "intensity" else gain)

    def check_noise(self, noise: NoiseModel) -> None:
        """Refuse noise of counts where magnitudes were recorded."""
        refuse_counts_of_magnitudes(self.measured, noise)

    def _from_data(self) -> bool:
        return self.support is not None and self.support.path == FROM_DATA

    def resolved(self, frames: Any, grid: Grid, report: dict[str, Any]) -> "PhaseRetrieval":
        """Return the model with the support that the patterns' autocorrelation shows."""
        if not self._from_data():
            return self
        intensity = np.clip(np.asarray(frames, dtype=np.float64), 0, None).mean(0)
        if self.measured == "magnitude":
            intensity = intensity**2
        if self.mask is not None:
            intensity = np.where(load_mask(self.mask, grid.shape, "mask"), intensity, 0)
        support = self.support_of(intensity)
        report["support"] = {"share": float(support.mean()), "threshold": self.support_threshold}
        return self.model_copy(update={"support": ArrayRef(support)})

    def support_of(self, intensity: np.ndarray) -> np.ndarray:
        """Return the object's support, bool, from the autocorrelation of a pattern.

        An object lies within its own autocorrelation once one of its points is in the centre; as
        first support after Marchesini et al., Phys. Rev. B 68, 140101 (2003).
        """
        from scipy.ndimage import binary_dilation, binary_fill_holes

        small = self.object_shape(intensity.shape)
        if self.origin == "centre":
            intensity = np.fft.ifftshift(intensity)
        # A taper up to the largest frequency, so that the detector's edge leaves no ripples.
        tapers = [0.5 + 0.5 * np.cos(2 * np.pi * np.fft.fftfreq(n)) for n in intensity.shape]
        found = np.abs(np.fft.fftshift(np.fft.ifft2(intensity * np.outer(*tapers))))
        middle = tuple(n // 2 for n in found.shape)
        # Photon noise adds to the shift zero alone.
        around = found[middle[0] - 1 : middle[0] + 2, middle[1] - 1 : middle[1] + 2].copy()
        around[1, 1] = 0
        found[middle] = around.max()
        inside = tuple(
            slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(found.shape, small, strict=True)
        )
        shifts = found[inside] > self.support_threshold * found.max()
        return np.asarray(binary_fill_holes(binary_dilation(shifts)))

    def warnings(self, grid: Grid) -> list[str]:
        """Warn where a complex object has nothing that holds it."""
        if self.object == "real" or self.support is not None or min(self._factors()) > 2.5:
            return []
        return [
            "a complex object without a support is barely determined at an oversampling of "
            f"{min(self._factors()):g}: give a support (a file, or 'autocorrelation')"
        ]

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._fourier import FourierMagnitude

        small = self.object_shape(grid.shape)
        support = None
        if self.support is not None and not self._from_data():
            support = load_mask(self.support, small, "support", "object")
        return FourierMagnitude(
            grid,
            small,
            intensity=self.measured == "intensity",
            centred=self.origin == "centre",
            measured=None if self.mask is None else load_mask(self.mask, grid.shape, "mask"),
            support=support,
            channels=self.object_channels(),
            pixels=self.support_pixels if self.object == "real" else None,
        )
