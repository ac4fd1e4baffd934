"""Small things that guided samplers share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_dps.core.linalg import column
from napari_dps.core.problem import Problem


def valid_only(problem: Problem) -> Callable[[Tensor], Tensor]:
    """Return the projection onto data that count."""
    valid = problem.valid
    if valid is None:
        return lambda v: v
    return lambda v: torch.where(valid, v, torch.zeros_like(v))


def data_variance(problem: Problem) -> Tensor:
    """Return the variance of the data for methods that take it once, shape (B or 1, *y_shape).

    It is taken at the expectation of the classical estimate or, where there is none, at the mean
    level of each frame: y itself would call dark noise peaks certain.
    """
    expected, y = problem.reference, problem.y
    if expected is None:
        known = torch.ones_like(y) if problem.valid is None else problem.valid.expand_as(y).to(y)
        mean = (y * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)
        expected = column(mean, y).expand_as(y)
    return problem.likelihood.variance(expected)
