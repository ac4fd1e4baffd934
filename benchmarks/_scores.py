"""How good an image and its error bars are, for benchmarks that compare samplers."""

from __future__ import annotations

from typing import Any

import numpy as np
from _common import Array

from napari_dps._quantiles import quantiles, ranks
from napari_dps.demo import fit_one_gain
from napari_dps.evaluate import coverage, crps, mae, psnr, ssim
from napari_dps.uncertainty.registration import register


def interval_score(samples: Array, truth: Array, level: float) -> float:
    """Return the interval score of the samples' central interval, averaged over pixels.

    Its width, and 2/(1 - level) times how far the truth lies outside: lower is better (Gneiting
    and Raftery, JASA 2007, equation 43). In the images' unit. The ends of an interval of few
    samples are uncertain, which costs too, and less so if they are too narrow: with 4 samples
    compare only methods whose coverage is similar.

    Parameters
    ----------
    samples : ndarray, shape (S, *image)
        Posterior samples.
    truth : ndarray, shape image
        Same unit.
    level : float
        Of the interval; S samples allow (S - 1)/(S + 1).
    """
    at = ranks([(1 - level) / 2, (1 + level) / 2], len(samples))
    low, high = quantiles(np.asarray(samples, np.float64), at)
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    return float(np.mean(high - low + 2 / (1 - level) * outside))


def registered(samples: Array, truth: Array) -> Array:
    """Return samples of a phase problem in the truth's place, with one gain for all.

    The measurement leaves flips and shifts free: the mean is registered to the truth, the samples
    to the mean, so that their spread stays their own.
    """
    mean = register(samples.mean(0), truth)
    placed = np.stack([register(sample, mean) for sample in samples])
    return np.asarray(fit_one_gain(placed.mean(0), truth) * placed)


def scores(
    samples: Array, truth: Array, *, pairs: bool, point: bool, symmetric: bool
) -> dict[str, Any]:
    """Return PSNR and SSIM of the mean, and CRPS, interval score and coverage of the samples.

    Of a point estimate the CRPS is the mean absolute error, which is what it is where the
    distribution is a point; it has no interval.

    Parameters
    ----------
    samples : ndarray, shape (S, *image)
        Posterior samples, or one image.
    truth : ndarray, shape image
        In the same unit.
    pairs : bool
        Whether samples were drawn in antithetic pairs.
    point : bool
        Whether it is a point estimate.
    symmetric : bool
        Whether the measurement leaves flips and shifts free.
    """
    draws = np.asarray(samples, np.float64)
    if symmetric:
        draws = registered(draws, truth)
    mean = draws.mean(0)
    found: dict[str, Any] = {"psnr": psnr(mean, truth), "ssim": ssim(mean, truth)}
    found["psnr_one"] = psnr(draws[0], truth)
    found |= {"crps": mae(mean, truth), "interval_score": None, "coverage": None}
    if not point and len(draws) > 1:
        level = (len(draws) - 1) / (len(draws) + 1)
        found["crps"] = crps(draws, truth, pairs=pairs)
        found["interval_score"] = interval_score(draws, truth, level)
        found["coverage"] = coverage(draws, truth, level)
    return found
