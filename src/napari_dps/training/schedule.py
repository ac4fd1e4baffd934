"""Clocks of a training run: time that counts, and a learning rate that knows when to fall."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median


class ActiveClock:
    """Seconds spent in steps, with pauses left out.

    A process that was stopped and continued sees one step that took very long; no step counts
    for more than four times the median of the last ones.

    Parameters
    ----------
    now : callable
        The clock to read, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.seconds = 0.0
        self._last: float | None = None
        self._recent: deque[float] = deque(maxlen=51)

    @property
    def minutes(self) -> float:
        """Active minutes so far."""
        return self.seconds / 60.0

    def start(self) -> None:
        """Begin a step without counting the time since the last."""
        self._last = self.now()

    def tick(self) -> float:
        """End a step and begin the next; return the seconds that were counted."""
        moment = self.now()
        spent = 0.0 if self._last is None else moment - self._last
        self._last = moment
        counted = spent
        if len(self._recent) >= 5:
            counted = min(spent, 4.0 * median(self._recent))
        self._recent.append(spent)
        self.seconds += counted
        return counted


class Cooldown:
    """Learning-rate factor: one, then a straight line to zero.

    Parameters
    ----------
    total : float
        Length of the run, in minutes.
    share : float
        Part of it, at the end, for the fall.
    short : float
        Length of the fall after :meth:`finish`, in minutes.
    """

    def __init__(self, total: float, share: float, short: float) -> None:
        self.begin = total * (1.0 - share)
        self.end = total
        self.height = 1.0
        self.short = short
        self.finishing = False

    def factor(self, minutes: float) -> float:
        """Return the factor at a time, between 0 and 1."""
        if minutes < self.begin:
            return self.height
        left = (self.end - minutes) / max(self.end - self.begin, 1e-9)
        return self.height * min(max(left, 0.0), 1.0)

    def over(self, minutes: float) -> bool:
        """Return whether the run has ended."""
        return minutes >= self.end

    def finish(self, minutes: float) -> None:
        """Fall from the present height to zero within ``short`` minutes; later calls do nothing."""
        if not self.finishing:
            self.height = self.factor(minutes)
            self.begin, self.end = minutes, min(self.end, minutes + self.short)
            self.finishing = True

    def state(self) -> dict[str, float]:
        """Return what a checkpoint needs."""
        return {
            "begin": self.begin,
            "end": self.end,
            "height": self.height,
            "finishing": float(self.finishing),
        }

    def restore(self, state: dict[str, float], minutes: float) -> None:
        """Take over a cool-down that was not over at ``minutes``; else the new plan stands."""
        if state["finishing"] and minutes < state["end"]:
            self.begin, self.end, self.height = state["begin"], state["end"], state["height"]
            self.finishing = True
