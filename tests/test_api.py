"""reconstruct and simulate: units, shapes, seeds, stacks, masks, cancelling, memory."""

from pathlib import Path

import numpy as np
import pytest

import napari_dps
from napari_dps import Recipe, read_image, reconstruct, sample_prior, simulate
from napari_dps.api import Run
from napari_dps.errors import DPSError, InputError, RecipeError
from napari_dps.uncertainty.registration import register

FAST = {"kind": "mmps", "steps": 8}
SAMPLES = Path(napari_dps.__file__).parent / "sample_data"
PRIOR = {"kind": "gaussian", "correlation_length": 3}


def scene(n=32, peak=60.0):
    rows, cols = np.mgrid[:n, :n]
    spot = np.exp(-((rows - n / 2) ** 2 + (cols - n / 3) ** 2) / (n * 0.7))
    disc = np.hypot(rows - n * 0.6, cols - n * 0.7) < n / 7
    return 2 + peak * (0.7 * spot + 0.5 * disc)


def psnr(a, b):
    return 10 * np.log10(np.ptp(b) ** 2 / np.mean((a - b) ** 2))


@pytest.fixture(scope="module")
def blurred():
    return simulate(scene(), ({"kind": "gaussian-blur", "sigma": 1.5}, "poisson"), 1)


def test_a_missing_part_takes_its_default():
    recipe = Recipe()
    kinds = (recipe.forward.kind, recipe.noise.kind, recipe.prior.kind, recipe.sampler.kind)
    assert kinds == ("identity", "poisson", "fluorescence", "auto")
    assert (recipe.samples, recipe.seed, recipe.intensity) == (20, 0, "auto")


def test_result_is_calibrated_resolved_and_repeatable(blurred):
    given = {"forward": {"kind": "gaussian-blur", "sigma": 1.5}, "prior": PRIOR}
    first = reconstruct(blurred, given, samples=3, seed=5, pixel_size=0.1)
    assert first.samples.shape == (3, 32, 32)
    assert first.samples.dtype == np.float32
    assert first.scale == (0.1, 0.1)
    assert first.units == ("micrometer", "micrometer")
    assert first.recipe.sampler.kind == "mmps"
    assert first.recipe.intensity != "auto"
    assert first.report["complete"]
    assert first.report["network_calls"]["forward"] == first.recipe.sampler.steps  # one batch
    again = reconstruct(blurred, first.recipe, pixel_size=0.1)
    assert np.array_equal(first.samples, again.samples)
    other = reconstruct(blurred, given, samples=3, seed=6)
    assert not np.array_equal(first.samples, other.samples)
    mean = np.concatenate([first.samples, other.samples]).mean(0)
    assert np.corrcoef(mean.ravel(), scene().ravel())[0, 1] > 0.9
    assert first.report["flux"]["expected"][0] == pytest.approx(blurred.sum(), rel=0.05)


def test_a_sample_does_not_depend_on_how_many_are_drawn(blurred):
    parts = {"forward": "gaussian-blur", "prior": PRIOR, "sampler": FAST}
    few = reconstruct(blurred, **parts, samples=1)
    many = reconstruct(blurred, **parts, samples=5)
    assert np.allclose(few.samples[0], many.samples[0], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("noise", "scale", "offset"),
    [
        ("poisson", 1.0, 0.0),
        ({"kind": "poisson", "gain": 2.5, "offset": 100}, 2.5, 100.0),
        ({"kind": "poisson-gaussian", "gain": 0.4, "offset": 50, "read_noise": 1.2}, 0.4, 50.0),
        ({"kind": "gaussian", "sigma": 4.0}, 1.0, 0.0),
        ({"kind": "gaussian", "sigma": 4e-4}, 1e-4, 0.0),
    ],
)
def test_results_come_back_in_the_units_of_the_input(noise, scale, offset):
    truth = scene() * scale + offset
    y = simulate(truth, ("identity", noise), 2)
    result = reconstruct(y, noise=noise, prior=PRIOR, sampler=FAST, samples=4)
    assert psnr(result.mean, truth) > psnr(y, truth)
    assert result.mean.mean() == pytest.approx(truth.mean(), rel=0.08)


def test_a_stack_is_restored_frame_by_frame_and_a_constant_frame_is_copied():
    frames = np.stack([simulate(scene(), ("identity", "poisson"), k) for k in range(2)])
    stack = np.concatenate([frames, np.full((1, 32, 32), 7.0)]).astype(np.float32)
    # An informed start is as wide as the frame that is known least needs, for all of a stack.
    cold = {**FAST, "informed_start": False}
    result = reconstruct(stack, prior=PRIOR, sampler=cold, samples=2, axes="TYX")
    assert result.samples.shape == (2, 3, 32, 32)
    assert result.axes == "TYX"
    assert (result.samples[:, 2] == 7).all()
    assert result.report["frames_constant"] == [2]
    assert not np.allclose(result.samples[:, 0], result.samples[:, 1])
    alone = reconstruct(frames[0], prior=PRIOR, sampler=cold, samples=2)
    assert np.allclose(alone.samples, result.samples[:, 0], rtol=1e-3, atol=1e-2)


def test_rows_and_columns_may_lie_on_any_axis():
    stack = np.random.default_rng(2).poisson(9.0, (2, 12, 16))
    valid = np.random.default_rng(3).random(stack.shape) < 0.7
    parts = {"prior": PRIOR, "sampler": FAST, "samples": 1}
    straight = reconstruct(stack, parts, axes="TYX", valid=valid)
    turned = reconstruct(
        np.moveaxis(stack, 0, 2), parts, axes="YXT", valid=np.moveaxis(valid, 0, 2)
    )
    assert turned.axes == "YXT" and turned.shape == (12, 16, 2)
    assert np.array_equal(np.moveaxis(turned.mean, 2, 0), straight.mean)
    seen = simulate(np.moveaxis(stack, 0, 2), axes="YXT", seed=4)
    assert np.array_equal(np.moveaxis(seen, 2, 0), simulate(stack, axes="TYX", seed=4))


def test_frames_of_a_detector_that_counts_to_one():
    once = np.random.default_rng(2).random((12, 16)) < 0.5
    parts = {"prior": PRIOR, "sampler": FAST, "samples": 1}
    counts = reconstruct(once.astype(np.uint16), parts)
    assert np.array_equal(reconstruct(once, parts).mean, counts.mean)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"seed": -1}, "seed = -1"),
        ({"recipe": ("identity", "poisson", "x")}, "tuple of 3"),
    ],
)
def test_bad_choices_for_a_simulation(parts, words):
    recipe = parts.pop("recipe", None)
    with pytest.raises((InputError, RecipeError), match=words):
        simulate(scene(), recipe, **parts)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n": 0}, "n = 0"),
        ({"n": 1.5}, "n = 1.5"),
        ({"steps": 0}, "steps = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"shape": 16}, "shape 16 "),
        ({"shape": (16.5, 16)}, "shape"),
        ({"shape": (4, 16)}, "at least 8"),
    ],
)
def test_bad_choices_for_draws_from_a_prior(given, words):
    with pytest.raises(InputError, match=words):
        sample_prior(**{"prior": "gaussian", "n": 1, "shape": (16, 16), **given})


def test_missing_pixels_are_filled_and_their_values_do_not_matter():
    truth = scene()
    mask = np.random.default_rng(0).random(truth.shape) > 0.4
    y = simulate(truth, ("identity", "poisson"), 3)
    holes = y.copy()
    holes[~mask] = np.nan
    junk = y.copy()
    junk[~mask] = 1e4
    parts = {"prior": PRIOR, "sampler": FAST, "samples": 4}
    by_nan = reconstruct(holes, forward="inpaint", **parts)
    by_mask = reconstruct(junk, forward={"kind": "inpaint", "mask": mask}, **parts)
    by_valid = reconstruct(junk, valid=mask, **parts)
    assert np.isfinite(by_nan.samples).all()
    assert np.allclose(by_nan.samples, by_mask.samples, rtol=1e-3, atol=1e-2)
    assert np.allclose(by_nan.samples, by_valid.samples, rtol=1e-3, atol=1e-2)
    assert by_nan.std[~mask].mean() > by_nan.std[mask].mean()
    assert psnr(by_nan.mean, truth) > 18


def test_light_from_outside_leaves_no_ringing():
    wide = np.full((48, 48), 5.0)
    wide[20:28, 8:12] = 2000.0  # just outside the crop below
    blur = {"kind": "gaussian-blur", "sigma": 2.0}
    y = simulate(wide, (blur, {"kind": "gaussian", "sigma": 1.0}), 0)[8:40, 13:45]
    result = reconstruct(
        y,
        forward=blur,
        noise={"kind": "gaussian", "sigma": 1.0},
        prior=PRIOR,
        sampler={"kind": "mmps", "steps": 12, "iterations": 20, "tolerance": 0.01},
        samples=4,
    )
    periodic = reconstruct(
        y,
        forward={**blur, "boundary": "periodic"},
        noise={"kind": "gaussian", "sigma": 1.0},
        prior=PRIOR,
        sampler={"kind": "mmps", "steps": 12, "iterations": 20, "tolerance": 0.01},
        samples=4,
    )
    far = np.s_[:, 20:]  # seven pixels and more from the bright edge's reach, on its far side
    assert np.abs(result.mean[far] - 5).max() < 0.3 * np.abs(periodic.mean[far] - 5).max()


@pytest.mark.parametrize("top", [80.0, 0.5])
def test_phase_retrieval_through_the_front_door(top):
    truth = read_image(SAMPLES / "diffraction_truth.tif").data.astype(float)
    truth = truth.reshape(32, 2, 32, 2).mean((1, 3)) * 20
    counts = simulate(truth, ("phase-retrieval", "poisson"), 0)
    assert counts.shape == (64, 64)
    assert counts.sum() == pytest.approx((truth**2).sum(), rel=1e-2)  # Parseval
    result = reconstruct(
        counts,
        forward="phase-retrieval",
        prior=PRIOR,
        sampler={"kind": "daps", "steps": 20, "sigma_max": top},
        samples=3,
    )
    assert result.samples.shape == (3, 32, 32)
    (restarts,) = result.report["restart_misfits"]
    assert restarts[0] == pytest.approx(1, abs=0.3)
    assert result.recipe.sampler.kind == "daps"
    best = register(result.samples[0], truth)
    gain = (best * truth).sum() / (best**2).sum()
    assert psnr(gain * best, truth) > 25
    assert result.report["chi2"] == sorted(result.report["chi2"])


def test_cancelling_keeps_the_samples_that_are_finished(blurred):
    run = Run(blurred, {"prior": PRIOR, "sampler": FAST, "samples": 9}, device="cpu")
    with pytest.raises(InputError, match="before a single sample"):
        run.result()
    for progress in run:
        assert progress.total == 0 or progress.done <= progress.total
        if progress.samples_done:
            assert progress.preview().shape == (32, 32)
            run.cancel()
    result = run.result()
    assert 1 <= len(result) < 9
    assert not result.report["complete"]
    whole = reconstruct(blurred, prior=PRIOR, sampler=FAST, samples=9, device="cpu")
    assert np.array_equal(whole.samples[: len(result)], result.samples)


def test_a_sampler_that_diverges_is_no_result():
    rows, columns = np.mgrid[:16, :16]
    spot = 5 + 60 * np.exp(-((rows - 7) ** 2 + (columns - 9) ** 2) / 9)
    parts = {"forward": "phase-retrieval", "prior": PRIOR, "samples": 1}
    sampler = {"kind": "dps", "steps": 2, "scale": 1e4}
    run = Run(simulate(spot, parts), {**parts, "sampler": sampler}, device="cpu")
    # Such steps leave finite values, but a misfit that no number holds.
    seen = []
    kept = run._keep
    run._keep = lambda step, *rest: (seen.append(step), kept(step, *rest))
    with pytest.raises(DPSError, match="'dps' diverged to non-finite values; lower its step"):
        list(run)
    assert np.isfinite(seen[0].x0.numpy()).all() and np.isinf(seen[0].misfit.numpy()).all()
    with pytest.raises(InputError, match="before a single sample"):
        run.result()


def test_out_of_memory_halves_the_batch_and_goes_on(blurred, monkeypatch):
    from napari_dps.priors._gaussian import GaussianPrior

    plain = GaussianPrior.linearize

    def small(self, x, sigma):
        if x.shape[0] > 1:
            raise RuntimeError("CUDA out of memory (as a test)")
        return plain(self, x, sigma)

    expected = reconstruct(blurred, prior=PRIOR, sampler=FAST, samples=3)
    monkeypatch.setattr(GaussianPrior, "linearize", small)
    result = reconstruct(blurred, prior=PRIOR, sampler=FAST, samples=3)
    assert np.allclose(result.samples, expected.samples, rtol=1e-3, atol=1e-2)
    assert "memory ran out" in result.report["warnings"][0]


def test_plan_is_made_before_the_run(blurred):
    plan = Run(blurred, {"prior": PRIOR}, device="cpu").plan()
    assert plan.seconds > 0
    assert plan.bytes > 0
    assert plan.batch >= 1
    assert plan.network_calls >= 50


def test_recipes_survive_json_with_their_arrays(tmp_path):
    mask = np.eye(32)
    recipe = Recipe(forward={"kind": "inpaint", "mask": mask}, valid=mask + 1, samples=2)
    path = recipe.save(tmp_path / "r.json")
    back = Recipe.load(path)
    assert np.array_equal(back.forward.mask.load(), mask)
    assert np.array_equal(back.valid.load(), mask + 1)
    assert Recipe.load(back.save(tmp_path / "again.json")).to_json() == back.to_json()
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match="cannot be written"):
        back.save(tmp_path / "file" / "r.json")


@pytest.mark.parametrize(
    ("image", "parts", "words"),
    [
        (np.full((32, 32), np.nan), {}, "NaN"),
        (np.where(np.eye(32) > 0, np.inf, 1.0), {}, "infinite"),
        (-np.eye(32), {}, "negative"),
        (np.ones((32, 32)), {}, "constant"),
        (np.zeros((32, 32, 3), np.uint8), {}, "RGB"),
        (np.eye(4), {}, "at least 8"),
        (np.eye(32), {"forward": {"kind": "inpaint", "mask": np.ones((5, 5))}}, "shape"),
        (np.eye(32), {"forward": {"kind": "inpaint", "mask": np.zeros((32, 32))}}, "zero"),
        (np.eye(32), {"forward": {"kind": "inpaint", "mask": -np.eye(32)}}, "negative"),
        (np.eye(32), {"forward": "inpaint"}, "without a mask"),
        (np.eye(32), {"valid": np.zeros((32, 32))}, "zero"),
        (np.eye(32), {"valid": np.ones((3, 3))}, "shape"),
        (np.eye(32), {"valid": 1 - np.eye(32)}, "0 in all 992 pixels that count"),
        (np.ma.masked_less(np.eye(32), 1), {}, "masked"),
        ([[1, 2], [3]], {}, "different lengths"),
        (b"cells.tif", {}, "needs integer or real"),
    ],
)
def test_bad_images_give_one_sentence(image, parts, words):
    with pytest.raises(InputError, match=words) as caught:
        Run(image, Recipe(prior=PRIOR, **parts))
    assert "\n" not in str(caught.value)


def test_values_beyond_the_noise_are_one_sentence():
    image = 1e37 * np.random.default_rng(0).uniform(1, 3, (32, 32))
    run = Run(image, {"noise": {"kind": "gaussian", "sigma": 1.0}, "prior": PRIOR}, device="cpu")
    with pytest.raises(InputError, match=r"brightness cannot be told .*rescale the image"):
        list(run)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"forward": "gausian-blur"}, "gaussian-blur"),
        ({"forward": {"kind": "gaussian-blur", "sigmma": 2}}, "sigma"),
        ({"forward": {"kind": "gaussian-blur", "sigma": -2}}, "number > 0 and <= 200 px"),
        ({"forward": {"kind": "gaussian-blur", "sigma": 900}}, "900 is .* > 0 and <= 200 px"),
        ({"sampler": {"kind": "mmps", "steps": 1}}, "number >= 2 and <= 10000"),
        ({"samples": 0}, "number >= 1 and <= 100000"),
        ({"sampels": 3}, "samples"),
        ({"noise": {"sigma": 2}}, "kind"),
        ({"prior": 7}, "kind"),
        ({"intensity": {"scale": 0}}, "number > 0"),
        ({"intensity": {"scale": 1, "backgroud": 0}}, "did you mean 'background'"),
        ({"intensity": "manual"}, r"give 'auto' or \{'scale': \.+, 'background'"),
        ({"noise": {"kind": "poisson-gaussian", "gain": -1.0}}, ">= 1e-12 and <= 1e.12 ADU/ele"),
        ({"noise": {"kind": "poisson", "offset": float("inf")}}, "number that is finite ADU"),
        ({"valid": [[1, 2], [3]]}, "rows differ in length"),
        ({"valid": np.full((9, 9), "a")}, "not an array of real numbers"),
        ({"forward": {"kind": "psf", "psf": np.ones((5, 5), complex)}}, "of real numbers"),
    ],
)
def test_bad_recipes_give_one_sentence_with_the_right_name(parts, words):
    with pytest.raises(RecipeError, match=words) as caught:
        Recipe(**parts)
    assert "\n" not in str(caught.value)
