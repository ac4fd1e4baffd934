"""Draws from N(x0; m, C) p(y | x0) against what they should be."""

from __future__ import annotations

import pytest
import torch

from napari_dps.core import gauss_newton
from napari_dps.core.covariance import ScalarCovariance, StationaryCovariance, power_law_spectrum
from napari_dps.core.gauss_newton import _by_pixel, gauss_newton_draw, gauss_newton_solve
from napari_dps.core.likelihood import GaussianLikelihood, Likelihood, PoissonLikelihood
from napari_dps.core.operator import LinearOperator, MappedOperator
from napari_dps.core.problem import Problem
from napari_dps.core.search import CHAINS, search, search_calls
from napari_dps.core.streams import Streams
from napari_dps.forward.phase_retrieval import PhaseRetrieval
from napari_dps.grid import Grid
from napari_dps.priors._gaussian import GaussianPrior

SHAPE = (1, 4, 4)
SIGMA = 0.7


class Matrix(LinearOperator):
    """Any matrix on 16 pixels."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__(SHAPE, SHAPE)
        self.matrix = matrix

    def __call__(self, x: torch.Tensor, theta: object = None) -> torch.Tensor:
        return (x.flatten(1) @ self.matrix.mT).reshape(x.shape)

    def transpose(self, v: torch.Tensor) -> torch.Tensor:
        return (v.flatten(1) @ self.matrix).reshape(v.shape)


def problem(y: torch.Tensor, matrix: torch.Tensor, likelihood: Likelihood) -> Problem:
    prior = GaussianPrior(0.0, power_law_spectrum(SHAPE[1:], 0.6, 1.0, 1.5))
    one = torch.ones((1, 1, 1, 1), dtype=torch.float64)
    # b + a (x + 1) / 2 with a = 2 and b = -1 leaves x as it is.
    return Problem(y, prior, MappedOperator(Matrix(matrix), 2 * one, -one), likelihood)


def dense(covariance: StationaryCovariance) -> torch.Tensor:
    return covariance(torch.eye(16, dtype=torch.float64).reshape(16, *SHAPE)).flatten(1)


def test_few_iterations_do_where_data_tell_pixels_unequally(monkeypatch) -> None:
    """One factor per pixel: without it, steep pixels take all iterations."""
    blur = torch.eye(16, dtype=torch.float64)
    blur = 0.6 * blur + 0.2 * blur.roll(1, 0) + 0.2 * blur.roll(-1, 0)
    slopes = torch.logspace(-2, 2, 16, dtype=torch.float64)
    # From a flat response to a steep one, in the dark: neighbours are told about as well.
    task = problem(slopes.reshape(1, *SHAPE), slopes[:, None] * blur, GaussianLikelihood(0.3))
    mean, c = torch.zeros((1, *SHAPE), dtype=torch.float64), ScalarCovariance(SIGMA)

    def solved(iterations: int, rounds: int) -> torch.Tensor:
        return gauss_newton_solve(task, mean, c, iterations, mean, rounds=rounds)[0]

    exact = solved(400, 20)
    with_factor = float((solved(6, 1) - exact).norm())
    monkeypatch.setattr(gauss_newton, "_by_pixel", lambda *_: None)
    assert torch.allclose(solved(400, 20), exact, atol=1e-3)
    assert with_factor < 0.4 * float((solved(6, 1) - exact).norm())


def test_samples_without_positive_certainty_are_left_as_they_are() -> None:
    certainty = torch.tensor([[1.0, 2.0, 0.0, -1e-6], [1.0, 2.0, 0.0, -1.0]]).reshape(2, 1, 2, 2)
    q = torch.ones_like(certainty)
    found = _by_pixel(ScalarCovariance(2.0), certainty)(q)
    assert found[0].flatten().tolist() == pytest.approx([1 / 5, 1 / 9, 1, 1])
    assert torch.equal(found[1], q[1])


def test_the_draw_is_exact_where_the_posterior_is_gaussian() -> None:
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn((16, 16), generator=generator, dtype=torch.float64) / 4
    y = torch.randn((1, *SHAPE), generator=generator, dtype=torch.float64)
    task = problem(y, matrix, GaussianLikelihood(0.3))
    n = 2000
    mean = torch.full((n, *SHAPE), 0.2, dtype=torch.float64)
    streams = Streams(0, range(n), dtype=torch.float64)
    x0, z = gauss_newton_draw(task, mean, SIGMA, streams, 60, mean)
    assert torch.allclose(z, task.operator(x0))
    c = dense(StationaryCovariance(task.prior, mean, SIGMA))
    precision = torch.linalg.inv(c) + matrix.mT @ matrix / 0.3**2
    exact = torch.linalg.inv(precision)
    wanted = mean[0].flatten() + exact @ matrix.mT @ (
        (y.flatten() - matrix @ mean[0].flatten()) / 0.3**2
    )
    found = x0.flatten(1)
    standard_error = (exact.diagonal() / n).sqrt()
    assert ((found.mean(0) - wanted).abs() < 4.5 * standard_error).all()
    assert torch.allclose(
        torch.cov(found.mT), exact, atol=4.5 * float(exact.diagonal().max()) / n**0.5
    )


@pytest.mark.parametrize("count", [4.0, 60.0])
def test_counts_of_one_pixel_give_its_posterior(count: float) -> None:
    """Against integration on a grid; z = 10 (x + 2), one pixel's prior about x = -1."""
    y = torch.full((1, *SHAPE), count, dtype=torch.float64)
    task = problem(y, 10 * torch.eye(16, dtype=torch.float64), PoissonLikelihood())
    task.operator = MappedOperator(
        task.operator.operator,
        2 * torch.ones((1, 1, 1, 1), dtype=torch.float64),
        torch.ones((1, 1, 1, 1), dtype=torch.float64),
    )
    # A white prior makes the pixels independent.
    task.prior = GaussianPrior(0.0, torch.full(SHAPE[1:], 0.36, dtype=torch.float64))
    n = 800
    mean = torch.full((n, *SHAPE), -1.0 if count < 20 else 2.0, dtype=torch.float64)
    streams = Streams(0, range(n), dtype=torch.float64)
    x0, _ = gauss_newton_draw(task, mean, SIGMA, streams, 20, mean, rounds=8)
    c = 0.36 * SIGMA**2 / (0.36 + SIGMA**2)
    x = torch.linspace(-2, 8, 20001, dtype=torch.float64)
    log = -((x - float(mean[0, 0, 0, 0])) ** 2) / (2 * c) + PoissonLikelihood().log_density(
        y.flatten()[:1], 10 * (x + 2)
    )
    weight = (log - log.max()).exp() / (log - log.max()).exp().sum()
    exact_mean = float((weight * x).sum())
    exact_std = float((weight * (x - exact_mean) ** 2).sum().sqrt())
    assert float(x0.mean()) == pytest.approx(exact_mean, abs=0.12 * exact_std)
    assert float(x0.std()) == pytest.approx(exact_std, rel=0.12)


def test_data_that_do_not_count_do_not_matter() -> None:
    y = torch.zeros((1, *SHAPE), dtype=torch.float64)
    valid = torch.ones((1, *SHAPE), dtype=torch.bool)
    valid[..., 0] = False
    drawn = []
    for wrong in (0.0, 1e6):
        task = problem(
            torch.where(valid, y, torch.full_like(y, wrong)),
            torch.eye(16, dtype=torch.float64),
            GaussianLikelihood(0.3),
        )
        task.valid = valid
        mean = torch.zeros((3, *SHAPE), dtype=torch.float64)
        streams = Streams(0, range(3), dtype=torch.float64)
        drawn.append(gauss_newton_draw(task, mean, SIGMA, streams, 40, mean)[0])
    assert torch.equal(*drawn)


def test_no_step_raises_the_objective() -> None:
    """Hundreds of counts where none are expected: the undamped step would overshoot."""
    y = torch.full((1, *SHAPE), 500.0, dtype=torch.float64)
    task = problem(y, 10 * torch.eye(16, dtype=torch.float64), PoissonLikelihood())
    mean = torch.zeros((2, *SHAPE), dtype=torch.float64)
    streams = Streams(0, range(2), dtype=torch.float64)
    before = task.likelihood.log_prob(y, task.operator(mean))
    x0, z = gauss_newton_draw(task, mean, SIGMA, streams, 40, mean)
    assert torch.isfinite(x0).all()
    assert (task.likelihood.log_prob(y, z) > before).all()


def test_search_leaves_a_wrong_classical_solution() -> None:
    """Candidates in another mode lose against chains from noise."""
    operator = PhaseRetrieval().bind(Grid((32, 32), dtype="float64"))
    spectrum = power_law_spectrum((16, 16), 0.4, 3.0, 2.0)
    prior = GaussianPrior(-0.5, spectrum)
    streams = Streams(4, [0], dtype=torch.float64)
    covariance = StationaryCovariance(prior, torch.zeros((1, 1, 16, 16)), 1e6)
    truth = -0.5 + covariance.root(streams.normal((1, 16, 16)))
    one = torch.ones((1, 1, 1, 1), dtype=torch.float64)
    mapped = MappedOperator(operator, 40 * one, 0 * one)
    y = streams.poisson(mapped(truth))
    task = Problem(y, prior, mapped, PoissonLikelihood())
    wrong = truth.flip(-1)
    chains = Streams(0, range(CHAINS + 1), dtype=torch.float64)
    *steps, start = search(task, wrong, chains, 20, 8)
    done = [count for count, _ in steps]
    assert done == sorted(set(done))
    assert done[-1] == search_calls() == steps[0][1]
    assert start.misfits[0] < 1.3
    best = min(
        float((start.estimate - other).square().mean().sqrt())
        for other in (truth, truth.flip(-1).flip(-2))
    )
    # A draw at these counts errs by about 0.1; the wrong solution by four times as much.
    assert best < 0.4 * float((wrong - truth).square().mean().sqrt())
