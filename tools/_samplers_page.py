"""What the samplers say of themselves, for their pages and for docs/samplers.md."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

from _takes import answers, calls, forward_problems, gives, noise_problems

from napari_dps.components import registry

PAGE = Path(__file__).resolve().parent.parent / "docs" / "samplers.md"
OVERVIEW = "overview"


def plain(module: ModuleType | None) -> str:
    """Return a module's documentation as Markdown."""
    text = inspect.cleandoc((module and module.__doc__) or "")
    return re.sub(r":\w+:`[~.]?([^`]+)`", r"`\1`", text.replace("``", "`"))


def cost(kind: str) -> str:
    """Return what a sample costs at the defaults."""
    found = calls(kind)
    if found is None:
        return "of the one it chooses" if kind == "auto" else "no network"
    forward, products = found
    text = f"{forward}" if not products else f"{forward} + {products}"
    particles = registry("sampler")[kind].model_fields.get("particles")
    return text if particles is None else f"{text} for each of {particles.default} particles"


def facts(kind: str) -> list[str]:
    """Return what a sampler gives, costs, takes and refuses, as a list."""
    found = calls(kind)
    lines = [f"- Gives {gives(kind)}."]
    if found is not None:
        forward, products = found
        more = f" and {products} products with its Jacobian" if products else ""
        field = registry("sampler")[kind].model_fields.get("particles")
        what = "a sample costs" if field is None else f"each of {field.default} particles costs"
        lines.append(f"- At its defaults {what} about {forward} network passes{more}.")
    said = answers(kind)
    for what, problems in (("Measurements", forward_problems()), ("Noise", noise_problems())):
        taken = [p.title for p in problems if said[p.title] is None]
        lines.append(f"- {what} it takes: {', '.join(taken) or 'none'}.")
    refused: dict[str, list[str]] = {}
    for title, why in said.items():
        if why is not None:
            refused.setdefault(why, []).append(title)
    lines += [f"- It refuses {', '.join(titles)}: {why}." for why, titles in refused.items()]
    return lines


def overview() -> list[str]:
    """Return the table of kinds, what they give and what they cost."""
    lines = ["| kind | what it is | gives | passes + products a sample |", "|---|---|---|---|"]
    for kind, cls in registry("sampler").items():
        title = f"[`{kind}`](catalogue/sampler-{kind}.md)"
        summary = cls.summary().replace("``", "`").replace("|", "\\|")
        lines.append(f"| {title} | {summary} | {gives(kind)} | {cost(kind)} |")
    return lines


def takes() -> list[str]:
    """Return the table of what every sampler takes, as each answers when asked."""
    problems = (*forward_problems(), *noise_problems())
    lines = [
        f"| kind | {' | '.join(p.title for p in problems)} |",
        f"|---|{'---|' * len(problems)}",
    ]
    for kind in registry("sampler"):
        said = answers(kind)
        cells = ["yes" if said[p.title] is None else "" for p in problems]
        lines.append(f"| `{kind}` | {' | '.join(cells)} |")
    return lines


def between(text: str, mark: str, inside: str) -> str:
    """Return a page with ``inside`` between its lines <!-- mark --> and <!-- end of mark -->.

    Raises
    ------
    ValueError
        If the page lacks one of the lines.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    if begin not in text or end not in text:
        raise ValueError(f"the page has no lines {begin} and {end}")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n\n{inside}\n\n{end}{rest.split(end, 1)[1]}"
