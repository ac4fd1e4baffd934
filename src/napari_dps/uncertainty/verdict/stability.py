"""How stable is the result: how many samples it is worth, and would other samples say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.uncertainty.verdict.evidence import Evidence, Finding
from napari_dps.uncertainty.verdict.finders import TITLES
from napari_dps.uncertainty.verdict.pairs import variance

__all__ = ["effective_samples", "find", "split_half"]

Array = NDArray[np.float64]

FEWEST = 4
"""Samples without which nothing can be said of stability."""
COPY = 0.05
"""Samples closer to each other than this share of the usual distance are one and the same."""
WORTH = 8.0
"""Below so many independent samples a standard deviation is wrong by a quarter and more."""
ALIKE = 0.5
"""Least reliability of the map of standard deviations: below, its noise outweighs its content."""
RIVAL = 1.1
"""A restart within this factor of the best misfit explains the data as well."""
SPLITS = 8


def find(evidence: Evidence) -> Finding | None:
    """Return how many independent samples there are, and whether halves and restarts agree.

    Samples are independent by construction, but for the partners of antithetic pairs, copies that
    resampling leaves, and starts that are shared.

    Parameters
    ----------
    evidence : Evidence
        Samples of one frame; no network is called.

    Returns
    -------
    Finding or None
        None for a point estimate, of which no stability can be told.
    """
    samples = np.asarray(evidence.samples, dtype=np.float64)
    if len(samples) < 2:
        return None
    numbers: dict[str, Any] = {"samples": len(samples), "pairs": bool(evidence.pairs)}
    if len(samples) < FEWEST:
        return Finding(
            name="stability",
            title=TITLES["stability"],
            sentence=f"{len(samples)} samples are too few to tell; draw {FEWEST} or more, and 20 "
            "for error bars.",
            numbers=numbers,
            told=False,
        )
    numbers |= effective_samples(samples, pairs=evidence.pairs)
    numbers |= split_half(samples, pairs=evidence.pairs)
    numbers |= _restarts(list(evidence.restarts))
    error = np.sqrt(variance(samples, evidence.pairs) / numbers["effective_mean"])
    sentence, alarm = _say(numbers)
    return Finding(
        name="stability",
        title=TITLES["stability"],
        sentence=sentence,
        numbers=numbers,
        maps={"error_of_the_mean": error.astype(np.float32)},
        alarm=alarm,
    )


def effective_samples(samples: Array, *, pairs: bool = False) -> dict[str, Any]:
    """Return how many independent samples a set is worth.

    Parameters
    ----------
    samples : ndarray, shape (S, ...)
        Of the posterior.
    pairs : bool
        Whether samples 0 and 1, 2 and 3, ... were drawn with opposite noise.

    Returns
    -------
    dict
        ``distinct``: samples that are no copies; ``correlation`` of partners, None without pairs;
        ``effective_mean`` and ``effective_std``: so many independent samples would know the mean
        and the standard deviation as well.

    Notes
    -----
    With r the correlation of partners, the mean of S samples has the variance (1 + r)/S of one:
    it is worth S/(1 + r), which for opposite partners is more than S. Of Gaussian samples the
    squares correlate by r^2, so that the standard deviation is worth S/(1 + r^2): no more than S,
    and half of it if partners were mirror images. r is pooled over all pixels, and freed of the
    bias that comes from taking deviations from the samples' own mean.
    """
    flat = samples.reshape(len(samples), -1)
    deviations = flat - flat.mean(0)
    distinct = _distinct(deviations)
    whole = len(deviations) // 2 * 2
    if not pairs or whole < 4:
        return {
            "distinct": distinct,
            "correlation": None,
            "effective_mean": float(distinct),
            "effective_std": float(distinct),
        }
    first, second = deviations[0:whole:2], deviations[1:whole:2]
    energy = float((deviations[:whole] ** 2).mean())
    seen = float((first * second).mean()) / energy if energy > 0 else 0.0
    plus = min(max((1 + seen) / (1 - (1 - seen) / whole), 0.0), 2.0)
    r = plus - 1
    # Exactly opposite partners would know the mean without error: no data show that.
    return {
        "distinct": distinct,
        "correlation": r,
        "effective_mean": distinct / max(plus, 1e-3),
        "effective_std": distinct / (1 + r**2),
    }


def _distinct(deviations: Array) -> int:
    """Return how many samples are no copies of an earlier one."""
    gram = deviations @ deviations.T
    own = np.diag(gram)
    distance = np.maximum(own[:, None] + own[None, :] - 2 * gram, 0)
    usual = 2 * own.sum() / max(len(own) - 1, 1)
    near = distance < COPY**2 * usual
    # A sample is new where none before it is the same.
    return int(sum(not near[k, :k].any() for k in range(len(own))))


def split_half(samples: Array, *, pairs: bool = False) -> dict[str, float]:
    """Return how well two halves of the samples agree on mean and standard deviation.

    Parameters
    ----------
    samples : ndarray, shape (S, ...)
        At least four.
    pairs : bool
        Whether partners stay in the same half.

    Returns
    -------
    dict
        ``mean_difference``: root-mean-square difference of the halves' means over that of the
        standard deviation; ``mean_reliability`` and ``std_reliability``: the correlation over
        pixels of the halves' maps, stepped up to the whole set (Spearman and Brown, 1910:
        2 r/(1 + r)); 1 where other samples would give the same map.
    """
    flat = samples.reshape(len(samples), -1)
    unit = 2 if pairs and len(flat) >= 8 else 1
    groups = len(flat) // unit
    half = groups // 2
    rng = np.random.default_rng(0)
    spread = float(np.sqrt(flat.var(0, ddof=1).mean()))
    differences, means, stds = [], [], []
    for _ in range(SPLITS):
        order = rng.permutation(groups)
        taken = [
            np.concatenate([np.arange(unit) + unit * g for g in part])
            for part in (order[:half], order[half : 2 * half])
        ]
        one, two = flat[taken[0]], flat[taken[1]]
        differences.append(float(((one.mean(0) - two.mean(0)) ** 2).mean()))
        means.append(_correlation(one.mean(0), two.mean(0)))
        stds.append(_correlation(one.std(0, ddof=1), two.std(0, ddof=1)))
    return {
        "mean_difference": float(np.sqrt(np.mean(differences))) / spread if spread > 0 else 0.0,
        "mean_reliability": _stepped_up(float(np.mean(means))),
        "std_reliability": _stepped_up(float(np.mean(stds))),
    }


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size > 0 else 1.0


def _stepped_up(r: float) -> float:
    return 2 * r / (1 + r) if r > 0 else 0.0


def _restarts(misfits: list[float]) -> dict[str, Any]:
    """Return how many restarts explain the data as well as the best."""
    if len(misfits) < 2:
        return {"restarts": len(misfits), "restarts_agreeing": None}
    best = min(misfits)
    return {
        "restarts": len(misfits),
        "restarts_agreeing": sum(m <= RIVAL * best for m in misfits),
        "restart_best": best,
        "restart_worst": max(misfits),
    }


def _say(n: dict[str, Any]) -> tuple[str, bool]:
    """Return the sentence, and whether it is an alarm: too few samples are none."""
    worth, alike, restarts = n["effective_std"], n["std_reliability"], n["restarts_agreeing"]
    text = (
        f"{n['samples']} samples know the mean like {n['effective_mean']:.3g} independent ones and "
        f"the error bars like {worth:.3g}; halves agree on the mean by "
        f"{100 * n['mean_reliability']:.1f} % and on the error bars by {100 * alike:.0f} %"
    )
    more, alarms = [], []
    if n["distinct"] < n["samples"]:
        alarms.append(f"only {n['distinct']} samples differ from each other")
    if worth < WORTH:
        more.append("draw more samples: the error bars are noise to a quarter of their length")
    elif alike < ALIKE:
        more.append("the map of error bars would look different with other samples")
    if restarts == 1:
        alarms.append(
            f"of {n['restarts']} restarts no second one explains the data as well as the best: "
            "another run may find another image"
        )
    elif restarts is not None:
        text += f"; {restarts} of {n['restarts']} restarts explain the data equally well"
    told = [text, *(t[0].upper() + t[1:] for t in alarms + more)]
    return ". ".join(told) + ".", bool(alarms)
