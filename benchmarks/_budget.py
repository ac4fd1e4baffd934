"""Network calls of samplers: how many to ask for, and how many were made."""

from __future__ import annotations

import threading
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, PrivateAttr, SerializeAsAny
from torch import Tensor

from napari_dps.components import PriorSource, SamplerChoice, component_class, make, registry
from napari_dps.core.prior import Prior, Vjp, WrappedPrior
from napari_dps.grid import Grid

DEFAULT = "default"
FULL = "1000 steps"
"""Budget of DPS as published: a thousand steps, each a forward pass and a product."""
MMPS = {20: (8, 2), 50: (17, 4), 100: (34, 4), 250: (85, 4)}
"""Steps of moment matching, and products a step at most: it stops where it is good enough, at
about three calls a step."""
SCALED = ("dps", "mcg")
"""Kinds whose step length carries over neither between problems nor between step counts."""


def budgets(kind: str, calls: tuple[int, ...]) -> list[str]:
    """Return the budgets at which a kind is run: its default, calls, or 1000 steps of DPS.

    ``auto`` is what a user gets who chooses nothing, so it runs as it is. So do classical
    methods, which call no network.
    """
    cls: Any = component_class("sampler", kind)
    if kind == "auto" or cls.classical:
        return [DEFAULT]
    return [str(n) for n in calls] + [FULL] * (kind == "dps")


def fields_for(kind: str, budget: str, samples: int) -> dict[str, Any]:
    """Return the parameters with which a sampler spends a budget of calls on every sample.

    A call is a forward pass of the network on one image, or a product with its Jacobian.

    - ``mmps``: steps and products a step by ``MMPS``; other budgets: steps of three calls;
    - ``smc``: its particles belong to all samples together. They share budget * samples calls,
      two particles a sample or more and as many as it must have; its steps are fewer for that;
    - all others: the field ``steps`` (or ``iterations``, ``turns``) is the budget over the calls
      of a step, which the sampler itself states: PiGDM, DPS and MCG have half as many steps as
      calls, DAPS and DiffPIR as many, PnP-DM one for the levels of a turn.

    Everything else stays at its default. What a search before the samples costs, as on phase
    problems, comes on top; the table says what was made.

    Parameters
    ----------
    kind : str
        Of the sampler.
    budget : str
        A number of calls, ``default`` or ``1000 steps``.
    samples : int
        Samples of the run.

    Raises
    ------
    ValueError
        Where a sampler states no way to spend a number of calls.
    """
    if budget == DEFAULT:
        return {}
    if budget == FULL:
        return {"steps": 1000}
    calls = int(budget)
    if kind == "mmps":
        steps, iterations = MMPS.get(calls, (max(2, calls // 3), 4))
        return {"steps": steps, "iterations": iterations}
    cls = component_class("sampler", kind)
    choice = make("sampler", kind)
    assert isinstance(choice, SamplerChoice)
    sampler = choice.bind(Grid((32, 32), None, "cpu", "float32"))
    per_step = sum(sampler.calls_per_step())
    names = [n for n in ("steps", "iterations", "turns") if n in cls.model_fields]
    if not names or per_step <= 0:
        raise ValueError(f"{kind} states no steps to spend {calls} calls on")
    if "particles" in cls.model_fields:
        turns = calls * samples / per_step
        least = max(2 * samples, lower_bound(cls, "particles"))
        steps = min(int(getattr(choice, names[0])), max(2, int(turns / least)))
        return {names[0]: steps, "particles": max(least, round(turns / steps))}
    return {names[0]: max(2, round(calls / per_step))}


def lower_bound(cls: Any, name: str) -> int:
    """Return the smallest whole number that a parameter allows."""
    found = [getattr(entry, "ge", None) for entry in cls.model_fields[name].metadata]
    return max([int(value) for value in found if value is not None], default=0)


def kinds_of(wanted: tuple[str, ...]) -> list[str]:
    """Return the samplers to run: those named, or all that are registered, ``auto`` first."""
    known = list(registry("sampler"))
    unknown = [kind for kind in wanted if kind not in known]
    if unknown:
        raise SystemExit(f"there is no sampler {unknown[0]!r}; there are {', '.join(known)}")
    return list(wanted) or ["auto", *(kind for kind in known if kind != "auto")]


class Counter:
    """Images that went forward through a network, and products with its Jacobian."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.forward, self.vjp = 0, 0

    def add(self, forward: int = 0, vjp: int = 0) -> None:
        """Count; threads may do so at once."""
        with self._lock:
            self.forward += forward
            self.vjp += vjp


class CountingPrior(WrappedPrior):
    """A prior that counts the images it is called with."""

    def __init__(self, prior: Prior, counter: Counter) -> None:
        super().__init__(prior)
        self.counter = counter

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the denoised batch."""
        self.counter.add(forward=len(x))
        out: Tensor = self.prior(x, sigma)
        return out

    def moments(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor | None]:
        """Return the denoised batch and its variance fraction."""
        self.counter.add(forward=len(x))
        return self.prior.moments(x, sigma)

    def linearize(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Vjp]:
        """Return the denoised batch and its product."""
        return self.linearize_moments(x, sigma)[:2]

    def linearize_moments(
        self, x: Tensor, sigma: Tensor | float
    ) -> tuple[Tensor, Vjp, Tensor | None]:
        """Return the denoised batch, its product and its variance fraction."""
        self.counter.add(forward=len(x))
        x0, vjp, fraction = self.prior.linearize_moments(x, sigma)

        def counted(v: Tensor) -> Tensor:
            self.counter.add(vjp=len(v))
            return vjp(v)

        return x0, counted, fraction


class Counted(PriorSource):
    """Another prior, its calls counted image by image and its weights read once only."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    kind: Literal["counted"] = "counted"
    title: ClassVar[str] = "Counted"
    source: SerializeAsAny[PriorSource]
    """The prior."""
    _counter: Counter = PrivateAttr(default_factory=Counter)
    _loaded: dict[Any, Prior] = PrivateAttr(default_factory=dict)

    @property
    def counter(self) -> Counter:
        """The counter of all priors that were bound."""
        return self._counter

    def image_channels(self) -> int:
        """Return the prior's own."""
        return self.source.image_channels()

    def identity(self) -> dict[str, Any]:
        """Return the prior's own."""
        return self.source.identity()

    def bind(self, grid: Grid) -> Prior:
        """Load the prior, once for every device and precision."""
        key = (grid.device, grid.dtype, grid.shape if self.source.kind == "gaussian" else None)
        if key not in self._loaded:
            self._loaded[key] = self.source.bind(grid)
        return CountingPrior(self._loaded[key], self._counter)
