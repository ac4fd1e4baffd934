"""Which room may import which (the rule is written out in docs/architecture.md)."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "napari_dps"

# The floors of the house. A room may import from lower floors and from itself; rooms that share a
# floor see each other only where `OPEN` says so.
FLOORS = [
    {
        *("errors", "units", "grid", "arrays", "components", "kinds", "recipe", "fields", "device"),
        *("_quantiles", "_tiff", "saturation", "allocator"),
    },
    {"core"},
    {"forward", "noise", "priors", "samplers"},
    {
        *("uncertainty", "training", "image", "io", "result", "_resultfile", "api"),
        *("_resultmeta", "_resultorder", "_resultzarr", "_posterior"),
        *("evaluate", "doctor", "demo", "prepare", "run", "progress", "report", "memory", "start"),
        *(
            "colours",
            "pixels",
            "datum",
            "cost",
            "light",
            "bound_prior",
            "batches",
            "camera",
            "_phototransfer",
        ),
        *("beads", "_beads", "_beadsort", "_beadwidth"),
    },
    {"cli", "plugin"},
]
OPEN = [True, True, False, True, False]
ROOM_FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

WINDOW_PACKAGES = {
    "napari", "magicgui", "qtpy", "superqt", "pyqtgraph", "vispy",
    "PyQt5", "PyQt6", "PySide2", "PySide6",
}  # fmt: skip
CORE_MAY_IMPORT = {"torch", "numpy"}
LINES_PER_FILE = 400

FILES = sorted(SRC.rglob("*.py"))
NAMES = [str(path.relative_to(SRC)) for path in FILES]


def room_of(path: Path) -> str:
    """Return the room of a source file: its folder or, at the top, its own name."""
    parts = path.relative_to(SRC).parts
    return parts[0] if len(parts) > 1 else path.stem


def is_type_checking(node: ast.AST) -> bool:
    """Whether a node is ``if TYPE_CHECKING:``, whose body never runs."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def walk(node: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """Walk a tree, past what only type checkers read; with or without function bodies."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            continue
        if not functions and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        yield child
        yield from walk(child, functions=functions)


def imports(path: Path, *, functions: bool = True) -> set[str]:
    """Return the absolute names of the modules that a file imports."""
    package = ["napari_dps", *path.relative_to(SRC).parent.parts]
    found: set[str] = set()
    for node in walk(ast.parse(path.read_text(encoding="utf-8")), functions=functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.add(module)
            if module == "napari_dps" or node.module is None:
                found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def own_rooms(path: Path) -> set[str]:
    """Return the rooms of napari_dps that a file imports."""
    names = (name.split(".") for name in imports(path))
    return {parts[1] for parts in names if parts[0] == "napari_dps" and len(parts) > 1}


def run_python(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_has_a_room() -> None:
    rooms = {room_of(path) for path in FILES} - {"__init__", "__main__"}
    assert rooms <= set(ROOM_FLOOR), "give the new room a floor in FLOORS"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_run_one_way(path: Path) -> None:
    room = room_of(path)
    if room in {"__init__", "__main__"}:
        assert room == "__main__" or not own_rooms(path), "the package itself imports lazily"
        return
    floor = ROOM_FLOOR[room]
    for other in own_rooms(path) & set(ROOM_FLOOR):
        allowed = (
            other == room
            or ROOM_FLOOR[other] < floor
            or (ROOM_FLOOR[other] == floor and OPEN[floor])
        )
        assert allowed, f"{room} must not import {other}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_windows_only_in_the_plugin(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    if room_of(path) != "plugin":
        assert not tops & WINDOW_PACKAGES


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) == "core"], ids=lambda p: p.stem)
def test_core_is_torch_only(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)} - {"napari_dps"}
    assert tops <= CORE_MAY_IMPORT | set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_torch_is_loaded_late(path: Path) -> None:
    """Outside core and the private torch modules, torch and diffusers load inside functions."""
    if room_of(path) == "core" or any(p.startswith("_") for p in path.relative_to(SRC).parts):
        return
    names = imports(path, functions=False)
    tops = {name.split(".")[0] for name in names}
    if room_of(path) in ROOM_FLOOR and ROOM_FLOOR[room_of(path)] <= 2:
        assert not tops & {"torch", "diffusers"}
        assert not any(name.startswith("napari_dps.core") for name in names)


def test_nothing_heavy_until_it_is_used() -> None:
    heavy = sorted(WINDOW_PACKAGES | {"torch", "diffusers", "scipy", "skimage"})
    code = (
        "import json, sys, napari_dps\n"
        "dir(napari_dps), napari_dps.__version__, napari_dps.Recipe\n"
        "from napari_dps.components import GROUPS, registry\n"
        "kinds = {group: sorted(registry(group)) for group in GROUPS}\n"
        "napari_dps.Recipe().to_json()\n"
        f"print(json.dumps([kinds, [m for m in {heavy!r} if m in sys.modules]]))\n"
    )
    kinds, loaded = json.loads(run_python(code))
    assert not loaded
    assert all(kinds.values()), f"a group has no kinds: {kinds}"


def test_public_names_resolve() -> None:
    code = (
        "import napari_dps\n"
        "for name in napari_dps.__all__: getattr(napari_dps, name)\n"
        "try: napari_dps.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    assert "no attribute 'nothing'" in run_python(code)


def test_every_import_is_declared() -> None:
    """What the package imports stands in pyproject.toml, so a bare install cannot lack it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["qt"], *extras["zarr"], *extras["train"]]
    lines += extras["table"]
    declared = {re.split(r"[^\w-]", line)[0].lower() for line in lines}
    distribution = {
        "pydantic_core": "pydantic-core",
        "skimage": "scikit-image",
        "ome_types": "ome-types",
        "PIL": "pillow",
        "huggingface_hub": "huggingface-hub",
        "annotated_types": "annotated-types",
    }
    tops = {name.split(".")[0] for path in FILES for name in imports(path)}
    third = tops - set(sys.stdlib_module_names) - {"napari_dps"}
    assert {distribution.get(name, name).lower() for name in third} <= declared


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    for line in [*project["dependencies"], *extras]:
        name = re.split(r"[^\w-]", line)[0]
        assert name == "napari-dps" or f"`{name}`" in text, f"docs/dependencies.md lacks {name}"
        assert "<" not in line and "==" not in line, f"{line}: lower bounds only"


def test_no_qt_binding_is_forced() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not re.search(r"pyqt\d|pyside|napari\[", " ".join(project["dependencies"]), re.I)


@pytest.mark.parametrize("folder", ["src", "tests", "tools", "benchmarks", "examples"])
def test_files_stay_short(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LINES_PER_FILE, f"{path.relative_to(ROOT)} has {lines} lines: make it two"
