"""What a result's file holds besides arrays: its recipe as text, and its report as JSON."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from napari_dps.errors import DPSError, InputError

__all__ = ["load_recipe", "plain", "recipe_text"]


def recipe_text(recipe: Any, folder: Path) -> str | None:
    """Return a recipe as JSON; its arrays go to ``folder``."""
    if recipe is None:
        return None
    if isinstance(recipe, Mapping):
        return json.dumps(plain(recipe, "recipe"))
    return str(recipe.to_json(folder=folder))


def load_recipe(text: str | None, path: Path) -> Any:
    """Return the recipe in the file ``path``, as a dict where it is not understood."""
    if text is None:
        return None
    from napari_dps.recipe import Recipe

    try:
        return Recipe.from_json(text, folder=path.parent)
    except DPSError as error:
        warnings.warn(f"the recipe in '{path}' is kept as a dict: {error}", stacklevel=3)
        return json.loads(text)


def plain(value: Any, where: str) -> Any:
    """Turn NumPy scalars, arrays, paths and the like into what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, where) for item in value]
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy and torch
        return plain(value.tolist(), where)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (os.PathLike, date, datetime)):
        return str(value)
    raise InputError(f"{where} holds a {type(value).__name__}, which JSON cannot store.")
