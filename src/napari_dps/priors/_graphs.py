"""CUDA graphs: a network's kernels launched together, where that is asked for, right, and faster.

A small network on a GPU takes longer to be told what to do than to do it: a pass is a hundred
kernels and more, each launched by Python. A CUDA graph launches all of them at once.

It is off unless ``NAPARI_DPS_CUDA_GRAPHS=1`` is in the environment, and nothing is taken on trust.
A shape is recorded after it came a few times, and only where it is small enough for launching to
matter. What is played back must agree with the network itself, for the image and time recorded and
for others, and take less time; otherwise the network is called as before, and the log says why.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ._recording import Network, NotRecorded, Recorder, Recording, Replayed

VARIABLE = "NAPARI_DPS_CUDA_GRAPHS"
LARGEST = 2**19
"""Values of a network's input above which a GPU is busy for longer than launching takes."""
BEFORE, KEPT = 3, 3
"""Calls of a shape before it is recorded, and shapes that stay recorded."""
TURNS, WORTH = 3, 0.9
"""A recording is kept where it needs less than this share of the network's own time."""
AGREES = {False: 1e-3, True: 2**-6}
"""Largest difference that counts as none, over the root-mean-square, in full precision and not:
libraries may choose other kernels for a recording."""
OFTEN = 8
"""Calls made once more for a product, after which half of all products is too many."""
log = logging.getLogger("napari_dps")
_one_at_a_time = threading.Lock()


def are_wanted(unet: Any, x: Tensor) -> bool:
    """Whether to look for recordings of a network: where asked, on CUDA, of frozen networks.

    Blocks with resampling by FIR filters copy the filter to the GPU at every call, which cannot be
    recorded.
    """
    if x.device.type != "cuda" or os.environ.get(VARIABLE, "").strip() != "1":
        return False
    if torch.version.hip is not None or next(unet.parameters()).requires_grad:
        return False
    config = getattr(unet, "config", {})
    blocks = [*config.get("down_block_types", ["Skip"]), *config.get("up_block_types", [])]
    return not any("Skip" in block for block in blocks)


class Graphs:
    """Calls a network, as recordings of the shapes that come often.

    Parameters
    ----------
    recorder : callable
        Makes the :class:`Recorder` of a device.

    Attributes
    ----------
    reasons : dict
        Why a shape is not recorded.
    """

    def __init__(self, recorder: Callable[[torch.device], Recorder] = Recorder) -> None:
        self._recorder = recorder
        self._seen: Counter[Any] = Counter()
        self._kept: dict[Any, Recording] = {}  # the one used last at the end
        self._off = False
        self.reasons: dict[Any, str] = {}

    def __deepcopy__(self, memo: Any) -> Graphs:
        """Return one without recordings: they read the weights of the network copied."""
        return Graphs(self._recorder)

    def __reduce__(self) -> Any:
        """Return what makes one without recordings, which are of this process."""
        return Graphs, ()

    def __call__(
        self,
        network: Network,
        x: Tensor,
        time: Tensor,
        *,
        label: object = None,
        rough: bool = False,
        keep: Callable[[], list[Tensor]] = list,
    ) -> Tensor:
        """Return ``network(x, time)``.

        Parameters
        ----------
        network : callable
            Frozen.
        x, time : Tensor
            Its arguments.
        label : hashable
            Tells apart what else the network depends on.
        rough : bool
            Whether it computes in less than single precision.
        keep : callable
            Returns what the network reads besides, for recordings to keep.
        """
        products = torch.is_grad_enabled() and x.requires_grad
        inputs = (tuple(x.shape), x.stride(), x.dtype, x.device, tuple(time.shape), time.dtype)
        key = (*inputs, label, products)
        recording = self._kept.get(key)
        if recording is None:
            if self._off or x.numel() > LARGEST or key in self.reasons:
                return self._plain(network, x, time)
            self._seen[key] += 1
            if self._seen[key] > BEFORE:
                recording = self._record(key, network, x, time, products, AGREES[rough], keep())
            if recording is None:
                return self._plain(network, x, time)
        elif recording.again > OFTEN and 2 * recording.again > recording.pulls:
            self._drop(key, "calls of this shape take turns")
            return self._plain(network, x, time)
        self._kept[key] = self._kept.pop(key, recording)
        if not products:
            return recording.run(x, time)[0]
        out: Tensor = Replayed.apply(x, time, recording)  # type: ignore[no-untyped-call]
        return out

    def _plain(self, network: Network, x: Tensor, time: Tensor) -> Tensor:
        """Call the network itself; where memory runs out, without what recordings hold."""
        try:
            return network(x, time)
        except RuntimeError as error:
            if not self._kept or "out of memory" not in str(error).lower():
                raise
        self._off = True
        self._kept.clear()
        return network(x, time)

    def _drop(self, key: Any, reason: str) -> None:
        """Keep a shape's recording no longer, and make none again."""
        self._kept.pop(key, None)
        self.reasons[key] = reason
        log.info("CUDA graphs are not used for %s: %s", key[0], reason)

    def _record(
        self,
        key: Any,
        network: Network,
        x: Tensor,
        time: Tensor,
        products: bool,
        agrees: float,
        keep: list[Tensor],
    ) -> Recording | None:
        """Record a shape where that is right and pays; otherwise note why not."""
        with _one_at_a_time:
            try:
                found = Recording(
                    network, x, time,
                    products=products, recorder=self._recorder(x.device), keep=keep,
                )  # fmt: skip
                reason = _objection(network, found, x.detach(), time, agrees)
            except NotRecorded as error:
                reason = str(error)
            except RuntimeError as error:  # memory ran out, or something cannot be recorded
                reason = " ".join(str(error).split())[:200]
                log.warning("a CUDA graph could not be recorded, none is used: %s", reason)
                # Another try might fail as well, and each leaves something behind on the GPU.
                self._off = True
        if reason is not None:
            self._drop(key, reason)
            return None
        self._kept[key] = found
        if len(self._kept) > KEPT:
            self._drop(next(iter(self._kept)), "other shapes came since")
        return found


def _objection(
    network: Network, found: Recording, x: Tensor, time: Tensor, agrees: float
) -> str | None:
    """Return why a recording is not to be used; None where nothing speaks against it."""

    def plain(x: Tensor, time: Tensor, v: Tensor | None) -> list[Tensor]:
        if not found.products:
            with torch.no_grad():
                return [network(x, time)]
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            out = network(leaf, time)
        v = out.detach() if v is None else v
        return [out.detach(), *torch.autograd.grad(out, leaf, v)]

    def played(x: Tensor, time: Tensor, v: Tensor | None) -> list[Tensor]:
        out, number = found.run(x, time)
        if not found.products:
            return [out]
        return [out, found.pull(x, time, out if v is None else v, number)[0]]

    size = x.float().square().mean().sqrt()
    other = 0.7 * x.flip(-1) + 0.1 * (1 + size).to(x)
    later = 0.9 * time if time.is_floating_point() else time // 2
    # The first ones again: nothing of a call may stay behind.
    for image, when in ((x, time), (other, later), (x, time)):
        for mine, theirs in zip(played(image, when, None), plain(image, when, None), strict=True):
            size = theirs.float().square().mean().sqrt()
            if not bool((mine - theirs).float().abs().max() <= agrees * size):
                return "what is played back differs from the network's own output"
    v = torch.ones_like(found.run(x, time)[0])
    share = _seconds(lambda: played(x, time, v), x) / _seconds(lambda: plain(x, time, v), x)
    if share > WORTH:
        return f"it would take {share:.2f} of the network's own time"
    return None


def _seconds(work: Callable[[], Any], x: Tensor) -> float:
    """Return the least seconds of some turns."""
    least = float("inf")
    for _ in range(TURNS):
        _wait(x)
        begin = perf_counter()
        work()
        _wait(x)
        least = min(least, perf_counter() - begin)
    return least


def _wait(x: Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
