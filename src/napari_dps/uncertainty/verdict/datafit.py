"""Does it explain the data? The residual of a frame, in words and figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_dps.uncertainty.verdict.evidence import Finding

if TYPE_CHECKING:
    from napari_dps.recipe import Recipe
    from napari_dps.uncertainty.verdict._fit import Fit, Score

__all__ = ["data_fit", "severity"]

# Calibrated by simulation (benchmarks/verdict.py): what is off must be significant and matter.
NOISE_Z, NOISE_SHARE = 4.5, 0.15
"""The noise's variance is off: standard deviations, and share."""
STRUCTURE_Z, STRUCTURE_SHARE = 4.0, 0.2
"""Structure is left: standard deviations, and excess of power over the noise's."""
HALF_Z, HALF_SHARE = 5.0, 0.25
"""The variance of dark and bright pixels is off by different shares."""
LEVEL_Z, LEVEL_SHIFT = 5.0, 0.1
"""The data lie above or below: standard deviations of the mean, and of one datum."""
COARSE = 2 / 32
"""Frequencies below this, in cycles per pixel, are shading and background, not the PSF."""

NOISE = ("gain", "sigma", "noise")
"""Suspects that concern the noise alone."""
NARROW = (
    "A PSF assumed too narrow cannot be seen in the residual: a blurrier object explains the data "
    "as well."
)


def data_fit(fit: Fit, recipe: Recipe) -> Finding:
    """Return whether the model explains the data, and what would mend it.

    Parameters
    ----------
    fit : Fit
        What the residuals of the frame say.
    recipe : Recipe
        Names what could be off.
    """
    white = recipe.noise.kind == "gaussian"
    suspects = [*_noise(fit, recipe), *_structure(fit, recipe), *_level(fit, white)]
    optics = has_psf(recipe.forward)
    if suspects:
        words = " ".join(text for _, text in suspects)
        opening = (
            "The model does not explain the data: the noise is not as assumed."
            if suspects[0][0] in NOISE
            else "Structure is left in the residual: the PSF or the noise model is off."
        )
        sentence = f"{opening} {words}"
    else:
        sentence = (
            "The model explains the data: what it leaves over looks like the noise that was "
            "assumed."
        )
        if optics:
            sentence += f" {NARROW}"
    numbers = _numbers(fit, suspects)
    numbers["blind_to"] = ["a PSF assumed too narrow"] if optics else []
    return Finding(
        name="data_fit",
        title="Does it explain the data?",
        sentence=sentence,
        numbers=numbers,
        maps={"whitened_residual": fit.white},
        alarm=bool(suspects),
    )


def severity(finding: Finding) -> float:
    """Return how much speaks against a frame, to find the worst one of a stack."""
    return float(finding.numbers["severity"])


def has_psf(forward: Any) -> bool:
    """Whether a forward model blurs, by itself or in one of its parts."""
    if any(has_psf(step) for step in getattr(forward, "steps", ()) or ()):
        return True
    return hasattr(forward, "psf") or forward.kind in ("motion-blur", "nonlinear-blur")


def _noise(fit: Fit, recipe: Recipe) -> list[tuple[str, str]]:
    """Say whether the noise is as strong as assumed."""
    score = fit.scores["noise"]
    off = abs(math.log(max(score.ratio, 1e-6))) > math.log1p(NOISE_SHARE)
    if abs(score.z) > NOISE_Z and off:
        share = score.ratio
        kind = recipe.noise.kind
        gain, _ = recipe.noise.camera()
        much = f"The noise's variance is {share:.2g} of what was assumed"
        if kind == "gaussian":
            sigma = getattr(recipe.noise, "sigma", None)
            told = f": take sigma about {sigma * share**0.5:.3g}" if _number(sigma) else ""
            return [("sigma", f"{much}{told}.")]
        way = "too large" if share < 1 else "too small"
        text = f"{much}: the gain is {way} (about {gain * share:.3g} in place of {gain:.3g} ADU per"
        text += " electron would mend it)"
        if share > 1:
            text += ", read noise is missing, or pixels are hot"
        return [("gain", text + ".")]
    dark, bright = fit.scores["dark"], fit.scores["bright"]
    found = []
    for name, one, other, cause in (
        ("dark", dark, bright, "read noise or the camera's offset"),
        ("bright", bright, dark, "the gain, or light that flickers"),
    ):
        if abs(one.z) > HALF_Z and abs(one.ratio / max(other.ratio, 1e-6) - 1) > HALF_SHARE:
            way = "more" if one.ratio > 1 else "less"
            text = f"Where it is {name}, the data scatter {way} than assumed"
            found.append(("noise", f"{text} ({one.ratio:.2g} of the variance): look at {cause}."))
    return found[:1]


def _structure(fit: Fit, recipe: Recipe) -> list[tuple[str, str]]:
    """Say whether the residual has structure, and of what size."""
    if fit.shared > 1:
        return []
    excess, noise = fit.excess, max(fit.scores["noise"].ratio, 1e-6)
    if excess.z < STRUCTURE_Z or (excess.value - excess.expected) / noise < STRUCTURE_SHARE:
        return []
    low, high = fit.at
    size = 2 / max(low + high, 1e-6)
    share = excess.value / noise
    where = f"The residual is {share:.2g} times the noise at periods of about {size:.0f} pixels"
    if high <= COARSE + 1 / 32:
        return [("background", f"{where}: uneven light or a background is not in the model.")]
    if has_psf(recipe.forward):
        return [("psf", f"{where}: the data are sharper than the PSF allows, which is too wide.")]
    return [
        (
            "forward",
            f"{where}: the forward model is off, or the samples do not follow the data (more steps "
            "would).",
        )
    ]


def _level(fit: Fit, white: bool) -> list[tuple[str, str]]:
    """Say whether the data lie above or below the model."""
    score = fit.scores["background"]
    shift = score.value / max(fit.number, 1) ** 0.5
    if abs(score.z) < LEVEL_Z or abs(shift) < LEVEL_SHIFT:
        return []
    way = "above" if shift > 0 else "below"
    what = "background" if white else "background or the camera's offset"
    return [("background", f"The data lie {way} the model on the whole: the {what} is off.")]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _told(score: Score) -> dict[str, float]:
    return {"value": score.value, "expected": score.expected, "sd": score.sd, "z": score.z}


def _numbers(fit: Fit, suspects: list[tuple[str, str]]) -> dict[str, Any]:
    excess = fit.excess
    worst = max(
        abs(fit.scores["noise"].z) / NOISE_Z if suspects else 0.0,
        excess.z / STRUCTURE_Z,
        abs(fit.scores["chi2"].z) / NOISE_Z,
    )
    return {
        "suspects": sorted({name for name, _ in suspects}),
        "severity": worst + 100 * bool(suspects),
        "samples": fit.samples,
        "data": fit.number,
        "chi2": {"samples": fit.chi2, **_told(fit.scores["chi2"])},
        "noise_variance": _told(fit.scores["noise"]),
        "dark": _told(fit.scores["dark"]),
        "bright": _told(fit.scores["bright"]),
        "mean": _told(fit.scores["mean"]),
        "background": _told(fit.scores["background"]),
        "psf_width": _told(fit.scores["width"]),
        "structure": {**_told(excess), "frequency": list(fit.at)},
        "spectrum": {
            "power": fit.power.tolist(),
            "mean_power": fit.mean_power.tolist(),
            "spread": fit.spread.tolist(),
            "sd": fit.power_sd.tolist(),
        },
        "autocorrelation": {
            "lags": list(range(1, len(fit.correlation) + 1)),
            "value": fit.correlation.tolist(),
            "sd": fit.correlation_sd.tolist(),
        },
        "pit": {"shares": fit.ranks.tolist(), **_told(fit.uniform)},
    }
