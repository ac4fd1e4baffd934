"""Patches for the network, prepared beside it, and how long it had to wait for them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .data import Patches

STARVED = 0.05
"""Share of the time spent waiting for patches above which more processes are taken."""


class Feeder:
    """Batches from processes of their own, as many as keep the network busy.

    Parameters
    ----------
    patches : Patches
        What to draw from.
    workers : int
        Processes; 0 draws in this one, -1 begins with few and takes more while the network waits.
    device : torch.device
        Where batches go. On a CPU the network itself keeps all cores busy, so one in eight is
        enough to begin with, and a quarter the most.
    now : callable
        The clock, in seconds.
    say : callable or None
        Gets sentences to show.
    """

    def __init__(
        self,
        patches: Patches,
        workers: int,
        device: torch.device,
        now: Callable[[], float] = time.perf_counter,
        say: Callable[[str], None] | None = None,
    ) -> None:
        cores = os.cpu_count() or 1
        self.patches, self.device, self.now, self.say = patches, device, now, say
        if workers >= 0:
            self.workers = self.limit = workers
        elif device.type == "cpu":
            self.workers, self.limit = max(cores // 8, 1), max(cores // 4, 1)
        else:
            self.limit = max(cores - 1, 1)
            self.workers = min(4, self.limit)
        self.waited = self.total = 0.0
        self._seed = patches.seed
        self._fresh = True
        self._open()

    def _open(self) -> None:
        self._flow: Iterator[Any] = self._start()
        if self.workers:
            try:
                # Here, and not within a step: processes that cannot begin die before their first.
                self._flow = chain([next(self._flow)], self._flow)
            except (OSError, EOFError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and not _died(error):
                    raise
                self.workers = self.limit = 0
                self._flow = self._start()
                if self.say is not None:
                    self.say(
                        "the processes that prepare patches ended as they began, so this one "
                        "prepares them too, which is slower: in a script, call train() under "
                        '`if __name__ == "__main__":`'
                    )
        self._waiting, self._since = 0.0, self.now()

    def _start(self) -> Iterator[Any]:
        """Begin to draw; the processes, if any, begin with the first batch that is asked for."""
        yield from DataLoader(
            self.patches,
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            prefetch_factor=4 if self.workers else None,
        )

    def take(self) -> tuple[Tensor, Tensor]:
        """Return patches (B, 1, size, size) on the device, their own noise (B,) on the CPU."""
        begin = self.now()
        x, noise = next(self._flow)
        self._waiting += self.now() - begin
        x = torch.as_tensor(x).to(self.device, non_blocking=True)
        return x, torch.as_tensor(noise)

    def span(self) -> float:
        """Return the seconds since the last review."""
        return self.now() - self._since

    def restart_clock(self) -> None:
        """Leave the time since the last review out of the account."""
        self._waiting, self._since = 0.0, self.now()

    def review(self) -> tuple[float, bool]:
        """Return the share of the time since the last review that was spent waiting.

        Returns
        -------
        share : float
            Between 0 and 1.
        grown : bool
            Whether the network starved and more processes were taken.
        """
        moment = self.now()
        span, waiting = moment - self._since, self._waiting
        share = waiting / span if span > 0 else 0.0
        starting, self._fresh = self._fresh, False
        if not starting:  # processes that have just started fill their queues first
            self.waited += waiting
            self.total += span
        if not starting and share > STARVED and self.workers < self.limit:
            self.workers = min(2 * self.workers, self.limit)
            # The new processes must not draw what the old ones drew.
            self.patches.seed += 500_009
            self._fresh = True
            self._open()
            return share, True
        self.restart_clock()
        return share, False

    @property
    def share(self) -> float:
        """Share of the whole run's time spent waiting."""
        return self.waited / self.total if self.total else 0.0


def _died(error: RuntimeError) -> bool:
    """Whether the error tells of a process that has gone, and not of one that raised it."""
    text = str(error)
    return "DataLoader worker" in text and (
        "exited unexpectedly" in text or "killed by signal" in text
    )
