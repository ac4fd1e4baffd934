"""Samplers where they easily go astray in silence: dark pixels, read noise, units, odd choices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_dps import reconstruct, simulate
from napari_dps.errors import DPSError, RecipeError
from napari_dps.fields import describe_fields
from napari_dps.samplers.richardson_lucy import RichardsonLucy

GAUSSIAN = {"kind": "gaussian", "correlation_length": 3.0}
BLUR = {"kind": "gaussian-blur", "sigma": 1.5, "boundary": "periodic"}


def scene(height: float = 100.0, ground: float = 20.0, side: int = 20) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    return ground + height * np.exp(-((rows - 8) ** 2 + (columns - 11) ** 2) / 20)


def restored(measured: np.ndarray, sampler: Any, **more: Any) -> Any:
    given = {"forward": "identity", "noise": "poisson", "prior": GAUSSIAN, "samples": 2, **more}
    return reconstruct(measured, sampler=sampler, device="cpu", **given)


@pytest.mark.parametrize("kind", ["dps", "mcg"])
def test_the_exact_gradient_stays_near_where_the_first_guess_is_dark(kind: str) -> None:
    truth = scene()
    measured = np.random.default_rng(0).poisson(truth).astype(np.float32)
    found = restored(measured, {"kind": kind, "steps": 200, "likelihood": "exact"})
    assert found.mean.mean() == pytest.approx(truth.mean(), rel=0.25)


@pytest.mark.parametrize("read_noise", [1.5, 6.0])
def test_richardson_lucy_takes_no_read_noise_for_light(read_noise: float) -> None:
    noise = {"kind": "poisson-gaussian", "gain": 2.0, "offset": 100.0, "read_noise": read_noise}
    truth = scene(1.5, 0.2, side=48)
    measured = simulate(100 + 2 * truth, forward=BLUR, noise=noise, seed=1)
    found = restored(measured, "richardson-lucy", forward=BLUR, noise=noise)
    light = (np.asarray(found.mean) - 100).mean() / 2
    error = np.sqrt(read_noise**2 + truth.mean()) / 48
    assert abs(light - truth.mean()) < 4 * error


def test_richardson_lucy_says_that_it_went_past_the_noise() -> None:
    measured = np.random.default_rng(1).poisson(scene()).astype(np.float32)
    for tv in (0.0, 0.1):
        found = restored(measured, {"kind": "richardson-lucy", "tv": tv})
        assert sum("went past the noise at once" in w for w in found.report["warnings"]) == 1
    blurred = simulate(scene(), forward=BLUR, noise="poisson", seed=2)
    found = restored(blurred, "richardson-lucy", forward=BLUR)
    assert not any("past the noise" in w for w in found.report["warnings"])


def test_total_variation_keeps_signs_where_the_object_is_no_light() -> None:
    truth = scene()
    noise = {"kind": "gaussian", "sigma": 3.0}
    turned = truth * np.exp(2.5j)
    kspace = {"kind": "fourier-mask", "object": "complex", "acceleration": 2.0, "centre": 0.2}
    parts = np.stack([turned.real, turned.imag])
    measured = simulate(parts, forward=kspace, noise=noise, axes="CYX")
    found = restored(measured, "admm-tv", forward=kspace, noise=noise, samples=1)
    np.testing.assert_allclose(np.asarray(found.mean).mean((1, 2)), parts.mean((1, 2)), rtol=0.02)
    assert found.report["chi2"][0] == pytest.approx(1, abs=0.1)
    below = simulate(truth, forward=BLUR, noise=noise, seed=2) - 1000
    found = restored(below, "admm-tv", forward=BLUR, noise=noise, samples=1)
    assert np.asarray(found.mean).mean() == pytest.approx(truth.mean() - 1000, rel=0.01)
    found = restored(below, "richardson-lucy", forward=BLUR, noise=noise, samples=1)
    assert sum("below zero on the whole" in w for w in found.report["warnings"]) == 1
    light = restored(below + 1000, "admm-tv", forward=BLUR, noise=noise, samples=1)
    assert np.asarray(light.mean).min() >= 0


def test_dps_does_not_hang_on_the_unit_of_a_camera_that_saturates() -> None:
    found = []
    for white in (255.0, 2.0):
        camera = {"kind": "nonlinear-blur", "white": white}
        noise = {"kind": "gaussian", "sigma": 3 * white / 255}
        measured = simulate(scene() * white / 255, forward=camera, noise=noise, seed=0)
        result = restored(measured, {"kind": "dps", "steps": 30}, forward=camera, noise=noise)
        found.append(np.asarray(result.mean) / white)
    np.testing.assert_allclose(found[0], found[1], atol=2e-3 * np.abs(found[0]).max())


@pytest.mark.parametrize("kind", ["ilvr", "mcg"])
def test_projections_do_not_hang_on_the_unit(kind: str) -> None:
    measured = scene() + np.random.default_rng(3).normal(0, 5, (20, 20))
    sampler = {"kind": kind, "steps": 10}

    def at(unit: float) -> np.ndarray:
        noise = {"kind": "gaussian", "sigma": 5.0 * unit}
        found = restored(measured * unit, sampler, forward=BLUR, noise=noise)
        return np.asarray(found.mean, dtype=np.float64) / unit

    one = at(1.0)
    np.testing.assert_allclose(at(1e9), one, atol=1e-3 * np.ptp(one))


def test_copies_among_the_samples_of_smc_are_told() -> None:
    measured = np.random.default_rng(4).poisson(scene(side=8)).astype(np.float32)
    found = restored(measured, {"kind": "smc", "particles": 64}, samples=60)
    distinct = found.report["details"][0]["distinct_samples"]
    told = [w for w in found.report["warnings"] if "the others are copies" in w]
    assert distinct < 60 and told[0].startswith(f"only {distinct} of 60 samples of 'smc' differ")


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (
            {"kind": "mmps", "sigma_min": 1.0, "sigma_max": 1.0},
            "not below the one to begin at, 1 .* lower its",
        ),
        (
            {"kind": "mmps", "informed_start": False, "sigma_max": 0.1},
            "sigma_max = 0.1 is below the spread of the prior's images, 0.5",
        ),
        (
            {"kind": "pnp-dm", "rho_min": 1.0, "rho_max": 1.0, "steps": 4, "levels": 2},
            "rho_min = 1 is not below the coupling to begin at",
        ),
        ({"kind": "richardson-lucy", "iterations": "many"}, "or discrepancy"),
    ],
)
def test_what_cannot_work_is_refused_in_a_fitting_sentence(sampler: Any, words: str) -> None:
    measured = np.random.default_rng(5).poisson(scene()).astype(np.float32)
    with pytest.raises(RecipeError, match=words):
        restored(measured, sampler)


def test_only_samplers_with_a_step_length_are_told_to_lower_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_dps.core import admm_tv, dps

    monkeypatch.setattr(dps, "ancestral_move", lambda x, *_: x * float("nan"))
    with pytest.raises(DPSError, match=r"diverged .*; lower its step length \(`scale`\) or choose"):
        restored(scene(), {"kind": "dps", "steps": 4}, forward=BLUR)
    monkeypatch.setattr(admm_tv._Solver, "image", lambda _, state: state.x * float("nan"))
    with pytest.raises(DPSError, match="diverged to non-finite values; choose another one"):
        restored(scene(), "admm-tv", forward=BLUR)
    wanted = {info.name: info.wanted for info in describe_fields(RichardsonLucy)}
    assert wanted["iterations"].endswith("or discrepancy")
