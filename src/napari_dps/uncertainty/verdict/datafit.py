"""Does it explain the data? The residual of a frame, in words and figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from napari_dps.uncertainty.verdict.evidence import Finding
from napari_dps.uncertainty.verdict.suspects import (
    NOISE_Z,
    STRUCTURE_Z,
    has_psf,
    opening,
    suspects_of,
)

if TYPE_CHECKING:
    from napari_dps.recipe import Recipe
    from napari_dps.uncertainty.verdict._fit import Fit, Score

__all__ = ["data_fit", "severity"]

NARROW = (
    "A PSF assumed too narrow cannot be seen in the residual: a blurrier object explains the data "
    "as well."
)


def data_fit(fit: Fit, recipe: Recipe, restarts: float | None = None) -> Finding:
    """Return whether the model explains the data, and what would mend it.

    Parameters
    ----------
    fit : Fit
        What the residuals of the frame say.
    recipe : Recipe
        Names what could be off.
    restarts : float or None
        Chi-square over its expectation of the best start that a search found.
    """
    suspects = suspects_of(fit, recipe, restarts)
    optics = has_psf(recipe.forward)
    if suspects:
        sentence = " ".join([opening(suspects[0][0]), *(text for _, text in suspects)])
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
        "structure": {**_told(excess), "frequency": list(fit.at), "peak": fit.peak},
        "variance_line": None if fit.line is None else asdict(fit.line),
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
