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


HALVINGS = 5
SLACK = 1.0
"""Loss of log-likelihood per datum that passes: a step may pay in data for what the prior gains."""


def accept(problem: Problem, x0: Tensor, step: Tensor) -> Tensor:
    """Return ``x0`` plus as much of a guidance step as does not lose the data.

    A safety net. For a Gaussian likelihood and an exact covariance the whole step always passes. A
    learned covariance, or a variance that changes along the step, can throw a sample so far off
    that it never comes back; such a step is halved, and dropped where that does not help.
    """
    with torch.no_grad():

        def worth(length: Tensor) -> Tensor:
            z = problem.operator(x0 + length * step)
            found = problem.likelihood.log_prob(problem.y, z, problem.valid)
            return found.reshape(-1, *([1] * (step.ndim - 1)))

        length = torch.ones_like(step[(slice(None),) + (slice(0, 1),) * (step.ndim - 1)])
        data = problem.y[0].numel() if problem.valid is None else problem.valid[0].sum()
        before = worth(0 * length) - SLACK * data
        for _ in range(HALVINGS):
            passed = worth(length) >= before
            if bool(passed.all()):
                break
            length = torch.where(passed, length, 0.5 * length)
        else:
            length = torch.where(worth(length) >= before, length, 0 * length)
        return x0 + length * step
