"""Looks at a prior while it is trained: a sheet of samples and its score on held-out images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..priors._network import NetworkPrior
from . import figures
from .images import Source
from .judge import crops, draw, scores
from .trainer import Trainer

BUDGET = 0.05
"""Share of the training time that looks may take."""
IMAGES, SAMPLES, STEPS = 4, 8, 30


class Looker:
    """Decides when to look, and looks.

    Parameters
    ----------
    trainer : Trainer
        The run.
    held_out : sequence of Source
        Images it does not learn from.
    threads : int
        Threads of torch that a look may use.
    now : callable
        The clock, in seconds.
    """

    def __init__(
        self,
        trainer: Trainer,
        held_out: Sequence[Source],
        threads: int,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        s = trainer.settings
        self.trainer, self.threads, self.now = trainer, threads, now
        self.truths = crops(held_out, IMAGES)
        self.prior = NetworkPrior(trainer.mean, s.sigma_min, s.sigma_max)
        self.last = trainer.clock.minutes
        self.spent = self.cost = 0.0
        self._begin = trainer.clock.seconds

    def due(self) -> bool:
        """Return whether it is time for a look, and time enough was trained to afford it."""
        clock = self.trainer.clock
        waited = clock.minutes - self.last >= self.trainer.settings.look
        return waited and self.spent + self.cost <= BUDGET * (clock.seconds - self._begin)

    def look(self, sheet: bool = True) -> dict[str, Any]:
        """Return a line for the log; write a sheet of samples unless told not to."""
        begin = self.now()
        torch.set_num_threads(self.threads)
        try:
            line: dict[str, Any] = {
                "step": self.trainer.step,
                "minutes": round(self.trainer.clock.minutes, 3),
            }
            if self.truths:
                line["held_out"] = scores(self.prior, self.truths)
            if sheet:
                path = self.trainer.out / "samples" / f"{self.trainer.step:07d}.png"
                figures.sheet(draw(self.prior, SAMPLES, steps=STEPS), path)
                line["sheet"] = path.name
        finally:
            torch.set_num_threads(1)
        if sheet:
            self.last = self.trainer.clock.minutes
            self.cost = self.now() - begin
            self.spent += self.cost
        return line
