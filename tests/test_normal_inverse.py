"""The data step where Fourier modes are the operator's own: solved at once, to the same result."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_dps.components import make
from napari_dps.core import data_step
from napari_dps.core.covariance import Covariance, ScalarCovariance, StationaryCovariance
from napari_dps.core.illumination import IlluminatedOperator
from napari_dps.core.likelihood import GaussianLikelihood, PoissonLikelihood
from napari_dps.core.operator import MappedOperator, Operator
from napari_dps.core.problem import Problem
from napari_dps.grid import Grid

GRID = Grid((12, 15), dtype="float64")
BLUR = {"kind": "gaussian-blur", "sigma": 1.5, "boundary": "periodic"}


def bound(forward: Any) -> Any:
    return make("forward", forward).bind(GRID)  # type: ignore[union-attr]


def problem(operator: Operator, likelihood: Any = None) -> Problem:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([3.0, 5.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    y = 10 * torch.rand((2, *operator.y_shape), generator=generator, dtype=torch.float64)
    mapped = MappedOperator(operator, scale, 0 * scale)
    prior = make("prior", {"kind": "gaussian", "correlation_length": 2.0}).bind(GRID)  # type: ignore[union-attr]
    return Problem(y, prior, mapped, likelihood or GaussianLikelihood(0.3))


def covariances(of: Problem) -> list[Covariance]:
    x = torch.zeros((2, *of.operator.x_shape), dtype=torch.float64)
    return [ScalarCovariance(0.7), StationaryCovariance(of.prior, x, 0.5)]


@pytest.mark.parametrize("forward", [BLUR, "identity"])
def test_at_once_is_what_conjugate_gradients_find(forward, monkeypatch) -> None:
    case = problem(bound(forward))
    centre = torch.zeros((2, *case.operator.x_shape), dtype=torch.float64)
    for covariance in covariances(case):
        found, z = data_step.proximal(case, centre, covariance, 1)
        with monkeypatch.context() as patch:
            patch.setattr(GaussianLikelihood, "constant_variance", None)
            patch.setattr(
                GaussianLikelihood, "variance", lambda self, z: torch.full_like(z, self.sigma**2)
            )
            patch.setattr(data_step, "TOLERANCE", 1e-12)
            slowly, _ = data_step.proximal(case, centre, covariance, 1000)
        torch.testing.assert_close(found, slowly, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(z, case.operator(found))


def test_what_has_other_modes_is_left_to_conjugate_gradients() -> None:
    covariance = torch.ones((), dtype=torch.float64)
    missing = {"kind": "random-inpaint", "missing": 0.5}
    extended = BLUR | {"boundary": "extend"}
    for forward in (missing, extended):
        assert problem(bound(forward)).operator.normal_inverse(covariance, 1.0) is None
    inner = bound(BLUR)
    flat = torch.linspace(0.5, 1, 15, dtype=torch.float64).expand(1, 12, 15)
    lit = IlluminatedOperator(inner, flat, None)
    assert problem(lit).operator.normal_inverse(covariance, 1.0) is None
    beside = IlluminatedOperator(inner, None, torch.ones_like(flat))
    assert problem(beside).operator.normal_inverse(covariance, 1.0) is not None
    assert PoissonLikelihood().constant_variance is None
