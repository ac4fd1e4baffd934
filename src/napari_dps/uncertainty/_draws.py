"""What a function of an image gave, as numbers; and which of those of antithetic partners count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.errors import InputError

__all__ = ["alike", "common_note", "few_names", "frame_by_frame", "named_numbers", "one_of_each"]


def frame_by_frame(function: Callable[[NDArray[Any]], Any], axes: str | None) -> Any:
    """Return a function that measures each frame of an image by itself, if that is its wish.

    Parameters
    ----------
    function : callable
        With ``by_frame`` set where all axes that it is given must be space.
    axes : str or None
        Of the image, one letter each; None where they are not known.
    """
    others = [k for k, letter in enumerate(axes or "") if letter not in "ZYX"]
    if not (others and getattr(function, "by_frame", False)):
        return function

    def every(image: NDArray[Any]) -> Any:
        moved = np.moveaxis(image, others, range(len(others)))
        frames = moved.reshape(-1, *moved.shape[len(others) :])
        if len(frames) == 1:
            return function(frames[0])
        named = [zip(*named_numbers(function(frame), function), strict=True) for frame in frames]
        return {f"{name}, frame {k}": v for k, found in enumerate(named) for name, v in found}

    return every


def named_numbers(value: Any, function: Any) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return names and numbers of one call."""
    if isinstance(value, Mapping):
        each = [_numbers(v, f" for {str(name)!r}") for name, v in value.items()]
        for name, found in zip(value, each, strict=True):
            if found.size != 1:
                raise InputError(
                    f"the function returned an array of shape {found.shape} for {str(name)!r}; a "
                    "name must stand for one number"
                )
        return tuple(str(name) for name in value), np.array([float(v.item()) for v in each])
    numbers = _numbers(value, "")
    name = str(getattr(function, "name", getattr(function, "__name__", "value")))
    if numbers.ndim == 0:
        return (name,), numbers.reshape(1)
    flat = numbers.ravel()
    return tuple(f"{name} {k}" for k in range(len(flat))), flat


def _numbers(value: Any, where: str) -> NDArray[np.float64]:
    """Return what a function gave as real numbers."""
    if isinstance(value, np.ma.MaskedArray) and value.dtype.kind in "buif":
        value = np.ma.filled(value.astype(np.float64), np.nan)  # there is no number there
    try:
        found = np.asarray(value)
        # NumPy would take None for NaN and "3" for 3, and drop an imaginary part.
        kinds = [np.asarray(v).dtype.kind for v in found.flat] if found.dtype.kind == "O" else []
        if "c" in [found.dtype.kind, *kinds]:
            raise InputError(
                f"the function returned a complex value{where}; it must return a number that is "
                "real: take its abs(), its real part or its phase"
            )
        if {*kinds, found.dtype.kind} <= set("buifO") and "O" not in kinds:
            return np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):  # sequences of unlike length
        pass
    told = "None" if value is None else type(value).__name__
    raise InputError(
        f"the function returned {told}{where}; it must return a number, a sequence of numbers, or "
        "a mapping of names to numbers, NaN where there is none"
    )


def few_names(names: tuple[str, ...]) -> str:
    """Return the first names of a list."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def alike(draws: NDArray[np.float64]) -> bool:
    """Whether partners' draws agree more than chance makes them.

    Their correlation over the pairs is above what independent partners exceed in one case of 20
    (Fisher: tanh(1.645/sqrt(n - 3)); 0.55 for 10 pairs, 0.23 for 50). What so few pairs cannot
    tell from none costs little: of a correlation of a half, which ten pairs show in every second
    case, a 90 % interval of normal values covers 89 %; of one of 1, if it were not seen, 82 %.

    Parameters
    ----------
    draws : ndarray, shape (S,)
        0 and 1, 2 and 3, ... of partners; NaN where there is no value.
    """
    whole = len(draws) // 2 * 2
    first, second = draws[0:whole:2], draws[1:whole:2]
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 3:
        return False
    a, b = (v[both] - v[both].mean() for v in (first, second))
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    chance = math.tanh(1.645 / math.sqrt(max(len(a) - 3, 1)))
    # Draws that all agree (a count) have no spread of which half could be missing.
    return size > 0 and float((a * b).sum()) / size > chance


def one_of_each(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one finite draw of each pair that has one: the first partner's where it can be."""
    padded = np.append(draws, np.nan) if len(draws) % 2 else draws
    first, second = padded[::2], padded[1::2]
    found = np.where(np.isfinite(first), first, second)
    return np.asarray(found[np.isfinite(found)])


def common_note(names: Sequence[str], notes: Sequence[str], note: str) -> str:
    """Return one note for all values; where they differ, it names the first that is different."""
    others = [(n, told) for n, told in zip(names, notes, strict=True) if told != note]
    if not others or len(set(notes)) == 1:
        return others[0][1] if others else note
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"{note}; {others[0][0]}{more}: {others[0][1].removeprefix(note + '; ')}"
