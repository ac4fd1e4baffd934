"""How good is a restoration, and are its error bars honest? Compared with the truth, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dps._quantiles import check_level, quantiles, ranks, samples_needed
from napari_dps.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LEVELS = (0.5, 0.8, 0.9)


def _pair(estimate: ArrayLike, truth: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    first = np.asarray(estimate, dtype=np.float64)
    second = np.asarray(truth, dtype=np.float64)
    if first.shape != second.shape:
        raise InputError(
            f"the result has shape {first.shape}, but the truth has {second.shape}: "
            "compare images of one shape"
        )
    if first.size == 0 or not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError(
            "result and truth can only be compared where all values are finite: cut out or fill "
            "NaN and infinite pixels first"
        )
    return first, second


def _stack(samples: ArrayLike, truth: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    draws = np.asarray(samples, dtype=np.float64)
    if draws.ndim < 1 or len(draws) < 2:
        raise InputError("the spread of a posterior shows only in 2 samples or more; draw more")
    _pair(draws[0], truth)
    return draws, np.asarray(truth, dtype=np.float64)


def bias(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Return the mean of estimate - truth, in the images' unit."""
    first, second = _pair(estimate, truth)
    return float(np.mean(first - second))


def mae(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Return the mean absolute error, in the images' unit."""
    first, second = _pair(estimate, truth)
    return float(np.mean(np.abs(first - second)))


def rmse(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Return the root mean squared error, in the images' unit."""
    first, second = _pair(estimate, truth)
    return float(np.sqrt(np.mean((first - second) ** 2)))


def psnr(estimate: ArrayLike, truth: ArrayLike, data_range: float | None = None) -> float:
    """Return the peak signal-to-noise ratio in dB.

    Parameters
    ----------
    estimate, truth : array-like, same shape
        Images in the same unit.
    data_range : float, optional
        The peak; the truth's maximum minus its minimum where left out.

    Returns
    -------
    float
        Infinite for equal images, NaN where the range is zero.
    """
    error = rmse(estimate, truth)
    peak = float(np.ptp(np.asarray(truth, dtype=np.float64))) if data_range is None else data_range
    if peak <= 0:
        return float("nan")
    return float("inf") if error == 0 else float(20 * np.log10(peak / error))


def ssim(estimate: ArrayLike, truth: ArrayLike, data_range: float | None = None) -> float:
    """Return the structural similarity (Wang et al. 2004), frame by frame, averaged.

    Parameters
    ----------
    estimate, truth : array-like, shape (..., Y, X)
        Images in the same unit.
    data_range : float, optional
        As in `psnr`.

    Returns
    -------
    float
        1 for equal images; NaN where the range is zero or a frame has fewer than 7 rows or columns.
    """
    import skimage.metrics

    similarity: Any = skimage.metrics.structural_similarity

    first, second = _pair(estimate, truth)
    peak = float(np.ptp(second)) if data_range is None else data_range
    if first.ndim < 2 or min(first.shape[-2:]) < 7 or peak <= 0:
        return float("nan")
    frames = zip(
        first.reshape(-1, *first.shape[-2:]), second.reshape(-1, *first.shape[-2:]), strict=True
    )
    return float(np.mean([similarity(a, b, data_range=peak) for a, b in frames]))


def fit_gain(estimate: ArrayLike, truth: ArrayLike) -> tuple[float, float]:
    """Return the (gain, offset) for which gain * estimate + offset is nearest to the truth.

    A constant estimate has no gain: then the gain is 0 and the offset the truth's mean.
    """
    first, second = _pair(estimate, truth)
    spread = float(np.var(first))
    if spread == 0:
        return 0.0, float(second.mean())
    gain = float(np.mean((first - first.mean()) * (second - second.mean())) / spread)
    return gain, float(second.mean() - gain * first.mean())


def coverage(samples: ArrayLike, truth: ArrayLike, level: float = 0.9) -> float:
    """Return the fraction of pixels whose truth lies in the central interval of the samples.

    The interval is the nominal one, of the samples as drawn (ranks q (S + 1)), so that samples of
    the right posterior cover `level` on average, whatever their number. A calibrated result gives
    others: see :func:`calibrated_coverage`.

    Parameters
    ----------
    samples : array-like, shape (S, *image)
        Posterior samples.
    truth : array-like, shape image
        Same unit.
    level : float
        Between 0 and 1.

    Raises
    ------
    InputError
        If there are too few samples for the level; the sentence names the number needed.
    """
    draws, known = _stack(samples, truth)
    check_level(level, len(draws))
    at = ranks([(1 - level) / 2, (1 + level) / 2], len(draws))
    low, high = quantiles(draws, at)
    return float(np.mean((low <= known) & (known <= high)))


def calibrated_coverage(
    mean: ArrayLike, std: ArrayLike, truth: ArrayLike, factor: float, share: float = 0.0
) -> float:
    """Return the fraction of pixels whose truth lies within the interval of a calibrated result.

    Parameters
    ----------
    mean, std, truth : array-like, same shape
        Of a result, in one unit.
    factor : float
        Of one level, as in ``result.report["intervals"]["lambdas"]`` of a calibrated result.
    share : float
        ``result.report["intervals"]["share"]`` of it.
    """
    from napari_dps.uncertainty.conformal import scaled_interval

    centre, known = _pair(mean, truth)
    low, high = scaled_interval(centre, _pair(std, truth)[0], factor, share)
    return float(np.mean((low <= known) & (known <= high)))


def crps(samples: ArrayLike, truth: ArrayLike, *, pairs: bool = False) -> float:
    """Return the continuous ranked probability score, averaged over pixels (lower is better).

    The fair estimate of mean |x - truth| - mean |x - x'| / 2, whose expectation does not depend on
    the number of samples (Ferro 2014).

    Parameters
    ----------
    samples : array-like, shape (S, *image), S >= 2
        Posterior samples.
    truth : array-like, shape image
        Same unit, which is the score's too.
    pairs : bool
        As in `spread_skill`: x and x' are then never partners, which are not independent.
    """
    draws, known = _stack(samples, truth)
    count = len(draws)
    skill = np.mean(np.abs(draws - known))
    ranks = 2 * np.arange(1, count + 1) - count - 1
    apart = float(np.mean(np.tensordot(ranks, np.sort(draws, axis=0), axes=1)))
    number = count * (count - 1) // 2
    if pairs and count >= 3:
        partners = np.abs(draws[0 : count // 2 * 2 : 2] - draws[1::2])
        apart -= float(np.mean(partners.sum(axis=0)))
        number -= len(partners)
    return float(skill - apart / (2 * number))


def spread_skill(samples: ArrayLike, truth: ArrayLike, *, pairs: bool = False) -> float:
    """Return the spread over the error of the mean: 1 for honest error bars, less if too small.

    The root mean square of the standard deviation over the error of the mean, times
    sqrt(1 + 1/S): the error of a mean of S samples holds that much of their own spread (Fortin et
    al. 2014). NaN where the mean has no error.

    Parameters
    ----------
    samples : array-like, shape (S, *image), S >= 2
        Posterior samples.
    truth : array-like, shape image
        Same unit.
    pairs : bool
        Whether samples 0 and 1, 2 and 3, ... were drawn with opposite noise (``antithetic`` of
        the sampler). Then the variance is that of the pairs' means plus that within pairs, and
        only the former is left in the error of the mean. Ignored below two pairs; a last sample
        without a partner does not count.
    """
    draws, known = _stack(samples, truth)
    if pairs and len(draws) >= 4:
        whole = len(draws) // 2 * 2
        first, second = draws[0:whole:2], draws[1:whole:2]
        centres, halves = (first + second) / 2, (first - second) / 2
        error = rmse(centres.mean(axis=0), known)
        between, within = np.mean(centres.var(axis=0, ddof=1)), np.mean(halves**2)
        expected = (1 + 1 / len(centres)) * between + within
    else:
        error = rmse(draws.mean(axis=0), known)
        expected = (1 + 1 / len(draws)) * np.mean(draws.var(axis=0, ddof=1))
    return float(np.sqrt(expected) / error) if error > 0 else float("nan")


def compare(
    mean: ArrayLike,
    truth: ArrayLike,
    samples: ArrayLike | None = None,
    *,
    fit: bool = False,
    pairs: bool = False,
    lambdas: Mapping[str, float] | None = None,
    share: float = 0.0,
    std: ArrayLike | None = None,
) -> dict[str, Any]:
    """Return all metrics of a result.

    Parameters
    ----------
    mean : array-like, shape image
        The restoration.
    truth : array-like, shape image
        What it should be, in the same unit.
    samples : array-like, shape (S, *image), optional
        Posterior samples; with two or more the error bars are judged too.
    fit : bool
        Whether to apply the fitted gain and offset before measuring.
    pairs : bool
        As in `spread_skill`.
    lambdas : mapping, optional
        Of a calibrated result: ``result.report["intervals"]["lambdas"]``.
    share : float
        Of a calibrated result: ``result.report["intervals"]["share"]``.
    std : array-like, shape image, optional
        Of the samples, for the calibrated intervals; computed from them where left out.

    Returns
    -------
    dict
        ``psnr``, ``ssim``, ``rmse``, ``mae``, ``bias``, ``data_range``, ``gain``, ``offset``,
        ``fitted``, ``samples``, ``nominal_coverage`` (by level, of the samples as drawn;
        ``coverage`` is the same), ``calibrated_coverage`` (by level, of the intervals that the
        result gives; None without lambdas), ``crps``, ``spread_skill``; None where there are too
        few samples.
    """
    estimate, known = _pair(mean, truth)
    draws = None if samples is None else np.asarray(samples, dtype=np.float64)
    gain, offset = fit_gain(estimate, known)
    if fit:
        estimate = gain * estimate + offset
        draws = None if draws is None else gain * draws + offset
    count = 0 if draws is None else len(draws)
    spread = draws is not None and count >= 2
    width: NDArray[Any] | None
    if std is not None:
        width = np.asarray(std, dtype=np.float64) * (abs(gain) if fit else 1.0)
    else:
        width = draws.std(axis=0, ddof=1) if draws is not None and spread else None
    nominal = {
        f"{level:g}": coverage(draws, known, level)
        if draws is not None and count >= samples_needed(level)
        else None
        for level in LEVELS
    }
    return {
        "psnr": psnr(estimate, known),
        "ssim": ssim(estimate, known),
        "rmse": rmse(estimate, known),
        "mae": mae(estimate, known),
        "bias": bias(estimate, known),
        "data_range": float(np.ptp(known)),
        "gain": gain,
        "offset": offset,
        "fitted": fit,
        "samples": count,
        "coverage": nominal,
        "nominal_coverage": nominal,
        "calibrated_coverage": None
        if lambdas is None or width is None
        else {k: calibrated_coverage(estimate, width, known, v, share) for k, v in lambdas.items()},
        "crps": crps(draws, known, pairs=pairs) if draws is not None and spread else None,
        "spread_skill": spread_skill(draws, known, pairs=pairs)
        if draws is not None and spread
        else None,
    }
