"""Guards of the guided samplers: no solve and no step may throw a sample away."""

from __future__ import annotations

import torch

from napari_dps.core.guidance import accept
from napari_dps.core.likelihood import GaussianLikelihood
from napari_dps.core.linalg import conjugate_gradients
from napari_dps.core.operator import MappedOperator
from napari_dps.core.problem import Problem
from napari_dps.forward.identity import Identity
from napari_dps.grid import Grid
from napari_dps.priors._gaussian import GaussianPrior

SHAPE = (1, 4, 4)


def problem() -> Problem:
    """Return data of 1 under an identity with noise 0.1."""
    one = torch.ones((1, 1, 1, 1), dtype=torch.float64)
    operator = MappedOperator(Identity().bind(Grid((4, 4), dtype="float64")), 2 * one, -one)
    y = torch.ones((1, *SHAPE), dtype=torch.float64)
    prior = GaussianPrior(0.0, torch.ones((4, 4), dtype=torch.float64))
    return Problem(y, prior, operator, GaussianLikelihood(0.1))


def test_a_good_step_passes_and_a_wild_one_is_cut_back() -> None:
    task = problem()
    x0 = torch.zeros((3, *SHAPE), dtype=torch.float64)
    step = torch.ones_like(x0)
    step[1] = 6.0  # six times too far; a quarter of it is fine
    step[2] = -1e6  # away from the data: nothing of it helps
    found = accept(task, x0, step)
    assert torch.equal(found[0], step[0])
    assert 0 < float(found[1].mean()) <= 2.0
    before = task.likelihood.log_prob(task.y, task.operator(x0))
    after = task.likelihood.log_prob(task.y, task.operator(found))
    assert (after[:2] > before[:2]).all()
    assert torch.equal(found[2], x0[2])


def test_solver_without_symmetry_keeps_its_best_iterate() -> None:
    """A rotation makes conjugate gradients diverge; what comes back is no worse than nothing."""
    generator = torch.Generator().manual_seed(0)
    skew = torch.randn((16, 16), generator=generator, dtype=torch.float64)
    matrix = torch.eye(16, dtype=torch.float64) + 3 * (skew - skew.T)
    rhs = torch.randn((2, 16), generator=generator, dtype=torch.float64)
    found = conjugate_gradients(lambda p: p @ matrix.T, rhs, iterations=30, tolerance=1e-9)
    left = rhs - found.u @ matrix.T
    assert (left.norm(dim=1) <= rhs.norm(dim=1) * (1 + 1e-9)).all()
