"""How well samples fit the data: figures against what the model makes of them (torch part)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from napari_dps.uncertainty.verdict._causes import Line, peak, variance_line
from napari_dps.uncertainty.verdict._residuals import (
    LAGS,
    LINEAR,
    NAMES,
    RINGS,
    Figures,
    Look,
    rings,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_dps.core.problem import Problem

Array = NDArray[np.float64]

FREE = 0.25
"""A ring whose power differs by less than this share from sample to sample is hardly fitted."""
ENOUGH = 0.2
"""Share of all frequencies that must be hardly fitted, for the noise to be read off them."""
TRUSTED = 0.5
"""How much of the spread is believed when the mean's residual is judged by it: samplers err."""
WINDOWS = (1, 2, 3)
"""Structure is looked for in so many rings side by side."""
TINY = 1e-12
"""A deviation below this share of what is expected, or as far above, tells nothing of skewness."""
LARGEST = 1e60
"""Figures end here, so that their squares are numbers."""


@dataclass(frozen=True)
class Score:
    """A figure, what it should be, and how far it is off.

    Attributes
    ----------
    value, expected, sd : float
        Mean over the samples; mean and standard deviation of one sample's under the model.
    """

    value: float
    expected: float
    sd: float

    @property
    def z(self) -> float:
        """Standard deviations above what was expected."""
        return (self.value - self.expected) / max(self.sd, 1e-12)

    @property
    def ratio(self) -> float:
        """Value over what was expected."""
        return self.value / self.expected if self.expected > 0 else 1.0


@dataclass(frozen=True)
class Fit:
    """What the residuals of one frame say.

    Attributes
    ----------
    samples, number : int
        How many samples, and how many data count.
    shared : float
        Pixels that share one value of noise.
    scores : dict
        A `Score` under each of `NAMES`, and ``"noise"``: the noise's variance over the assumed
        one, from frequencies that the samples hardly fit.
    chi2 : list of float
        Of each sample, per datum.
    power, spread, mean_power : ndarray, shape (R,)
        Of every ring of spatial frequency: a sample's whitened residual (1 expected), how much of
        it differs from sample to sample, and that of the mean over infinitely many samples (at
        most 1 minus the spread expected).
    power_sd : ndarray, shape (R,)
        Standard deviation of `power` under the model.
    excess : Score
        Of `mean_power` over the noise, in the rings where it is largest against its error.
    at : tuple of float
        Lowest and highest frequency of those rings, in cycles per pixel.
    peak : float
        Power of the strongest frequency in those rings over the usual one there.
    line : Line or None
        The residual's variance by brightness.
    correlation, correlation_sd : ndarray, shape (L,)
        Autocorrelation of a sample's residual 1, 2, ... pixels apart, and its deviation under the
        model about 0.
    ranks : ndarray, shape (D + 1,)
        Share of data that have each rank among D drawn from the model.
    uniform : Score
        Chi-square of the ranks of one sample per degree of freedom, mean over the samples.
    white : ndarray, shape y_shape, float32
        Whitened residual of the mean expectation.
    """

    samples: int
    number: int
    shared: float
    scores: dict[str, Score]
    chi2: list[float]
    power: Array
    spread: Array
    mean_power: Array
    power_sd: Array
    excess: Score
    at: tuple[float, float]
    peak: float
    line: Line | None
    correlation: Array
    correlation_sd: Array
    ranks: Array
    uniform: Score
    white: NDArray[np.float32]


def fit(figures: Figures, problem: Problem) -> Fit:
    """Return what the figures of a frame say.

    Parameters
    ----------
    figures : Figures
        Of all its samples.
    problem : Problem
        Of this frame alone.
    """
    observed = _finite(torch.stack(figures.observed))
    null = _finite(torch.cat(figures.null))
    # Noise that neighbours share scatters more than the independent noise that is drawn.
    shared = float(problem.likelihood.redundancy) ** 0.5
    mean, centre, deviation = observed.mean(0), null.mean(0), null.std(0, ddof=1) * shared
    look = Look(problem, figures.mean[None], problem.valid)
    own = _finite(look(problem.y))
    begin = len(NAMES)
    part, after = slice(begin, begin + RINGS), slice(begin + RINGS, begin + RINGS + LAGS)
    count = len(observed)
    power, naive = mean[part], own[part]
    # Mean of squares = square of the mean + (S - 1)/S times the unbiased spread.
    spread = np.zeros(RINGS)
    if count > 1:
        spread = np.maximum(power - naive, 0) * count / (count - 1)
    mean_power = power - spread
    sizes = _sizes(problem.y)
    ring_sd = _ring_sd(deviation[part], sizes)
    scores = {
        name: Score(float(mean[k]), float(centre[k]), float(deviation[k]))
        for k, name in enumerate(NAMES)
    }
    for name in LINEAR:  # known exactly
        scores[name] = Score(scores[name].value, 0.0, shared)
    # Few draws tell a deviation poorly; their moments tell it well.
    second, fourth = scores["chi2"].expected, scores["fourth"].expected
    tails = float(shared * np.sqrt(max(fourth - second**2, 0.0) / look.number))
    for name, share in (("chi2", 1.0), ("dark", 0.5), ("bright", 0.5)):
        own_sd = max(scores[name].sd, float(tails / np.sqrt(share)))
        scores[name] = Score(scores[name].value, scores[name].expected, own_sd)
    free = _free(spread, sizes)
    if free is None:
        scores["noise"] = scores["chi2"]
    else:
        scores["noise"] = _noise(power, centre[part], sizes * free, ring_sd, tails)
    expected = centre[part] * np.clip(1 - TRUSTED * spread, 0, None)
    excess, at = _excess(mean_power, scores["noise"].ratio, expected, ring_sd, sizes)
    variance = max(scores["chi2"].value, 1e-12)
    ranked = torch.stack(figures.ranks).double().numpy()
    white = whitened(problem, figures.mean)
    return Fit(
        samples=count,
        number=int(look.number),
        shared=float(problem.likelihood.redundancy),
        scores=scores,
        chi2=observed[:, 0].tolist(),
        power=power,
        spread=spread,
        mean_power=mean_power,
        power_sd=ring_sd,
        excess=excess,
        at=at,
        peak=peak(white, at),
        line=variance_line(problem, figures.mean, free),
        correlation=(mean[after] - centre[after]) / variance,
        correlation_sd=deviation[after] / max(scores["chi2"].expected, 1e-12),
        ranks=ranked.sum(0) / ranked.sum(),
        uniform=_uniform(ranked, shared),
        white=white,
    )


def whitened(problem: Problem, z: Tensor) -> NDArray[np.float32]:
    """Return (y - z) over the noise's deviation, zero where a datum does not count."""
    variance = problem.likelihood.variance(z[None]) / problem.likelihood.redundancy
    white = problem.residual(z[None]) / variance.sqrt()
    out: NDArray[np.float32] = white[0].float().cpu().numpy()
    return out


def _finite(figures: Tensor) -> Array:
    """Return figures as numbers: of a sample very far off the data they are none."""
    return figures.nan_to_num(LARGEST, LARGEST, -LARGEST).clamp(-LARGEST, LARGEST).numpy()


def _sizes(y: Tensor) -> Array:
    number = rings((int(y.shape[-2]), int(y.shape[-1])))
    return torch.bincount(number.flatten(), minlength=RINGS).double().numpy()


def _free(spread: Array, sizes: Array) -> NDArray[np.bool_] | None:
    """Return the rings that are hardly fitted; None if they are too few."""
    free: NDArray[np.bool_] = (spread < FREE) & (np.arange(RINGS) > 1)
    return None if (sizes * free).sum() < ENOUGH * sizes.sum() else free


def _noise(power: Array, centre: Array, weight: Array, ring_sd: Array, tails: float) -> Score:
    """Return the noise's variance from rings with these weights."""
    weight = weight / weight.sum()
    # Outliers raise all rings at once, so that their deviations do not average out.
    sd = max(float(np.sqrt(weight**2 @ ring_sd**2)), tails)
    return Score(float(power @ weight), float(centre @ weight), sd)


def _ring_sd(deviation: Array, sizes: Array) -> Array:
    """Return the deviation of every ring's power, smoothed: few draws tell each one poorly."""
    present = sizes > 0
    white = np.sqrt(2 / np.maximum(sizes, 1))
    factor = float(np.sqrt(np.mean((deviation[present] / white[present]) ** 2)))
    return factor * white


def _as_normal(value: float, expected: float, sd: float) -> Score:
    """Return the score of a mean of squares, which is skewed, with a deviation that makes it fair.

    By the cube root of Wilson and Hilferty (1931), which is nearly normal.
    """
    share = sd / expected if expected > 0 else 0.0
    # Of a sample far off the data neither figures nor their deviation need be numbers to reckon
    # with: they are told as they are.
    if value <= expected or not TINY < share < 1 / TINY or not np.isfinite(value):
        return Score(value, expected, sd)
    narrow = 1 / 9 * share**2  # 2 / (9 degrees of freedom)
    z = ((value / expected) ** (1 / 3) - (1 - narrow)) / narrow**0.5
    return Score(value, expected, (value - expected) / max(z, 1e-6))


def _excess(
    mean_power: Array, noise: float, centre: Array, deviation: Array, sizes: Array
) -> tuple[Score, tuple[float, float]]:
    """Return the most significant excess over the noise, and its frequencies."""
    best, at = Score(0.0, 0.0, 1.0), (0.0, 0.0)
    present = sizes > 0
    for width in WINDOWS:
        for low in range(1, RINGS - width + 1):
            inside = slice(low, low + width)
            if not present[inside].all():
                continue
            weight = sizes[inside] / sizes[inside].sum()
            expected = float(weight @ centre[inside]) * noise
            sd = noise * float(np.sqrt(weight**2 @ deviation[inside] ** 2))
            score = _as_normal(float(weight @ mean_power[inside]), expected, sd)
            if score.z > best.z:
                best, at = score, (low / (2 * RINGS), (low + width) / (2 * RINGS))
    return best, at


def _uniform(ranked: Array, shared: float) -> Score:
    """Return how far ranks are from evenly spread: chi-square per degree, 1 expected.

    That of every sample by itself, averaged: ranks averaged over samples would come out the more
    even, the more samples there are.
    """
    number = np.maximum(ranked.sum(1, keepdims=True), 1)
    bins = ranked.shape[1]
    own = (number * (ranked / number - 1 / bins) ** 2 * bins).sum(1) / (bins - 1)
    return Score(float(own.mean()) / shared**2, 1.0, float(np.sqrt(2 / (bins - 1))))
