"""The README's commands and code run as written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the images that the README stands on: round cells, blurred and noisy."""
    here = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    truth = np.ones((32, 32))
    for y, x in rng.uniform(6, 26, (5, 2)):
        truth += 60 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 18)
    tifffile.imwrite(here / "truth.tif", truth.astype(np.float32))
    tifffile.imwrite(here / "cells.tif", rng.poisson(truth).astype(np.uint16))
    return here


def test_code_and_commands_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from napari_dps.cli import main

    monkeypatch.chdir(folder)
    code = blocks("python")
    commands = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    assert code, "the README has lost its code"
    assert commands, "the README has lost its commands"
    space: dict[str, object] = {}
    for block in code:
        exec(compile(block, "README.md", "exec"), space)
    for line in commands:
        words = shlex.split(line)
        assert words[0] == "napari-dps"
        try:
            status = main(words[1:])
        except SystemExit as stop:
            status = stop.code
        assert not status, f"{line}\n{capfd.readouterr().err}"
    assert (folder / "restored.tif").exists()


def test_recipe_is_valid() -> None:
    from napari_dps import Recipe

    (text,) = blocks("json")
    recipe = Recipe(**json.loads(text))
    assert recipe.sampler.kind == "dps"
    assert text.strip() in (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("sh")), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_results_of_benchmarks_are_json_and_all_that_pages_name_are_there() -> None:
    results = ROOT / "benchmarks" / "results"
    for path in sorted(results.glob("*.json")):
        assert json.loads(path.read_text(encoding="utf-8")), path.name
    pages = [README, *(p.read_text(encoding="utf-8") for p in (ROOT / "docs").glob("*.md"))]
    named = {name for page in pages for name in re.findall(r"results/([\w-]+\.json)", page)}
    assert len(named) > 10
    assert not {name for name in named if not (results / name).exists()}
