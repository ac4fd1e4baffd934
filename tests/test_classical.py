"""Classical samplers against closed forms and slow but sure solvers; see test_point_estimates."""

from typing import Any

import numpy as np
import pytest
import torch

from napari_dps.components import make
from napari_dps.core.covariance import power_law_spectrum
from napari_dps.core.differences import curvature, divergence, gradient, total_variation
from napari_dps.core.illumination import IlluminatedOperator
from napari_dps.core.likelihood import (
    GaussianLikelihood,
    Likelihood,
    PoissonGaussianLikelihood,
    PoissonLikelihood,
)
from napari_dps.core.operator import MappedOperator, Operator
from napari_dps.core.prior import NoPrior
from napari_dps.core.problem import Problem
from napari_dps.core.streams import Streams
from napari_dps.errors import RecipeError
from napari_dps.grid import Grid


def bound(kind: str, shape: tuple[int, ...] = (12, 10), **fields: Any) -> Operator:
    operator: Operator = make("forward", {"kind": kind, **fields}).bind(
        Grid(shape, dtype="float64")
    )
    return operator


def posed(operator: Operator, y: torch.Tensor, likelihood: Likelihood, valid=None) -> Problem:
    """Return a problem as a run poses it to classical samplers."""
    one = torch.ones([1] * (1 + len(operator.x_shape)), dtype=y.dtype)
    return Problem(y, NoPrior(), MappedOperator(operator, 2 * one, -one), likelihood, valid)


def steps_of(problem: Problem, kind: str, **fields: Any) -> list:
    sampler = make("sampler", {"kind": kind, **fields}).bind(Grid((8, 8)))
    sampler.check(problem)
    n = len(problem.y)
    steps = list(sampler.sample(problem, n, Streams(0, range(n), dtype=problem.y.dtype)))
    total = sampler.total_steps()
    assert all(s.total == total for s in steps) and steps[-1].i == total
    assert [s.i for s in steps] == sorted({s.i for s in steps})
    return steps


def dense(operator: Operator) -> np.ndarray:
    """Return the matrix of a linear operator."""
    n = int(np.prod(operator.x_shape))
    basis = torch.eye(n, dtype=torch.float64).reshape(n, *operator.x_shape)
    return (operator(basis) - operator(0 * basis)).flatten(1).numpy().T


def scene(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Return boxes and a gradient, above zero."""
    generator = torch.Generator().manual_seed(seed)
    x = 4 + torch.linspace(0, 6, shape[-1], dtype=torch.float64).expand(shape).clone()
    for _ in range(4):
        corner = [int(torch.randint(0, n // 2, (1,), generator=generator)) for n in shape]
        part = tuple(slice(c, c + n // 3) for c, n in zip(corner, shape, strict=True))
        x[part] += 20 * torch.rand(1, generator=generator, dtype=torch.float64)
    return x[None, None]


# Wiener ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("gaussian-blur", {"sigma": 1.0, "boundary": "periodic"}),
        ("gaussian-blur", {"sigma": 1.0}),
        ("downsample", {}),
        ("radon", {}),
    ],
)
def test_wiener_is_the_exact_posterior_mean(kind, fields, masked):
    shape = (12, 10) if kind != "radon" else (14, 12)
    operator = bound(kind, shape, **fields)
    matrix = dense(operator)
    rng = np.random.default_rng(0)
    truth = rng.gamma(2.0, 5.0, matrix.shape[1])
    sigma, balance = 1.5, 0.3
    flat = matrix @ truth + sigma * rng.normal(size=len(matrix))
    y = torch.as_tensor(flat).reshape(1, *operator.y_shape)
    valid = torch.as_tensor(rng.random(y.shape) > 0.3) if masked else None
    last = steps_of(
        posed(operator, y, GaussianLikelihood(sigma), valid),
        "wiener",
        balance=balance,
        length=2.0,
        exponent=1.2,
        iterations=500,
        tolerance=1e-10,
    )[-1]
    # The same in dense algebra: y = A (m + f) + noise, f of covariance S, data that count only.
    seen = np.ones(len(flat), bool) if valid is None else valid.numpy().ravel()
    a, b = matrix[seen], flat[seen]
    spectrum = power_law_spectrum(operator.x_shape[1:], 1.0, 2.0, 1.2).numpy()
    eye = np.eye(matrix.shape[1]).reshape(-1, *operator.x_shape[1:])
    s = np.fft.ifftn(np.fft.fftn(eye, axes=(1, 2)) * spectrum, axes=(1, 2)).real
    s = s.reshape(matrix.shape[1], -1) * sigma**2 / (balance * operator.response**2)
    m = np.full(matrix.shape[1], b.sum() / a.sum())
    mean = m + s @ a.T @ np.linalg.solve(a @ s @ a.T + sigma**2 * np.eye(len(b)), b - a @ m)
    np.testing.assert_allclose(last.x0.numpy().ravel(), mean, rtol=1e-6, atol=1e-6)
    assert last.details[0] == {
        "balance": pytest.approx(balance),
        "chosen_by": "balance given",
    }


def test_wiener_chooses_the_smoothest_that_explains_the_data():
    operator = bound("gaussian-blur", (32, 32), sigma=1.0)
    truth = operator.embed(8 * scene((32, 32)))
    y = torch.poisson(operator(truth), generator=torch.Generator().manual_seed(0))
    problem = posed(operator, y, PoissonLikelihood())
    last = steps_of(problem, "wiener")[-1]
    chosen = last.details[0]["balance"]
    assert last.misfit.item() < 1.1
    smoother = steps_of(problem, "wiener", balance=4 * chosen)[-1]
    assert smoother.misfit.item() > 1.1  # four times as strong no longer explains them
    clipped = steps_of(problem, "wiener", balance=1e-3, positive=True)[-1].x0
    free = steps_of(problem, "wiener", balance=1e-3)[-1].x0
    assert free.min() < 0 and torch.equal(clipped, free.clamp_min(0))


# Richardson-Lucy ---------------------------------------------------------------------------------


def test_wiener_clips_no_complex_object():
    mask = np.ones((12, 10), dtype=bool)
    for kind, refused in (("complex", True), ("real", False)):
        operator = bound("fourier-mask", (2, 12, 10), mask=mask, object=kind)
        y = torch.randn((1, *operator.y_shape), dtype=torch.float64)
        problem = posed(operator, y, GaussianLikelihood(0.1))
        sampler = make("sampler", {"kind": "wiener", "positive": True}).bind(Grid((8, 8)))
        if refused:
            with pytest.raises(RecipeError, match="complex, so `positive` would clip"):
                sampler.check(problem)
        else:
            assert float(steps_of(problem, "wiener", positive=True)[-1].x0.min()) >= 0


def test_richardson_lucy_is_the_plain_update_conserves_flux_and_climbs():
    operator = bound("gaussian-blur", (24, 20), sigma=1.2, boundary="periodic")
    y = torch.poisson(operator(scene((24, 20))), generator=torch.Generator().manual_seed(1))
    likelihood = PoissonLikelihood()
    steps = steps_of(posed(operator, y, likelihood), "richardson-lucy", iterations=30)
    assert len(steps) == 30
    a, data = dense(operator), y.numpy().ravel()
    x = np.full(a.shape[1], data.sum() / a.sum())
    for step in steps:
        x = x * (a.T @ (data / (a @ x))) / a.sum(0)
        np.testing.assert_allclose(step.x0.numpy().ravel(), x, rtol=1e-8)
    z = [operator(step.x0) for step in steps]
    for expected in z:
        assert expected.sum().item() == pytest.approx(y.sum().item(), rel=1e-9)
    climbed = np.diff([likelihood.log_prob(y, expected).item() for expected in z])
    assert (climbed > 0).all()
    assert steps[-1].details == [{"iterations": 30, "stopped_by": "iterations", "clipped": 0.0}]


def test_richardson_lucy_knows_background_flat_field_mask_and_read_noise():
    inner = bound("gaussian-blur", (14, 12), sigma=1.0)
    generator = torch.Generator().manual_seed(2)
    flat = 0.5 + torch.rand(inner.y_shape, generator=generator, dtype=torch.float64)
    operator = IlluminatedOperator(inner, flat, torch.tensor(3.0, dtype=torch.float64))
    noise = torch.randn((1, *inner.y_shape), generator=generator, dtype=torch.float64)
    y = operator(inner.embed(scene((14, 12)))) + 2.0 * noise
    valid = torch.rand(y.shape, generator=generator) > 0.2
    y = torch.where(valid, y, torch.full_like(y, 1e5))
    problem = posed(operator, y, PoissonGaussianLikelihood(2.0), valid)
    steps = steps_of(problem, "richardson-lucy", iterations=4)
    seen = valid.numpy().ravel()
    a, data = dense(operator)[seen], y.numpy().ravel()[seen]
    sensitivity = a.sum(0)
    known = sensitivity > 0.01 * sensitivity.max()
    x = np.full(a.shape[1], (data - 3).sum() / a.sum())
    for step in steps:
        factor = a.T @ (np.maximum(data + 4, 0) / (a @ x + 3 + 4))
        x = np.where(known, x * factor / np.where(known, sensitivity, 1), x)
        np.testing.assert_allclose(step.x0.numpy().ravel(), x, rtol=1e-8)
    assert not known.all()  # far outside the field nothing is measured: the start stays


def test_richardson_lucy_stops_each_frame_where_its_data_are_explained():
    operator = bound("gaussian-blur", (24, 24), sigma=1.5)
    truth = torch.cat([20 * operator.embed(scene((24, 24), s)) for s in (0, 1)])
    truth[1] /= 10
    y = torch.poisson(operator(truth), generator=torch.Generator().manual_seed(0))
    steps = steps_of(posed(operator, y, PoissonLikelihood()), "richardson-lucy")
    used = [found["iterations"] for found in steps[-1].details]
    assert used[0] > used[1] > 0
    for frame, count in enumerate(used):
        assert steps[-1].misfit[frame] <= 1 < steps[count - 2].misfit[frame]
        assert steps[-1].details[frame]["stopped_by"] == "discrepancy"
        alone = steps_of(posed(operator, y[frame : frame + 1], PoissonLikelihood()),
                         "richardson-lucy")[-1]  # fmt: skip
        torch.testing.assert_close(alone.x0[0], steps[-1].x0[frame], rtol=1e-9, atol=1e-9)
    given_up = steps_of(posed(operator, y, PoissonLikelihood()), "richardson-lucy",
                        max_iterations=2)[-1]  # fmt: skip
    assert given_up.details[0] == {"iterations": 2, "stopped_by": "max_iterations", "clipped": 0.0}


def test_richardson_lucy_with_total_variation_is_flatter():
    operator = bound("gaussian-blur", (24, 24), sigma=1.0)
    y = torch.poisson(operator(operator.embed(scene((24, 24)))),
                      generator=torch.Generator().manual_seed(0))  # fmt: skip
    problem = posed(operator, y, PoissonLikelihood())
    found = {
        tv: steps_of(problem, "richardson-lucy", iterations=60, tv=tv)[-1] for tv in (0, 0.02, 0.1)
    }
    sizes = [total_variation(step.x0).item() for step in found.values()]
    assert sizes[0] > 1.2 * sizes[1] and sizes[1] > 1.1 * sizes[2]
    # Stationary where the sensitivity times (1 - tv curvature) balances the data.
    x, s = found[0.1].x0, operator.adjoint(torch.ones_like(y))
    pull = operator.adjoint(y / operator(x)) / (s * (1 - 0.1 * curvature(x, 0.8)))
    inside = (s > 0.9) & (x > 1)
    assert (pull[inside] - 1).abs().mean() < 0.01


# Total variation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 1, 7, 6), (1, 2, 4, 5, 6)])
def test_differences(shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    p = torch.rand((shape[0], len(shape) - 2, *shape[1:]), generator=generator, dtype=x.dtype)
    torch.testing.assert_close((gradient(x) * p).sum(), -(x * divergence(p)).sum())
    (slope,) = torch.autograd.grad(total_variation(x).sum(), x)
    torch.testing.assert_close(curvature(x.detach(), 1e-9), -slope)


def primal_dual(a, y, information, weight, shape, positive, iterations=8000):
    """Minimise sum information (y - A x)^2 / 2 + weight TV(x): Condat 2013, slow but sure."""

    def slope(x):
        out = np.zeros((2, *shape))
        image = x.reshape(shape)
        out[0, :-1], out[1, :, :-1] = np.diff(image, axis=0), np.diff(image, axis=1)
        return out

    def turned(p):
        out = np.zeros(shape)
        out[:-1] -= p[0, :-1]
        out[1:] += p[0, :-1]
        out[:, :-1] -= p[1, :, :-1]
        out[:, 1:] += p[1, :, :-1]
        return out.ravel()

    h = (a.T * information) @ a
    lipschitz = np.linalg.eigvalsh(h)[-1]
    sigma = lipschitz / 8
    tau = 0.99 / (lipschitz / 2 + 8 * sigma)
    x, p, b = np.full(a.shape[1], y.mean()), np.zeros((2, *shape)), (a.T * information) @ y
    for _ in range(iterations):
        new = x - tau * (h @ x - b + turned(p))
        new = np.maximum(new, 0) if positive else new
        p = p + sigma * slope(2 * new - x)
        p /= np.maximum(1, np.sqrt((p**2).sum(0)) / weight)
        x = new

    def cost(image):
        fit = (information * (y - a @ image) ** 2).sum() / 2
        return fit + weight * np.sqrt((slope(image) ** 2).sum(0)).sum()

    return x, cost


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("noise", ["gaussian", "poisson"])
def test_admm_finds_the_minimum(noise, positive):
    operator = bound("gaussian-blur", (9, 8), sigma=0.8, boundary="periodic")
    generator = torch.Generator().manual_seed(0)
    truth = scene((9, 8)) - 4
    valid = torch.rand((1, *operator.y_shape), generator=generator) > 0.2
    if noise == "gaussian":
        likelihood: Likelihood = GaussianLikelihood(2.0)
        y = operator(truth) + 2 * torch.randn(truth.shape, generator=generator, dtype=truth.dtype)
        y[..., 0] -= 6  # something for the constraint to do
    else:
        likelihood = PoissonLikelihood()
        y = torch.poisson(operator(truth).clamp_min(0), generator=generator)
    problem = posed(operator, y, likelihood, valid)
    last = steps_of(problem, "admm-tv", weight=0.5, positive=positive, tolerance=1e-5,
                    iterations=3000, inner=8)[-1]  # fmt: skip
    assert last.details[0]["stopped_by"] == "tolerance"
    found = last.x0.numpy().ravel()
    assert not positive or found.min() >= 0
    z = operator(last.x0)
    if noise == "poisson":  # never below half of the smoothed data
        from napari_dps.core.linalg import smooth

        w = valid.to(y)
        z = torch.maximum(z, 0.5 * smooth(w * y, 5) / smooth(w, 5))
    information = (valid / likelihood.variance(z)).numpy().ravel()
    best, cost = primal_dual(dense(operator), y.numpy().ravel(), information,
                             last.details[0]["lambda"], (9, 8), positive)  # fmt: skip
    assert cost(found) <= cost(best) * (1 + 1e-5)
    np.testing.assert_allclose(found, best, atol=0.02)
    free = primal_dual(dense(operator), y.numpy().ravel(), information, 1e-9, (9, 8), positive, 500)
    assert cost(free[0]) > 1.05 * cost(best)  # the total variation matters here


@pytest.mark.parametrize("kind", ["gaussian-blur", "identity"])
def test_admm_chooses_the_weight_that_explains_the_data(kind):
    operator = bound(kind, (20, 20))
    truth = torch.cat([operator.embed(f * scene((20, 20), 3)) for f in (0.5, 4)])
    y = torch.poisson(operator(truth), generator=torch.Generator().manual_seed(0))
    last = steps_of(posed(operator, y, PoissonLikelihood()), "admm-tv")[-1]
    assert (last.misfit - 1).abs().max() < 0.02
    for frame in range(2):
        assert last.details[frame]["stopped_by"] == "tolerance"
        alone = steps_of(posed(operator, y[frame : frame + 1], PoissonLikelihood()), "admm-tv")[-1]
        assert alone.details[0]["iterations"] == last.details[frame]["iterations"]
        # Rounding grows to 3e-6 here, a thousandth of the tolerance at which the solver stops.
        torch.testing.assert_close(alone.x0[0], last.x0[frame], rtol=1e-4, atol=1e-4)
        clean = operator.crop(truth)[frame]
        error = (operator.crop(last.x0)[frame] - clean).square().mean()
        assert error < 0.8 * (y[frame] - clean).square().mean()
