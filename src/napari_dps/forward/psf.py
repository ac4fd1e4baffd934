"""Measured point spread function: from a TIFF, an array or a layer, in 2D or 3D."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.arrays import ArrayRef
from napari_dps.components import ForwardModel
from napari_dps.errors import InputError
from napari_dps.forward._reach import reach_warnings
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator

SAME = 0.01
"""Pixel sizes that differ by less than this share are taken for the same."""
Micrometers = Annotated[float, Field(gt=0, le=1000)]


class PSF(ForwardModel):
    """Blur by a measured point spread function, 2D or 3D: background removed, centred, sum one."""

    kind: Literal["psf"] = "psf"
    title: ClassVar[str] = "Measured PSF"

    psf: ArrayRef | None = None
    """The PSF: a TIFF or array, 2D (Y, X) or 3D (Z, Y, X)."""
    psf_pixel_size: Micrometers | tuple[Micrometers, ...] | None = Field(
        None, json_schema_extra={"unit": "µm"}
    )
    """Pixel size of the PSF: one number for Y and X, or [Y, X], or [Z, Y, X]; left out: as the
    file says, or else the image's. Where it differs from the image's, the PSF is resampled."""
    psf_background: Literal["border", "none"] = "border"
    """Subtract the level of the PSF's darkest border, and the noise about it; or nothing."""
    centre: Literal["pixel", "subpixel", "none"] = "pixel"
    """Move the PSF's centre of light to the nearest pixel, exactly to the middle (which widens a
    sharp PSF a little), or leave the middle of the array where it is."""
    boundary: Literal["extend", "periodic"] = "extend"
    """Whether the object continues beyond the field (extend) or repeats itself (periodic)."""
    crop: float = Field(0.999, gt=0.5, le=1)
    """Share of the PSF's light to keep; dim far tails beyond it are cut."""

    def dimensions(self, axes: str, shape: tuple[int, ...]) -> int:
        """Return 3 for a PSF of several planes and an image of several planes in Z, else 2."""
        if self.psf is None or "Z" not in axes or shape[axes.index("Z")] < 2:
            return 2
        return 3 if len(_plain_shape(self.psf.shape())) == 3 else 2

    def kernel(self, grid: Grid | None = None) -> np.ndarray:
        """Return the prepared PSF with odd sides, non-negative, of sum one.

        Parameters
        ----------
        grid : Grid, optional
            The image's grid; without it the PSF keeps its own pixels and dimensions.

        Raises
        ------
        InputError
            If it is missing, neither 2D nor 3D, negative, not finite, or without light.
        """
        from napari_dps.forward import _measured

        raw = self._volume()
        ndim = len(grid.shape) if grid is not None else (2 if len(raw) == 1 else 3)
        ratio = (1.0, *self._ratio(grid, ndim))[-3:] if grid is not None else (1.0, 1.0, 1.0)
        dark = (0.0, 0.0, 0.0)
        if self.psf_background == "border":
            dark = _measured.border_level(raw)
        level, noise, error = dark
        if ndim == 2 and len(raw) > 1:
            raw = raw[_measured.sharpest_plane(raw)][None]
        # Before anything is copied: only what can reach from one end of the image to the other.
        limit = self._limit(grid)
        part, middle = _window(raw, limit, ratio, _measured.brightest(raw), self.centre == "none")
        values = part.astype(np.float64) - level
        values = (
            np.clip(values, 0, None) if noise == 0 else _measured.light_only(values, noise, error)
        )
        if values.sum() <= 0:
            raise InputError(
                "the PSF is nowhere brighter than its border; give one with a margin around the "
                "spot, or psf_background 'none' if all of it is light"
            )
        if self.centre != "none":
            centre = _measured.centre_of_light(values)
            # Resampling interpolates in any case, and then the exact centre costs nothing more.
            middle = tuple(
                c if self.centre == "subpixel" or q != 1.0 else float(round(c))
                for c, q in zip(centre, ratio, strict=True)
            )
        values = _measured.crop_to(_measured.resample(values, middle, ratio), self.crop, limit)
        return values[0] if ndim == 2 else values

    def warnings(self, grid: Grid) -> list[str]:
        """Return what was assumed of the PSF's plane and pixel size, and what is large or small."""
        if self.psf is None:
            return []
        shape, own, found = _plain_shape(self.psf.shape()), self._pixel_size(), []
        ndim = len(grid.shape)
        if ndim == 2 and len(shape) == 3:
            found.append(
                f"the PSF has {shape[0]} planes, but the image is restored plane by plane: only "
                "the plane in focus is used, and light from out of focus is not modelled"
            )
        if grid.pixel_size is None and own:
            found.append(
                "the image's pixel size is not known, so the PSF is taken at the image's pixels; "
                "give the image's pixel size to have the PSF resampled"
            )
        letters = "ZYX"[-min(ndim, len(shape)) :]
        unknown = [a for a in letters if a not in own]
        if grid.pixel_size is not None and unknown and (self.psf.path is not None or own):
            found.append(
                f"the PSF's pixel size along {', '.join(unknown)} is not known and is taken to be "
                "the image's; give psf_pixel_size if it is not"
            )
        ratio = self._ratio(grid, ndim)
        changed = [
            f"{a} {own[a]:g} to {own[a] * q:g} µm"
            for a, q in zip("ZYX"[-ndim:], ratio, strict=True)
            if q != 1.0
        ]
        if changed:
            found.append(f"the PSF was resampled to the image's pixels: {', '.join(changed)}")
        kernel = self.kernel(grid)
        if self.boundary == "extend":
            found += reach_warnings(kernel.shape, grid, "a smaller `crop`")
        return found

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._convolution import Convolution

        return Convolution(self.kernel(grid), grid, self.boundary)

    def _volume(self) -> np.ndarray:
        """Return the PSF as it came, three axes, checked."""
        if self.psf is None:
            raise InputError("no PSF was given; name a TIFF or array with the measured PSF")
        raw = np.asarray(self.psf.load())
        shape = _plain_shape(raw.shape)
        if not 2 <= len(shape) <= 3 or (len(shape) == 3 and shape[2] <= 4 < min(shape[:2])):
            raise InputError(
                f"the PSF has shape {raw.shape}; it must be 2D (Y, X) or 3D (Z, Y, X), of one "
                "channel"
            )
        raw = raw.reshape(shape if len(shape) == 3 else (1, *shape))
        if not np.isfinite(raw).all():
            raise InputError("the PSF has NaN or infinite values; replace them before use")
        low, high = float(raw.min()), float(raw.max())
        # Noise about a background that was subtracted goes below zero, but not far.
        if low < 0 and (self.psf_background == "none" or -low > high / 4):
            raise InputError(
                f"the PSF has {int((raw < 0).sum())} negative values, down to {low:g}; light "
                "cannot be negative, so subtract a smaller background or clip it"
            )
        if high <= 0:
            raise InputError("the PSF is zero everywhere; give one that holds light")
        return raw

    def _pixel_size(self) -> dict[str, float]:
        """Return micrometres per pixel by axis, as far as they are known."""
        assert self.psf is not None
        given = self.psf_pixel_size
        found = self.psf.pixel_size()
        if given is None:
            return found
        if not isinstance(given, tuple):
            return {"Z": given, **found, "Y": given, "X": given}
        if not 2 <= len(given) <= 3:
            raise InputError(
                f"psf_pixel_size has {len(given)} numbers; give one for Y and X, or [Y, X], or "
                "[Z, Y, X], in micrometres"
            )
        return found | dict(zip("ZYX"[-len(given) :], given, strict=True))

    def _ratio(self, grid: Grid, ndim: int) -> tuple[float, ...]:
        """Return the image's pixel in those of the PSF, per axis of the grid."""
        if grid.pixel_size is None:
            return (1.0,) * ndim
        own = self._pixel_size()
        found = []
        for letter, size in zip("ZYX"[-ndim:], grid.pixel_size, strict=True):
            ratio = size / own[letter] if letter in own else 1.0
            if not 1e-3 < ratio < 1e3:
                raise InputError(
                    f"the image's pixel is {size:g} µm along {letter}, the PSF's {own[letter]:g} "
                    "µm; one of the two is wrong: give pixel_size or psf_pixel_size"
                )
            found.append(1.0 if abs(ratio - 1) < SAME else ratio)
        return tuple(found)

    def _limit(self, grid: Grid | None) -> tuple[int, int, int] | None:
        """Return the largest reach that matters: from one end of the image to the other."""
        if grid is None or self.boundary == "periodic":
            return None
        reach = (0, *(n - 1 for n in grid.shape))[-3:]
        return reach[0], reach[1], reach[2]


def _plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without leading axes of length one, Y and X kept."""
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return tuple(int(n) for n in shape)


def _window(
    raw: np.ndarray,
    limit: tuple[int, ...] | None,
    ratio: tuple[float, ...],
    peak: tuple[int, ...],
    fixed: bool,
) -> tuple[Any, tuple[float, ...]]:
    """Return the part of a PSF that can matter, and the middle of the array in it."""
    middle = tuple(float(n // 2) for n in raw.shape)
    if limit is None:
        return raw, middle
    about = tuple(int(m) for m in middle) if fixed else peak
    index, moved = [], []
    for n, reach, q, p, m in zip(raw.shape, limit, ratio, about, middle, strict=True):
        # The centre of light may lie some way from the peak.
        wide = int(np.ceil((reach + 1.5) * q)) + 8 + n // 16
        start = max(0, p - wide)
        index.append(slice(start, min(n, p + wide + 1)))
        moved.append(m - start)
    return raw[tuple(index)], tuple(moved)
