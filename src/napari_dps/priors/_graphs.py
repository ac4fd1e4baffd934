"""CUDA graphs: a network's kernels recorded once, and launched together from then on.

A small network on a GPU takes longer to be told what to do than to do it: a pass is a hundred
kernels and more, each launched by Python. A CUDA graph launches all of them at once. What is
recorded has one shape, and reads and writes memory of its own, so that images are copied in and
results out.

Nothing here is taken on trust. A shape is recorded after it came a few times, and only where it is
small enough for launching to matter. What is played back must agree with the network itself, for
the image recorded and for another one, and take less time; otherwise the network is called as
before, and the log says why. ``NAPARI_DPS_CUDA_GRAPHS=0`` in the environment turns all of it off.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Network = Callable[[Tensor, Tensor], Tensor]
Work = Callable[[], Tensor]
Recorder = Callable[[Work], tuple[Tensor, Callable[[], Any]]]
"""Does a piece of work; returns its result, and what does it again into the same memory."""

VARIABLE = "NAPARI_DPS_CUDA_GRAPHS"
LARGEST = 2**19
"""Values of a network's input above which a GPU is busy for longer than launching takes, and above
which a recording would hold much memory."""
BEFORE, KEPT = 3, 3
"""Calls of a shape before it is recorded, and shapes that stay recorded."""
WARM, TURNS = 3, 3
WORTH = 0.9
"""A recording is kept where it needs less than this share of the network's own time."""
AGREES = 1e-3
"""Largest difference that counts as none, over the root-mean-square: libraries may choose other
kernels for a recording."""
log = logging.getLogger("napari_dps")


class CudaRecorder:
    """Records work as CUDA graphs that share memory of their own."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> tuple[Tensor, Callable[[], Any]]:
        """Record ``work``; see :data:`Recorder`."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the GPU meanwhile.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            out = work()
        return out, graph.replay


class Recording:
    """A network for inputs of one shape, with its product where a gradient is asked.

    Parameters
    ----------
    network : callable
        Of an image and a time; frozen.
    x, time : Tensor
        What it is called with.
    products : bool
        Whether products with the transposed Jacobian are recorded too.
    recorder : callable
        See :data:`Recorder`.
    """

    def __init__(
        self, network: Network, x: Tensor, time: Tensor, *, products: bool, recorder: Recorder
    ) -> None:
        self.products, self.number = products, 0
        self._lock = threading.RLock()
        self._x = x.detach().clone().requires_grad_(products)
        self._time = time.detach().clone()
        self._v = torch.zeros(())
        self._live: list[Tensor] = []  # what the product needs hangs on it

        def forward() -> Tensor:
            with torch.set_grad_enabled(products):
                self._live[:] = [network(self._x, self._time)]
            return self._live[0]

        def backward() -> Tensor:
            # Kept: the next product asks for it again.
            (found,) = torch.autograd.grad(self._live[0], self._x, self._v, retain_graph=True)
            return found

        _warm(forward, backward if products else None, self)
        self._out, self._forward = recorder(forward)
        if products:
            self._v = torch.zeros_like(self._out)
            self._gradient, self._backward = recorder(backward)

    def run(self, x: Tensor, time: Tensor) -> tuple[Tensor, int]:
        """Return the network's output, and the number of this call."""
        with self._lock, torch.no_grad():
            self._x.copy_(x)
            self._time.copy_(time)
            self._forward()
            self.number += 1
            return self._out.detach().clone(), self.number

    def pull(self, x: Tensor, time: Tensor, v: Tensor, number: int) -> tuple[Tensor, int]:
        """Return the product of ``v`` with the transposed Jacobian at a call's input.

        What the product needs is in the recording until the next call: after that the call is
        made again.

        Parameters
        ----------
        x, time, number
            Of the call.
        v : Tensor, shape of the output
            What to multiply.

        Returns
        -------
        gradient : Tensor, shape of ``x``
        number : int
            Of the call that the recording now holds.
        """
        with self._lock, torch.no_grad():
            if number != self.number:
                number = self.run(x, time)[1]
            self._v.copy_(v)
            self._backward()
            return self._gradient.detach().clone(), number


def _warm(forward: Work, backward: Work | None, recording: Recording) -> None:
    """Do the work a few times beside the main stream: libraries set themselves up meanwhile."""
    device = recording._x.device

    def work() -> None:
        for _ in range(WARM):
            out = forward()
            if backward is not None:
                recording._v = torch.zeros_like(out)
                backward()

    if device.type != "cuda":
        work()
        return
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream(device).wait_stream(side)


class _Replayed(torch.autograd.Function):
    """A recorded call, for automatic differentiation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, time: Tensor, recording: Recording) -> Tensor:
        ctx.save_for_backward(x, time)
        ctx.recording = recording
        out, ctx.number = recording.run(x, time)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None, None]:
        gradient, ctx.number = ctx.recording.pull(*ctx.saved_tensors, v, ctx.number)
        return gradient, None, None


class Graphs:
    """Calls a network, as recordings of the shapes that come often.

    Parameters
    ----------
    recorder : callable
        Makes a :data:`Recorder`.

    Attributes
    ----------
    reasons : dict
        Why a shape is not recorded.
    """

    def __init__(self, recorder: Callable[[], Recorder] = CudaRecorder) -> None:
        self._recorder = recorder
        self._seen: Counter[Any] = Counter()
        self._kept: OrderedDict[Any, Recording] = OrderedDict()
        self.reasons: dict[Any, str] = {}

    def __call__(self, network: Network, x: Tensor, time: Tensor, label: object = None) -> Tensor:
        """Return ``network(x, time)``; ``label`` tells apart what else it depends on."""
        products = torch.is_grad_enabled() and x.requires_grad
        key = (tuple(x.shape), x.stride(), x.dtype, x.device, time.dtype, label, products)
        if x.numel() > LARGEST or key in self.reasons:
            return self._plain(network, x, time)
        if key not in self._kept:
            self._seen[key] += 1
            if self._seen[key] <= BEFORE or not self._record(key, network, x, time, products):
                return self._plain(network, x, time)
        self._kept.move_to_end(key)
        recording = self._kept[key]
        if not products:
            return recording.run(x, time)[0]
        out: Tensor = _Replayed.apply(x, time, recording)  # type: ignore[no-untyped-call]
        return out

    def _plain(self, network: Network, x: Tensor, time: Tensor) -> Tensor:
        """Call the network itself; where memory runs out, without what recordings hold."""
        try:
            return network(x, time)
        except torch.OutOfMemoryError:
            if not self._kept:
                raise
            self._kept.clear()
            self._seen.clear()
        return network(x, time)

    def _record(self, key: Any, network: Network, x: Tensor, time: Tensor, products: bool) -> bool:
        """Record a shape where that is right and pays; otherwise note why not."""
        try:
            found = Recording(network, x, time, products=products, recorder=self._recorder())
            reason = _objection(network, found, x.detach(), time)
        except RuntimeError as error:  # memory ran out, or something cannot be recorded
            reason = f"recording failed: {' '.join(str(error).split())[:200]}"
        if reason is not None:
            self.reasons[key] = reason
            log.info("CUDA graphs are not used for %s: %s", tuple(x.shape), reason)
            return False
        self._kept[key] = found
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return True


def _objection(network: Network, found: Recording, x: Tensor, time: Tensor) -> str | None:
    """Return why a recording is not to be used; None where nothing speaks against it."""

    def plain(x: Tensor, v: Tensor | None) -> list[Tensor]:
        if not found.products:
            with torch.no_grad():
                return [network(x, time)]
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            out = network(leaf, time)
        v = out.detach() if v is None else v
        return [out.detach(), *torch.autograd.grad(out, leaf, v)]

    def played(x: Tensor, v: Tensor | None) -> list[Tensor]:
        out, number = found.run(x, time)
        if not found.products:
            return [out]
        return [out, found.pull(x, time, out if v is None else v, number)[0]]

    # Another image too, and the first one again: nothing of a call may stay behind.
    for image in (x, 0.7 * x.flip(-1), x):
        for mine, theirs in zip(played(image, None), plain(image, None), strict=True):
            size = theirs.float().square().mean().sqrt()
            if not bool(((mine - theirs).float().abs().max() <= AGREES * size).all()):
                return "what is played back differs from the network's own output"
    v = torch.ones_like(played(x, None)[0])
    share = _seconds(lambda: played(x, v), x) / _seconds(lambda: plain(x, v), x)
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


def are_wanted(x: Tensor) -> bool:
    """Whether images like ``x`` may be worth a recording: on CUDA, unless turned off."""
    return x.device.type == "cuda" and os.environ.get(VARIABLE, "").strip() != "0"
