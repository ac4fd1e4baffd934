"""Measured point spread function: from a TIFF or an array, 2D."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.arrays import ArrayRef
from napari_dps.components import ForwardModel
from napari_dps.errors import InputError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class PSF(ForwardModel):
    """Blur by a measured point spread function: background removed, centred, of sum one."""

    kind: Literal["psf"] = "psf"
    title: ClassVar[str] = "Measured PSF"

    psf: ArrayRef | None = None
    """The PSF: a 2D TIFF or array at the image's pixel pitch."""
    psf_background: Literal["border", "none"] = "border"
    """Subtract the median of the PSF's border, or nothing."""
    boundary: Literal["extend", "periodic"] = "extend"
    """Whether the object continues beyond the field (extend) or repeats itself (periodic)."""
    crop: float = Field(0.999, gt=0.5, le=1)
    """Share of the PSF's light to keep; dim far tails beyond it are cut."""

    def kernel(self) -> np.ndarray:
        """Return the prepared PSF, shape (2 r + 1, 2 q + 1), non-negative, of sum one.

        Raises
        ------
        InputError
            If it is missing, not 2D, negative, not finite, or without light.
        """
        if self.psf is None:
            raise InputError("no PSF was given; name a 2D TIFF or array with the measured PSF")
        raw = np.asarray(self.psf.load(), dtype=np.float64)
        while raw.ndim > 2 and raw.shape[0] == 1:
            raw = raw[0]
        if raw.ndim != 2:
            raise InputError(
                f"the PSF has shape {raw.shape}; it must be 2D: give one plane, the one in focus"
            )
        if not np.isfinite(raw).all():
            raise InputError("the PSF has NaN or infinite values; replace them before use")
        if (raw < 0).any():
            raise InputError(
                f"the PSF has {int((raw < 0).sum())} negative values; light cannot be negative, "
                "so subtract a smaller background or clip it"
            )
        if raw.sum() <= 0:
            raise InputError("the PSF is zero everywhere; give one that holds light")
        if self.psf_background == "border" and min(raw.shape) >= 5:
            border = np.concatenate([raw[0], raw[-1], raw[1:-1, 0], raw[1:-1, -1]])
            raw = np.clip(raw - np.median(border), 0, None)
        if raw.sum() <= 0:
            raise InputError(
                "the PSF is nowhere brighter than its border; give one with a margin around the "
                "spot, or psf_background 'none' if all of it is light"
            )
        return centred(raw, self.crop)

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._convolution import Convolution

        return Convolution(self.kernel(), grid, self.boundary)


def centred(psf: np.ndarray, keep: float) -> np.ndarray:
    """Return the PSF with odd sides about its centre of light, cropped to ``keep`` of the light.

    The centre is the centre of mass of what is above half the maximum, rounded to a pixel: a
    shift below the pixel would need interpolation, which would widen the PSF.
    """
    core = np.where(psf > psf.max() / 2, psf, 0)
    rows, cols = np.indices(psf.shape)
    centre = [round(float((axis * core).sum() / core.sum())) for axis in (rows, cols)]
    reach = [max(c, n - 1 - c) for c, n in zip(centre, psf.shape, strict=True)]
    out = np.zeros([2 * r + 1 for r in reach])
    out[
        tuple(slice(r - c, r - c + n) for r, c, n in zip(reach, centre, psf.shape, strict=True))
    ] = psf
    total = out.sum()
    # Shrink all sides together until the light that is left would fall below ``keep``.
    low, high = 0, max(reach)
    while low < high:
        middle = (low + high) // 2
        part = out[tuple(slice(max(r - middle, 0), r + middle + 1) for r in reach)]
        low, high = (low, middle) if part.sum() >= keep * total else (middle + 1, high)
    out = out[tuple(slice(max(r - high, 0), r + high + 1) for r in reach)]
    return np.asarray(out / out.sum())
