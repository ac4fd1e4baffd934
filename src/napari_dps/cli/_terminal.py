"""What the user sees: notes and progress on stderr, tables and JSON on stdout."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table


def note(text: str) -> None:
    """Print one line on stderr."""
    print(text, file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """Print one sentence about a mistake on stderr, under the program's name."""
    note(f"napari-dps: {' '.join(text.split())}")


def plain(value: Any) -> Any:
    """Return the value as JSON can hold it: NaN and infinity become None, arrays lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False), flush=True)


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print a table on stdout."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(number(cell) for cell in row))
    Console(file=sys.stdout, markup=False, highlight=False).print(table)


def number(value: Any) -> str:
    """Return a value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, (float, np.floating)):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def duration(seconds: float | None) -> str:
    """Return a time span in words, such as ``"2 min 5 s"``."""
    if seconds is None or not math.isfinite(seconds):
        return "unknown time"
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Return a number of bytes in words, such as ``"1.2 GiB"``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
