"""The solver of moment matching, where the matrix is a covariance and where it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from napari_dps.core.moments import solve_moments

DTYPE = torch.float64


def covariance(n: int, seed: int = 0) -> Tensor:
    """A symmetric matrix with eigenvalues from 1e-3 to 100."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn((n, n), generator=generator, dtype=DTYPE))
    return basis @ torch.diag(torch.logspace(-3, 2, n, dtype=DTYPE)) @ basis.T


def rhs_of(count: int, n: int) -> Tensor:
    return torch.randn((count, n), generator=torch.Generator().manual_seed(1), dtype=DTYPE)


def test_a_covariance_is_solved_exactly() -> None:
    matrix, rhs = covariance(16), rhs_of(3, 16)
    found = solve_moments(lambda p: (p @ matrix, p @ matrix), rhs, iterations=16, tolerance=0)
    exact = torch.linalg.solve(matrix + torch.eye(16, dtype=DTYPE), rhs.T).T @ matrix
    torch.testing.assert_close(found.image, exact, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("tolerance", [0, 0.1])
def test_samples_of_a_batch_do_not_see_each_other(tolerance: float) -> None:
    """Also where one of them needs more products than another."""
    matrix, rhs = covariance(16), rhs_of(3, 16)
    _, vectors = torch.linalg.eigh(matrix)
    rhs[1] = vectors[:, -1] + 0.01 * rhs[1]

    def solve(part: Tensor) -> Tensor:
        return solve_moments(
            lambda p: (p @ matrix, p @ matrix),
            part,
            iterations=6,
            tolerance=tolerance,
        ).image

    for k in range(3):
        torch.testing.assert_close(
            solve(rhs)[k : k + 1], solve(rhs[k : k + 1]), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_krylov_space_that_ends_early_is_no_trouble(rank: int) -> None:
    """Also a residual of zero: nothing to do, and no division by it."""
    values = torch.zeros(16, dtype=DTYPE)
    values[:rank] = torch.arange(1, rank + 1, dtype=DTYPE)
    rhs = rhs_of(2, 16)
    rhs[1] = 0
    found = solve_moments(lambda p: (p * values, p * values), rhs, iterations=12, tolerance=0)
    torch.testing.assert_close(found.image, rhs * values / (1 + values))


def test_negative_and_lopsided_matrices_do_no_harm() -> None:
    """I + K singular along one direction, by what is no covariance, and lopsided besides."""
    n = 32
    good, rhs = covariance(n), rhs_of(4, n)
    identity = torch.eye(n, dtype=DTYPE)
    generator = torch.Generator().manual_seed(2)
    skew = torch.randn((n, n), generator=generator, dtype=DTYPE)
    dark = torch.linalg.eigh(good)[1][:, :1]
    rest = identity - dark @ dark.T
    bad = good + 0.1 * rest @ (skew - skew.T) @ rest - 1.001 * dark @ dark.T
    exact = torch.linalg.solve(good + identity, rhs.T).T @ good
    literal = torch.linalg.solve(bad + identity, rhs.T).T @ bad.T
    found = solve_moments(lambda p: (p @ bad.T, p @ bad.T), rhs, iterations=n, tolerance=0).image
    error = (found - exact).norm()
    assert error < 0.5 * exact.norm()
    assert error < 0.1 * (literal - exact).norm()


def test_a_guess_saves_products() -> None:
    """A guess that is right but for a tenth of the matrix; six products in place of many."""
    n = 32
    known, rhs = covariance(n), rhs_of(3, n)
    matrix = 0.9 * known + 0.1 * covariance(n, seed=3)
    identity = torch.eye(n, dtype=DTYPE)
    exact = torch.linalg.solve(matrix + identity, rhs.T).T @ matrix

    def error(guess: Callable[[Tensor], Tensor] | None) -> float:
        found = solve_moments(
            lambda p: (p @ matrix, p @ matrix), rhs, iterations=6, tolerance=0, guess=guess
        )
        return float((found.image - exact).norm() / exact.norm())

    guided = error(lambda r: torch.linalg.solve(known + identity, r.T).T)
    assert guided < 0.05 < 0.3 < error(None)


def test_a_right_guess_needs_one_product() -> None:
    matrix, rhs = covariance(16), rhs_of(3, 16)
    identity = torch.eye(16, dtype=DTYPE)
    found = solve_moments(
        lambda p: (p @ matrix, p @ matrix),
        rhs,
        iterations=12,
        tolerance=1e-6,
        guess=lambda r: torch.linalg.solve(matrix + identity, r.T).T,
    )
    exact = torch.linalg.solve(matrix + identity, rhs.T).T @ matrix
    assert found.iterations == 1
    torch.testing.assert_close(found.image, exact, rtol=1e-8, atol=1e-8)
