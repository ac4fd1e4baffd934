"""Conjugate gradients where the matrix is not what they ask for."""

from __future__ import annotations

import torch

from napari_dps.core.linalg import conjugate_gradients


def test_solver_without_symmetry_keeps_its_best_iterate() -> None:
    """A rotation makes conjugate gradients diverge; what comes back is no worse than nothing."""
    generator = torch.Generator().manual_seed(0)
    skew = torch.randn((16, 16), generator=generator, dtype=torch.float64)
    matrix = torch.eye(16, dtype=torch.float64) + 3 * (skew - skew.T)
    rhs = torch.randn((2, 16), generator=generator, dtype=torch.float64)
    found = conjugate_gradients(lambda p: p @ matrix.T, rhs, iterations=30, tolerance=1e-9)
    left = rhs - found.u @ matrix.T
    assert (left.norm(dim=1) <= rhs.norm(dim=1) * (1 + 1e-9)).all()
