"""Point estimates end to end: one image, no error bars, and every face says so."""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import tifffile

import napari_dps
from napari_dps import reconstruct, simulate
from napari_dps.cli import main
from napari_dps.components import ForwardModel
from napari_dps.errors import InputError, RecipeError
from napari_dps.evaluate import psnr
from napari_dps.image import Image
from napari_dps.plugin.messages import Finished, Request, Stop, answer
from napari_dps.plugin.words import result_text
from napari_dps.progress import Progress
from napari_dps.result import Result
from napari_dps.run import Run

KINDS = ["wiener", "richardson-lucy", "admm-tv"]
QUICK: dict[str, dict[str, Any]] = {
    "wiener": {"kind": "wiener"},
    "richardson-lucy": {"kind": "richardson-lucy", "iterations": 12},
    "admm-tv": {"kind": "admm-tv", "iterations": 40},
}
BLUR: dict[str, Any] = {
    "forward": {"kind": "gaussian-blur", "sigma": 1.5, "background": 2.0},
    "noise": "poisson",
}


def scene(n: int = 32, bright: float = 1.0) -> np.ndarray:
    y, x = np.mgrid[:n, :n]
    spot = 200 * np.exp(-((y - 0.4 * n) ** 2 + (x - 0.55 * n) ** 2) / (0.02 * n * n))
    box = 120 * ((abs(y - 0.75 * n) < 0.12 * n) & (abs(x - 0.3 * n) < 0.15 * n))
    return np.asarray(bright * (10 + spot + box))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_better_than_the_measurement_and_says_what_it_is(kind):
    truth = scene()
    y = simulate(truth, BLUR, 0)
    result = reconstruct(y, BLUR, sampler=kind, samples=20)
    # Measured: 0.46, 1.1 and 2.9 dB.
    gain = {"wiener": 0.3, "richardson-lucy": 0.9, "admm-tv": 2.5}[kind]
    assert psnr(result.mean, truth) > psnr(y - 2.0, truth) + gain
    assert result.point_estimate and len(result) == 1 and result.recipe.samples == 1
    assert 0.8 < result.report["misfit"] < 1.05
    # Only Richardson-Lucy is bound to the total; the others weigh bright pixels less.
    flux = result.report["flux"]
    loss = 0.005 if kind == "richardson-lucy" else 0.04
    assert flux["expected"] == pytest.approx(flux["measured"], rel=loss)
    assert result.report["scale"] is None and result.report["network_calls"]["forward"] == 0
    (found,) = result.report["details"]
    assert found["frame"] == 0
    wanted = {
        "wiener": {"balance", "chosen_by"},
        "richardson-lucy": {"iterations", "stopped_by", "clipped"},
        "admm-tv": {"iterations", "stopped_by", "weight", "lambda", "chosen_by"},
    }
    assert wanted[kind] <= set(found)
    for ask in (lambda: result.std, lambda: result.quantile(0.5), lambda: result.interval(0.5)):
        with pytest.raises(InputError, match="point estimate"):
            ask()


@pytest.mark.parametrize("noise", ["gaussian", "poisson-gaussian"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_noise(kind, noise):
    given = {
        "gaussian": {"kind": "gaussian", "sigma": 5.0},
        "poisson-gaussian": {"kind": "poisson-gaussian", "gain": 2.0, "offset": 100.0,
                             "read_noise": 4.0},
    }[noise]  # fmt: skip
    recipe = {"forward": {"kind": "gaussian-blur", "sigma": 1.5}, "noise": given}
    truth = scene() if noise == "gaussian" else 2 * scene() + 100
    y = simulate(truth, recipe, 0)
    result = reconstruct(y, recipe, sampler=kind)
    assert psnr(result.mean, truth) > psnr(y, truth) + 1
    assert result.report["misfit"] < 1.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_of_two_frames_equals_each_alone(kind):
    """Dim and bright: their ends, strengths and weights differ."""
    y = np.stack([simulate(scene(16, f), BLUR, 0) for f in (0.2, 2.0)])
    # Conjugate gradients amplify rounding, so that frames agree as well as a solve is good.
    sampler = {"kind": kind, **({"tolerance": 1e-8} if kind == "wiener" else {})}

    def run(image, axes):
        found = Run(image, {**BLUR, "sampler": sampler}, axes=axes, dtype="float64")
        assert sum(p.stage == "sample" for p in found) > 1
        return found.result()

    both = run(y, "TYX")
    assert [d["frame"] for d in both.report["details"]] == [0, 1]
    for k in range(2):
        alone = run(y[k], "YX")
        np.testing.assert_allclose(both.mean[k], alone.mean, rtol=1e-4, atol=1e-3)
        kept = {k: v for k, v in both.report["details"][k].items() if k != "frame"}
        for key, value in kept.items():
            expected = alone.report["details"][0][key]
            same = expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-4)
            assert value == same
    assert both.report["details"][0] != {**both.report["details"][1], "frame": 0}


class DeepBlur(ForwardModel):
    """Blur of a volume."""

    kind: Literal["test-deep"] = "test-deep"
    title: ClassVar[str] = "Test"

    def dimensions(self, axes, shape):
        return 3 if "Z" in axes else 2

    def bind(self, grid):
        from napari_dps.forward._convolution import Convolution

        line = np.array([0.1, 0.25, 0.3, 0.25, 0.1])
        return Convolution(np.multiply.outer(line, np.outer(line, line)), grid)


@pytest.mark.parametrize("kind", KINDS)
def test_volumes(kind):
    truth = np.stack([scene(16, f) for f in (0.5, 1.5, 5.0, 5.0, 1.5, 0.5)])
    recipe = {"forward": DeepBlur(), "noise": "poisson"}
    y = simulate(Image(truth.astype(np.float32), "ZYX"), recipe, 0)
    result = reconstruct(y, recipe, sampler=QUICK[kind], axes="ZYX")
    assert result.mean.shape == truth.shape
    assert psnr(result.mean, truth) > psnr(np.asarray(y, float), truth) + 1


@pytest.mark.parametrize("kind", KINDS)
def test_masked_pixels_say_nothing(kind, rng):
    y = np.asarray(simulate(scene(24), BLUR, 0), dtype=np.float32)
    valid = rng.random(y.shape) > 0.2
    spoilt = np.where(valid, y, 60_000).astype(np.float32)

    def run(image):
        return reconstruct(image, {**BLUR, "valid": valid}, sampler=QUICK[kind]).mean

    np.testing.assert_array_equal(run(y), run(spoilt))


@pytest.mark.parametrize("kind", KINDS)
def test_models_that_are_not_affine_are_refused(kind):
    with pytest.raises(RecipeError, match=r"affine.*choose the sampler 'auto'"):
        reconstruct(scene(16), forward="phase-retrieval", noise="poisson", sampler=kind)


def test_richardson_lucy_refuses_light_that_is_subtracted():
    recipe = {"forward": "fourier-mask", "noise": {"kind": "gaussian", "sigma": 0.1}}
    truth = np.stack([scene(16), scene(16)[::-1]]) / 100
    y = simulate(Image(truth.astype(np.float32), "CYX"), recipe, 0)
    with pytest.raises(RecipeError, match=r"negative entries.*'admm-tv', 'wiener' or 'auto'"):
        reconstruct(y, recipe, sampler="richardson-lucy")
    for kind in ("wiener", "admm-tv"):
        result = reconstruct(y, recipe, sampler=QUICK[kind])
        assert result.report["misfit"] < 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_planned_watched_and_cancelled(kind):
    run = Run(simulate(scene(), BLUR, 0), {**BLUR, "sampler": kind})
    plan = run.plan()
    assert plan.network_calls == 0 and plan.seconds > 0
    seen: list[Progress] = []
    for progress in run:
        seen.append(progress)
        if progress.stage == "sample" and progress.done == 2:
            run.cancel()
    assert seen[-1].done <= 3 and seen[-1].preview().shape == (32, 32)
    with pytest.raises(InputError, match="before a single sample"):
        run.result()


@pytest.mark.parametrize("kind", KINDS)
def test_three_faces_give_the_same_bits(kind, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("y.tif", simulate(scene(24), BLUR, 0).astype(np.uint16))
    recipe = napari_dps.Recipe(**BLUR, sampler=QUICK[kind])
    recipe.save("r.json")
    python = reconstruct("y.tif", "r.json", device="cpu")
    assert main("reconstruct y.tif -o o.tif --recipe r.json --device cpu --json".split()) == 0
    told = json.loads(capsys.readouterr().out)["report"]
    shell = Result.load("o.tif")
    request = Request(1, napari_dps.io.read_image("y.tif"), recipe, "cpu")
    end = list(answer(request, Stop()))[-1]
    assert isinstance(end, Finished) and end.result is not None
    np.testing.assert_array_equal(shell.mean, python.mean)
    np.testing.assert_array_equal(end.result.mean, python.mean)
    assert told["point_estimate"] and told["samples"] == 1
    assert "point estimate, without error bars or samples" in result_text(end.result)


LINE = "reconstruct y.tif -o o.tif --forward gaussian-blur --noise poisson --sampler wiener"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("y.tif", simulate(scene(24), BLUR, 0).astype(np.uint16))
    tifffile.imwrite("truth.tif", scene(24).astype(np.float32))
    return tmp_path


def test_the_shell_writes_the_mean_and_says_so(folder, capsys):
    assert main(LINE.split()) == 0
    assert "a point estimate without error bars in" in capsys.readouterr().err
    with tifffile.TiffFile("o.tif") as file:
        assert [series.name for series in file.series] == ["mean"]
    saved = Result.load("o.tif")
    np.testing.assert_array_equal(saved.samples, saved.mean[None])


@pytest.mark.parametrize("write", ["std", "mean,std", "mean --write std --write samples"])
def test_error_bars_that_are_asked_for_are_refused_at_once(folder, capsys, write):
    assert main([*LINE.split(), "--write", *write.split()]) == 2
    complaint = capsys.readouterr().err.strip()
    assert "\n" not in complaint and "'wiener' gives a point estimate" in complaint
    assert not Path("o.tif").exists()
    result = reconstruct("y.tif", BLUR, sampler="wiener")
    with pytest.raises(InputError, match="point estimate"):
        result.save("o.tif", write=["std"])
    result.save("o.tif", write=["mean", "samples"])
    np.testing.assert_array_equal(Result.load("o.tif").samples, result.samples)


def test_evaluate_leaves_error_bars_out(folder, capsys):
    assert main([*LINE.split(), "-q"]) == 0
    capsys.readouterr()
    assert main("evaluate o.tif truth.tif --json".split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["point_estimate"] and found["psnr"] > 15 and found["residual"] is not None
    assert found["crps"] is None and set(found["coverage"].values()) == {None}
    assert main("evaluate o.tif truth.tif".split()) == 0
    table = capsys.readouterr().out
    assert "none: a point estimate" in table
    assert "coverage" not in table and "CRPS" not in table
