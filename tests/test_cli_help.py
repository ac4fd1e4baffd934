"""What the command line tells without any image: help, version, catalogue; and Ctrl-C at once."""

import json
import sys
from types import ModuleType
from typing import Any

import pytest

from napari_dps.cli import main
from napari_dps.components import GROUPS, registry


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("", []),
        ("demo", ["--out"]),
        ("list", ["--json"]),
        ("sample", ["--out -o", "--prior"]),
        ("simulate", ["--out -o", "--seed"]),
        ("evaluate", ["--json"]),
        ("calibrate", ["--images", "--photons", "--crops", "--recipe"]),
        ("train", ["--out -o", "--from", "--resume"]),
        ("doctor", ["--json"]),
    ],
)
def test_every_verb_has_help(verb, options, capsys) -> None:
    assert main([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: napari-dps" in text
    assert all(option in text for option in options)


def test_version(capsys) -> None:
    import napari_dps

    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == napari_dps.__version__


def test_list_is_the_registry(capsys) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {g: [e["kind"] for e in entries] for g, entries in found.items()} == {
        group: list(registry(group)) for group in GROUPS
    }
    blur = next(e for e in found["forward"] if e["kind"] == "gaussian-blur")
    sigma = next(p for p in blur["parameters"] if p["name"] == "sigma")
    assert sigma["type"] == "float" and sigma["unit"] == "px" and sigma["minimum"] is not None
    assert main(["list", "noise"]) == 0
    assert "poisson-gaussian" in capsys.readouterr().out


def test_ctrl_c_while_python_is_still_loading(capsys, monkeypatch) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "napari_dps.cli._app", Interrupted("napari_dps.cli._app"))
    assert main(["doctor"]) == 130
    assert "nothing was written" in capsys.readouterr().err
