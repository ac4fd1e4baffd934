"""Which samples of which frames are drawn together, and in what order."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

__all__ = ["Batches"]

Item = tuple[int, int]
FEW = 4
"""Samples that go through all frames together, where frames differ."""


class Batches:
    """All samples of all frames of a run, in their order.

    Frames share a batch where they share a ladder of noise levels: a dim frame asks for another
    one than a bright frame, and what a frame becomes must not depend on its neighbours. A sample
    is of use once all its frames are there, so that few samples at a time go through all frames.

    Parameters
    ----------
    samples : int
        Samples of every frame.
    ladders : sequence of hashable
        What each frame's ladder hangs on.
    whole : bool
        Whether all samples of a frame are drawn together.
    """

    def __init__(self, samples: int, ladders: Sequence[Hashable], whole: bool = False) -> None:
        self._ladders = list(ladders)
        alike = len(set(ladders)) == 1
        step = samples if whole else 1 if alike else FEW
        self.items: list[Item] = [
            (s, f)
            for begin in range(0, samples, step)
            for f in range(len(ladders))
            for s in range(begin, min(begin + step, samples))
        ]

    def take(self, done: int, size: int) -> list[Item]:
        """Return the next batch, at most ``size`` (sample, frame) after those that are done."""
        ladder = self._ladders[self.items[done][1]]
        found = []
        for item in self.items[done : done + size]:
            if self._ladders[item[1]] != ladder:
                break
            found.append(item)
        return found
