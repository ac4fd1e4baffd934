"""Weights as data: safetensors, or torch files of nothing but tensors. Nothing is ever executed."""

from __future__ import annotations

import json
import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PriorError

if TYPE_CHECKING:
    from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
LONGEST_HEADER = 100 * 2**20
"""A safetensors header may not be longer than this (the format's own bound)."""
DAMAGE = (
    *(RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError),
    *(ArithmeticError, AssertionError, struct.error, zipfile.BadZipFile),
)
"""What reading a cut or altered file raises: its bytes are followed wherever they lead."""
MOST_SHARED = 4
"""Tensors may share values, but together claim no more than this many times the file."""


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
        except (SafetensorError, *DAMAGE) as error:
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
    except DAMAGE as error:
        raise _damaged(path, error) from None


def difference(expected: Shapes, given: Shapes) -> str:
    """Return in words how weights differ from what a network has; "" where they fit."""
    names = expected.keys() | given.keys()
    differ = sorted(name for name in names if expected.get(name) != given.get(name))
    if not differ:
        return ""
    name = differ[0]
    return (
        f"{len(differ)} tensors differ, first {name[:100]!r} ({given.get(name, 'missing')} for "
        f"{expected.get(name, 'nothing')})"
    )


def _read_torch(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        with warnings.catch_warnings():
            # Where these matter reading fails, and the sentence says so.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            warnings.filterwarnings("ignore", ".*looks like a TorchScript archive")
            # Mapped, so that a file of gigabytes is read once and only where it is used.
            state = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None
            )
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from None
    except DAMAGE as error:
        if "TorchScript" in str(error):
            raise PriorError(
                f"{str(path)!r} is refused: it holds a program (TorchScript), not weights alone; "
                "ask its author for safetensors."
            ) from None
        raise _damaged(path, error) from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise PriorError(
            f"{str(path)!r} holds no state dict (names with a tensor each), but a "
            f"{type(state).__name__}; save model.state_dict() alone."
        )
    odd = [n for n, v in state.items() if v.layout != torch.strided or v.device.type != "cpu"]
    claimed = sum(value.numel() * value.element_size() for value in state.values())
    if odd or claimed > MOST_SHARED * path.stat().st_size:
        what = f"{odd[0][:100]!r} has no values" if odd else "they claim far more than it holds"
        raise PriorError(
            f"The tensors of {str(path)!r} are no plain ones ({what}); save model.state_dict() of "
            "the trained model alone."
        )
    return state


def _refused(path: Path, error: pickle.UnpicklingError) -> PriorError:
    """Return the sentence about a pickle that is more than tensors, or none that can be told."""
    reason = _reason(error)
    called = re.search(r"GLOBAL (\S+)", reason)
    if called:
        return PriorError(
            f"{str(path)!r} is refused: opening it would call {called[1][:100]!r}, which is more "
            "than reading tensors, and such a pickle can run any code; ask its author for "
            "safetensors."
        )
    if reason.startswith("Unsupported operand"):
        return PriorError(
            f"{str(path)!r} is refused: it is damaged, or pickled in a protocol other than torch's "
            "own (2), whose instructions could run any code; save it again as torch does by "
            "itself, or as safetensors."
        )
    return PriorError(
        f"{str(path)!r} is refused: opening it would do more than read tensors, and such a "
        f"pickle can run any code ({reason}); ask its author for safetensors."
    )


def _damaged(path: Path, error: Exception) -> PriorError:
    return PriorError(
        f"The weights {str(path)!r} are damaged and cannot be read ({_reason(error)}): copy the "
        "file again."
    )


def _reason(error: Exception) -> str:
    """Return the telling part of an error in one line.

    Around its own words torch puts advice to trust the file, and a link to its documentation.
    """
    text = str(error).partition("Check the documentation of torch.load")[0]
    text = text.rpartition("WeightsUnpickler error: ")[2]
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    text = next((part for part in reversed(paragraphs) if part), type(error).__name__)
    return text.split(". ")[0].split(" Please ")[0][:160].rstrip(".:")
