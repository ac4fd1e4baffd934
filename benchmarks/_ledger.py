"""Cells of a benchmark that are done, one JSON object a line: stop it and go on at any time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from _common import say


class Ledger:
    """What was computed, kept in a file of JSON lines.

    The first line is the settings that all cells share; a file of other settings is refused. A
    last line that was cut off, as by a power failure, is dropped.

    Parameters
    ----------
    path : Path or None
        The file; None keeps everything in memory.
    settings : dict
        What all cells share.
    keys : tuple of str
        Which entries of a row name its cell.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any], keys: tuple[str, ...]) -> None:
        self.path, self.keys = path, keys
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        settings = json.loads(json.dumps(settings))
        if path is None:
            return
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        found = [line for line in (_parsed(text) for text in lines) if line is not None]
        if found and found[0] != settings:
            other = sorted(k for k in {*found[0], *settings} if found[0].get(k) != settings.get(k))
            raise SystemExit(
                f"{path} was made with other settings ({', '.join(other)}): "
                "name another file, or the settings of that one"
            )
        for row in found[1:]:
            if not row.get("failed"):  # those are tried again
                self.rows[self.key(row)] = row
        if found:
            say(f"{path}: {len(self.rows)} cells are there already")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for row in (settings, *self.rows.values()):
                file.write(json.dumps(row) + "\n")

    def key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        """Return what names a row's cell."""
        return tuple(row.get(k) for k in self.keys)

    def __contains__(self, cell: dict[str, Any]) -> bool:
        """Whether a cell is done."""
        return self.key(cell) in self.rows

    def __getitem__(self, cell: dict[str, Any]) -> dict[str, Any]:
        """Return the row of a cell."""
        return self.rows[self.key(cell)]

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row, at once on disk too."""
        self.rows[self.key(row)] = row
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        row = json.loads(text)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None
