"""What a prior's own files do not say, in a JSON file of the user's beside them; and its identity.

Beside ``model.pt`` lies ``model.json``; in a diffusers folder, ``napari-dps.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import PriorError
from ._folder import Spectrum, Text

LARGEST_JSON = 2**20
"""No configuration is longer; a longer one is not even parsed."""

Model = TypeVar("Model", bound=BaseModel)


class Card(BaseModel):
    """Facts about a prior that came without them.

    Attributes
    ----------
    name, licence : str
        What it is called; under which licence its weights are.
    pixel_size : float or None
        Micrometres per pixel of its training images.
    data_std : float
        Standard deviation of clean images, prior units.
    spectrum : Spectrum or None
        Their power spectrum.
    training : dict
        What else is worth keeping: images, steps, authors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Text = ""
    licence: Text = ""
    pixel_size: float | None = Field(None, gt=0.0, le=1e6, allow_inf_nan=False)
    data_std: float = Field(0.5, gt=0.0, le=10.0, allow_inf_nan=False)
    spectrum: Spectrum | None = None
    training: dict[str, Any] = Field(default_factory=dict)


class GuidedCard(Card):
    """Facts about a guided-diffusion file; what its tensors' shapes cannot tell.

    Attributes
    ----------
    num_head_channels : int
        Channels of an attention head.
    new_attention_order : bool
        guided-diffusion's ``use_new_attention_order``.
    image_size : int
        Side of the training images, pixels.
    noise_schedule : {"linear", "cosine"}
        Betas.
    diffusion_steps : int
        How many.
    """

    num_head_channels: int = Field(64, ge=1, le=1024)
    new_attention_order: bool = False
    image_size: int = Field(256, ge=8, le=4096)
    noise_schedule: Literal["linear", "cosine"] = "linear"
    diffusion_steps: int = Field(1000, ge=2, le=100_000)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    PriorError
        If it is missing, too long, or no object.
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
        raise PriorError(f"{str(path)!r} cannot be read: it is nested too deeply.") from None
    except (OSError, ValueError) as error:
        raise PriorError(f"{str(path)!r} cannot be read ({error}): copy it again.") from None
    return raw


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
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        given = repr(first.get("input"))
        given = given if len(given) < 60 else given[:57] + "..."
        message = first["msg"].removeprefix("Value error, ")
        raise PriorError(
            f"{str(path)!r} is wrong at {where!r} ({message}, got {given}); this version of "
            "napari-dps cannot take it."
        ) from None


def read_card(model: type[Model], path: Path) -> Model:
    """Return the card at a place, or one that says nothing."""
    return checked(model, read_json(path), path) if path.is_file() else model()


def hash_files(files: Iterable[Path]) -> str:
    """Return the first 16 hex digits of SHA-256 over files: a prior's identity."""
    whole = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise PriorError(f"{str(path)!r} cannot be read ({error.strerror}).") from None
    return whole.hexdigest()[:16]
