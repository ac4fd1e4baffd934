"""A camera measured from calibration frames: dark frames and flats, by photon transfer.

The variance of a pixel in time grows in proportion to its signal above the dark; the slope is the
gain (Janesick, Photon Transfer, SPIE 2007; EMVA standard 1288). Variance is taken in time, pixel by
pixel, so that neither vignetting nor fixed patterns count as noise.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps._phototransfer import CLIPPED, Moments, Transfer, fit_line, moments, shrink, usable
from napari_dps.errors import InputError, RecipeError
from napari_dps.noise._grey import less_rounding
from napari_dps.noise.poisson_gaussian import PoissonGaussian

__all__ = ["CameraCalibration", "measure_camera"]

Array = NDArray[np.float64]

MAP_FRAMES = 20
"""Frames of the dark from which on maps of its pixels are worth having."""
COARSE = 0.55
"""Dark noise, in steps of the grey values, below which rounding hides what the camera has of it."""
STEADY = 0.1
"""Largest change of the lamp, relative, within one flat."""


@dataclass(frozen=True)
class CameraCalibration:
    """What calibration frames say about a camera.

    Attributes
    ----------
    gain, offset, read_noise : float
        In ADU per electron, ADU, electrons: of all pixels together.
        The read noise is that of the frames as they are, rounding to grey values included: so the
        likelihood needs it.
    gain_error, offset_error, read_noise_error : float
        One standard deviation each.
    curve : list of dict
        One entry per flat: ``signal`` above the dark and shot ``variance``, in ADU and ADU squared,
        the variance's ``error``, and whether it was ``used``.
    maps : dict of str to ndarray
        ``offset``, ``read_noise`` and ``gain`` per pixel, those of which enough frames tell.
    flat_field : ndarray
        Relative response of every pixel to the flats' light, mean 1.
    valid : ndarray of bool
        False where a pixel is dead or does not respond to light.
    dark_frames, flat_frames : int
        How many went in.
    warnings : list of str
        What the user should know.
    own_read_noise, own_read_noise_error : float
        The camera's read noise less rounding, step^2 / 12 (EMVA 1288), in electrons; for sheets.
    grey_step : float
        Spacing of the grey values in ADU; 0 where they are continuous and nothing was rounded.
    """

    gain: float
    offset: float
    read_noise: float
    gain_error: float
    offset_error: float
    read_noise_error: float
    curve: list[dict[str, Any]]
    maps: dict[str, Array]
    flat_field: Array
    valid: NDArray[np.bool_]
    dark_frames: int
    flat_frames: int
    warnings: list[str] = field(default_factory=list)
    own_read_noise: float = float("nan")
    own_read_noise_error: float = float("nan")
    grey_step: float = 0.0

    def noise(self, maps: bool = False) -> PoissonGaussian:
        """Return the camera as the noise of a recipe.

        Parameters
        ----------
        maps : bool
            Use the maps where there are any, numbers for the rest.
        """
        values: dict[str, Any] = {
            "gain": self.gain, "offset": self.offset, "read_noise": self.read_noise
        }  # fmt: skip
        return PoissonGaussian(**(values | self.maps if maps else values))

    def report(self) -> dict[str, Any]:
        """Return everything but the maps as plain values."""
        names = ("gain", "offset", "read_noise", "own_read_noise")
        out = {k: getattr(self, k) for n in names for k in (n, f"{n}_error")}
        return {
            **out,
            "grey_step": self.grey_step,
            "dark_frames": self.dark_frames,
            "flat_frames": self.flat_frames,
            "curve": self.curve,
            "maps": sorted(self.maps),
            "dead_pixels": int((~self.valid).sum()),
            "warnings": self.warnings,
        }

    def save(self, path: str | Path, maps: str | Path | None = None) -> list[Path]:
        """Write the camera as a recipe that says nothing but the noise.

        Parameters
        ----------
        path : str or Path
            A JSON file, which ``--recipe`` and ``Recipe.load`` take.
        maps : str or Path, optional
            Folder for the maps, ``valid.npy`` and ``flat_field.npy``; the recipe then names them.

        Returns
        -------
        list of Path
            What was written, the recipe first.

        Raises
        ------
        RecipeError
            If something cannot be written.
        """
        target, written = Path(path), []
        noise: dict[str, Any] = self.noise().model_dump(mode="json", exclude_defaults=True)
        recipe: dict[str, Any] = {"noise": {"kind": "poisson-gaussian", **noise}}
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if maps is not None:
                folder = Path(maps)
                folder.mkdir(parents=True, exist_ok=True)
                arrays = {**self.maps, "flat_field": self.flat_field, "valid": self.valid}
                for name, values in arrays.items():
                    file = folder / f"{name}.npy"
                    np.save(file, values)
                    written.append(file)
                    if name in self.maps:
                        recipe["noise"][name] = _seen_from(file, target.parent)
                if not self.valid.all():
                    recipe["valid"] = _seen_from(folder / "valid.npy", target.parent)
            target.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise RecipeError(
                f"the camera cannot be written to {str(target)!r} ({error.strerror or error}); "
                "name a file in a folder that can be written"
            ) from error
        return [target, *written]

    def plot(self, path: str | Path) -> Path:
        """Draw the photon-transfer curve: shot variance over signal, and the line."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.0, 3.8), layout="constrained")
        axes = figure.subplots()
        signal = np.array([point["signal"] for point in self.curve])
        variance = np.array([point["variance"] for point in self.curve])
        error = np.array([point["error"] for point in self.curve])
        used = np.array([point["used"] for point in self.curve])
        axes.errorbar(
            signal[used], variance[used], 2 * error[used], fmt="o", ms=5, color="#1f5fa8",
            label="flats",
        )  # fmt: skip
        if not used.all():
            axes.plot(signal[~used], variance[~used], "x", color="#a83232", label="left out")
        ends = np.array([min(signal.min() / 2, 1.0), 1.3 * signal.max()])
        axes.plot(ends, self.gain * ends, "-", color="#444444", label=f"gain {self.gain:.4g}")
        dark = (self.gain * self.read_noise) ** 2
        axes.axhline(dark, color="#888888", ls="--", label=f"read noise {self.read_noise:.3g} e⁻")
        axes.set(xscale="log", yscale="log", xlabel="signal above the dark (ADU)")
        axes.set_ylabel("variance in time (ADU²)")
        axes.legend(frameon=False)
        figure.savefig(path, dpi=110)
        return Path(path)


def _seen_from(file: Path, folder: Path) -> str:
    """Return the path as a recipe in ``folder`` names it, relative where it lies beside it."""
    place, base = Path(os.path.abspath(file)), Path(os.path.abspath(folder))
    return place.relative_to(base).as_posix() if place.is_relative_to(base) else str(place)


def measure_camera(dark: Any, flats: Any, *, axes: str | None = None) -> CameraCalibration:
    """Measure a camera from dark frames and from frames of even, steady light.

    Parameters
    ----------
    dark : array, path, or list of these
        Frames without light, of the exposure that is used for imaging: two or more. From 20 on
        every pixel gets its own offset and read noise.
    flats : array, path, or list of these
        One stack of two or more frames per brightness; the light may be uneven over the field, not
        in time. One brightness is enough; several show whether the camera is linear.
    axes : str, optional
        As in :func:`napari_dps.reconstruct`.

    Returns
    -------
    CameraCalibration
        Gain, offset and read noise with their errors, the photon-transfer curve, and maps.

    Raises
    ------
    InputError
        If the frames cannot tell; the sentence says why.
    """
    lit = list(flats) if isinstance(flats, (list, tuple)) else [flats]
    if not lit:
        raise InputError("no flat was given; give one stack of evenly lit frames or more")
    dark_moments = moments(dark, "dark", axes)
    if dark_moments.zeros > CLIPPED:
        raise InputError(
            f"{dark_moments.zeros:.1%} of the dark is 0, so that its noise is cut off; give raw "
            "frames, taken with an offset (black level) above the read noise"
        )
    levels = [
        moments(flat, f"flat {number}" if len(lit) > 1 else "flat", axes)
        for number, flat in enumerate(lit, 1)
    ]
    warnings: list[str] = []
    for level in levels:
        if level.mean.shape != dark_moments.mean.shape:
            raise InputError(
                f"the {level.name} has frames of {level.mean.shape} pixels, but the dark of "
                f"{dark_moments.mean.shape}; take both with the same part of the camera"
            )
        above = level.mean.mean() - dark_moments.mean.mean()
        if level.wander > STEADY * max(above, 1e-300) and above > 0:
            raise InputError(
                f"the brightness of the {level.name} changes by {level.wander / above:.0%} from "
                f"frame to frame; give frames of steady light (within {STEADY:.0%})"
            )
    good = usable(dark_moments, levels)
    transfers = [_transfer(dark_moments, level, good) for level in levels]
    gain, gain_error, notes = fit_line(transfers)
    warnings += notes
    valid = _responds(dark_moments, levels)
    read_square = float(dark_moments.variance[valid].mean()) / gain**2
    read = float(np.sqrt(read_square))
    of_square = float(dark_moments.variance[valid].std() / np.sqrt(valid.sum())) / gain**2
    relative = gain_error / gain
    read_error = float(np.hypot(of_square / (2 * max(read, 1e-12)), read * relative))
    step = dark_moments.step
    own, own_error = less_rounding(read_square, of_square, gain, step)
    own_error = float(np.hypot(own_error, own * relative))
    if gain * read < COARSE * step:
        warnings.append(
            f"the dark noise is {gain * read:.2g} ADU, finer than the grey values ({step:g} ADU "
            "apart) can show: the read noise is mostly rounding, and that of the camera alone "
            "uncertain; choose an analogue gain with more ADU per electron"
        )
    typical = dark_moments.mean[valid]
    offset = float(np.median(typical))
    offset_error = float(dark_moments.jitter / np.sqrt(dark_moments.frames))
    offset_error = float(np.hypot(offset_error, typical.std() / np.sqrt(typical.size)))
    found = CameraCalibration(
        gain, offset, read, gain_error, offset_error, read_error,
        curve=[t.as_dict() for t in transfers],
        maps=_maps(dark_moments, levels, transfers, valid, gain, offset),
        flat_field=_flat_field(dark_moments, levels, transfers, valid),
        valid=valid,
        dark_frames=dark_moments.frames,
        flat_frames=sum(level.frames for level in levels),
        warnings=warnings,
        own_read_noise=own,
        own_read_noise_error=own_error,
        grey_step=step,
    )  # fmt: skip
    dead = int((~valid).sum())
    if dead:
        warnings.append(f"{dead} pixels are dead, stuck or clipped; the map `valid` marks them")
    if dark_moments.frames < MAP_FRAMES:
        warnings.append(
            f"{dark_moments.frames} dark frames give no maps of single pixels; take {MAP_FRAMES} "
            "or more"
        )
    return found


def _transfer(dark: Moments, level: Moments, good: NDArray[np.bool_]) -> Transfer:
    """Return one point of the photon-transfer curve."""
    signal = (level.mean - dark.mean)[good]
    variance = (level.variance - dark.variance)[good]
    error = float(variance.std() / np.sqrt(variance.size))
    mean, spread = float(signal.mean()), float(signal.std() / np.sqrt(signal.size))
    if not mean > 5 * spread or not float(variance.mean()) > 5 * error:
        raise InputError(
            f"the {level.name} is not brighter than the dark by more than noise (by {mean:.3g} "
            f"ADU, its variance by {float(variance.mean()):.3g} ± {error:.2g}); give frames with "
            "light"
        )
    return Transfer(level.name, mean, float(variance.mean()), error, level.clipped)


def _responds(dark: Moments, levels: list[Moments]) -> NDArray[np.bool_]:
    """Return where a pixel answers to light, by a tenth of what others do at least."""
    valid = ~dark.stuck
    for level in levels:
        answer = level.mean - dark.mean
        valid &= (answer > 0.1 * np.median(answer)) & (level.variance > 0)
        if level.clipped <= CLIPPED:
            valid &= ~level.stuck
    if valid.mean() < 0.5:
        raise InputError(
            f"only {valid.mean():.0%} of the pixels answer to the flats' light; give flats whose "
            "light covers the field"
        )
    return valid


def _maps(
    dark: Moments,
    levels: list[Moments],
    transfers: list[Transfer],
    valid: NDArray[np.bool_],
    gain: float,
    offset: float,
) -> dict[str, Array]:
    """Return the maps that so many frames can tell; single noisy values are drawn to the mean."""
    if dark.frames < MAP_FRAMES:
        return {}
    free = dark.frames - 1
    variance = shrink(dark.variance, 2 * dark.variance.mean() ** 2 / free, valid, relative=2 / free)
    maps = {"offset": np.where(valid, dark.mean, offset)}
    used = [(lv, t) for lv, t in zip(levels, transfers, strict=True) if t.used]
    numerator = np.zeros_like(dark.mean)
    denominator = np.zeros_like(dark.mean)
    error = np.zeros_like(dark.mean)
    for level, _ in used:
        # Weighted least squares through the dark: weight 1 / signal^2 makes it a mean of ratios.
        signal = np.maximum(level.mean - dark.mean, 1e-9)
        weight = (level.frames - 1) / signal
        numerator += weight * (level.variance - dark.variance)
        denominator += weight * signal
        error += weight**2 * 2 * level.variance**2 / (level.frames - 1)
    each = numerator / np.maximum(denominator, 1e-300)
    noise = error / np.maximum(denominator, 1e-300) ** 2
    own = shrink(each, noise, valid)
    if np.ptp(own[valid]) > 0:
        maps["gain"] = np.where(valid, np.maximum(own, 0.1 * gain), gain)
    slope = maps.get("gain", np.full_like(dark.mean, gain))
    maps["read_noise"] = np.sqrt(np.maximum(variance, 0)) / slope
    return maps


def _flat_field(
    dark: Moments, levels: list[Moments], transfers: list[Transfer], valid: NDArray[np.bool_]
) -> Array:
    total = np.zeros_like(dark.mean)
    for level, transfer in zip(levels, transfers, strict=True):
        if transfer.used:
            total += level.frames * (level.mean - dark.mean)
    response: Array = np.where(valid, total / total[valid].mean(), 1.0)
    return response
