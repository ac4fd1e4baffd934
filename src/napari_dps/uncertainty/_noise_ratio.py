"""How strong the noise is beside the contrast: whether a calibration has seen such measurements.

Intervals hold at the noise that they were fitted at. What is read from each image (its scale and
background, noise that was estimated) does not make another recipe, but it can make another problem.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["joined", "noise_ratio", "other_noise", "ratio_of_report"]

FACTOR = 2.0
"""Beyond it brightness and noise are warned of."""
WORDS = {"everywhere": "", "dark": " where it is dark", "bright": " where it is bright"}

Ratio = Mapping[str, Sequence[float]]


def noise_ratio(
    kind: str, strength: Any, scales: Iterable[Any], backgrounds: Iterable[Any]
) -> dict[str, list[float]] | None:
    """Return the standard deviation of the noise over the contrast, smallest and largest.

    Parameters
    ----------
    kind : str
        Of the noise.
    strength : float or None
        Sigma of ``gaussian``, in the measurement's units; read noise of ``poisson-gaussian``.
    scales, backgrounds : iterable of float or None
        Contrast and background of each object, in the same units: photoelectrons where light is
        counted.

    Returns
    -------
    dict or None
        ``everywhere`` of Gaussian noise; else ``dark``, at the background, and ``bright``, at
        background + scale. None where something is not known.
    """
    known = [(a, b) for a, b in zip(scales, backgrounds, strict=False) if a]
    if strength is None or not known:
        return None
    if kind == "gaussian":
        return _ends({"everywhere": [float(strength) / a for a, _ in known]})
    if kind not in ("poisson", "poisson-gaussian") or any(b is None for _, b in known):
        return None
    # Below one photon it is the neighbours' light, not the background, that makes the noise.
    levels = {"dark": 0.0, "bright": 1.0}
    return _ends(
        {
            name: [math.sqrt(max(b + share * a, 1.0) + float(strength) ** 2) / a for a, b in known]
            for name, share in levels.items()
        }
    )


def ratio_of_report(kind: str, report: Mapping[str, Any]) -> dict[str, list[float]] | None:
    """Return :func:`noise_ratio` of a result's report; None of one without scale."""
    scales = np.ravel(report.get("scale") or []).tolist()
    backgrounds = np.ravel(report.get("background") or [None] * len(scales)).tolist()
    noise = report.get("noise") or {}
    if kind == "poisson":
        return noise_ratio(kind, 0.0, scales, backgrounds)
    strength = noise.get("sigma" if kind == "gaussian" else "read_noise")
    return noise_ratio(kind, strength, scales, backgrounds)


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the first of several measurements' parts, with the noise ratios of all of them."""
    found = [ratio for part in parts if (ratio := part.get("noise_ratio"))]
    names = set.intersection(*[set(ratio) for ratio in found]) if found else set()
    ratio = _ends({n: [v for one in found for v in one[n]] for n in sorted(names)})
    return {**parts[0], "noise_ratio": ratio or None}


def other_noise(here: Mapping[str, Any], there: Mapping[str, Any]) -> str | None:
    """Return how the noise of a result is unlike a calibration's; None where it is like it.

    Parameters
    ----------
    here, there : mapping
        Parts of the result and of the calibration. A Gaussian sigma that is given in numbers on
        both sides is compared as such elsewhere, and contrast by itself.
    """
    ours, theirs = here.get("noise_ratio"), there.get("noise_ratio")
    given = here["noise"].get("sigma") is not None
    if not ours or not theirs or given or here["noise"]["kind"] != there["noise"]["kind"]:
        return None
    for name in (name for name in WORDS if name in ours and name in theirs):
        (low, high), (least, most) = theirs[name], ours[name]
        if least < low / FACTOR or most > high * FACTOR:
            return (
                f"noise of {_range(low, high)} of the contrast{WORDS[name]}, this result has "
                f"{_range(least, most)}"
            )
    return None


def _ends(values: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: [float(min(v)), float(max(v))] for name, v in values.items()}


def _range(low: float, high: float) -> str:
    one, two = f"{low:.3g}", f"{high:.3g}"
    return one if one == two else f"{one} to {two}"
