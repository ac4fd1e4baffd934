"""The loop of a training run: steps, log, checkpoints, looks, and the judgement at its end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..allocator import memory_kept
from ..errors import PriorError
from ..priors._folder import load_prior
from . import card, figures
from .data import Patches
from .export import LOG, PRIOR, REPORT, export
from .feed import Feeder
from .images import Collection
from .look import Looker
from .loss import by_level
from .trainer import Trainer

FINISH, CURVES = "FINISH", "curves.png"
EVERY = 25
"""Steps between lines of the log."""

Show = Callable[[dict[str, Any]], None]
Say = Callable[[str], None]


class Loop:
    """Trains to the end of a run's time.

    Parameters
    ----------
    trainer : Trainer
        The run.
    found : Collection
        Its images.
    patches : Patches
        What it learns from.
    threads : int
        Threads of torch outside the steps.
    say : callable
        Gets sentences to show.
    show : callable or None
        Gets every line of the log.
    """

    def __init__(
        self,
        trainer: Trainer,
        found: Collection,
        patches: Patches,
        threads: int,
        say: Say,
        show: Show | None,
    ) -> None:
        self.trainer, self.found = trainer, found
        self.say, self.show = say, show
        self.threads = threads
        self.log = trainer.out / LOG
        self.main = trainer.engine.main
        self.feeder = Feeder(patches, trainer.settings.workers, trainer.device, say=say)
        self.looker = Looker(trainer, found.held_out, threads)
        self._levels: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._saved = self._exported = trainer.clock.minutes

    def run(self) -> None:
        """Train."""
        with memory_kept(self.trainer.device.type):
            self._steps()

    def _steps(self) -> None:
        trainer = self.trainer
        if self.main:
            self._trim()
            if trainer.step == 0 and "start" in trainer.facts["training"]:
                self._write(self.looker.look(sheet=False))
        self._restart()
        while not trainer.cooldown.over(trainer.progress()):
            x, noise = self.feeder.take()
            sigma, loss, norm, rate = trainer.train_step(x, noise)
            trainer.tick()
            self._levels.append(sigma)
            self._losses.append(loss)
            if trainer.step % EVERY == 0:
                self._line(norm, rate)
            if self.main:
                self._keep()

    def _trim(self) -> None:
        """Drop lines of steps that a kill took back."""
        lines = [line for line in figures.read_log(self.log) if line["step"] <= self.trainer.step]
        text = "".join(json.dumps(line) + "\n" for line in lines if self.trainer.step)
        self.log.write_text(text, encoding="utf-8")

    def _restart(self) -> None:
        """Leave what was done since the last step out of all clocks."""
        self.trainer.clock.start()
        self.feeder.restart_clock()

    def _write(self, line: dict[str, Any]) -> None:
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        if self.show is not None:
            self.show(line)

    def _line(self, norm: Tensor, rate: float) -> None:
        """Write what the last steps did, and end early where that was asked for."""
        trainer = self.trainer
        levels, losses = torch.cat(self._levels).cpu(), torch.cat(self._losses).cpu()
        self._levels, self._losses = [], []
        span = self.feeder.span()
        share, grown = self.feeder.review()
        if self.main:
            count = len(losses) * trainer.engine.processes
            line = {
                "step": trainer.step,
                "minutes": round(trainer.clock.minutes, 3),
                "done": round(min(trainer.progress() / trainer.cooldown.end, 1.0), 4),
                "rate": rate,
                "norm": float(norm),
                "time": time.strftime("%H:%M:%S"),
                "waiting": round(share, 4),
                "per_second": round(count / span, 2) if span > 0 else None,
                **by_level(levels, losses),
            }
            self._write(line)
            if grown:
                self.say(
                    f"waiting for data {100 * share:.0f} % of the time: "
                    f"{self.feeder.workers} processes prepare patches now"
                )
        if trainer.engine.agree(float((trainer.out / FINISH).exists())):
            trainer.cooldown.finish(trainer.progress())

    def _keep(self) -> None:
        """Save, export and look as often as the settings say."""
        trainer, s = self.trainer, self.trainer.settings
        minutes = trainer.clock.minutes
        if minutes - self._saved >= s.save:
            trainer.save()
            self._saved = minutes
            if minutes - self._exported >= s.export:
                export(trainer.out, trainer.out / PRIOR)
                self._exported = minutes
        if self.looker.due():
            line = self.looker.look()
            self._write(line)
            figures.curves(figures.read_log(self.log), trainer.out / CURVES)
            if "held_out" in line:
                scores = ", ".join(f"{v:.2f} at {k}" for k, v in line["held_out"].items())
                self.say(f"step {trainer.step}: held-out images denoised to {scores} (dB at noise)")
            self._restart()

    def finish(self) -> Path:
        """Save, export and judge; return the prior's folder."""
        trainer = self.trainer
        folder = trainer.out / PRIOR
        trainer.engine.close()
        if not self.main:
            return folder
        trainer.save()
        export(trainer.out, folder)
        if trainer.settings.judged:
            self.say("judging the prior on held-out images")
            if self.looker.truths:
                self._write(self.looker.look(sheet=False))  # where the curve ends
                torch.set_num_threads(self.threads)
            self._judge(folder)
            export(trainer.out, folder)
        return folder

    def _judge(self, folder: Path) -> None:
        trainer, found = self.trainer, self.found
        start = None
        begun = trainer.facts.get("start_folder")
        device = str(trainer.device)
        if begun is not None and Path(begun).is_dir():
            try:
                start = load_prior(begun, device)
            except PriorError as error:
                self.say(f"no comparison with the prior before: {error}")
        card.judge(
            trainer.out / REPORT,
            folder,
            found.train,
            found.held_out,
            log=self.log,
            count=trainer.settings.judged,
            facts={
                "steps": trainer.step,
                "minutes": round(trainer.clock.minutes, 2),
                "waiting": round(self.feeder.share, 4),
                "workers": self.feeder.workers,
            },
            start=start,
            device=device,
        )
