"""What the doctor finds, and the device that would be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_dps import device, doctor
from napari_dps.cli import main
from napari_dps.errors import InputError


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(device, "nvidia_signs", lambda: [])


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_the_cpu_where_there_is_nothing_else(no_gpu) -> None:
    name, why = device.choose_device("auto")
    assert name == "cpu" and "no GPU" in why
    assert device.choose_device("CPU")[0] == "cpu"


def test_the_gpu_where_there_is_one(two_gpus) -> None:
    assert device.choose_device("auto") == (
        "cuda",
        "GPU 0 is the fastest device that torch finds here",
    )
    assert device.choose_device("cuda:1")[0] == "cuda:1"
    assert device.choose_device("cpu")[0] == "cpu"
    with pytest.raises(InputError, match=r"'cuda:2' is not available.*cuda:1"):
        device.choose_device("cuda:2")


def test_apple(no_gpu, monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.choose_device("auto")[0] == "mps"


@pytest.mark.parametrize("name", ["cuda", "gpu", "mps", "cpu0"])
def test_a_device_that_is_not_there(no_gpu, name) -> None:
    with pytest.raises(InputError, match=rf"'{name}' is not available here.*auto, cpu$"):
        device.choose_device(name)


def test_a_cpu_build_beside_an_nvidia_gpu(no_gpu, monkeypatch) -> None:
    monkeypatch.setattr(device, "nvidia_signs", lambda: ["nvidia-smi"])
    monkeypatch.setattr(device, "is_cpu_build", lambda: True)
    monkeypatch.setattr(doctor, "nvidia_signs", lambda: ["nvidia-smi"])
    monkeypatch.setattr(doctor, "is_cpu_build", lambda: True)
    found = doctor.examine()
    assert found["device"]["name"] == "cpu" and found["device"]["cpu_build"]
    assert any("CUDA build from pytorch.org" in problem for problem in found["problems"])
    with pytest.raises(InputError, match="CPU build although nvidia-smi"):
        device.choose_device("cuda")


def test_signs_of_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(device.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "nvidia-smi" in device.nvidia_signs()


def test_qt_binding(monkeypatch) -> None:
    def version(name: str) -> str:
        if name in present:
            return "1.0"
        raise doctor.PackageNotFoundError(name)

    present: set[str] = set()
    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.delenv("QT_API", raising=False)
    assert doctor.qt_binding() == "none"
    present |= {"PyQt6", "PySide6"}
    assert doctor.qt_binding() == "PyQt6 1.0"
    monkeypatch.setenv("QT_API", "pyside6")
    assert doctor.qt_binding() == "PySide6 1.0 (QT_API)"


def test_priors_found(tmp_path: Path) -> None:
    (tmp_path / "fluorescence").mkdir()
    found = {entry["kind"]: entry for entry in doctor.find_priors(tmp_path)}
    assert found["gaussian"]["present"]
    assert not found["fluorescence"]["present"]
    assert "model.safetensors" in found["fluorescence"]["about"]
    missing = {entry["kind"]: entry for entry in doctor.find_priors(tmp_path / "nowhere")}
    assert not missing["fluorescence"]["present"]


def test_problems_say_what_to_do() -> None:
    found: dict[str, Any] = {
        "device": {"name": "cpu", "nvidia_signs": [], "why": ""},
        "qt": "none",
        "priors": [{"kind": "fluorescence", "present": False, "about": "not installed"}],
        "memory": {"free": 2**20},
    }
    problems = doctor.find_problems(found)
    assert len(problems) == 3
    assert "napari-dps[qt]" in problems[0] and "another prior" in problems[1]


def test_the_verb(capsys) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["torch"] and found["versions"]["python"]
    assert found["device"]["name"] in found["device"]["available"]
    assert found["memory"]["free"] > 0 and found["threads"]["torch"] >= 1
    assert {"gaussian", "fluorescence"} <= {entry["kind"] for entry in found["priors"]}
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert found["versions"]["torch"] in text and "device" in text
