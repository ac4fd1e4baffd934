"""Small things that guided samplers share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_dps.core.problem import Problem


def valid_only(problem: Problem) -> Callable[[Tensor], Tensor]:
    """Return the projection onto data that count."""
    valid = problem.valid
    if valid is None:
        return lambda v: v
    return lambda v: torch.where(valid, v, torch.zeros_like(v))
