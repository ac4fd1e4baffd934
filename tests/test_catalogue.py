"""The catalogue's pages are what the classes say, and their commands and code do what they show."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import tifffile
from fake_run import install

from napari_dps import Recipe
from napari_dps.cli import main
from napari_dps.components import registry

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "catalogue"
AGAIN = "run `python tools/catalogue.py`"


def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("catalogue", ROOT / "tools" / "catalogue.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CATALOGUE = _tool()
KINDS = [(group, kind) for group in CATALOGUE.HEADINGS for kind in registry(group)]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_pages_are_what_the_classes_say() -> None:
    made = CATALOGUE.pages()
    assert {path.name for path in PAGES.glob("*.md")} == set(made), AGAIN
    for name, text in made.items():
        assert (PAGES / name).read_text(encoding="utf-8") == text, f"{name} is old: {AGAIN}"


def test_the_samplers_page_holds_what_samplers_answer() -> None:
    text = CATALOGUE.PAGE.read_text(encoding="utf-8")
    assert CATALOGUE.samplers_page() == text, f"docs/samplers.md is old: {AGAIN}"
    begin = text.index("## Which to take")
    prose = text[begin : text.index("## What each takes")]
    for kind in registry("sampler"):
        assert f"`{kind}`" in prose, f"docs/samplers.md does not say when to take {kind}"


def test_a_refusal_is_told_on_the_page_of_its_sampler(monkeypatch) -> None:
    import _samplers_page
    import _takes

    from napari_dps import components
    from napari_dps.components import SamplerChoice
    from napari_dps.core.sampler import Sampler
    from napari_dps.errors import RecipeError

    class Picky(SamplerChoice):
        kind: Literal["picky"] = "picky"
        point_estimate: ClassVar[bool] = True
        classical: ClassVar[bool] = True

        def bind(self, grid: Any) -> Sampler:
            return PickySampler()

    class PickySampler(Sampler):
        def check(self, problem: Any) -> None:
            if not problem.operator.operator.symmetric:
                raise RecipeError("picky takes phase problems alone; choose 'mmps'")

    def with_it(group: str) -> dict[str, Any]:
        return {**registry(group), **({"picky": Picky} if group == "sampler" else {})}

    for place in (_takes, components):
        monkeypatch.setattr(place, "registry", with_it)
    said = _takes.answers("picky")
    assert [title for title, why in said.items() if why is None] == [
        *("phase retrieval", "Poisson", "Gaussian", "Poisson-Gaussian")
    ]
    lines = _samplers_page.facts("picky")
    assert lines[0] == "- Gives one image, without a prior."
    assert lines[-1].startswith("- It refuses noise alone, blur, ")
    assert lines[-1].endswith("picky takes phase problems alone; choose 'mmps'.")
    assert CATALOGUE.recipe("sampler", "picky")["forward"] == {"kind": "phase-retrieval"}


def test_every_kind_has_an_example_and_a_picture() -> None:
    from _catalogue_examples import EXAMPLES, PICTURED

    for group in PICTURED:
        assert set(EXAMPLES[group]) == set(registry(group))
    wanted = {f"{CATALOGUE.page_name(*each)}.png" for each in KINDS if each[0] in PICTURED}
    assert {path.name for path in CATALOGUE.PICTURES.glob("*.png")} == wanted
    for path in CATALOGUE.PICTURES.glob("*.png"):
        assert path.stat().st_size < 70_000, f"{path.name} is too large"


def test_every_parameter_says_what_it_means() -> None:
    for group, kind in KINDS:
        for info in CATALOGUE.describe_fields(registry(group)[kind]):
            assert info.description, f"{kind}.{info.name} has no documentation"


@pytest.mark.parametrize(("group", "kind"), KINDS)
def test_recipe_command_and_code_say_the_same(group, kind, tmp_path, monkeypatch, capfd) -> None:
    import napari_dps

    monkeypatch.chdir(tmp_path)
    fake = install(monkeypatch)
    example = CATALOGUE.example(group, kind)
    tifffile.imwrite(example.image, np.ones((32, 32), np.float32))
    text = (PAGES / f"{CATALOGUE.page_name(group, kind)}.md").read_text(encoding="utf-8")
    (shown,), (line,), (code,) = (blocks(text, name) for name in ("json", "bash", "python"))
    recipe = Recipe(**json.loads(shown))
    assert main(shlex.split(line.replace("\\\n", ""))[1:]) == 0, capfd.readouterr().err
    assert fake.made[-1].recipe == recipe

    asked: list[Any] = []

    class Saved:
        def save(self, path: str) -> None:
            asked.append(path)

    def reconstruct(image: str, **parts: Any) -> Saved:
        asked.extend((image, Recipe.parse(None, **parts)))
        return Saved()

    monkeypatch.setattr(napari_dps, "reconstruct", reconstruct, raising=False)
    exec(compile(code, f"{kind}.md", "exec"), {})
    assert asked == [example.image, recipe, "restored.ome.tif"]
