"""The command line with the real run: the same bits as from Python; Ctrl-C in a real process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

import napari_dps
from napari_dps.cli import main
from napari_dps.io import read_image
from napari_dps.result import Result

CHOICES = (
    "--forward gaussian-blur --forward.sigma 1.5 --noise poisson --prior gaussian "
    "--sampler mmps --samples 2 --seed 3 --device cpu"
)
RECIPE = {
    "forward": {"kind": "gaussian-blur", "sigma": 1.5},
    "noise": "poisson",
    "prior": "gaussian",
    "sampler": {"kind": "mmps", "steps": 5},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:32, :32]
    clean = 5 + 60 * np.exp(-((y - 15) ** 2 + (x - 17) ** 2) / 50)
    np.save("clean.npy", clean)
    tifffile.imwrite("a.tif", rng.poisson(clean).astype(np.uint16))
    return tmp_path


def test_the_shell_gives_the_same_bits_as_python(folder, capsys) -> None:
    line = f"reconstruct a.tif -o o.tif {CHOICES} --sampler.steps 5 --pixel-size 0.1 --json"
    assert main(line.split()) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["report"]["complete"] and "network calls" in err
    saved = Result.load("o.tif")
    assert saved.units == ("micrometer", "micrometer")
    result = napari_dps.reconstruct("a.tif", RECIPE, samples=2, seed=3, device="cpu")
    np.testing.assert_array_equal(saved.samples, result.samples)


def test_a_saved_recipe_gives_the_same_result(folder) -> None:
    assert main(f"reconstruct a.tif -o o.tif {CHOICES} --sampler.steps 5 -q".split()) == 0
    first = Result.load("o.tif")
    first.recipe.save("r.json")
    assert main("reconstruct a.tif -o again.tif --recipe r.json --device cpu -q".split()) == 0
    np.testing.assert_array_equal(Result.load("again.tif").samples, first.samples)


def test_simulate(folder, capsys) -> None:
    line = "simulate clean.npy -o y.tif --forward gaussian-blur --noise poisson --seed 4 --json"
    assert main(line.split()) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [32, 32]
    counts = tifffile.imread("y.tif")
    expected = napari_dps.simulate(
        np.load("clean.npy"), {"forward": "gaussian-blur", "noise": "poisson"}, 4
    )
    np.testing.assert_array_equal(counts, expected)
    assert counts.mean() == pytest.approx(np.load("clean.npy").mean(), rel=0.1)


def test_a_simulated_stack_keeps_its_coordinates(folder) -> None:
    counts = np.random.default_rng(1).poisson(9.0, (3, 16, 16)).astype(np.uint16)
    calibration = {"axes": "ZYX", "spacing": 0.5, "unit": "um"}
    tifffile.imwrite("z.tif", counts, imagej=True, resolution=(5, 5), metadata=calibration)
    assert main("simulate z.tif -o y.tif".split()) == 0
    before, after = read_image("z.tif"), read_image("y.tif")
    assert (after.axes, after.units) == ("ZYX", before.units)
    assert after.scale == pytest.approx((0.5, 0.2, 0.2))


@pytest.mark.parametrize(
    ("options", "axes", "scale", "translate"),
    [
        ("downsample --forward.factor 2", "YX", (0.4, 0.4), (0.1, 0.1)),
        ("radon", "YX", (0.2, 0.2), (0.0, 0.0)),
        ("phase-retrieval", "YX", (1.0, 1.0), (0.0, 0.0)),
    ],
)
def test_a_measurement_on_another_grid_has_its_own_coordinates(
    folder, options, axes, scale, translate
) -> None:
    object_ = np.load("clean.npy").astype(np.float32)
    metadata = {"axes": "YX"} | {f"PhysicalSize{a}": 0.2 for a in "YX"}
    tifffile.imwrite("x.ome.tif", object_, ome=True, metadata=metadata)
    assert main(f"simulate x.ome.tif -o y.ome.tif --forward {options}".split()) == 0
    measured = read_image("y.ome.tif")
    assert measured.axes == axes
    assert measured.scale == pytest.approx(scale) and measured.translate == translate
    line = f"reconstruct y.ome.tif -o o.ome.tif --forward {options} --prior gaussian --samples 1 -q"
    if not options.startswith("downsample"):
        return
    assert main(line.split()) == 0
    found = Result.load("o.ome.tif")
    assert found.scale == pytest.approx((0.2, 0.2)) and found.shape == object_.shape
    assert found.translate == pytest.approx((0.0, 0.0), abs=1e-12)


def test_a_measurement_of_a_complex_object_has_axes_of_its_own(folder) -> None:
    wave = np.stack([np.load("clean.npy"), np.ones((32, 32))]).astype(np.float32)
    tifffile.imwrite("x.ome.tif", wave, ome=True, metadata={"axes": "CYX"})
    noise = "--noise gaussian --noise.sigma 0.5"
    line = f"simulate x.ome.tif -o y.ome.tif --forward fourier-mask {noise}"
    assert main(line.split()) == 0
    assert read_image("y.ome.tif").axes == "CYX"
    pattern = "--forward phase-retrieval --forward.object complex --forward.oversampling 3"
    assert main(f"simulate x.ome.tif -o y.ome.tif {pattern}".split()) == 0
    assert (read_image("y.ome.tif").axes, read_image("y.ome.tif").shape) == ("YX", (96, 96))


def test_sample(folder) -> None:
    line = "sample --prior gaussian --prior.std 0.3 -n 3 --shape 16 24 --steps 10 --seed 1 -o s."
    assert main(f"{line}npy".split()) == 0 and main(f"{line}tif".split()) == 0
    draws = np.load("s.npy")
    assert draws.shape == (3, 16, 24)
    assert draws.std() == pytest.approx(0.3, rel=0.3)
    np.testing.assert_array_equal(tifffile.imread("s.tif"), draws)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--forward psf", "no PSF was given"),
        ("--forward inpaint --forward.mask no.tif", "'no.tif'"),
        ("--device tpu", "'tpu' is not available"),
        ("--prior checkpoint --prior.path nowhere", "there is no prior 'nowhere'"),
        ("--valid clean.npy --axes TYX", "axes"),
    ],
)
def test_mistakes_that_only_the_run_sees(folder, capsys, line, words) -> None:
    prior = "" if "--prior" in line else "--prior gaussian "
    assert main(f"reconstruct a.tif -o o.tif -q {prior}{line}".split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err and "Traceback" not in err
    assert not Path("o.tif").exists()


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((16, 16), np.nan), "NaN"),
        (np.full((16, 16), 7.0), "constant"),
        (-np.arange(256.0).reshape(16, 16), "negative"),
    ],
)
def test_pixels_that_cannot_be(folder, capsys, pixels, words) -> None:
    np.save("x.npy", pixels)
    assert main("reconstruct x.npy -o o.tif -q --prior gaussian".split()) == 2
    assert words in capsys.readouterr().err
    assert not Path("o.tif").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a process are POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_a_real_process(folder, number) -> None:
    """A long run, stopped as soon as it says that it works: 130, and no half-written file."""
    line = "reconstruct a.tif -o o.tif --prior gaussian --sampler dps --samples 400"
    command = [sys.executable, "-m", "napari_dps", *line.split()]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for text in process.stderr:
        if " %" in text:
            break
    time.sleep(0.2)
    process.send_signal(number)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    if Path("o.tif").exists():
        assert Result.load("o.tif").report["complete"] is False
    else:
        assert "nothing was written" in rest
    assert {p.name for p in folder.iterdir()} <= {"a.tif", "clean.npy", "o.tif"}
