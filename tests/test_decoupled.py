"""Decoupled samplers (DiffPIR, PnP-DM, PnP-ADMM, DAPS) against posteriors that are known."""

from __future__ import annotations

from dataclasses import replace

import exactness
import numpy as np
import pytest
import torch

import napari_dps
from napari_dps.components import make
from napari_dps.core.covariance import ScalarCovariance, power_law_spectrum
from napari_dps.core.data_step import proximal
from napari_dps.core.estimate import gaussian_field_estimate
from napari_dps.core.likelihood import GaussianLikelihood, Likelihood, PoissonLikelihood
from napari_dps.core.operator import MappedOperator, Operator
from napari_dps.core.problem import Problem, Start
from napari_dps.core.streams import Streams
from napari_dps.errors import RecipeError
from napari_dps.forward.gaussian_blur import GaussianBlur
from napari_dps.forward.identity import Identity
from napari_dps.grid import Grid
from napari_dps.priors._gaussian import GaussianPrior

MEAN, STD = -0.2, 0.3
DTYPE = torch.float64
ONE = torch.ones((1, 1, 1, 1), dtype=DTYPE)


def sampler(kind, shape, **fields):
    return make("sampler", {"kind": kind, **fields}).bind(Grid(shape, dtype="float64"))


def drawn(problem, kind, n, seed=3, **fields):
    *_, last = sampler(kind, problem.operator.x_shape[1:], **fields).sample(
        replace(problem), n, Streams(seed, range(n), dtype=DTYPE)
    )
    return last.x0


class Magnitudes(Operator):
    """|F x| of two pixels, padded to four."""

    is_affine = False

    def __init__(self) -> None:
        super().__init__((1, 1, 2), (1, 1, 4))

    def __call__(self, x: torch.Tensor, theta: object = None) -> torch.Tensor:
        far = torch.fft.fft(x, n=4, dim=-1, norm="ortho")
        return (far.abs() ** 2 + 1e-12).sqrt()


def blurred(size: int, likelihood: Likelihood, scale: float, seed: int = 0) -> Problem:
    """Return a blurred draw of the prior; ``scale`` photons at x = 1, none at x = -1."""
    operator = GaussianBlur(sigma=1.0, boundary="periodic").bind(
        Grid((size, size), dtype="float64")
    )
    mapped = MappedOperator(operator, scale * ONE, 0 * ONE)
    spectrum = power_law_spectrum((size, size), STD, 2.0, 1.5)
    streams = Streams(seed, [0], dtype=DTYPE)
    white = torch.fft.fft2(streams.normal((1, size, size)))
    truth = MEAN + torch.fft.ifft2(white * spectrum.sqrt()).real
    y = likelihood.sample(mapped(truth).clamp_min(0), streams)
    problem = Problem(y, GaussianPrior(MEAN, spectrum), mapped, likelihood)
    problem.noise_level = problem.find_noise_level()
    return problem


# Measured with 32 to 48 samples: pnp-dm 0.97 to 1.06, its mean a little late where the data are
# strong; diffpir 0.89 to 0.94, which its authors never meant as a posterior's spread.
TOLERANCE = {
    "pnp-dm": {"error": 2.1, "spread": (0.93, 1.1), "coverage": (0.87, 0.93)},
    "diffpir": {"error": 2.6, "spread": (0.84, 0.98), "coverage": (0.85, 0.93)},
}


@pytest.mark.parametrize("informed", [False, True])
@pytest.mark.parametrize("task", ["half", "blur"])
@pytest.mark.parametrize("kind", list(TOLERANCE))
def test_spread_and_coverage_at_the_defaults(kind, task, informed):
    row = exactness.study(kind, task, 0.1, samples=48, truths=1, informed=informed)
    limits = TOLERANCE[kind]
    assert row["error"] < limits["error"]
    assert limits["spread"][0] < row["spread"] < limits["spread"][1]
    assert limits["coverage"][0] <= row["coverage"] <= limits["coverage"][1]


def test_a_strong_coupling_inflates_what_is_measured_alone():
    """Why rho follows the noise: x has the posterior of noise sqrt(V + rho^2)."""
    row = exactness.study("pnp-dm", "half", 0.1, 48, 1, True, rho_min=0.3, levels=8)
    wide = 1 / (1 / STD**2 + 1 / (0.1**2 + 0.3**2))
    exact = 1 / (1 / STD**2 + 1 / 0.1**2)
    # White noise and neighbours that help: the ratio of a single pixel is an upper bound.
    assert 1.5 < row["spread"] < 1.05 * (wide / exact) ** 0.5
    assert row["spread_unmeasured"] < 0.75 * row["spread"]


def test_small_noise_is_followed():
    row = exactness.study("pnp-dm", "half", 0.02, samples=48, truths=1, informed=True)
    assert 0.87 <= row["coverage"] <= 0.94
    assert row["spread"] < 1.15


def of_counts(scale: float, size: int = 24) -> Problem:
    """Return independent pixels, each with its counts."""
    operator = Identity().bind(Grid((size, size), dtype="float64"))
    mapped = MappedOperator(operator, scale * ONE, 0 * ONE)
    streams = Streams(0, [0], dtype=DTYPE)
    truth = MEAN + STD * streams.normal((1, size, size))
    likelihood = PoissonLikelihood()
    y = likelihood.sample(mapped(truth).clamp_min(0), streams)
    found = gaussian_field_estimate(
        operator, y, likelihood, None, Streams(1, [0], dtype=DTYPE), positive=True
    )
    start = Start(mapped.from_object(found.image), float(found.error.max()) * 2 / scale)
    prior = GaussianPrior(MEAN, torch.full((size, size), STD**2, dtype=DTYPE))
    problem = Problem(y, prior, mapped, likelihood, None, start)
    problem.noise_level = problem.find_noise_level()
    problem.reference = mapped(start.estimate)
    return problem


@pytest.mark.parametrize(("kind", "bias"), [("daps", 0.08), ("pnp-dm", 0.15)])
@pytest.mark.parametrize("scale", [4.0, 10.0])
def test_few_counts_give_each_pixel_its_posterior(kind, bias, scale):
    """Two and four photons a pixel, against integration on a grid where light is positive."""
    task = of_counts(scale)
    samples = drawn(task, kind, 12)[:, 0]
    x = torch.linspace(-1, 2, 4001, dtype=DTYPE)
    prior = -((x - MEAN) ** 2) / (2 * STD**2)
    offs, inside, pixels = 0.0, 0.0, 0
    for count in range(9):
        here = task.y[0, 0] == count
        log = prior + task.likelihood.log_density(torch.full_like(x, count), scale * (x + 1) / 2)
        weight = (log - log.max()).softmax(0)
        mean = (weight * x).sum()
        std = (weight * (x - mean) ** 2).sum().sqrt()
        values = samples[:, here].flatten()
        if len(values) < 200:
            continue
        low, high = torch.quantile(values, torch.tensor([0.05, 0.95], dtype=DTYPE))
        number = int(here.sum())
        offs += number * float((values.mean() - mean) / std) ** 2
        inside += number * float(weight[(x >= low) & (x <= high)].sum())
        pixels += number
    assert pixels > 500
    assert (offs / pixels) ** 0.5 < bias
    assert 0.88 < inside / pixels < 0.92


@pytest.mark.parametrize(("kind", "bias"), [("daps", 0.15), ("pnp-dm", 0.25)])
def test_magnitudes_of_two_pixels_give_their_posterior(kind, bias):
    """Two mirrored modes, against integration on a grid."""
    likelihood = GaussianLikelihood(0.3)
    operator = MappedOperator(Magnitudes(), 2 * ONE, -ONE)
    truth = torch.tensor([0.9, 0.3], dtype=DTYPE).reshape(1, 1, 1, 2)
    y = likelihood.sample(operator(truth), Streams(0, [0], dtype=DTYPE))
    prior = GaussianPrior(0.6, torch.full((1, 2), 0.25, dtype=DTYPE))
    task = Problem(y, prior, operator, likelihood)
    x = drawn(task, kind, 500, informed_start=False, iterations=4).reshape(-1, 2)
    axis = torch.linspace(-2, 3, 501, dtype=DTYPE)
    grid = torch.cartesian_prod(axis, axis)
    log = -((grid - 0.6) ** 2).sum(1) / 0.5 + likelihood.log_prob(
        y, operator(grid.reshape(-1, 1, 1, 2))
    )
    weight = log.softmax(0)
    for statistic in (lambda v: v[:, 0], lambda v: v.sum(1), lambda v: v.amax(1)):
        exact, found = statistic(grid), statistic(x)
        mean = (weight * exact).sum()
        std = (weight * (exact - mean) ** 2).sum().sqrt()
        assert abs(float((found.mean() - mean) / std)) < bias
        low, high = torch.quantile(found, torch.tensor([0.05, 0.95], dtype=DTYPE))
        assert 0.86 < float(weight[(exact >= low) & (exact <= high)].sum()) < 0.94


@pytest.mark.parametrize("steps", [50, 100])
def test_admm_finds_the_posterior_mean_of_a_gaussian_prior(steps):
    task = blurred(12, GaussianLikelihood(0.1), 2.0)
    task.operator = MappedOperator(task.operator.operator, 2 * ONE, -ONE)
    eye = torch.eye(144, dtype=DTYPE).reshape(144, 1, 12, 12)
    spectrum = task.prior.power_spectrum((12, 12))
    c = torch.fft.ifft2(torch.fft.fft2(eye) * spectrum).real.reshape(144, 144)
    a = task.operator.operator(eye).reshape(144, 144).T
    s = a @ c @ a.T + 0.01 * torch.eye(144, dtype=DTYPE)
    flat = torch.full((144,), MEAN, dtype=DTYPE)
    exact = flat + c @ a.T @ torch.linalg.solve(s, task.y.flatten() - a @ flat)
    found = drawn(task, "pnp-admm", 1, steps=steps, lam=1.0, iterations=100)
    assert torch.allclose(found.flatten(), exact, atol=2e-3)


def test_admm_finds_the_mode_of_counts():
    task = blurred(12, PoissonLikelihood(), 60.0)
    x = drawn(task, "pnp-admm", 1, steps=80, lam=1.0, iterations=100)
    z, _, vjp = task.operator.linearize(x)
    pull = vjp(task.likelihood.score(task.y, z))
    spectrum = task.prior.power_spectrum((12, 12))
    hold = torch.fft.ifft2(torch.fft.fft2(x - MEAN) / spectrum).real
    assert float((pull - hold).norm() / hold.norm()) < 0.02


@pytest.mark.parametrize("likelihood", [GaussianLikelihood(2.0), PoissonLikelihood()])
def test_the_data_step_ends_where_its_slope_is_zero(likelihood):
    task = blurred(12, likelihood, 40.0)
    centre = torch.full((2, 1, 12, 12), MEAN, dtype=DTYPE)
    x = centre
    for _ in range(8):
        x, z = proximal(task, centre, ScalarCovariance(0.2), 200, near=x)
    _, _, vjp = task.operator.linearize(x)
    slope = vjp(likelihood.score(task.y, z)) - (x - centre) / 0.2**2
    assert float(slope.norm() / ((x - centre) / 0.2**2).norm()) < 0.02


@pytest.mark.parametrize(
    ("kind", "noise"),
    [
        (kind, noise)
        for kind in ("diffpir", "pnp-dm", "pnp-admm", "daps")
        for noise in ("gaussian", "poisson", "magnitudes")
        if (kind, noise) != ("pnp-admm", "magnitudes")  # refused, see below
    ],
)
def test_eight_at_once_are_eight_alone(kind, noise):
    if noise == "magnitudes":
        y = torch.tensor([0.7, 0.8, 0.3, 0.5], dtype=DTYPE).reshape(1, 1, 1, 4)
        prior = GaussianPrior(0.6, torch.full((1, 2), 0.25, dtype=DTYPE))
        operator = MappedOperator(Magnitudes(), 2 * ONE, -ONE)
        task = Problem(y, prior, operator, GaussianLikelihood(0.2))
    else:
        task = blurred(
            12, GaussianLikelihood(1.0) if noise == "gaussian" else PoissonLikelihood(), 20.0
        )
        task.valid = torch.ones((1, 1, 12, 12), dtype=torch.bool)
        task.valid[..., :3] = False
    shape = task.operator.x_shape[1:]
    # Long conjugate gradients at high noise multiply rounding errors by millions: few, and low.
    top = {"pnp-dm": "rho_max"}.get(kind, "sigma_max")
    run = sampler(kind, shape, steps=4, iterations=8, **{top: 1.0})
    *_, together = run.sample(replace(task), 8, Streams(5, range(8), dtype=DTYPE))
    for k in range(8):
        *_, alone = run.sample(replace(task), 1, Streams(5, [k], dtype=DTYPE))
        assert torch.allclose(alone.x0[0], together.x0[k], atol=1e-9)
    assert together.i == together.total == 4
    if kind != "pnp-admm":
        assert float((together.x0[0] - together.x0[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", ["diffpir", "pnp-dm", "pnp-admm"])
def test_a_blurred_image_with_a_hole_is_restored(kind):
    one = kind == "pnp-admm"
    rows, cols = np.mgrid[:24, :24]
    truth = 10 + 80 * np.exp(-((rows - 11) ** 2 + (cols - 13) ** 2) / 12.0)
    forward = {"kind": "gaussian-blur", "sigma": 1.2}
    y = napari_dps.simulate(truth, forward=forward, noise="poisson", seed=2)
    hole = y.copy()
    hole[3:6, 3:6] = np.nan
    valid = np.isfinite(hole)
    prior = {"kind": "gaussian", "correlation_length": 3.0, "exponent": 2.0}
    result = napari_dps.reconstruct(
        np.where(valid, hole, 0),
        {"valid": valid},
        forward=forward,
        noise="poisson",
        prior=prior,
        sampler={"kind": kind, "lam": 1.0} if one else kind,
        samples=4,
    )
    assert len(result.samples) == (1 if one else 4)
    assert result.report["point_estimate"] is one

    def error(image):
        return float(np.sqrt(np.mean((image - truth) ** 2)))

    assert error(result.mean) < 0.7 * error(y)
    assert 0.7 < result.report["misfit"] < 1.3
    assert result.report["network_calls"]["vjp"] == 0


def test_admm_refuses_what_is_not_linear(rng):
    with pytest.raises(RecipeError, match=r"pnp-admm.*linear.*choose 'daps'"):
        napari_dps.reconstruct(
            rng.random((16, 16)),
            forward={"kind": "nonlinear-blur", "white": 2.0, "path": "straight", "length": 3.0},
            noise={"kind": "gaussian", "sigma": 0.1},
            prior="gaussian",
            sampler="pnp-admm",
        )
