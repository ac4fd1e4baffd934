"""Print constraints.txt: the versions here of everything that napari-dps and its extras need.

Run it with the interpreter of an environment that holds all extras::

    .venv/bin/python tools/freeze.py > constraints.txt
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER = """\
# One tested set (Python 3.11, Linux, CPU). The make targets install with it; nobody else has to:
# `pip install napari-dps` takes whatever the lower bounds allow. Written by tools/freeze.py.
"""
# These two belong to the environment, not to the project.
LEFT_OUT = {"pip", "setuptools", "napari-dps"}


def closure(requirements: list[Requirement]) -> dict[str, str]:
    """Return name and version of all that the requirements bring, followed to the end.

    Local version labels ("+cpu") are dropped: a constraint must hold on any machine.
    """
    found: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    while requirements:
        requirement = requirements.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in done:
                continue
            done.add((name, extra))
            try:
                here = distribution(name)
            except PackageNotFoundError:
                sys.exit(f"{name} is not installed here: install napari-dps with all its extras")
            found[name] = f"{here.metadata['Name']}=={here.version.split('+')[0]}"
            for text in here.requires or []:
                child = Requirement(text)
                if child.marker is None or child.marker.evaluate({"extra": extra}):
                    requirements.append(child)
    return {name: line for name, line in found.items() if name not in LEFT_OUT}


def main() -> None:
    """Read pyproject.toml and print the closure of its dependencies, extras included."""
    path = Path(__file__).resolve().parent.parent / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        lines += [line for line in extra if not line.startswith("napari-dps")]
    pins = closure([Requirement(line) for line in lines])
    print(HEADER + "\n".join(pins[name] for name in sorted(pins)))


if __name__ == "__main__":
    main()
