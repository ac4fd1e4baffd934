"""The noise of data in prior units, which ends every ladder: also where A is not affine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_dps.core.likelihood import GaussianLikelihood, PoissonLikelihood
from napari_dps.core.linearised import NonlinearOperator
from napari_dps.core.operator import MappedOperator
from napari_dps.core.problem import UNKNOWN_NOISE, Problem, Start
from napari_dps.forward.phase_retrieval import PhaseRetrieval
from napari_dps.grid import Grid
from napari_dps.priors.gaussian import Gaussian

SIDE = 16
ONE = torch.ones(1, 1, 1, 1, dtype=torch.float64)


class Square(NonlinearOperator):
    """Sees the square of every pixel."""

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        return x**2


def problem(operator, likelihood, photoelectrons: Tensor, scale: float = 2.0) -> Problem:
    """Return a problem whose start is the object itself; black is dark."""
    mapped = MappedOperator(operator, scale * ONE, 0 * ONE)
    prior = Gaussian().bind(Grid((SIDE, SIDE), dtype="float64"))
    start = Start(mapped.from_object(photoelectrons), 0.1)
    return Problem(operator(photoelectrons), prior, mapped, likelihood, start=start)


def test_it_is_the_noise_over_the_slope() -> None:
    bright = torch.full((1, 1, SIDE, SIDE), 3.0, dtype=torch.float64)
    square = Square((1, SIDE, SIDE), (1, SIDE, SIDE))
    # A photoelectron is worth 1 in prior units here, the slope is 2 * 3.
    found = problem(square, GaussianLikelihood(0.06), bright).find_noise_level()
    assert found == pytest.approx(0.06 / 6)
    # What a mask leaves out tells nothing: of a half that is left, the typical pixel is still seen.
    masked = problem(square, GaussianLikelihood(0.06), bright)
    masked.valid = torch.ones_like(masked.y, dtype=torch.bool)
    masked.valid[..., : SIDE // 4] = False
    assert masked.find_noise_level() == pytest.approx(0.01)
    masked.valid[...] = False
    assert masked.find_noise_level() == UNKNOWN_NOISE


@pytest.mark.parametrize("brightness", [100.0, 1000.0])
def test_of_counted_phases_it_is_half_a_photoelectron_of_amplitude(brightness: float) -> None:
    operator = PhaseRetrieval(oversampling=2.0).bind(Grid((2 * SIDE, 2 * SIDE), dtype="float64"))
    image = torch.rand((1, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).double()
    found = problem(
        operator, PoissonLikelihood(), brightness * image, brightness
    ).find_noise_level()
    # Amplitudes err by 1/2; a real object takes the part in phase, half of the power.
    assert found == pytest.approx(2 / brightness * 0.5 * 2**0.5, rel=0.1)


def test_much_noise_about_a_start_is_not_believed() -> None:
    dim = torch.full((1, 1, SIDE, SIDE), 0.1, dtype=torch.float64)
    square = Square((1, SIDE, SIDE), (1, SIDE, SIDE))
    assert problem(square, GaussianLikelihood(1.0), dim).find_noise_level() == UNKNOWN_NOISE
    unknown = problem(square, GaussianLikelihood(0.01), dim)
    unknown.start = None
    assert unknown.find_noise_level() is None
