"""Write the catalogue, a page for every kind of component, from the classes.

    python tools/catalogue.py

Writes docs/catalogue/*.md, and the tables of docs/samplers.md that samplers answer themselves;
tests/test_catalogue.py fails where these are not what the classes say. The pictures are made by
tools/catalogue_pictures.py.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _catalogue_examples import Example, example, recipe
from _samplers_page import OVERVIEW, PAGE, between, facts, overview, plain, takes

from napari_dps.components import Component, registry
from napari_dps.fields import FieldInfo, describe_fields
from napari_dps.kinds import ForwardModel

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "catalogue"
PICTURES = ROOT / "docs" / "images" / "catalogue"
WIDTH = 100
HEADINGS = {
    "forward": "Forward models",
    "noise": "Noise",
    "sampler": "Samplers",
    "prior": "Priors",
}
NOTES = {
    "sampler": "Which to take, what each takes, and figures: [samplers](../samplers.md).",
    "prior": "More on priors, their files and their safety: [priors](../priors.md).",
}


def page_name(group: str, kind: str) -> str:
    """Return a page's name without its ending, its picture's too."""
    return kind if group == "forward" else f"{group}-{kind}"


def description(cls: type[Component]) -> str:
    """Return the class's documentation as Markdown."""
    return inspect.cleandoc(cls.__doc__ or "").replace("``", "`")


def default_text(info: FieldInfo) -> str:
    """Return a parameter's default as recipes write it."""
    value = info.as_dict()["default"]
    if info.required:
        return "required"
    if value is None or value == "":
        return "none"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def row(cells: list[str]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def table(infos: list[FieldInfo]) -> list[str]:
    """Return the table of parameters."""
    lines = [
        "| parameter | type | default | unit | range | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for info in infos:
        cells = [
            f"`{info.name}`", info.type_name, default_text(info), info.unit, info.range_text,
            info.description,
        ]  # fmt: skip
        lines.append(row(cells))
    return lines


def shell_word(value: Any) -> str:
    """Return a value as one word of the command line."""
    if isinstance(value, str):
        return value
    text = json.dumps(value)
    return f"'{text}'" if isinstance(value, (list, dict)) else text


def command_line(parts: dict[str, Any], image: str) -> str:
    """Return the command that restores an image with a recipe's parts."""
    words = [f"napari-dps reconstruct {image} -o restored.ome.tif"]
    for group, fields in parts.items():
        words.append(f"--{group} {fields['kind']}")
        words += [
            f"--{group}.{name.replace('_', '-')} {shell_word(value)}"
            for name, value in fields.items()
            if name != "kind"
        ]
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 3 > WIDTH:
            lines[-1] += " \\"
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines)


def literal(value: Any, indent: int) -> str:
    """Return a value as Python, over several lines where it is long."""
    text = repr(value)
    if len(text) + indent < WIDTH - 12 or not isinstance(value, (dict, list)):
        return text.replace("'", '"')
    pad = " " * (indent + 4)
    inner = (
        [f'"{key}": {literal(item, indent + 4)}' for key, item in value.items()]
        if isinstance(value, dict)
        else [literal(item, indent + 4) for item in value]
    )
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{opening}\n" + "".join(f"{pad}{x},\n" for x in inner) + " " * indent + closing


def python_code(parts: dict[str, Any], image: str) -> str:
    """Return the Python that restores an image with a recipe's parts."""
    lines = ["import napari_dps", "", "result = napari_dps.reconstruct(", f'    "{image}",']
    lines += [f"    {group}={literal(fields, 4)}," for group, fields in parts.items()]
    return "\n".join([*lines, ")", 'result.save("restored.ome.tif")'])


def json_text(parts: dict[str, Any]) -> str:
    """Return a recipe as JSON, a line for each part."""
    rows = [f'"{group}": {json.dumps(fields)}' for group, fields in parts.items()]
    return "{" + ",\n ".join(rows) + "}"


def use(group: str, kind: str, shown: Example) -> list[str]:
    """Return recipe, command and code."""
    parts = recipe(group, kind)
    lines = ["## Use", ""]
    if shown.files:
        lines += [*(f"- `{name}`: {what}" for name, what in shown.files.items()), ""]
    return [
        *lines,
        *("Recipe:", "", "```json", json_text(parts), "```", ""),
        *("Command line:", "", "```bash", command_line(parts, shown.image), "```", ""),
        *("Python:", "", "```python", python_code(parts, shown.image), "```", ""),
    ]


def picture(name: str, title: str, shown: Example) -> list[str]:
    """Return the picture and what it shows, where there is one."""
    if not (PICTURES / f"{name}.png").is_file():
        return []
    alt = f"{title}: truth, measurement and reconstruction"
    return [f"![{alt}](../images/catalogue/{name}.png)", "", shown.picture, ""]


def page(group: str, kind: str) -> str:
    """Return the page of one kind."""
    cls, shown = registry(group)[kind], example(group, kind)
    infos = describe_fields(cls)
    common = set(ForwardModel.model_fields) if group == "forward" else set()
    own = [info for info in infos if info.name not in common]
    lines = [f"# {cls.title}", "", f"{HEADINGS[group]}: `{kind}`", "", description(cls), ""]
    lines += picture(page_name(group, kind), cls.title, shown)
    if group == "sampler":
        lines += [*facts(kind), "", "## Method", "", plain(inspect.getmodule(cls)), ""]
    lines += ["## Parameters", ""]
    lines += [*table(own), ""] if own else ["None of its own.", ""]
    if common:
        lines += ["Of every forward model:", ""]
        lines += [*table([info for info in infos if info.name in common]), ""]
    lines += use(group, kind, shown)
    lines += [NOTES[group], ""] if group in NOTES else []
    return "\n".join(lines).rstrip() + "\n"


def index() -> str:
    """Return the page that names all others."""
    places = {text: text.lower().replace(" ", "-") for text in HEADINGS.values()}
    links = ", ".join(f"[{text.lower()}](#{place})" for text, place in places.items())
    lines = [
        *("# Catalogue", ""),
        f"What a recipe can be made of: {links}.",
        "Written by `tools/catalogue.py` from the classes. The pictures show truth, measurement",
        "and the mean of the samples, of synthetic specimens; they are made by",
        "`tools/catalogue_pictures.py`.",
        "",
    ]
    for group, heading in HEADINGS.items():
        lines += [f"## {heading}", "", "| kind | name | what it is |", "|---|---|---|"]
        for kind, cls in registry(group).items():
            summary = cls.summary().replace("``", "`")
            lines.append(row([f"[`{kind}`]({page_name(group, kind)}.md)", cls.title, summary]))
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def pages() -> dict[str, str]:
    """Return every page by its file's name."""
    found = {"README.md": index()}
    for group in HEADINGS:
        for kind in registry(group):
            found[f"{page_name(group, kind)}.md"] = page(group, kind)
    return found


def samplers_page() -> str:
    """Return docs/samplers.md with the tables that the samplers answer."""
    text = PAGE.read_text(encoding="utf-8")
    text = between(text, OVERVIEW, "\n".join(overview()))
    return between(text, "takes", "\n".join(takes()))


def main() -> None:
    """Write the pages, and remove those of kinds that are gone."""
    made = pages()
    PAGES.mkdir(parents=True, exist_ok=True)
    for old in PAGES.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (PAGES / name).write_text(text, encoding="utf-8")
    PAGE.write_text(samplers_page(), encoding="utf-8")
    print(f"{len(made)} pages in {PAGES}, and {PAGE}")


if __name__ == "__main__":
    main()
