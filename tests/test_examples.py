"""The examples take what their first lines say, and call the library as it is."""

from __future__ import annotations

import functools
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_dps
from napari_dps import Result
from napari_dps.image import Image

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Stand in for the reconstruction; return the list of the images and recipes it was given."""
    calls: list[Any] = []

    def reconstruct(image: Any, recipe: Any = None, /, **parts: Any) -> Result:
        calls.append((image, recipe))
        like = Image.from_array(np.zeros((8, 9)))
        return Result.from_image(np.ones((20, 8, 9)), like, report={"misfit": 1.0})

    monkeypatch.setattr(napari_dps, "reconstruct", reconstruct)
    monkeypatch.chdir(tmp_path)
    return calls


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", list(words))
    runpy.run_path(str(EXAMPLES / words[0]), run_name="__main__")


def test_restore_image_takes_both_files_or_none(asked, monkeypatch, capsys) -> None:
    run(monkeypatch, "restore_image.py")
    run(monkeypatch, "restore_image.py", "a.tif", "r.json")
    assert [path.name for path in asked[0]] == ["nuclei_blur.tif", "nuclei_blur.json"]
    assert asked[1] == ("a.tif", "r.json")
    assert Path("restored.ome.tif").exists()
    assert "90 % between 1.0 and 1.0" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"\[IMAGE.tif RECIPE.json\]"):
        run(monkeypatch, "restore_image.py", "a.tif")
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    [
        ("tomography.py", "radon", (24, 64)),
        ("kspace.py", "fourier-mask", (64, 64)),
        ("ptychography.py", "ptychography", (25, 32, 32)),
    ],
)
def test_simulated_experiments_are_given_as_measured(asked, monkeypatch, name, kind, shape) -> None:
    given: list[Any] = []
    fake = napari_dps.reconstruct

    def watch(image: Any, /, **parts: Any) -> Result:
        given.append((np.shape(image), parts["forward"]["kind"]))
        return fake(image, **parts)

    monkeypatch.setattr(napari_dps, "reconstruct", watch)
    run(monkeypatch, name)
    assert given == [(shape, kind)]
    assert asked


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("motion_blur", (128, 128)),
        ("super_resolution", (64, 64)),
        ("nonlinear_blur", (128, 128)),
        ("compose", (64, 64)),
        ("own_model", (128, 128)),
    ],
)
def test_examples_of_forward_models_simulate_and_restore(asked, monkeypatch, name, shape) -> None:
    given: list[dict[str, Any]] = []
    stand_in = napari_dps.reconstruct

    def reconstruct(image: Any, **parts: Any) -> Result:
        given.append(parts)
        return stand_in(image)

    monkeypatch.setattr(napari_dps, "reconstruct", reconstruct)
    run(monkeypatch, f"{name}.py")
    assert asked[0][0].shape == shape
    napari_dps.Recipe(**given[0])  # what it says can be said


def test_camera_calibration_measures_and_draws(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, "camera_calibration.py")
    assert "gain 2.0" in capsys.readouterr().out.replace("gain 1.99", "gain 2.0")
    assert napari_dps.Recipe.load("camera.json").noise.gain is not None
    assert Path("photon-transfer.png").stat().st_size > 5000
    with pytest.raises(SystemExit, match=r"DARK\.tif"):
        run(monkeypatch, "camera_calibration.py", "dark.tif")


def test_measure_psf_measures_draws_and_restores(asked, monkeypatch, capsys) -> None:
    run(monkeypatch, "measure_psf.py")
    told = capsys.readouterr().out
    assert "too bright (aggregate)" in told or "odd shape" in told
    assert Path("psf.png").stat().st_size > 5000
    assert napari_dps.Recipe(forward={"kind": "psf", "psf": "psf.tif"})
    assert asked[0][0].shape == (128, 128)
    assert Path("restored.ome.tif").exists()
    with pytest.raises(SystemExit, match="PIXEL_SIZE"):
        run(monkeypatch, "measure_psf.py", "beads.tif")


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (("compare_samplers.py",), ["mmps", "daps", "pigdm"]),
        (("compare_samplers.py", "dps"), ["dps"]),
        (("phase_baselines.py",), ["er", "hio", "oss", "raar", "auto"]),
        (("phase_baselines.py", "daps"), ["daps"]),
    ],
)
def test_samplers_are_compared_on_one_measurement(monkeypatch, capsys, words, kinds) -> None:
    given: list[tuple[Any, napari_dps.Recipe]] = []

    def reconstruct(image: Any, **parts: Any) -> Result:
        recipe = napari_dps.Recipe(**parts)  # what it says can be said
        given.append((image, recipe))
        point = len(given) == 1
        data = np.random.default_rng(0).uniform(0, 9, (1 if point else 4, 64, 64))
        report = {"misfit": 1.0, "seconds": 2.0, "network_calls": {"forward": 5, "vjp": 7}}
        report |= {"point_estimate": point}
        return Result.from_image(data, Image.from_array(data[0]), recipe, report)

    monkeypatch.setattr(napari_dps, "reconstruct", reconstruct)
    run(monkeypatch, *words)
    known = [kind for kind in kinds if kind in napari_dps.components.registry("sampler")]
    assert [recipe.sampler.kind for _, recipe in given] == known
    assert all(image is given[0][0] or image == given[0][0] for image, _ in given)
    lines = capsys.readouterr().out.splitlines()[-len(known) :]
    assert [line.split()[0] for line in lines] == known
    if words[0] == "compare_samplers.py":
        assert lines[0].split()[2:5] == ["-", "-", "12"]
    else:
        assert lines[0].endswith("(one image)")


@pytest.mark.filterwarnings("ignore:.*bound loose")  # few crops are quick
def test_calibrated_intervals_fits_once_and_restores(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("y.npy", rng.poisson(10 + 8 * np.sin(np.arange(24) / 4)[None], (24, 24)))
    sampler = {"kind": "pigdm", "steps": 5}
    napari_dps.Recipe(prior="gaussian", sampler=sampler, samples=4).save("r.json")
    small = functools.partial(napari_dps.calibrate, crops=19, size=16, device="cpu")
    monkeypatch.setattr(napari_dps, "calibrate", small)
    run(monkeypatch, "calibrated_intervals.py", "y.npy", "r.json", "20")
    kept = Path("calibration.json").read_bytes()
    assert "calibrated on 19 images: 90 % within" in capsys.readouterr().out
    monkeypatch.delattr(napari_dps, "calibrate")  # the second time it is at hand
    run(monkeypatch, "calibrated_intervals.py", "y.npy", "r.json", "20")
    assert Path("calibration.json").read_bytes() == kept
    assert "intervals" in Result.load("restored.ome.tif").report
    with pytest.raises(SystemExit, match="PHOTONS"):
        run(monkeypatch, "calibrated_intervals.py", "y.npy")


def test_measure_result_measures_a_saved_result(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:40, :48].astype(float)
    spots = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 18) for a, b in ((12, 12), (28, 32)))
    draws = 2 + 30 * spots + 0.1 * np.random.default_rng(0).normal(size=(20, 40, 48))
    scale = {"scale": (0.1, 0.1), "units": ("micrometer", "micrometer")}
    Result(draws, **scale).save("r.ome.tif")
    run(monkeypatch, "measure_result.py", "r.ome.tif")
    told = capsys.readouterr().out
    assert "light of 2 regions" in told and "objects: 90 % within 2 to 2 (nominal)" in told
    width = float(told.split("brightest pixel: ")[1].split(" um")[0])
    assert 0.66 < width < 0.76  # 3 pixels times 2.355, a pixel is 0.1 um
    assert "width of the 90 % interval (nominal)" in told
    assert Path("profile.png").stat().st_size > 5000 and Path("legend.png").stat().st_size > 5000
    with pytest.raises(SystemExit, match=r"RESULT\.ome\.tif"):
        run(monkeypatch, "measure_result.py", "a", "b")
