"""A point spread function measured from an image of beads.

Beads well below the resolution show the PSF itself; of larger ones the diameter must be known, and
their own width is taken out. Beads are registered below the pixel and averaged, so that the PSF is
less noisy than any of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dps._beads import find_peaks, neighbours, without_hot_pixels
from napari_dps._beadsort import APART, FEW, averaged, reaches, sort_out
from napari_dps._beadwidth import finished
from napari_dps._tiff import write_values
from napari_dps.errors import InputError
from napari_dps.image import Image
from napari_dps.prepare import open_image

if TYPE_CHECKING:
    from napari_dps.forward.psf import PSF

__all__ = ["BeadPSF", "measure_psf"]

Array = NDArray[np.float64]

SMALLEST = 16
"""Rows and columns that an image of beads has at least."""
COARSE = 2.0
"""Pixels per full width at half maximum that are needed at least."""
LARGE = 0.6
"""A bead of more than this share of the PSF's width leaves little of it to be seen."""


@dataclass(frozen=True)
class BeadPSF:
    """A measured point spread function, and what was found about the beads.

    Attributes
    ----------
    psf : ndarray
        Non-negative, of sum one, odd sides, its centre in the middle; (Y, X) or (Z, Y, X).
    axes : str
        ``"YX"`` or ``"ZYX"``.
    pixel_size : dict of str to float
        Micrometres per pixel by axis, those that are known.
    fwhm, fwhm_spread : dict of str to float
        Full width at half maximum per axis, and its standard deviation over the beads (NaN for
        a single one), in micrometres where the axis's pixel size is known, else in pixels.
    units : dict of str to str
        ``"µm"`` or ``"px"`` per axis.
    found, used : int
        How many beads there were, and how many went into the PSF.
    rejected : dict of str to int
        How many were left out, by reason.
    signal_to_noise : float
        Height of the averaged bead over the noise of its background.
    bead_diameter : float or None
        Micrometres, if the beads' own width was taken out.
    beads : list of dict
        Each one's ``position`` in pixels, in the order of the axes, and ``verdict``.
    warnings : list of str
        What the user should know.
    """

    psf: Array
    axes: str
    pixel_size: dict[str, float]
    fwhm: dict[str, float]
    fwhm_spread: dict[str, float]
    units: dict[str, str]
    found: int
    used: int
    rejected: dict[str, int]
    signal_to_noise: float
    bead_diameter: float | None = None
    beads: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def forward(self, **fields: Any) -> PSF:
        """Return the forward model of this PSF; other fields of it may be given."""
        from napari_dps.forward.psf import PSF

        sizes = [self.pixel_size[a] for a in self.axes if a in self.pixel_size]
        if len(sizes) == len(self.axes):
            fields = {"psf_pixel_size": tuple(sizes), **fields}
        return PSF(**{"psf": self.psf, **fields})

    def report(self) -> dict[str, Any]:
        """Return everything but the PSF as plain values."""
        names = (
            *("axes", "pixel_size", "fwhm", "fwhm_spread", "units", "found", "used", "rejected"),
            *("signal_to_noise", "bead_diameter", "beads", "warnings"),
        )
        return {"shape": list(self.psf.shape), **{name: getattr(self, name) for name in names}}

    def save(self, path: str | Path) -> Path:
        """Write the PSF with its pixel size as TIFF, which the forward model `psf` takes.

        Raises
        ------
        InputError
            If the name is no TIFF's, or it cannot be written.
        """
        target = Path(path)
        if target.suffix.lower() not in (".tif", ".tiff"):
            raise InputError(f"the PSF cannot be written to {str(path)!r}; name it PSF.tif")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_values(target, self.psf.astype(np.float32), self.pixel_size)
        except OSError as error:
            raise InputError(
                f"the PSF cannot be written to {str(path)!r} ({error.strerror or error}); name a "
                "file in a folder that can be written"
            ) from error
        return target

    def plot(self, path: str | Path) -> Path:
        """Draw the sections through the middle, by the square root of the light, and profiles."""
        from matplotlib.figure import Figure

        steps = {a: self.pixel_size.get(a, 1.0) for a in self.axes}
        middle = {a: n // 2 for a, n in zip(self.axes, self.psf.shape, strict=True)}
        pairs = ["YX", "ZX", "ZY"] if self.axes == "ZYX" else ["YX"]
        figure = Figure(figsize=(2.6 * len(pairs) + 3.6, 3.0), layout="constrained")
        panels = figure.subplots(1, len(pairs) + 1)
        size = dict(zip(self.axes, self.psf.shape, strict=True))
        for panel, pair in zip(panels, pairs, strict=False):
            index = tuple(slice(None) if a in pair else middle[a] for a in self.axes)
            ends = [size[a] * steps[a] / 2 for a in pair]
            panel.imshow(
                np.sqrt(self.psf[index] / self.psf.max()), cmap="magma", vmin=0, vmax=1,
                extent=(-ends[1], ends[1], ends[0], -ends[0]),
            )  # fmt: skip
            panel.set(xlabel=f"{pair[1]} ({self._unit(pair[1])})")
            panel.locator_params(nbins=4)
            panel.set(ylabel=f"{pair[0]} ({self._unit(pair[0])})")
        for axis, colour in zip(
            reversed(self.axes), ("#1f5fa8", "#d17a22", "#444444"), strict=False
        ):
            index = tuple(slice(None) if a == axis else middle[a] for a in self.axes)
            where = (np.arange(size[axis]) - middle[axis]) * steps[axis]
            label = f"{axis}: {self.fwhm[axis]:.3g} {self.units[axis]}"
            panels[-1].plot(where, self.psf[index] / self.psf.max(), "-", color=colour, label=label)
        panels[-1].axhline(0.5, color="#999999", lw=0.8)
        panels[-1].set(xlabel=f"distance ({self._unit('X')})", title="full width at half maximum")
        panels[-1].legend(frameon=False, fontsize=8)
        figure.savefig(path, dpi=110)
        return Path(path)

    def _unit(self, axis: str) -> str:
        return self.units[axis]


def measure_psf(
    image: Any,
    *,
    bead_diameter: float | None = None,
    size: int | Sequence[int] | None = None,
    axes: str | None = None,
    pixel_size: float | tuple[float, ...] | None = None,
) -> BeadPSF:
    """Measure a point spread function from an image of beads.

    Parameters
    ----------
    image : array, path or Image
        Beads in one plane (Y, X) or one stack (Z, Y, X).
    bead_diameter : float, optional
        Micrometres. The beads' own width is then taken out of the PSF; left out, they are taken
        for points.
    size : int or sequence of int, optional
        Pixels of the PSF: one number for Y and X, or one per axis. Left out: five times its full
        width at half maximum, as far as the beads lie from the border.
    axes : str, optional
        As in :func:`napari_dps.reconstruct`.
    pixel_size : float or tuple of float, optional
        Micrometres, instead of what the file says: one number, or one per axis.

    Returns
    -------
    BeadPSF
        The PSF, its widths with their spread over the beads, and which beads were used.

    Raises
    ------
    InputError
        If there is no bead that can be used, or an argument cannot be; the sentence says why.
    """
    source = open_image(image, axes, pixel_size)
    data, letters = _arranged(source)
    steps = _pixel_size(source, letters)
    known = [steps[a] for a in letters if a in steps]
    _check_diameter(bead_diameter, letters, steps)
    sides = _sides(size, letters, data.shape)
    values, hot = without_hot_pixels(data.astype(np.float64))
    beads, width = find_peaks(values)
    if not beads:
        raise InputError(
            f"no bead stands out of the background of '{source.name}'"
            + (f" ({hot} single bright pixels were taken for hot ones)" if hot else "")
            + "; give an image of single bright beads, each two pixels wide or more, on dark ground"
        )
    reach, wide = reaches(sides, beads, width, data.shape)
    beads = neighbours(beads, [r + APART * w for r, w in zip(reach, width, strict=True)])
    sort_out(beads, data, reach, width)
    together = averaged(beads, values, reach, wide, width, data.dtype.kind in "iu", source.name)
    used = [bead for bead in beads if bead.verdict == "used"]
    psf, spans, each = finished(together, bead_diameter, known)
    sizes = np.array([steps.get(a, 1.0) for a in letters])
    spread = each.std(axis=0, ddof=1) if len(each) > 1 else np.full(len(letters), np.nan)
    why = Counter(bead.verdict for bead in beads if bead.verdict != "used")
    return BeadPSF(
        psf, letters, steps,
        fwhm=dict(zip(letters, map(float, spans * sizes), strict=True)),
        fwhm_spread=dict(zip(letters, map(float, spread * sizes), strict=True)),
        units={a: "µm" if a in steps else "px" for a in letters},
        found=len(beads), used=len(used), rejected=dict(sorted(why.items())),
        signal_to_noise=1 / max(together.noise, 1e-12),
        bead_diameter=bead_diameter,
        beads=[{"position": list(map(int, b.peak)), "verdict": b.verdict} for b in beads],
        warnings=_warnings(letters, psf, spans, sizes, len(used), hot, bead_diameter, steps),
    )  # fmt: skip


def _arranged(image: Image) -> tuple[NDArray[Any], str]:
    """Return the values with axes Y, X or Z, Y, X, and these; checked."""
    data, axes = image.data, image.axes
    single = [
        i for i, (a, n) in enumerate(zip(axes, data.shape, strict=True)) if a in "TCZ" and n == 1
    ]
    data = data.squeeze(tuple(single))
    axes = "".join(a for i, a in enumerate(axes) if i not in single)
    if sorted(axes) not in (["X", "Y"], ["X", "Y", "Z"]):
        raise InputError(
            f"'{image.name}' has axes {axes}; give beads in one plane (YX) or one stack (ZYX), of "
            "one channel and one time"
        )
    letters = "ZYX"[-len(axes) :]
    data = data.transpose([axes.index(a) for a in letters])
    if min(data.shape[-2:]) < SMALLEST:
        raise InputError(
            f"'{image.name}' has {data.shape[-2]} x {data.shape[-1]} pixels; at least {SMALLEST} x "
            f"{SMALLEST} are needed to find beads and the background around them"
        )
    if data.dtype.kind == "f" and not np.isfinite(data).all():
        bad = int((~np.isfinite(data)).sum())
        raise InputError(f"'{image.name}' has {bad} NaN or infinite pixels; replace or crop them")
    return data, letters


def _pixel_size(image: Image, letters: str) -> dict[str, float]:
    return {
        a: float(step)
        for a, step, unit in zip(image.axes, image.scale, image.units, strict=True)
        if a in letters and unit == "micrometer"
    }


def _check_diameter(diameter: float | None, letters: str, steps: dict[str, float]) -> None:
    if diameter is None:
        return
    if isinstance(diameter, bool) or not np.isfinite(diameter) or diameter <= 0:
        raise InputError(f"the bead diameter is {diameter!r}; give micrometres above zero")
    unknown = [a for a in letters if a not in steps]
    if unknown:
        raise InputError(
            f"the bead diameter is in micrometres, but the pixel size along {', '.join(unknown)} "
            "is not known; give pixel_size, or leave the diameter out"
        )


def _sides(size: Any, letters: str, shape: tuple[int, ...]) -> list[int | None]:
    """Return the PSF's half sides, as far as they are given."""
    if size is None:
        return [None] * len(letters)
    given = list(np.atleast_1d(np.asarray(size, dtype=object)))
    if len(given) not in (1, len(letters)) or not all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in given
    ):
        raise InputError(
            f"the size {size!r} cannot be used; give one whole number of pixels for Y and X, or "
            f"one for each of {', '.join(letters)}"
        )
    sides: list[Any] = (
        given if len(given) == len(letters) else [None] * (len(letters) - 2) + given * 2
    )
    for letter, side, n in zip(letters, sides, shape, strict=True):
        if side is not None and not 3 <= side <= n:
            raise InputError(
                f"the size along {letter} is {side} pixels; it must be from 3 to the image's {n}"
            )
    return [None if side is None else int(side) // 2 for side in sides]


def _warnings(
    letters: str,
    psf: Array,
    spans: Array,
    sizes: Array,
    used: int,
    hot: int,
    diameter: float | None,
    steps: dict[str, float],
) -> list[str]:
    found = []
    if used < FEW:
        few = "one bead was" if used == 1 else "two beads were"
        found.append(
            f"only {few} used, so that an odd one or an aggregate cannot be told; give an image "
            "with more, or several"
        )
    unknown = [a for a in letters if a not in steps]
    if unknown:
        found.append(
            f"the pixel size along {', '.join(unknown)} is not known, so widths there are in "
            "pixels, and the PSF fits only images of the same pixels; give pixel_size"
        )
    for letter, span, n in zip(letters, spans, psf.shape, strict=True):
        if span < COARSE:
            found.append(
                f"the PSF is only {span:.2g} pixels wide along {letter}: too coarsely sampled to "
                "tell its shape"
            )
        if n < 2 * span:
            found.append(
                f"the PSF's {n} pixels along {letter} hold less than twice its width of "
                f"{span:.3g}, so its flanks are cut; give a larger size or a deeper stack"
            )
    if diameter is not None and diameter > LARGE * float((spans * sizes).min()):
        found.append(
            f"beads of {diameter:g} µm are large for a PSF {(spans * sizes).min():.2g} µm wide, "
            "whose finest detail they hide; use smaller ones"
        )
    if hot:
        found.append(f"{hot} hot pixels were replaced by what is around them")
    return found
