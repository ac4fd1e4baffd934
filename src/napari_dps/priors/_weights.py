"""Weights as data: safetensors, or torch files of nothing but tensors. Nothing is ever executed."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PriorError

if TYPE_CHECKING:
    from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
LONGEST_HEADER = 100 * 2**20
"""A safetensors header may not be longer than this (the format's own bound)."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read named tensors from a .safetensors file or, weights-only, from a torch file.

    Raises
    ------
    PriorError
        If the file is damaged, or holds anything but tensors.
    """
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise _damaged(path, error) from None
    return _read_torch(path)


def read_shapes(path: Path) -> Shapes:
    """Return the shape of every tensor in a file of weights; the values stay on disk if they can.

    Raises
    ------
    PriorError
        As :func:`read_weights`.
    """
    if path.suffix.lower() != ".safetensors":
        return {name: tuple(value.shape) for name, value in _read_torch(path).items()}
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(LONGEST_HEADER, path.stat().st_size):
                raise ValueError("header longer than the file")
            header: dict[str, Any] = json.loads(file.read(length))
        return {
            str(name): tuple(int(n) for n in entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (OSError, struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, error) from None


def _read_torch(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        # Mapped, so that a file of gigabytes is read once and only where it is used.
        state = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None
        )
    except pickle.UnpicklingError as error:
        raise PriorError(
            f"{str(path)!r} is refused: opening it would do more than read tensors, and such a "
            f"pickle can run any code ({_reason(error)}); ask its author for safetensors."
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise PriorError(
            f"{str(path)!r} holds no state dict (names with a tensor each), but a "
            f"{type(state).__name__}; save model.state_dict() alone."
        )
    return state


def _damaged(path: Path, error: Exception) -> PriorError:
    return PriorError(
        f"The weights {str(path)!r} cannot be read ({_reason(error)}): copy the file again."
    )


def _reason(error: Exception) -> str:
    """Return the telling part of an error in one line; torch's own advice is to trust the file."""
    text = " ".join(str(error).split()) or type(error).__name__
    for mark in ("WeightsUnpickler error: ", "Unsupported "):
        if mark in text:
            text = text[text.index(mark) + (len(mark) if mark.endswith(": ") else 0) :]
    return text.split(". ")[0].split(" Please ")[0][:160].rstrip(".:")
