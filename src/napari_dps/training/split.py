"""Which training images are kept apart, to judge by.

Whole files, for planes of one stack resemble each other. Which ones follows from a hash of their
names, so that the split is the same in every run, whatever is added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .images import Source

FILES, PLANES = 5, 10
"""A group gives files from so many on; a stack gives its end from so many planes on."""


@dataclass
class Split:
    """Images to learn from and to judge by, and why there are none to judge by."""

    train: list[Source] = field(default_factory=list)
    held_out: list[Source] = field(default_factory=list)
    reason: str = ""


def split(items: Sequence[Sequence[Source]], share: float) -> Split:
    """Keep a share of the images apart.

    Groups of five files or more give one at least, and half of them at most. Where no group has
    as many, all files count as one group; where these are fewer than five, stacks of ten planes
    or more give their ends.

    Parameters
    ----------
    items : sequence of sequences of Source
        The planes of each file.
    share : float
        Share of the files.
    """
    files: dict[str, list[Source]] = {}
    for item in items:  # a file that was named twice is one file
        files.setdefault(_file(item[0].name), []).extend(item)
    found = Split()
    if share <= 0:
        found.train = [source for planes in files.values() for source in planes]
    else:
        groups: dict[str, list[list[Source]]] = {}
        for planes in files.values():
            groups.setdefault(planes[0].group, []).append(planes)
        if max(map(len, groups.values()), default=0) >= FILES:
            for group in groups.values():
                _by_file(group, share, found)
        elif len(files) >= FILES:
            _by_file(list(files.values()), share, found)
        else:
            _by_end(list(files.values()), share, found)
    found.train.sort(key=lambda source: _file(source.name))
    return found


def _by_file(group: list[list[Source]], share: float, found: Split) -> None:
    ranked = sorted(group, key=lambda planes: hash_share(planes[0].name))
    count = sum(hash_share(planes[0].name) < share for planes in group)
    # Few files: chance may have picked none, or too many.
    count = min(max(count, 1), len(group) // 2) if len(group) >= FILES else 0
    found.held_out += [source for planes in ranked[:count] for source in planes]
    found.train += [source for planes in ranked[count:] for source in planes]


def _by_end(files: list[list[Source]], share: float, found: Split) -> None:
    for planes in files:
        ends = list(dict.fromkeys(source.name for source in planes))
        ends = ends[-max(round(share * len(ends)), 1) :] if len(ends) >= PLANES else []
        found.train += [source for source in planes if source.name not in ends]
        found.held_out += [source for source in planes if source.name in ends]
    if files and not found.held_out:
        most = max(map(len, files))
        what = f"there are {len(files)} files" if len(files) > 1 else "there is one file"
        found.reason = (
            f"none held out, and so nothing to judge by: {FILES} files or a stack of {PLANES} "
            f"planes are needed, and {what} of {most} plane{'s' * (most > 1)} at most"
        )


def keep(found: Split, earlier: Mapping[str, Iterable[str]]) -> None:
    """Keep the split of an earlier run: what it held out stays so, and what it learned from.

    Parameters
    ----------
    found : Split
        Changed in place.
    earlier : mapping of str to iterable of str
        ``"held_out"`` and ``"learned"``: names of images.
    """
    held, learned = (_Names(earlier.get(part, ())) for part in ("held_out", "learned"))
    every = [(source, False) for source in found.train]
    every += [(source, True) for source in found.held_out]
    found.train, found.held_out = [], []
    for source, apart in every:
        if source.name in held or (apart and source.name not in learned):
            found.held_out.append(source)
        else:
            found.train.append(source)
    found.train.sort(key=lambda source: _file(source.name))
    if found.held_out:
        found.reason = ""


class _Names:
    """Names of images, known by their ends: folders are shown by more or less of their paths."""

    def __init__(self, given: Iterable[str]) -> None:
        self.given = set(given)
        self.ends = {end for name in self.given for end in _ends(name)}

    def __contains__(self, name: str) -> bool:
        return name in self.ends or any(end in self.given for end in _ends(name))


def _ends(name: str) -> list[str]:
    """Return the name and its ends down to folder and file."""
    parts = name.split("/")
    return ["/".join(parts[k:]) for k in range(max(len(parts) - 1, 1))]


def _file(name: str) -> str:
    """Return the file's part of an image's name."""
    return name.partition(" plane ")[0]


def hash_share(name: str) -> float:
    """Return a number in [0, 1) that follows from folder and file of a name alone.

    A stack's planes share it, and so do images of one name in folders of one name, wherever these
    lie.
    """
    short = "/".join(_file(name).split("/")[-2:])
    digest = hashlib.sha256(short.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64
