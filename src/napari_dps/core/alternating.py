"""Phase retrieval by alternating projections as a sampler: restarts, ranked by misfit.

The iterations themselves are in :mod:`napari_dps.core.projections`. What is given back is the
object with the smallest misfit that any restart went through; truth has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from napari_dps.core.linalg import column
from napari_dps.core.phasing import first_objects
from napari_dps.core.problem import Problem
from napari_dps.core.projections import (
    FarFieldOperator,
    Projections,
    error_reduction,
    hybrid_input_output,
    raar,
    with_real_sum,
)
from napari_dps.core.sampler import Sampler, Step, final_step
from napari_dps.core.streams import Streams
from napari_dps.errors import RecipeError

EVERY = 10
"""Iterations of a step: so often misfits are taken, and progress is told."""


@dataclass(frozen=True)
class Stage:
    """Iterations of one kind.

    Attributes
    ----------
    iterate : callable
        ``iterate(projections, field, iterations, pause=...) -> field``, and ``smooth=...`` where
        there is a width.
    iterations : int
        How many.
    width : float or None
        Of the low-pass outside the support, in cycles per pixel.
    """

    iterate: Callable[..., Tensor]
    iterations: int
    width: float | None = None

    def steps(self) -> list[int]:
        """Return the iterations of every step."""
        whole, rest = divmod(self.iterations, EVERY)
        return [EVERY] * whole + [rest] * (rest > 0)


def er_stages(iterations: int) -> list[Stage]:
    """Return error reduction."""
    return [Stage(error_reduction, iterations)]


def hio_stages(iterations: int, beta: float, polish: int) -> list[Stage]:
    """Return hybrid input-output, and error reduction at the end."""
    return [Stage(partial(hybrid_input_output, beta=beta), iterations), *er_stages(polish)]


def raar_stages(iterations: int, beta: float, polish: int) -> list[Stage]:
    """Return relaxed averaged alternating reflections, and error reduction at the end."""
    return [Stage(partial(raar, beta=beta), iterations), *er_stages(polish)]


def oss_stages(
    iterations: int, beta: float, polish: int, filters: int, widest: float, narrowest: float
) -> list[Stage]:
    """Return oversampling smoothness: its filters, the widest first, and error reduction."""
    iterate = partial(hybrid_input_output, beta=beta)
    counts = [(k + 1) * iterations // filters - k * iterations // filters for k in range(filters)]
    widths = [widest + (narrowest - widest) * k / max(filters - 1, 1) for k in range(filters)]
    stages = [Stage(iterate, n, width) for n, width in zip(counts, widths, strict=True) if n]
    return [*stages, *er_stages(polish)]


class AlternatingSampler(Sampler):
    """Alternate between data and object from many random starts.

    Parameters
    ----------
    kind : str
        The sampler's name, for refusals.
    restarts : int
        Random starts, side by side.
    stages : sequence of Stage
        One after the other; each starts from the best iterate of the last one.
    """

    def __init__(self, kind: str, restarts: int, stages: Sequence[Stage]) -> None:
        self.kind, self.restarts, self.stages = kind, restarts, list(stages)

    def check(self, problem: Problem) -> None:
        """Refuse whatever is not the magnitudes of one far field."""
        operator = problem.operator.operator
        if isinstance(operator, FarFieldOperator):
            return
        if operator.is_affine:
            came, instead = "something linear in the object", "mmps"
        elif operator.phase_free:
            came, instead = "a scan of many far fields", "daps"
        else:
            came, instead = "something else", "daps"
        raise RecipeError(
            f"the sampler {self.kind!r} needs the magnitudes of one far field (the forward model "
            f"'phase-retrieval'), and this forward model measures {came}; take the sampler "
            f"{instead!r} or 'auto' for it"
        )

    def total_steps(self) -> int:
        """Return the number of steps of all stages."""
        return sum(len(stage.steps()) for stage in self.stages)

    def rehearse(self, problem: Problem, n: int) -> None:
        """Make one step."""
        streams = Streams(0, range(n), problem.y.device, problem.y.dtype)
        next(self.sample(problem, n, streams))

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; see :meth:`Sampler.sample`. The preview is the best object so far."""
        operator = problem.operator.operator
        assert isinstance(operator, FarFieldOperator)
        y, known = operator.magnitude(problem.y, problem.valid)
        # Frame by frame: the iterations magnify rounding, which hangs on the size of a batch.
        frames = [
            Restarts(operator, y, known, f, streams.branches(f, self.restarts)) for f in range(n)
        ]
        i, total = 0, self.total_steps()

        def pause() -> None:
            if problem.checkpoint is not None:
                problem.checkpoint()

        for stage in self.stages:
            iterate = partial(stage.iterate, pause=pause)
            if stage.width is not None:
                iterate = partial(iterate, smooth=operator.low_pass(stage.width, y))
            for frame in frames:
                frame.enter()
            for count in stage.steps():
                for frame in frames:
                    frame.advance(iterate, count)
                i += 1
                if i < total:
                    x = problem.operator.from_object(torch.stack([f.best() for f in frames]))
                    misfit = problem.misfit(problem.operator(x))
                    yield Step(i, total, x, misfit, dict(problem.calls))
        x = problem.operator.from_object(torch.stack([f.best() for f in frames]))
        ranked = [frame.misfits.sort().values.tolist() for frame in frames]
        yield final_step(problem, x, total, [{"restart_misfits": found} for found in ranked])


class Restarts:
    """The restarts of one frame, side by side.

    Parameters
    ----------
    operator : FarFieldOperator
        The optics.
    y, known : Tensor
        Magnitudes of all frames, and where they are known.
    f : int
        The frame.
    streams : Streams
        One per restart.
    """

    def __init__(
        self,
        operator: FarFieldOperator,
        y: Tensor,
        known: Tensor | None,
        f: int,
        streams: Streams,
    ) -> None:
        one = y[min(f, len(y) - 1)].unsqueeze(0)
        where = None if known is None else known[min(f, len(known) - 1)].unsqueeze(0)
        positive = operator.x_shape[0] == 1
        self.projections = Projections(
            operator.far_field, operator.back, one, where, positive, operator.pixels
        )
        starts = first_objects(streams, 1, operator.x_shape).to(y)
        # One by one, so that a restart does not hang on how many there are.
        self.fields = torch.cat([self.projections.begin(start) for start in starts])
        self.objects = torch.zeros_like(starts[:, 0])
        self.misfits = y.new_full((len(starts),), float("inf"))
        self._stage = self.fields, self.misfits

    def enter(self) -> None:
        """Begin a stage: from the best iterates of the last one."""
        self.fields = self._stage[0]
        self._stage = self.fields, torch.full_like(self.misfits, float("inf"))

    def advance(self, iterate: Callable[..., Tensor], count: int) -> None:
        """Iterate, and keep what is better than before."""
        p = self.projections
        self.fields = iterate(p, self.fields, count)
        objects = p.estimate(self.fields)
        misfits = p.misfit(objects)
        better = column(misfits < self.misfits, objects)
        self.objects = torch.where(better, objects, self.objects)
        self.misfits = torch.minimum(misfits, self.misfits)
        fields, least = self._stage
        better = column(misfits < least, fields)
        self._stage = torch.where(better, self.fields, fields), torch.minimum(misfits, least)

    def best(self) -> Tensor:
        """Return the object with the smallest misfit; complex ones with a real sum."""
        found = self.objects[self.misfits.argmin()]
        return found if len(found) == 1 else with_real_sum(found[None])[0]
