"""Undersampled k-space: magnetic resonance, one coil, Cartesian."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.arrays import ArrayRef, load_mask, split_complex
from napari_dps.components import ForwardModel, NoiseModel
from napari_dps.errors import InputError, RecipeError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class FourierMask(ForwardModel):
    """Undersampled k-space: only some frequencies of the object were measured.

    The measurement is complex: its real and imaginary part are an axis of length 2 before Y and X
    (axes CYX). Python takes complex arrays as they are. The noise is Gaussian, in both parts;
    sigma "auto" is read from the outermost frequencies.
    """

    kind: Literal["fourier-mask"] = "fourier-mask"
    title: ClassVar[str] = "Undersampled k-space"

    mask: ArrayRef | None = None
    """Nonzero where k-space was sampled, shape (Y, X); left out: drawn by the next four."""
    acceleration: float = Field(4.0, ge=1, le=64)
    """Frequencies of k-space per sampled one."""
    centre: float = Field(0.08, ge=0, le=1)
    """Share of the frequencies that is sampled without gaps, about zero frequency."""
    pattern: Literal["lines", "random"] = "lines"
    """Whole rows of k-space (phase encoding along Y), or single points."""
    mask_seed: int = Field(0, ge=0, lt=2**31)
    """Seed of the frequencies that are drawn."""
    origin: Literal["centre", "corner"] = "centre"
    """Where the zero frequency lies in the measurement."""
    object: Literal["real", "complex"] = "complex"
    """Whether the object has a phase of its own; a complex one is given as real and imaginary
    part, an axis C of length 2."""

    def dimensions(self, axes: str, shape: tuple[int, ...]) -> int:
        """Return 3: real and imaginary part make one measurement."""
        return 3

    def object_dimensions(self, axes: str, shape: tuple[int, ...]) -> int:
        """Return 2: the object is a plane."""
        return 2

    def stack_axis(self, leading: str) -> str:
        """Return C, the axis of real and imaginary part; without one, as other stacks."""
        return "C" if "C" in leading else super().stack_axis(leading)

    def object_channels(self) -> int:
        """Return 2 of a complex object, else 1."""
        return 2 if self.object == "complex" else 1

    def measurement_shape(self, object_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return (2, Y, X)."""
        return (2, *object_shape[-2:])

    def object_pixel_size(self, grid: Grid) -> tuple[float, ...] | None:
        """Return None: the pitch of k-space does not tell the object's without its unit."""
        return None

    def real_array(
        self, image: Any, axes: str | None, *, measurement: bool = True
    ) -> tuple[Any, str | None]:
        """Return a complex array as its real and imaginary part, an axis C before Y and X."""
        if measurement:
            return split_complex(image, axes)
        return super().real_array(image, axes, measurement=False)

    def check_noise(self, noise: NoiseModel) -> None:
        """Refuse noise of counts."""
        if noise.kind != "gaussian":
            raise RecipeError(
                f"k-space holds signed amplitudes, not counts, so the noise {noise.kind!r} cannot "
                "be theirs; give the noise 'gaussian', with the sigma of one part"
            )

    def sampling(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return where k-space is sampled, bool of shape (Y, X), in the measurement's layout."""
        plane = (int(shape[-2]), int(shape[-1]))
        if self.mask is not None:
            return load_mask(self.mask, plane, "mask")
        rng = np.random.default_rng(self.mask_seed)
        rows = np.abs(np.fft.fftshift(np.fft.fftfreq(plane[0])))
        if self.pattern == "lines":
            distance = rows
        else:
            columns = np.abs(np.fft.fftshift(np.fft.fftfreq(plane[1])))
            distance = np.maximum(rows[:, None], columns[None, :])
        flat = distance.ravel()
        order = np.argsort(flat, kind="stable")
        wanted = max(1, round(flat.size / self.acceleration))
        core = min(wanted, max(1, round(self.centre * flat.size)))
        chosen = np.zeros(flat.size, dtype=bool)
        chosen[order[:core]] = True
        rest = order[core:]
        if wanted > core:
            chosen[rng.choice(rest, wanted - core, replace=False)] = True
        mask = chosen.reshape(distance.shape)
        if self.pattern == "lines":
            mask = np.repeat(mask[:, None], plane[1], 1)
        return mask if self.origin == "centre" else np.fft.ifftshift(mask)

    def measured_pixels(self, frames: Any) -> Any:
        """Return the sampled frequencies, for both parts."""
        self._check(frames.shape[1:])
        return np.broadcast_to(self.sampling(frames.shape), frames.shape[1:])

    def white_noise(
        self, frames: Any, grid: Grid | None = None, valid: Any = None
    ) -> tuple[float, float]:
        """Return the noise of one part and its error, from the outermost sampled frequencies.

        There an object has least power. The squared magnitude of noise alone is exponentially
        distributed: its median is 2 ln 2 times the variance of a part, whatever few peaks do.

        Raises
        ------
        InputError
            If too few frequencies were sampled, or the object reaches out to the border.
        """
        self._check(frames.shape[1:])
        mask = self.sampling(frames.shape)
        if valid is not None:
            mask = mask & np.asarray(valid, dtype=bool).all((0, 1))
        rows, columns = (np.fft.fftshift(np.fft.fftfreq(n)) for n in mask.shape)
        radius = np.hypot(rows[:, None], columns[None, :])
        radius = radius if self.origin == "centre" else np.fft.ifftshift(radius)
        power = (np.asarray(frames, dtype=np.float64) ** 2).sum(1)[:, mask]
        outer = np.argsort(radius[mask], kind="stable")[-(mask.sum() // 4) :]
        if outer.size < 40:
            raise InputError(
                f"only {mask.sum()} frequencies count, too few to tell the noise; give the "
                "noise's sigma"
            )
        near, far = (
            float(np.sqrt(np.median(power[:, part]) / (2 * np.log(2))))
            for part in np.array_split(outer, 2)
        )
        if far == 0 or near > 1.5 * far:
            raise InputError(
                "the outermost frequencies of k-space still hold the object (or nothing at all), "
                "so the noise cannot be told from them; give the noise's sigma"
            )
        sigma = float(np.sqrt(np.median(power[:, outer]) / (2 * np.log(2))))
        # A median of n exponential numbers scatters by 1 / sqrt(n) / ln 2, its root by half.
        scatter = sigma / (2 * np.log(2) * np.sqrt(outer.size * len(power)))
        return sigma, max(scatter, abs(near - far) / 2)

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or shape[0] != 2:
            raise InputError(
                f"k-space came with shape {tuple(shape)}; give real and imaginary part as an axis "
                "of length 2 before Y and X (2, Y, X), or a complex array"
            )

    def warnings(self, grid: Grid) -> list[str]:
        """Warn where zero frequency, and with it the mean level, was not sampled."""
        mask = self.sampling(grid.shape)
        zero = (0, 0) if self.origin == "corner" else tuple(n // 2 for n in mask.shape)
        if mask[zero]:
            return []
        return [
            "zero frequency was not sampled, so the mean level comes from the prior alone; check "
            "`origin` (centre or corner)"
        ]

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._kspace import SampledFourier

        self._check(grid.shape)
        return SampledFourier(
            grid,
            self.sampling(grid.shape),
            channels=self.object_channels(),
            centred=self.origin == "centre",
        )
