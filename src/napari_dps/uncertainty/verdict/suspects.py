"""What could be wrong with a model whose residual is not noise: suspects, in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_dps.core.dps import TOO_FAR

if TYPE_CHECKING:
    from napari_dps.recipe import Recipe
    from napari_dps.uncertainty.verdict._fit import Fit

__all__ = ["NOISE_Z", "STRUCTURE_Z", "has_psf", "opening", "suspects_of"]

# Calibrated by simulation (benchmarks/verdict.py): what is off must be significant and matter.
NOISE_Z, NOISE_SHARE = 4.5, 0.15
"""The noise's variance is off: standard deviations, and share."""
STRUCTURE_Z, STRUCTURE_SHARE = 4.0, 0.2
"""Structure is left: standard deviations, and excess of power over the noise's."""
HALF_Z, HALF_SHARE = 5.0, 0.25
"""The variance of dark and bright data is off by different shares."""
LEVEL_Z, LEVEL_SHIFT = 5.0, 0.1
"""The data lie above or below: standard deviations of the mean, and of one datum."""
LINE_Z = 4.0
"""The variance without light is off: standard deviations."""
SHARP = 15.0
"""A slope is taken for the gain if it is so many times its standard deviation."""
COARSE = 2 / 32
"""Frequencies below this, in cycles per pixel, are shading and background, not the PSF."""
WIDE_Z = 2.0
"""The residual follows what a narrower PSF would add: standard deviations."""
REGULAR = 40.0
"""One frequency this far above the others of its ring is a pattern; a PSF leaves below ten."""
SHARED, SHARED_Z, SHARED_RISE = 0.15, 5.0, 1.3
"""Noise is shared by neighbours: autocorrelation at one pixel, its standard deviations, and how
far the noise lies above that of the finest detail."""
FALL, FALL_Z = 1.35, 2.0
"""And it falls towards the finest detail: by this factor within the last quarter of frequencies,
and by so many standard deviations. White noise does not, whatever the samples left over."""
OVERWHELMING = 3.0
"""Structure so many times the noise reaches into the frequencies that noise is read off."""
FOLLOWED, UNFOLLOWED = 1.3, 1.5
"""A start explains the data: chi-square over what is expected. Samples do not follow it: theirs
over the start's."""
FAR = 8.0
"""Fourth moment over the squared second, against what is expected: few data carry the excess."""

Suspects = list[tuple[str, str]]

OPENINGS = {
    **dict.fromkeys(
        ("gain", "sigma", "noise", "offset", "read_noise", "correlation", "pixels"),
        "The model does not explain the data: the noise is not as assumed.",
    ),
    **dict.fromkeys(
        ("psf", "structure"),
        "Structure is left in the residual: the PSF or the noise model is off.",
    ),
    "pattern": "Structure is left in the residual: a regular pattern is not in the model.",
    "forward": "Structure is left in the residual: the forward model or the noise model is off.",
    "shading": "Structure is left in the residual: the light is not as assumed.",
    "background": "The model does not explain the data: their level is off.",
    "samples": "The samples do not follow the data.",
}
"""How the sentence begins, by its first suspect."""


def opening(suspect: str) -> str:
    """Return how a sentence begins whose first suspect this is."""
    return OPENINGS[suspect]


def suspects_of(fit: Fit, recipe: Recipe, restarts: float | None = None) -> Suspects:
    """Return what is suspected, the likeliest first, each with a sentence.

    Parameters
    ----------
    fit : Fit
        What the residuals of the frame say.
    recipe : Recipe
        Names what could be off.
    restarts : float or None
        Chi-square over its expectation of the best start that a search found.
    """
    found = _suspects(fit, recipe)
    return (_samples(fit, recipe, restarts) or found) if found else []


def _suspects(fit: Fit, recipe: Recipe) -> Suspects:
    structure, level = _structure(fit, recipe), _level(fit, recipe)
    names = {name for name, _ in structure}
    ratio = fit.scores["noise"].ratio
    more = ratio > 1
    # These change the variance themselves: what would mend the gain then mends nothing.
    if "correlation" in names or ("pattern" in names and more):
        return structure + level
    if level and more and _dark_alone(fit):
        return level + structure
    if _is_off(fit) and more and _few_carry(fit):  # and these move the level
        return _pixels(fit) + structure
    if structure and more and fit.excess.value > OVERWHELMING * ratio:
        return structure + level
    if level and more and not _agree(fit):
        return structure + level
    noise = _noise(fit, recipe)
    if _is_off(fit) and not more and noise:
        # Samples are then smoother than the data ask for, and what they leave over says no more.
        return noise + level
    return noise + structure + level


def _samples(fit: Fit, recipe: Recipe, restarts: float | None) -> Suspects:
    """Say that the samples lie off the data where the model does not."""
    ratio, value = fit.scores["chi2"].ratio, fit.scores["chi2"].value
    if hasattr(recipe.sampler, "scale") and value > TOO_FAR:
        text = (
            f"Their chi-square per datum is {value:.2g}: most likely the sampler's step "
            f"length is too large; lower its scale (now {recipe.sampler.scale:g}) tenfold, and "
            "where that does not help look at noise and optics."
        )
        return [("samples", text)]
    if restarts is None or not restarts <= FOLLOWED or not ratio > UNFOLLOWED * restarts:
        return []
    text = (
        f"Their chi-square is {ratio:.2g} of what is expected, and that of the best start found "
        f"before sampling {restarts:.2g}: the model can explain them, and nothing is said of noise "
        "or optics. Take more steps, or another sampler."
    )
    return [("samples", text)]


def has_psf(forward: Any) -> bool:
    """Whether a forward model blurs, by itself or in one of its parts."""
    if any(has_psf(step) for step in getattr(forward, "steps", ()) or ()):
        return True
    return hasattr(forward, "psf") or forward.kind in ("motion-blur", "nonlinear-blur")


def _is_off(fit: Fit) -> bool:
    """Whether the noise's variance is off, significantly and by enough to matter."""
    score = fit.scores["noise"]
    off = abs(math.log(max(score.ratio, 1e-6))) > math.log1p(NOISE_SHARE)
    return abs(score.z) > NOISE_Z and off


def _dark_alone(fit: Fit) -> bool:
    """Whether the variance is off where it is dark and right where it is bright."""
    dark, bright = fit.scores["dark"], fit.scores["bright"]
    off = abs(dark.z) > HALF_Z and abs(dark.ratio - 1) > HALF_SHARE
    return off and abs(bright.ratio - 1) < HALF_SHARE


def _few_carry(fit: Fit) -> bool:
    """Whether few data carry the residual's variance."""
    second = max(fit.scores["chi2"].ratio, 1e-6)
    return fit.scores["fourth"].ratio > FAR * second**2


def _pixels(fit: Fit) -> Suspects:
    share = fit.scores["noise"].ratio
    text = f"The noise's variance is {share:.2g} of what was assumed, and few data carry it: look "
    return [("pixels", text + "for hot pixels or spots of rays.")]


def _all_less(fit: Fit) -> bool:
    """Whether there is less noise than assumed in dark and in bright data."""
    ratio = fit.scores["noise"].ratio
    if ratio < 1 and fit.excess.value > OVERWHELMING * ratio:
        return True  # what there is more of where it is bright is structure
    return fit.line is not None and max(fit.line.dark, fit.line.bright) < 1 - NOISE_SHARE


def _agree(fit: Fit) -> bool:
    """Whether the variance is off by the same share where it is dark and where it is bright."""
    line = fit.line
    if line is not None:
        if abs(line.intercept) < LINE_Z * line.intercept_sd:
            return True
        dark, bright = line.dark, line.bright
    else:
        dark, bright = fit.scores["dark"].ratio, fit.scores["bright"].ratio
    return abs(dark / max(bright, 1e-6) - 1) <= HALF_SHARE


def _noise(fit: Fit, recipe: Recipe) -> Suspects:
    """Say whether the noise is as strong as assumed."""
    if not _is_off(fit):
        return _halves(fit, recipe)
    share = fit.scores["noise"].ratio
    much = f"The noise's variance is {share:.2g} of what was assumed"
    if recipe.noise.kind == "gaussian" and (_agree(fit) or _all_less(fit)):
        sigma = getattr(recipe.noise, "sigma", None)
        known = isinstance(sigma, (int, float))
        told = f": take sigma about {sigma * share**0.5:.3g}" if known else ""
        return [("sigma", f"{much}{told}.")]
    if not _agree(fit):
        return _by_brightness(fit, recipe)
    gain, _ = recipe.noise.camera()
    right = gain * (_slope(fit) or share)
    way = "too large" if share < 1 else "too small"
    text = f"{much}, where it is dark as where it is bright: the gain is {way} (about {right:.3g} "
    text += f"in place of {gain:.3g} ADU per electron would mend it)"
    if share > 1:
        text += ", or read noise is missing"
    elif fit.line is None or abs(fit.line.slope - 1) < LINE_Z * fit.line.slope_sd:
        text += ", or part of the data's level is no light: the camera's offset is not told in full"
    return [("gain", text + ".")]


def _slope(fit: Fit) -> float | None:
    """Return the line's slope where it is sharp and goes through the origin.

    Unlike the share of all the variance, it is not moved by data whose level is off.
    """
    line = fit.line
    if line is None or abs(line.intercept) >= LINE_Z * line.intercept_sd:
        return None
    return line.slope if line.slope > SHARP * line.slope_sd else None


def _halves(fit: Fit, recipe: Recipe) -> Suspects:
    """Say whether the noise is off in dark or in bright data alone."""
    dark, bright, line = fit.scores["dark"], fit.scores["bright"], fit.line
    # The halves' own figures have structure in them, which the line has not.
    if line is not None and abs(line.dark / max(line.bright, 1e-6) - 1) <= HALF_SHARE:
        return []
    for one, other in ((dark, bright), (bright, dark)):
        if abs(one.z) > HALF_Z and abs(one.ratio / max(other.ratio, 1e-6) - 1) > HALF_SHARE:
            return _by_brightness(fit, recipe)
    return []


def _by_brightness(fit: Fit, recipe: Recipe) -> Suspects:
    """Say what makes the noise's variance off by different shares in dark and bright data."""
    line, dark, bright = fit.line, fit.scores["dark"].ratio, fit.scores["bright"].ratio
    if line is not None:
        dark, bright = line.dark, line.bright
    shares = f"{dark:.2g} of the assumed variance where it is dark, {bright:.2g} where it is bright"
    if recipe.noise.kind == "gaussian":
        text = f"The noise depends on the brightness ({shares}): count photons (poisson-gaussian)."
        return [("noise", text)]
    if line is not None and line.slope > 0 and abs(line.intercept) > LINE_Z * line.intercept_sd:
        gain, offset = recipe.noise.camera()
        if line.intercept < 0 and line.slope < 1 - LINE_Z * line.slope_sd:
            # Of a gain told too large the read noise is too, and no offset changes the slope.
            text = (
                f"The variance grows by {line.slope:.2g} of what was assumed with the light "
                f"({shares}): the gain is too large (about {gain * line.slope:.3g} in place of "
                f"{gain:.3g} ADU per electron would mend it)."
            )
            return [("gain", text)]
        if line.intercept < 0:
            told = offset - gain * line.intercept / line.slope
            text = (
                f"The data scatter less than their level asks for ({shares}), so that not all of "
                "it is light: the camera's offset is not told in full (about "
                f"{told:.3g} in place of {offset:.3g} ADU would mend it)."
            )
            return [("offset", text)]
        missing = line.intercept**0.5
        text = (
            f"The data scatter more than their level asks for ({shares}): read noise of about "
            f"{missing:.2g} electrons is missing, the camera's offset is told too large, or a "
            "background was subtracted from the data."
        )
        return [("read_noise", text)]
    where, cause = "dark", "read noise or the camera's offset"
    ratio = dark
    if abs(math.log(max(bright, 1e-6))) > abs(math.log(max(dark, 1e-6))):
        where, cause, ratio = "bright", "the gain, or light that flickers", bright
    way = "more" if ratio > 1 else "less"
    text = f"Where it is {where}, the data scatter {way} than assumed ({shares}): look at {cause}."
    return [("noise", text)]


def _structure(fit: Fit, recipe: Recipe) -> Suspects:
    """Say whether the residual has structure, of what size, and what leaves such a one."""
    if fit.shared > 1:
        return []
    excess, noise = fit.excess, max(fit.scores["noise"].ratio, 1e-6)
    if excess.z < STRUCTURE_Z or (excess.value - excess.expected) / noise < STRUCTURE_SHARE:
        return []
    low, high = fit.at
    size = 2 / max(low + high, 1e-6)
    share = excess.value / noise
    where = f"The residual is {share:.2g} times the noise at periods of about {size:.0f} pixels"
    if fit.peak > REGULAR:
        cause = "one frequency stands out, as stripes of a camera or fringes of light leave it"
        return [("pattern", f"{where}: {cause}.")]
    if high <= COARSE + 1 / 32:
        return [("shading", f"{where}: uneven light or a background is not in the model.")]
    neighbours, error = float(fit.correlation[0]), max(float(fit.correlation_sd[0]), 1e-12)
    weaker = fit.scores["noise"].z < -NOISE_Z and share > SHARED_RISE
    if weaker and neighbours > max(SHARED, SHARED_Z * error) and _falls(fit):
        text = (
            f"Neighbouring data share their noise (correlation {neighbours:.2f}): they were "
            "smoothed or interpolated after the camera. Take the raw data, or say so by "
            "pixels_per_value."
        )
        return [("correlation", text)]
    if not has_psf(recipe.forward):
        text = "the forward model is off, or the samples do not follow the data (more steps would)"
        return [("forward", f"{where}: {text}.")]
    if fit.scores["width"].z > WIDE_Z:
        return [("psf", f"{where}: the data are sharper than the PSF allows, which is too wide.")]
    text = "a structured pattern, correlated noise, or a PSF of another shape is not in the model"
    return [("structure", f"{where}, but not as a narrower PSF would leave it: {text}.")]


def _falls(fit: Fit) -> bool:
    """Whether the residual's power falls towards the finest detail, as smoothed noise does."""
    quarter = len(fit.power) // 8  # half of the last quarter
    coarser, finest = slice(-2 * quarter, -quarter), slice(-quarter, None)
    before, after = float(fit.power[coarser].mean()), float(fit.power[finest].mean())
    noise = max(fit.scores["noise"].ratio, 1e-6)
    parts = [float((fit.power_sd[part] ** 2).sum()) / quarter**2 for part in (coarser, finest)]
    return before > FALL * after and before - after > FALL_Z * noise * math.sqrt(sum(parts))


def _level(fit: Fit, recipe: Recipe) -> Suspects:
    """Say whether the data lie above or below the model."""
    score = fit.scores["background"]
    shift = score.value / max(fit.number, 1) ** 0.5
    if abs(score.z) < LEVEL_Z or abs(shift) < LEVEL_SHIFT:
        return []
    way = "above" if shift > 0 else "below"
    white = recipe.noise.kind == "gaussian"
    what = "background" if white else "background or the camera's offset"
    text = f"The data lie {way} the model on the whole: the {what} is off"
    if _dark_alone(fit):
        dark, bright = fit.scores["dark"], fit.scores["bright"]
        text += (
            f", not the gain: where it is dark the variance is {dark.ratio:.2g} of the assumed, "
            f"where it is bright {bright.ratio:.2g}"
        )
    return [("background", text + ".")]
