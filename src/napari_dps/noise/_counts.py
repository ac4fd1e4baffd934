"""Poisson statistics of a measurement whose offset was subtracted."""

from __future__ import annotations

from torch import Tensor

from napari_dps.core.likelihood import PoissonLikelihood


class CountsLikelihood(PoissonLikelihood):
    """Poisson counts; a measurement below zero counts as zero.

    A negative count has no Poisson density, and y log z with y < 0 would drive z to minus
    infinity. Only a camera with an offset can give one.
    """

    def log_density(self, y: Tensor, z: Tensor) -> Tensor:
        """Return y log z - z with y at least 0."""
        return super().log_density(y.clamp_min(0), z)

    def score(self, y: Tensor, z: Tensor) -> Tensor:
        """Return y / z - 1 with y at least 0."""
        return super().score(y.clamp_min(0), z)
