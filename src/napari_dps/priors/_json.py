"""Configurations as JSON: bounded, checked, and told in one sentence where they are wrong."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import PriorError

LARGEST_JSON = 2**20
"""No configuration is longer; a longer one is not even parsed."""

Model = TypeVar("Model", bound=BaseModel)

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    PriorError
        If it is missing, too long, nested too deeply, or no object.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError("it is longer than 1 MiB, which no configuration is")
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise ValueError(f"it holds a {type(raw).__name__}, not an object")
    except FileNotFoundError:
        raise PriorError(f"There is no {str(path)!r}: the prior's folder is incomplete.") from None
    except RecursionError:
        raise PriorError(
            f"{str(path)!r} cannot be read: it is nested too deeply to be a configuration."
        ) from None
    except (OSError, ValueError) as error:
        raise PriorError(f"{str(path)!r} cannot be read ({error}): copy it again.") from None
    return raw


def shown(value: object) -> str:
    """Return a value as a sentence may hold it: short, whatever came."""
    text = _SHORT.repr(value)  # not repr, which follows a nest down to the end of the stack
    return text if len(text) < 60 else text[:57] + "..."


def first_mistake(error: ValidationError) -> tuple[str, str]:
    """Return where the first mistake is, and what it is, with the value that came."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return where, f"{message}, got {shown(first.get('input'))}"


def checked(model: type[Model], raw: dict[str, Any], path: Path) -> Model:
    """Return a configuration, validated.

    Raises
    ------
    PriorError
        One sentence about the first thing that is wrong.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        where, what = first_mistake(error)
        raise PriorError(
            f"{str(path)!r} is wrong at {where or 'the whole'!r} ({what}); this version of "
            "napari-dps cannot take it."
        ) from None
