"""What a prior's own files do not say, in a JSON file of the user's beside them; and its identity.

Beside ``model.pt`` lies ``model.json``; in a diffusers folder, ``napari-dps.json``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import PriorError
from ._folder import Spectrum, Text
from ._json import Model, checked, read_json


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
