"""`napari-dps calibrate` and what `reconstruct --calibration` makes of it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import napari_dps
from napari_dps.cli import main
from napari_dps.result import Result
from napari_dps.uncertainty import calibrate as module
from napari_dps.uncertainty.calibration import Calibration

CHOICES = (
    "--forward identity --noise gaussian --noise.sigma 2 --prior gaussian --prior.std 0.4 "
    "--sampler pigdm --sampler.steps 5 --samples 4 --device cpu"
)
FIT = f"calibrate {CHOICES} --crops 19 --size 16 --photons 20 --seed 3"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On images this small threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("y.npy", 10 + 8 * np.sin(np.arange(24) / 4)[None] + rng.normal(0, 2, (24, 24)))
    return tmp_path


def test_calibrate_then_reconstruct_as_python_does(folder, capsys) -> None:
    assert main(f"{FIT} -o c.json --json".split()) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["output"] == "c.json" and answer["images"] == 19
    assert "19 crops" not in out and "crops" in err
    assert not Path("c.json.crops.jsonl").exists()
    recipe = {
        "noise": {"kind": "gaussian", "sigma": 2.0},
        "prior": {"kind": "gaussian", "std": 0.4},
        "sampler": {"kind": "pigdm", "steps": 5},
        "samples": 4,
        "seed": 3,
    }
    assert err.count("warning: 19 crops make a calibration's bound loose") == 1
    with pytest.warns(UserWarning, match="bound loose"):
        same = napari_dps.calibrate(recipe, crops=19, size=16, photons=20.0, seed=3, device="cpu")
    saved = Calibration.load("c.json")
    assert saved.lambdas == same.lambdas and saved.ranks == same.ranks
    line = f"reconstruct y.npy {CHOICES} --seed 3 -q"
    assert main(f"{line} -o o.tif --calibration c.json --report r.json".split()) == 0
    result = Result.load("o.tif")
    assert result.report["calibration"] == "calibrated on 19 images"
    assert json.loads(Path("r.json").read_text())["report"]["intervals"]["images"] == 19
    direct = napari_dps.reconstruct("y.npy", recipe, device="cpu").calibrated(saved)
    np.testing.assert_array_equal(result.interval(0.9), direct.interval(0.9))


def test_clean_images_and_a_recipe_file(folder, capsys) -> None:
    rng = np.random.default_rng(1)
    Path("clean").mkdir()
    for k in range(2):
        np.save(f"clean/{k}.npy", rng.random((24, 24)) if k else rng.random((24, 24)) > 0.5)
    napari_dps.Recipe(
        noise={"kind": "gaussian", "sigma": 2.0},
        prior="gaussian",
        sampler={"kind": "pigdm", "steps": 5},
        intensity={"scale": 20.0},
    ).save("r.json")
    line = "calibrate --recipe r.json --images clean clean/0.npy --samples 4 --crops 19 --size 16"
    assert main(f"{line} -o c.json -q --device cpu".split()) == 0
    found = Calibration.load("c.json")
    assert found.sources == {"images": 19} and found.photons == 20
    text = capsys.readouterr()
    assert "mean +- lambda s" in text.out and "--calibration c.json" in text.err


def test_a_calibration_of_another_recipe_is_refused_before_anything_is_drawn(
    folder, capsys
) -> None:
    assert main(f"{FIT} -o c.json -q".split()) == 0
    line = f"reconstruct y.npy -o o.tif -q --calibration c.json {CHOICES}"
    for old, new, words in (
        ("steps 5", "steps 6", "sampler.steps is 6"),
        ("samples 4", "samples 6", "samples is 6"),
        ("--sampler pigdm --sampler.steps 5", "--sampler wiener", "point estimate"),
    ):
        assert main(line.replace(old, new).split()) == 2
        assert words in capsys.readouterr().err
        assert not Path("o.tif").exists()
    assert main(line.split()) == 0
    assert main("reconstruct y.npy -o p.tif -q --calibration none.json".split()) == 2
    assert "'none.json' cannot be read" in capsys.readouterr().err
    assert not Path("p.tif").exists()


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    folder, capsys, monkeypatch
) -> None:
    whole = module._append

    def press(path: Path, record: dict) -> None:
        whole(path, record)
        if record["crop"] == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(module, "_append", press)
    assert main(f"{FIT} -o c.json -q".split()) == 130
    assert "goes on from the crops kept in c.json.crops.jsonl" in capsys.readouterr().err
    assert len(Path("c.json.crops.jsonl").read_text().splitlines()) == 5
    assert not Path("c.json").exists()
    monkeypatch.setattr(module, "_append", whole)
    drawn: list[int] = []
    monkeypatch.setattr(module, "score", _counted(module.score, drawn))
    assert main(f"{FIT} -o c.json -q".split()) == 0
    assert len(drawn) == 15 and Calibration.load("c.json").images == 19


def _counted(function, calls):
    def counted(*given, **named):
        calls.append(1)
        return function(*given, **named)

    return counted


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-o c.txt", "name it calibration.json"),
        ("-o r.json --recipe r.json", "overwrite an input"),
        ("-o c.json", "brightness"),
        ("-o c.json --photons 9 --sampler wiener", "point estimate"),
        ("-o c.json --photons 9 --crops 9", "19 or more"),
        ("-o c.json --photons 9 --crops -1", "19 or more"),
        ("-o c.json --photons 9 --images none.tif", "'none.tif' does not exist"),
        ("--photons 9", "needs --out"),
    ],
)
def test_mistakes(folder, capsys, line, words) -> None:
    napari_dps.Recipe(prior="gaussian").save("r.json")
    assert main(f"calibrate --prior gaussian {line}".split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err and "Traceback" not in err
    assert {p.name for p in folder.iterdir()} <= {"y.npy", "r.json"}


def test_a_shipped_calibration_is_taken_by_its_word(folder, capsys, monkeypatch) -> None:
    from napari_dps.uncertainty import shipped

    line = f"reconstruct y.npy {CHOICES} --seed 3 -q -o o.tif --calibration shipped"
    monkeypatch.setattr(shipped, "FOLDER", folder / "shipped")
    shipped.shipped_calibrations.cache_clear()
    assert main(line.split()) == 2
    assert "no calibration that comes with napari-dps" in capsys.readouterr().err
    assert not Path("o.tif").exists()
    shipped.shipped_calibrations.cache_clear()
    assert main(f"{FIT} -o shipped/c.json -q".split()) == 0
    try:
        assert main(line.split()) == 0
        assert Result.load("o.tif").report["calibration"] == "calibrated on 19 images"
    finally:
        shipped.shipped_calibrations.cache_clear()
