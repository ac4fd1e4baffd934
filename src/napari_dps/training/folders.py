"""The folders that training images lie in: found, told apart by name, weighed.

A folder is known by its path. It is shown by the end of it, as long as tells it from the others:
``er``, or ``A/images`` beside ``B/images``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from ..errors import InputError

SUFFIXES = (".png", ".tif", ".tiff", ".tf8", ".btf", ".npy")
OTHERS = (
    *(".jpg", ".jpeg", ".jp2", ".gif", ".bmp", ".webp"),
    *(".czi", ".nd2", ".lif", ".lsm", ".oib", ".oif", ".ims", ".stk", ".vsi"),
)
"""Images that are not read: they are counted, not passed over in silence."""
ARRAYS = Path("arrays")
"""Stands for the folder of what came as arrays."""


@dataclass(frozen=True)
class Item:
    """A file or an array among the training images."""

    content: Path | ArrayLike
    folder: Path
    label: str


@dataclass
class Found:
    """What lies in the places given.

    Attributes
    ----------
    items : list of Item
        Files and arrays, in the order given.
    folders : set of Path
        Folders they lie in, and those between them and the place given.
    ignored : Counter
        How many files of a kind that is not read, by reason.
    """

    items: list[Item] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    ignored: Counter[str] = field(default_factory=Counter)


def find(images: Sequence[str | Path | ArrayLike]) -> Found:
    """List the files in the places given; nothing is opened.

    Files and folders whose names begin with a dot are passed over: systems keep their own there.

    Raises
    ------
    InputError
        If a path does not exist.
    """
    found = Found()
    for index, given in enumerate(images):
        if not isinstance(given, (str, Path)):
            found.items.append(Item(given, ARRAYS, f"array {index + 1}"))
            found.folders.add(ARRAYS)
            continue
        path = Path(given).expanduser()
        if path.is_dir():
            _search(path.resolve(), found)
        elif path.is_file():
            folder = path.resolve().parent
            found.items.append(Item(path, folder, path.name))
            found.folders.add(folder)
        else:
            raise InputError(f"Training image {str(path)!r} does not exist: give files or folders.")
    return found


def _search(root: Path, found: Found) -> None:
    for file in sorted(root.rglob("*")):
        inner = file.relative_to(root)
        suffix = file.suffix.lower()
        if any(part.startswith(".") for part in inner.parts):
            continue
        if suffix in OTHERS and file.is_file():
            found.ignored[f"{suffix} files, which are not read: export them as TIFF or PNG"] += 1
        elif suffix in SUFFIXES:
            found.items.append(Item(file, file.parent, file.name))
            found.folders.update((root / parent) for parent in inner.parents)


def names(folders: Iterable[Path]) -> dict[Path, str]:
    """Return by folder the shortest end of its path that no other folder has."""
    every = list(folders)
    ends = Counter(_end(path, k) for path in every for k in range(1, len(path.parts) + 1))
    return {
        path: "/".join(
            next(
                (_end(path, k) for k in range(1, len(path.parts) + 1) if ends[_end(path, k)] == 1),
                path.parts,
            )
        )
        for path in every
    }


def _end(path: Path, count: int) -> tuple[str, ...]:
    return path.parts[-count:]


def weigh(weights: Mapping[str, float], folders: Iterable[Path]) -> dict[Path, float]:
    """Return the weights by folder.

    Parameters
    ----------
    weights : mapping of str to float
        By path of a folder, or the end of one.
    folders : iterable of Path
        Those there are.

    Raises
    ------
    InputError
        If a weight is no number above zero, or its name fits no folder, several, or one that has
        a weight already.
    """
    shown = names(folders)
    found: dict[Path, float] = {}
    for key, value in weights.items():
        number = _number(key, value)
        path = Path(key).expanduser()
        exact = [folder for folder in shown if folder == path.resolve()]
        fitting = exact or [
            f for f in shown if path.parts and _end(f, len(path.parts)) == path.parts
        ]
        if not fitting:
            raise InputError(
                f"A weight names the folder {str(key)!r}, in which no image was found; "
                f"there are {', '.join(sorted(shown.values())) or 'none'}."
            )
        if len(fitting) > 1:
            raise InputError(
                f"A weight names the folder {str(key)!r}, which may be "
                f"{' or '.join(sorted(shown[f] for f in fitting))}: write more of its path."
            )
        if fitting[0] in found:
            raise InputError(
                f"Two weights name the folder {shown[fitting[0]]!r}: leave one of them out."
            )
        found[fitting[0]] = number
    return found


def weight_of(folder: Path, weights: Mapping[Path, float]) -> float:
    """Return a folder's weight: of the nearest one outwards that has any, or one."""
    return next((weights[f] for f in (folder, *folder.parents) if f in weights), 1.0)


def _number(key: str, value: Any) -> float:
    if not isinstance(value, Real) or not (math.isfinite(value) and float(value) > 0):
        raise InputError(
            f"The weight {value!r} of {str(key)!r} is not allowed: give a number above zero."
        )
    return float(value)
