"""Sequential Monte Carlo against posteriors known exactly, whatever their shape."""

import json

import _grid
import _mixture
import mixture
import numpy as np
import pytest
import torch

import napari_dps
from napari_dps.components import make
from napari_dps.core.likelihood import (
    GaussianLikelihood,
    PoissonGaussianLikelihood,
    PoissonLikelihood,
)
from napari_dps.core.operator import MappedOperator
from napari_dps.core.problem import Problem
from napari_dps.core.sites import gaussian_sites, matched_sites
from napari_dps.core.smc import Cloud, check_reached
from napari_dps.core.streams import Streams
from napari_dps.errors import DPSError, RecipeError
from napari_dps.forward.random_inpaint import RandomInpaint
from napari_dps.grid import Grid
from napari_dps.priors._gaussian import GaussianPrior
from napari_dps.run import Run

DTYPE = torch.float64


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices gain nothing from threads, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sampler(**fields):
    return make("sampler", {"kind": "smc", **fields}).bind(Grid((1, 2), dtype="float64"))


def gaussian_prior(mean, *spectrum):
    return GaussianPrior(mean, torch.tensor([spectrum], dtype=DTYPE))


def check_against_grid(problem, samples, details, bias=0.12, spread=0.1, distribution=0.08):
    exact = _grid.integrate(problem)
    found = _grid.compare(samples, exact)
    assert found["bias"] < bias
    assert found["spread"] == pytest.approx(1, abs=spread)
    assert found["coverage"] == pytest.approx(0.9, abs=0.04)
    assert found["distribution"] < distribution
    assert details["log_evidence"] == pytest.approx(exact.log_evidence, abs=0.1)
    return exact


# -- many modes --------------------------------------------------------------------------------


def mixture_problem(d, noise=1.0, seed=0):
    prior = _mixture.grid_of_modes(d, torch.Generator().manual_seed(5))
    sigma = noise * _mixture.UNIT
    a, y, _ = _mixture.measurement(prior, 1, sigma, seed)
    return _mixture.linear_problem(prior, a, y, sigma), prior.posterior(a, y, sigma)


@pytest.mark.parametrize(("d", "noise"), [(2, 0.1), (8, 1.0)])
def test_modes_get_their_weights(d, noise):
    """As near to exact samples as these are to each other (measured: 0.8 to 1.6 times)."""
    problem, posterior = mixture_problem(d, noise, seed=1)
    generator = torch.Generator().manual_seed(0)
    exact = [_mixture.draw_posterior(posterior, 500, generator) for _ in range(6)]
    floor = np.mean([_mixture.sliced_distance(exact[0], other) for other in exact[1:]])
    x, _ = _mixture.run(sampler(particles=512, steps=40), problem, 500, 1)
    assert np.mean([_mixture.sliced_distance(x, other) for other in exact]) < 1.9 * floor
    assert _mixture.mode_error(x, posterior) < 0.1


def test_moment_matching_alone_gets_the_modes_wrong():
    problem, posterior = mixture_problem(2)
    mmps = make("sampler", {"kind": "mmps"}).bind(Grid((1, 2), dtype="float64"))
    x, _ = _mixture.run(mmps, problem, 500, 1)
    assert _mixture.mode_error(x, posterior) > 0.2


def test_the_mixture_is_what_it_says():
    """Denoiser by integration over a grid, Jacobian by autodiff."""
    prior = _mixture.grid_of_modes(2, torch.Generator().manual_seed(5))
    axis = torch.linspace(-1.4, 1.4, 561, dtype=DTYPE)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    apart = (points[:, None] - prior.means).square().sum(2) / (2 * prior.std**2)
    density = (apart.neg().exp() * prior.weights).sum(1)
    x, sigma = torch.tensor([[[[0.3, -0.2]]]], dtype=DTYPE), 0.3
    share = density * (-(points - x.flatten()).square().sum(1) / (2 * sigma**2)).exp()
    expected = share @ points / share.sum()
    x0, vjp = prior.linearize(x, sigma)
    torch.testing.assert_close(x0.flatten(), expected, atol=1e-6, rtol=0)
    assert prior.data_std**2 == pytest.approx(
        float((density @ (points - density @ points / density.sum()) ** 2).mean() / density.sum()),
        rel=1e-4,
    )
    jacobian = torch.autograd.functional.jacobian(lambda v: prior(v, sigma), x).reshape(2, 2)
    for k in range(2):
        unit = torch.eye(2, dtype=DTYPE)[k].reshape(1, 1, 1, 2)
        torch.testing.assert_close(vjp(unit).flatten(), jacobian[k])


# -- counts and phase --------------------------------------------------------------------------


@pytest.mark.parametrize("y", [[0.0], [0.0, 3.0], [40.0, 3.0]])
def test_counts_in_one_and_two_pixels(y):
    prior = gaussian_prior(-0.2, 0.3) if len(y) == 1 else gaussian_prior(-0.2, 0.5, 0.1)
    problem = _grid.counts(y, 20.0 if max(y) > 10 else 6.0, 0.5, prior)
    x, last = _mixture.run(sampler(steps=16), problem, 1000, 0)
    exact = check_against_grid(problem, x, last.details)
    quantiles = torch.tensor(_grid.LEVELS, dtype=DTYPE)
    for k in range(len(y)):
        share = exact.cdf(k, torch.quantile(x[:, k].contiguous(), quantiles))
        torch.testing.assert_close(share, quantiles, atol=0.05, rtol=0)
    assert last.details["least_ess"] > 900


def test_camera_noise_and_data_that_do_not_count():
    prior = gaussian_prior(-0.2, 0.5, 0.1)
    problem = _grid.counts([9.0, 500.0], 20.0, 0.5, prior)
    problem.likelihood = PoissonGaussianLikelihood(2.0)
    problem.valid = torch.tensor([[[[True, False]]]])
    x, last = _mixture.run(sampler(steps=16), problem, 1000, 0)
    check_against_grid(problem, x, last.details)


@pytest.mark.parametrize("counts", [False, True])
def test_phase_of_two_pixels_finds_all_four_solutions(counts):
    """(a, b), (b, a) and their negatives; the prior's mean favours the positive ones."""
    prior = gaussian_prior(0.3, 1.0, 0.5)
    problem = _grid.phase([1.5, 0.4], GaussianLikelihood(0.1), prior)
    if counts:
        problem = _grid.phase([3.0, 1.0], PoissonLikelihood(), prior)
    chosen = sampler(steps=24, particles=256 if counts else 512)
    x, last = _mixture.run(chosen, problem, 1000, 0)
    exact = check_against_grid(problem, x, last.details, bias=0.2, spread=0.15, distribution=0.12)
    if counts:
        return
    first, second = torch.meshgrid(exact.axis, exact.axis, indexing="ij")
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        inside = (signs[0] * (first + second) > 0) & (signs[1] * (first - second) > 0)
        total, apart = x.sum(1), x[:, 0] - x[:, 1]
        found = ((signs[0] * total > 0) & (signs[1] * apart > 0)).double().mean()
        assert float(found) == pytest.approx(float(exact.density[inside].sum()), abs=0.08)


def test_the_scalar_twist_comes_to_the_same_without_products():
    problem = _grid.counts([0.0, 3.0], 6.0, 0.5, gaussian_prior(-0.2, 0.5, 0.1))
    x, last = _mixture.run(sampler(twist="scalar", steps=50), problem, 1000, 0)
    check_against_grid(problem, x, last.details)
    assert last.calls == {"forward": 50, "vjp": 0}


def test_sites_have_the_mass_mean_and_variance_of_the_product():
    mean = torch.tensor([[3.0, -1.0, 200.0]], dtype=DTYPE)
    variance = torch.tensor([[2.5, 1e-9, 1e4]], dtype=DTYPE)
    y, noise = torch.tensor([[4.0, 2.0, 180.0]], dtype=DTYPE), torch.full((1, 3), 0.3, dtype=DTYPE)
    exact = gaussian_sites(y - mean, noise, variance)
    found = matched_sites(
        lambda z: -((y - z) ** 2) / (2 * noise), lambda z: (y - z) / noise, mean, variance
    )
    torch.testing.assert_close(found.log_mass, exact.log_mass, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(found.force, exact.force, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.precision[:, [0, 2]], exact.precision[:, [0, 2]])
    found = matched_sites(
        lambda z: -z, lambda z: -torch.ones_like(z), mean, variance.clamp_max(9.0)
    )
    # exp(-z) shifts a Gaussian and leaves its width.
    torch.testing.assert_close(found.log_mass, variance.clamp_max(9.0) / 2 - mean)
    torch.testing.assert_close(found.force, -torch.ones_like(mean), atol=1e-5, rtol=0)


def test_sites_of_an_expectation_far_below_the_counts():
    """There the likelihood falls so steeply that its maximum looks infinitely far away."""
    y, mean, variance = 300.0, -312.0, 73.0**2
    counts, data = PoissonLikelihood(), torch.full((1, 1), y, dtype=DTYPE)
    found = matched_sites(
        lambda z: counts.log_density(data, z),
        lambda z: counts.score(data, z),
        torch.full((1, 1), mean, dtype=DTYPE),
        torch.full((1, 1), variance, dtype=DTYPE),
    )
    z = torch.linspace(0.1, 800, 400_001, dtype=DTYPE)
    log = counts.log_density(data[0], z) - (z - mean) ** 2 / (2 * variance)
    weight = torch.softmax(log, 0)
    centre = weight @ z
    spread2 = weight @ (z - centre) ** 2
    # A Gaussian times the site has the product's variance and mean.
    both = 1 / variance + found.precision
    assert float(1 / both) == pytest.approx(float(spread2), rel=0.01)
    assert float(mean + found.force / both) == pytest.approx(float(centre), rel=0.01)


# -- Gaussian closed form ----------------------------------------------------------------------


def gaussian_posterior(prior, operator, y, sigma, valid):
    """Return exact mean, covariance and log-evidence (less the noise's constant)."""
    d = prior.spectrum.numel()
    eye = torch.eye(d, dtype=DTYPE).reshape(d, 1, *prior.spectrum.shape)
    c = torch.fft.ifft2(torch.fft.fft2(eye) * prior.spectrum).real.reshape(d, d)
    a = operator(eye).reshape(d, -1).T[valid]
    m = a @ c @ a.T + sigma**2 * torch.eye(len(a), dtype=DTYPE)
    left = y.flatten()[valid] - a @ torch.full((d,), prior.mean, dtype=DTYPE)
    gain = torch.linalg.solve(m, a @ c).T
    evidence = -0.5 * (left @ torch.linalg.solve(m, left) + torch.logdet(m / sigma**2))
    return prior.mean + gain @ left, c - gain @ a @ c, float(evidence)


@pytest.mark.parametrize(("side", "missing"), [(4, 0.5), (10, 0.96)])
def test_a_gaussian_posterior(side, missing):
    """4 x 4 pixels: every weight is the same. 10 x 10 and four data: matrices of the data."""
    from napari_dps.core.covariance import power_law_spectrum

    prior = GaussianPrior(-0.2, power_law_spectrum((side, side), 0.4, 1.5, 1.5))
    operator = RandomInpaint(missing=missing).bind(Grid((side, side), dtype="float64"))
    valid = operator.measured
    generator = torch.Generator().manual_seed(3)
    y = 0.3 * torch.randn((1, 1, side, side), generator=generator, dtype=DTYPE) * valid
    one = torch.ones((1, 1, 1, 1), dtype=DTYPE)
    problem = Problem(
        y,
        prior,
        MappedOperator(operator, 2 * one, -one),
        GaussianLikelihood(0.1),
        valid[None, None],
    )
    mean, covariance, evidence = gaussian_posterior(prior, operator, y, 0.1, valid.flatten())
    x, last = _mixture.run(sampler(steps=10 if side == 4 else 60, sigma_max=40), problem, 1000, 0)
    std = covariance.diagonal().sqrt()
    assert float(((x.mean(0) - mean) / std).abs().max()) < 0.16
    assert float((x.var(0) / std**2).mean().sqrt()) == pytest.approx(1, abs=0.03)
    if side == 4:
        assert last.details["log_evidence"] == pytest.approx(evidence, abs=2e-3)
        assert last.details["least_ess"] > 1000
        assert last.calls == {"forward": 10, "vjp": 160}
    else:
        assert last.details["log_evidence"] == pytest.approx(evidence, abs=0.1)
        assert last.calls["vjp"] == 60 * int(valid.sum())


# -- what a run sees ---------------------------------------------------------------------------


def test_the_report_says_how_far_to_trust_it():
    problem, _ = mixture_problem(2)
    _, last = _mixture.run(sampler(particles=64, steps=12, threshold=1.0), problem, 200, 0)
    details = last.details
    assert len(details["ess"]) == 13
    assert details["least_ess"] == min(details["ess"])
    assert 1 <= details["distinct_ancestors"] <= details["distinct_samples"] <= 64
    assert details["resampled"] == 12
    assert last.x0.shape == (200, 1, 1, 2) and last.misfit.shape == (200,)


def test_one_lean_level_is_borne_and_three_are_not():
    alone = torch.tensor([30.0] + [0.0] * 63, dtype=DTYPE)
    streams = Streams(0, [0], dtype=DTYPE)
    cloud = Cloud(64, 0.5, streams)
    for _ in range(2):
        assert cloud.weigh(alone).tolist() == [0] * 64
    with pytest.raises(DPSError, match=r"down to 1\.0 effective of 64 particles \(level 3\)"):
        cloud.weigh(alone)
    with pytest.raises(DPSError, match="effective"):
        Cloud(64, 0.5, streams).weigh(alone, last=True)
    with pytest.raises(DPSError, match="not finite"):
        Cloud(64, 0.5, streams).weigh(alone * torch.nan)


def test_copies_of_one_particle_are_not_many():
    """Even weights at the end: each of them is the same particle, resampled the level before."""
    alone, even = torch.tensor([30.0] + [0.0] * 63, dtype=DTYPE), torch.zeros(64, dtype=DTYPE)
    cloud = Cloud(64, 0.5, Streams(0, [0], dtype=DTYPE))
    cloud.weigh(even)
    cloud.weigh(alone)
    with pytest.raises(DPSError, match=r"64 particles that are copies of 1\.0 effective ones"):
        cloud.weigh(even, last=True)
    # Long before the end, noise sets them apart.
    cloud = Cloud(64, 0.5, Streams(0, [0], dtype=DTYPE))
    cloud.weigh(alone)
    for _ in range(3):
        cloud.weigh(even)
    cloud.weigh(even, last=True)
    assert cloud.details(cloud.choose(8))["effective_families"] == 64


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_a_run_with_far_too_few_steps_is_refused(rng, steps):
    """Coarse pixels of a large image: after one lean level all are copies of one particle."""
    truth = rng.normal(size=(32, 32))
    k2 = np.add.outer(*[np.fft.fftfreq(32) ** 2] * 2)
    truth = np.fft.ifft2(np.fft.fft2(truth) * np.exp(-300 * k2)).real
    truth = 200 + 100 * truth / truth.std()
    y = rng.poisson(truth.clip(0).reshape(8, 4, 8, 4).mean((1, 3))).astype(float)
    with pytest.raises(DPSError, match=r"effective|far from the data"):
        napari_dps.reconstruct(
            y,
            forward={"kind": "downsample", "factor": 4},
            noise="poisson",
            prior={"kind": "gaussian", "std": 0.5, "correlation_length": 3.0, "exponent": 3},
            sampler={"kind": "smc", "particles": 20, "steps": steps},
            intensity={"scale": 400.0, "background": 0.0},
            samples=4,
        )


def test_samples_far_from_the_data_are_refused():
    check_reached(24.0, 1.0, 16)
    check_reached(390.0, 100.0, 16)  # nothing explains this measurement
    for far, reached in ((26.0, 1.0), (410.0, 100.0), (float("nan"), 1.0)):
        with pytest.raises(DPSError, match="ended far from the data"):
            check_reached(far, reached, 16)


@pytest.mark.parametrize("twist", ["moments", "scalar"])
def test_chunks_of_network_calls_change_nothing(twist):
    problem, _ = mixture_problem(2)
    chosen = sampler(particles=60, steps=12, twist=twist)
    whole, last = _mixture.run(chosen, problem, 20, 0)
    problem.at_once = 7
    parts, other = _mixture.run(chosen, problem, 20, 0)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-9)
    assert other.details["log_evidence"] == pytest.approx(last.details["log_evidence"], rel=1e-9)


def test_large_images_are_refused(rng):
    with pytest.raises(RecipeError, match="4096 pixels and 4096 data"):
        napari_dps.reconstruct(
            rng.normal(size=(64, 64)),
            forward="identity",
            noise={"kind": "gaussian", "sigma": 0.1},
            prior="gaussian",
            sampler="smc",
        )


def test_a_tiny_image_gets_better_and_its_errors_are_known(rng):
    truth = rng.normal(size=(8, 8))
    k2 = np.add.outer(*[np.fft.fftfreq(8) ** 2] * 2)
    truth = np.fft.ifft2(np.fft.fft2(truth) * np.exp(-40 * k2))
    truth = 40 + 20 * truth.real / truth.real.std()
    y = rng.poisson(truth.clip(0)).astype(float)
    given = {
        "forward": "identity",
        "noise": "poisson",
        "prior": {"kind": "gaussian", "std": 0.5, "correlation_length": 2.0, "exponent": 3},
        "sampler": {"kind": "smc", "particles": 64, "steps": 8},
        "intensity": {"scale": 80.0, "background": 0.0},
        "samples": 20,
    }
    result = napari_dps.reconstruct(y, given)
    assert result.samples.shape == (20, 8, 8)
    error = np.sqrt(np.mean((result.mean - truth) ** 2))
    assert error < 0.75 * np.sqrt(np.mean((y - truth) ** 2))
    assert 0.5 < error / np.sqrt(np.mean(result.std**2)) < 2
    assert np.all(result.interval(0.9)[0] < result.interval(0.9)[1])
    (details,) = result.report["details"]
    assert details["particles"] == 64 and details["least_ess"] > 5
    assert Run(y, given).plan().network_calls == 64 * 8 * (1 + 64)


def test_the_table_of_the_mixture_is_made(tmp_path, capsys) -> None:
    out = tmp_path / "mixture.json"
    mixture.main(quick=True, kinds=("pigdm",), out=out)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["ratio"] == pytest.approx(row["distance"] / row["distance_floor"], rel=0.05)
    capsys.readouterr()
    mixture.app(["markdown", str(out)], result_action="return_value")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| sampler | 2D, noise 1 |"
    assert lines[-1].startswith(f"| `pigdm` | {row['ratio']:.1f} (")
