"""Where does a non-convex problem's posterior lie? Many short chains, the worst given up.

Phase retrieval has many local minima, and the sampler's chains end in the one they began in.
Chains from pure noise and chains from the classical restarts anneal side by side with the prior;
halfway down the worse half is given up by likelihood. The best at the end are heated up again and
annealed more slowly, a few times over: parts of the object that stuck in a wrong place come free
while the rest keeps its own. The best of all tells the samples where to begin. They forget the
rest of it: they join at a noise level at which only the mode is left.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from napari_dps.core.gauss_newton import gauss_newton_draw
from napari_dps.core.problem import Problem, Start
from napari_dps.core.schedule import karras_ladder
from napari_dps.core.streams import Streams

CHAINS, LEVELS = 12, 30
TOP, BOTTOM = 20.0, 0.05
JOIN, GIVE_UP = 1.0, 0.4
LEVEL = 0.7
ROUNDS, PARENTS, CHILDREN, REHEATED_LEVELS = 3, 2, 3, 20
KEPT = PARENTS * CHILDREN


def search_calls() -> int:
    """Return about how many forward passes of one image a search costs."""
    return CHAINS * LEVELS + ROUNDS * PARENTS * CHILDREN * REHEATED_LEVELS


def search(
    problem: Problem, candidates: Tensor, streams: Streams, iterations: int, at_once: int
) -> Iterator[tuple[int, int] | Start]:
    """Yield (done, total) network calls, then the start.

    Parameters
    ----------
    problem : Problem
        Of one frame.
    candidates : Tensor, shape (K, *x_shape)
        Classical solutions, in prior units.
    streams : Streams
        ``CHAINS`` + K of them.
    iterations : int
        Conjugate-gradient iterations of a Gauss-Newton step.
    at_once : int
        Images a network call may hold.
    """
    shape = problem.operator.x_shape
    sigmas = karras_ladder(LEVELS, TOP, BOTTOM)
    join = next(i for i, sigma in enumerate(sigmas) if sigma <= JOIN)
    give_up = next(i for i, sigma in enumerate(sigmas) if sigma <= GIVE_UP)
    everyone = list(range(len(streams)))
    current = streams.take(everyone[:CHAINS])
    x = TOP * current.normal(shape)
    x0 = torch.zeros_like(x)

    def draw(x: Tensor, sigma: float, begin: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        mean = torch.cat([problem.denoise(part, sigma) for part in torch.split(x, at_once)])
        start = mean if begin is None else begin
        x0, z = gauss_newton_draw(problem, mean, sigma, current, iterations, start)
        return x0, z, problem.likelihood.log_prob(problem.y, z, problem.valid)

    total = search_calls()
    for i in range(LEVELS):
        if i == join:
            late = streams.take(everyone[CHAINS:])
            x = torch.cat([x, candidates + sigmas[i] * late.normal(shape)])
            current = streams.take(everyone)
            x0 = torch.cat([x0, candidates])
        # Above, a wrong solution is to be left; from here on the mode found is to be kept.
        x0, z, worth = draw(x, sigmas[i], None if i < join else x0)
        if i == give_up:
            kept = worth.argsort(descending=True, stable=True)[:KEPT]
            x0, z, worth = x0[kept], z[kept], worth[kept]
            current = current.take(kept.tolist())
        x = x0 + sigmas[i + 1] * current.normal(shape)
        yield CHAINS * (i + 1), total
    sigmas = karras_ladder(REHEATED_LEVELS, LEVEL, BOTTOM)
    for k in range(ROUNDS):
        best = worth.argsort(descending=True, stable=True)[:PARENTS]
        child = x0[best].repeat_interleave(CHILDREN, 0)
        for i in range(REHEATED_LEVELS):
            x = child + sigmas[i] * current.normal(shape)
            child, z_child, worth_child = draw(x, sigmas[i], child)
            done = k * REHEATED_LEVELS + i + 1
            yield CHAINS * LEVELS + PARENTS * CHILDREN * done, total
        x0, z = torch.cat([x0[best], child]), torch.cat([z[best], z_child])
        worth = torch.cat([worth[best], worth_child])
    order = worth.argsort(descending=True, stable=True)
    misfits = problem.misfit(z)[order].tolist()
    yield Start(x0[order[:1]], LEVEL, level=LEVEL, misfits=misfits)
