"""What a finding is made from, and what a finding is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from napari_dps.core.problem import Problem
    from napari_dps.recipe import Recipe

__all__ = ["Evidence", "Finder", "Finding"]


@dataclass(frozen=True)
class Evidence:
    """One frame with its samples, as a finding sees it.

    Attributes
    ----------
    problem : Problem
        Of this frame alone: ``problem.y`` has a batch axis of one. Its prior is bound and may be
        called; its start is None.
    x : Tensor, shape (S, *x_shape)
        The samples in prior units, on the operator's grid. Where that is larger than the field,
        samples of a saved result continue by reflection.
    samples : ndarray, shape (S, ...)
        The same in the input's units on the field, registered to each other where the measurement
        leaves flips and shifts open.
    recipe : Recipe
        Fully resolved.
    seed : int
        For the random numbers of a finding.
    pairs : bool
        Whether samples 0 and 1, 2 and 3, ... were drawn with opposite noise.
    restarts : tuple of float
        Chi-square per datum of the restarts of a search, where the run made any.
    """

    problem: Problem
    x: Tensor
    samples: NDArray[np.float32]
    recipe: Recipe
    seed: int = 0
    pairs: bool = False
    restarts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One thing that was found out about a frame.

    Attributes
    ----------
    name : str
        Its key in ``result.report["verdict"]``: lower case, words joined by underscores.
    title : str
        Its heading on the page.
    sentence : str
        What was found, in plain words.
    numbers : dict
        Figures behind it, JSON-able.
    maps : dict
        float32 arrays of two or three axes by name (lower case, underscores).
    alarm : bool
        Whether it speaks against the reconstruction.
    told : bool
        Whether there is an answer; False where the question could not be decided.
    """

    name: str
    title: str
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    alarm: bool = False
    told: bool = True


Finder = Callable[[Evidence], Finding | None]
"""Looks at the evidence; None where the question does not arise."""
