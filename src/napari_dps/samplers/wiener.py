"""Wiener filter: the linear estimate of least mean square error.

Wiener, "Extrapolation, Interpolation, and Smoothing of Stationary Time Series", 1949. The object
is a flat level plus a stationary field of power spectrum S(k) proportional to
(1 + (2 pi L |k|)^2)^-p, noise has its variance datum by datum, and the estimate is
m + S A^T (A S A^T + V)^-1 (y - A m). It is found by conjugate gradients, so that masks, borders,
downsampling and projections are dealt with exactly, where a division of spectra would wrap
around.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from napari_dps.components import SamplerChoice
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.sampler import Sampler


class Wiener(SamplerChoice):
    """Wiener filter: smooth and fast, no prior network; one image without error bars.

    For every forward model that is affine. Edges are rounded, and values may go below zero.
    """

    kind: Literal["wiener"] = "wiener"
    title: ClassVar[str] = "Wiener filter (no error bars)"
    point_estimate: ClassVar[bool] = True
    classical: ClassVar[bool] = True

    balance: Literal["auto"] | Annotated[float, Field(gt=0, le=1e6)] = "auto"
    """Noise variance over the variance of what the object gives a typical pixel (the object's own
    where the model keeps light, as blur does): more is smoother. auto: the smoothest of six
    strengths, each 4 times the last, that explains the data as well as the noise allows."""
    length: float = Field(3.0, ge=0, le=1000)
    """Correlation length L of the object's spectrum, in pixels."""
    exponent: float = Field(1.5, gt=0, le=10)
    """Exponent p of the object's spectrum: more is smoother."""
    positive: bool = False
    """Clip the estimate at zero; it is no longer linear then."""
    iterations: int = Field(300, ge=1, le=10_000)
    """Conjugate-gradient products of a solve, at most."""
    tolerance: float = Field(1e-3, gt=0, lt=1)
    """Relative residual at which a solve is good enough."""

    def bind(self, grid: Grid) -> "Sampler":
        """Build the sampler."""
        from napari_dps.core.classical import WienerSampler

        return WienerSampler(
            None if self.balance == "auto" else self.balance,
            length=self.length,
            exponent=self.exponent,
            positive=self.positive,
            iterations=self.iterations,
            tolerance=self.tolerance,
        )
