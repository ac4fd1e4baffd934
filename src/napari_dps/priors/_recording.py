"""A frozen network's calls at one shape, recorded once and played back: what CUDA graphs are for.

What is recorded reads and writes memory of its own, so that images are copied in and results out.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Network = Callable[[Tensor, Tensor], Tensor]
Work = Callable[[], Tensor]

SHARE, ROOM = 0.05, 3.0
"""A recording may hold this share of a GPU's free memory; it holds about so many times what stays
of a pass."""


class NotRecorded(RuntimeError):
    """Why something is not recorded, as text."""


class Recorder:
    """Records work on a GPU as CUDA graphs that share memory of their own.

    Parameters
    ----------
    device : torch.device
        The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()

    def warm(self, work: Work) -> None:
        """Do work beside the main stream: libraries set themselves up at the first calls.

        Raises
        ------
        NotRecorded
            If what stays of it would hold much memory.
        """
        with torch.cuda.device(self.device):
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                before = torch.cuda.memory_allocated()
                kept = work()
                held = ROOM * (torch.cuda.memory_allocated() - before)
                del kept
            torch.cuda.current_stream().wait_stream(self.stream)
            free = torch.cuda.mem_get_info()[0]
        if held > SHARE * free:
            raise NotRecorded(
                f"it would hold about {held / 2**20:.0f} of {free / 2**20:.0f} MiB that are free"
            )

    def record(self, work: Work) -> tuple[Tensor, Callable[[], Any]]:
        """Record work; return its result, and what does it again into the same memory."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self.device)
        gc.collect()
        torch.cuda.empty_cache()
        # Not torch.cuda.graph: that stays on its stream where a recording fails.
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            # Other threads may go on using the GPU, as long as they do not wait for it.
            graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
            try:
                out = work()
            finally:
                graph.capture_end()
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
    recorder : Recorder
        Records.
    keep : list of Tensor
        What the recording reads besides: kept where it is.

    Attributes
    ----------
    pulls, again : int
        Products made so far, and how often a call was made once more for one.
    """

    def __init__(
        self,
        network: Network,
        x: Tensor,
        time: Tensor,
        *,
        products: bool,
        recorder: Recorder,
        keep: list[Tensor],
    ) -> None:
        self.products, self.keep = products, keep
        self.pulls = self.again = self.number = 0
        self._lock = threading.RLock()
        self._stream: Any = None
        self._x = x.detach().clone().requires_grad_(products)
        self._time = time.detach().clone()
        self._v = torch.zeros(())
        self._live: list[Tensor] = []  # what the product needs hangs on it

        def forward() -> Tensor:
            self._live.clear()
            with torch.set_grad_enabled(products):
                self._live.append(network(self._x, self._time))
            return self._live[0]

        def backward() -> Tensor:
            # Kept: the next product asks for it again.
            (found,) = torch.autograd.grad(self._live[0], self._x, self._v, retain_graph=True)
            return found

        recorder.warm(forward)
        if products:
            self._v = torch.zeros_like(self._live[0])
            recorder.warm(backward)
        self._live.clear()
        self._out, self._forward = recorder.record(forward)
        if products:
            self._v = torch.zeros_like(self._out)
            self._gradient, self._backward = recorder.record(backward)

    def _in_order(self) -> None:
        """Wait for what another stream still does with the recording's memory."""
        if self._x.device.type != "cuda":
            return
        here, last = torch.cuda.current_stream(self._x.device), self._stream
        if last is not None and last != here:
            here.wait_stream(last)
        self._stream = here

    def run(self, x: Tensor, time: Tensor) -> tuple[Tensor, int]:
        """Return the network's output, and the number of this call."""
        with self._lock, torch.no_grad():
            self._in_order()
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
            self.pulls += 1
            if number != self.number:
                self.again += 1
                number = self.run(x, time)[1]
            self._in_order()
            self._v.copy_(v)
            self._backward()
            return self._gradient.detach().clone(), number


class Replayed(torch.autograd.Function):
    """A recorded call, for automatic differentiation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, time: Tensor, recording: Recording) -> Tensor:
        """Play the network back."""
        ctx.save_for_backward(x, time)
        ctx.recording = recording
        out, ctx.number = recording.run(x, time)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None, None]:
        """Play the product back."""
        gradient, ctx.number = ctx.recording.pull(*ctx.saved_tensors, v, ctx.number)
        return gradient, None, None
