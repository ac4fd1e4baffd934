"""The examples take what their first lines say, and call the library as it is."""

from __future__ import annotations

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


def test_camera_calibration_measures_and_draws(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, "camera_calibration.py")
    assert "gain 2.0" in capsys.readouterr().out.replace("gain 1.99", "gain 2.0")
    assert napari_dps.Recipe.load("camera.json").noise.gain is not None
    assert Path("photon-transfer.png").stat().st_size > 5000
    with pytest.raises(SystemExit, match=r"DARK\.tif"):
        run(monkeypatch, "camera_calibration.py", "dark.tif")
