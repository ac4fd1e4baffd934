"""What rounding to grey values adds to the noise."""

from __future__ import annotations

import numpy as np


def less_rounding(square: float, error: float, gain: float, step: float) -> tuple[float, float]:
    """Return read noise without the noise of rounding, step^2 / 12 (EMVA 1288), and its error.

    Parameters
    ----------
    square, error : float
        Variance with rounding, and its standard deviation, in electrons squared.
    gain : float
        ADU per electron.
    step : float
        Spacing of the grey values in ADU; 0 if they are continuous.
    """
    own = float(np.sqrt(max(square - (step / gain) ** 2 / 12, 0.0)))
    if step > 0:
        # Of noise finer than a step the twelfth holds only on average over levels between two grey
        # values: the first harmonic of the variance of a rounded Gaussian.
        share = (own * gain / step) ** 2
        wave = (1 / np.pi**2 + 4 * share) * np.exp(-2 * np.pi**2 * share) / np.sqrt(2)
        error += float(wave) * (step / gain) ** 2
    # Near zero the error of the root is that of its square.
    return own, min(error / (2 * max(own, 1e-12)), float(np.sqrt(error)))
