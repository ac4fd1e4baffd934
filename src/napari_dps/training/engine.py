"""Gradients of the loss, on small CPUs and on accelerators, and the step that follows them.

On CPUs a batch is cut into pieces that threads work off one by one, each with a copy of the
network that shares the parameters: on two cores that is faster than letting both cores share
every convolution, and a busy machine slows it only in proportion. An accelerator takes the batch
whole, in half precision where it has it; several of them share the work through accelerate.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..device import choose_device
from ..errors import InputError
from ..priors._network import DenoiserNetwork
from .loss import denoising_loss

if TYPE_CHECKING:
    from .settings import Settings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PAYS = 0.87
"""Half precision is taken on a CPU if it needs at most this share of the time."""


class Pieces:
    """Gradients on the CPU: a batch cut into pieces that threads work off.

    Parameters
    ----------
    network : DenoiserNetwork
        On the CPU.
    threads, piece : int
        How many threads, and patches that one takes at a time at most.
    dtype : torch.dtype
        Precision of the convolutions; the parameters stay float32.
    side : int or None
        Side of the patches that ``piece`` counts; larger ones are taken fewer at a time.
    """

    main = True
    processes = 1

    def __init__(
        self,
        network: DenoiserNetwork,
        threads: int,
        piece: int,
        dtype: torch.dtype = torch.float32,
        side: int | None = None,
    ) -> None:
        self.network, self.piece, self.dtype, self.side = network, piece, dtype, side
        self.threads = threads
        self.device = torch.device("cpu")
        self.replicas = [network]
        for _ in range(threads - 1):
            replica = copy.deepcopy(network)
            for mine, theirs in zip(replica.parameters(), network.parameters(), strict=True):
                mine.data = theirs.data  # shared: only the gradients are the replica's own
            self.replicas.append(replica)
        self.pool = ThreadPoolExecutor(threads)

    def __call__(self, x: Tensor, sigma: Tensor, unit: Tensor) -> Tensor:
        """Fill ``.grad`` of the network with the mean loss's gradient; return losses (B,)."""
        step = self.piece_of(len(x), x.shape[-1])
        pieces = [slice(k, k + step) for k in range(0, len(x), step)]
        losses: list[Tensor] = [torch.empty(0)] * len(pieces)
        pending = iter(range(len(pieces)))
        for replica in self.replicas:
            replica.zero_grad(set_to_none=True)
        half = self.dtype != torch.float32

        def work(replica: DenoiserNetwork) -> None:
            for index in pending:  # next() of a range iterator is atomic
                part = pieces[index]
                with torch.autocast("cpu", dtype=self.dtype if half else None, enabled=half):
                    loss = denoising_loss(
                        replica, x[part], sigma[part], unit[part], replica.sigma_data
                    )
                (loss.sum() / len(x)).backward()  # type: ignore[no-untyped-call]
                losses[index] = loss.detach()

        for done in [self.pool.submit(work, replica) for replica in self.replicas]:
            done.result()
        for replica in self.replicas[1:]:
            for mine, theirs in zip(self.network.parameters(), replica.parameters(), strict=True):
                if theirs.grad is not None:
                    mine.grad = theirs.grad if mine.grad is None else mine.grad.add_(theirs.grad)
        return torch.cat(losses)

    def piece_of(self, count: int, side: int) -> int:
        """Return how many of ``count`` patches a thread takes at a time: all threads get some."""
        area = 1.0 if self.side is None else (side / self.side) ** 2
        return max(min(int(self.piece / area), -(-count // self.threads)), 1)

    def apply(self, optimiser: torch.optim.Optimizer, limit: float = 1.0) -> Tensor:
        """Clip the gradient's norm and step, unless it is not finite; return the norm."""
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        if torch.isfinite(norm):
            optimiser.step()
        return norm

    def agree(self, value: float) -> float:
        """Return the value that all processes go by."""
        return value

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown()


class Whole:
    """Gradients of whole batches on one device, or on several through accelerate.

    Steps whose gradient is not finite are left out on the device itself (the scaler does that),
    so that the CPU never waits for a number and runs ahead.

    Parameters
    ----------
    network : DenoiserNetwork
        On ``device``.
    device : torch.device
        Where.
    dtype : torch.dtype
        Precision of the convolutions; the parameters stay float32.
    accelerator : accelerate.Accelerator or None
        Of a run with several processes.
    """

    def __init__(
        self,
        network: DenoiserNetwork,
        device: torch.device,
        dtype: torch.dtype,
        accelerator: Any = None,
    ) -> None:
        self.network, self.device, self.dtype = network, device, dtype
        self.accelerator = accelerator
        self.main = accelerator is None or bool(accelerator.is_main_process)
        self.processes = 1 if accelerator is None else int(accelerator.num_processes)
        self.call: Any = network if accelerator is None else accelerator.prepare(network)
        # float16 needs its gradients scaled; in the others the scaler only guards the steps.
        begin = 2.0**14 if dtype == torch.float16 else 1.0
        guarded = device.type in ("cuda", "cpu")  # Apple's GPU has no scaler
        self.scaler = torch.amp.GradScaler(device.type, init_scale=begin, enabled=guarded)

    def __call__(self, x: Tensor, sigma: Tensor, unit: Tensor) -> Tensor:
        """Fill ``.grad`` with the mean loss's (scaled) gradient; return losses (B,)."""
        self.network.zero_grad(set_to_none=True)
        half = self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype if half else None, enabled=half):
            losses = denoising_loss(self.call, x, sigma, unit, self.network.sigma_data)
        self.scaler.scale(losses.mean()).backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    def apply(self, optimiser: torch.optim.Optimizer, limit: float = 1.0) -> Tensor:
        """Clip the gradient's norm and step, unless it is not finite; return the norm."""
        self.scaler.unscale_(optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        if self.scaler.is_enabled() or torch.isfinite(norm):
            self.scaler.step(optimiser)
        self.scaler.update()
        return norm

    def compile(self, shapes: Sequence[tuple[int, ...]]) -> str | None:
        """Compile the network if its gradients then are what they were; return why not.

        Compilers of some versions of torch lose gradients on the way, without a word, so they are
        compared for every parameter that matters, on noise of the run's own shapes.
        """
        plain = self.call
        compiled = torch.compile(plain, dynamic=False)
        why_not = self._difference(plain, compiled, shapes)
        self.call = compiled if why_not is None else plain
        return why_not

    def _difference(
        self, plain: Any, compiled: Any, shapes: Sequence[tuple[int, ...]]
    ) -> str | None:
        generator = torch.Generator().manual_seed(0)
        for shape in shapes:
            x = torch.randn(shape, generator=generator).to(self.device)
            sigma = torch.logspace(-1, 1, len(x), device=self.device)
            expected = self._gradients(plain, x, sigma)
            try:
                found = self._gradients(compiled, x, sigma)
            except RuntimeError as error:  # no compiler, or one that gave up
                return f"the compiler failed: {' '.join(str(error).split())[:120]}"
            total = torch.stack([g.norm() for g in expected]).norm()
            wrong = sum(
                bool(a.norm() > 1e-3 * total and (a - b).norm() > 0.2 * a.norm())
                for a, b in zip(expected, found, strict=True)
            )
            if self.agree(float(wrong)):
                return f"compiled, {wrong} of its {len(expected)} gradients come out wrong"
        return None

    def _gradients(self, call: Any, x: Tensor, sigma: Tensor) -> list[Tensor]:
        self.call = call
        self(x, sigma, x.flip(0))
        grads = [p.grad for p in self.network.parameters() if p.grad is not None]
        self.network.zero_grad(set_to_none=True)
        return grads

    def agree(self, value: float) -> float:
        """Return the value of the first process, in all of them."""
        if self.processes == 1:
            return value
        from accelerate.utils import broadcast

        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        return float(broadcast(shared))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"scaler": self.scaler.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state; one from a CPU has none."""
        if "scaler" in state:
            self.scaler.load_state_dict(state["scaler"])

    def close(self) -> None:
        """Let the other processes go."""
        if self.accelerator is not None:
            # A process that leaves while another still talks to it can leave that one hanging.
            self.accelerator.wait_for_everyone()
            self.accelerator.end_training()


Engine = Pieces | Whole


def processes() -> int:
    """Return how many processes `accelerate launch` (or torchrun) has started for this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _accelerator(device: str) -> Any:
    try:
        from accelerate import Accelerator
    except ImportError:
        raise InputError(
            f"{processes()} processes were started, which needs accelerate: "
            "pip install 'napari-dps[train]', or start one process."
        ) from None
    return Accelerator(cpu=device == "cpu")


def make_engine(network: DenoiserNetwork, settings: Settings) -> tuple[Engine, str]:
    """Return what computes the gradients, and a line that says how and why.

    The network is moved to the device. On a CPU torch must be down to one thread of its own, as
    the pieces run side by side.

    Raises
    ------
    InputError
        If the device is not there, or several processes were started without accelerate.
    """
    name, why = choose_device(settings.device)
    accelerator = _accelerator(name) if processes() > 1 else None
    device = torch.device(name) if accelerator is None else accelerator.device
    network.to(device)
    threads = settings.threads or os.cpu_count() or 1
    if accelerator is None and device.type == "cpu":
        dtype, reason = _cpu_dtype(network, settings)
        text = f"device cpu ({why}): {threads} threads, {reason}"
        if settings.compile == "on":
            raise InputError("compile = 'on' needs a GPU: the CPU's threads run uncompiled.")
        return Pieces(network, threads, settings.piece, dtype, settings.size), text
    dtype, reason = _gpu_dtype(device, settings.precision)
    engine = Whole(network, device, dtype, accelerator)
    words = _compiled(engine, settings)
    shared = f", {engine.processes} processes" if engine.processes > 1 else ""
    return engine, f"device {device}{shared} ({why}): {reason}, {words}"


def _compiled(engine: Whole, settings: Settings) -> str:
    """Compile where it was asked for or pays; say what was done.

    Raises
    ------
    InputError
        If it was asked for and cannot be done.
    """
    if settings.compile == "off":
        return "not compiled as asked"
    asked = settings.compile == "on"
    if not asked and not (engine.device.type == "cuda" and _long(settings)):
        return "not compiled (pays on CUDA and in runs of 10 minutes or 2000 steps)"
    batch, size = settings.batch, settings.size
    why_not = engine.compile([(batch, 1, size, size), (max(batch // 4, 1), 1, 2 * size, 2 * size)])
    if why_not is None:
        return "compiled"
    if asked:
        raise InputError(
            f"compile = 'on' is not possible with this torch ({why_not}): leave it out."
        )
    return f"not compiled ({why_not})"


def _long(settings: Settings) -> bool:
    """Whether compiling, which takes a minute or two, is small beside the run."""
    return settings.minutes >= 10 if settings.steps is None else settings.steps >= 2000


def _gpu_dtype(device: torch.device, wanted: str) -> tuple[torch.dtype, str]:
    if wanted != "auto":
        return DTYPES[wanted], f"{wanted} as asked"
    if device.type != "cuda":
        return torch.float32, "float32"
    # Older GPUs only imitate it, slowly.
    if torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8:
        return torch.bfloat16, "bfloat16, which this GPU has"
    return torch.float16, "float16 with scaled gradients, as this GPU has no bfloat16"


def _cpu_dtype(network: DenoiserNetwork, settings: Settings) -> tuple[torch.dtype, str]:
    if settings.precision == "float16":
        raise InputError("precision = 'float16' needs a GPU; on a CPU choose bfloat16 or float32.")
    if settings.precision != "auto":
        return DTYPES[settings.precision], f"{settings.precision} as asked"
    times = {
        dtype: _piece_seconds(network, settings, dtype) for dtype in (torch.float32, torch.bfloat16)
    }
    share = times[torch.bfloat16] / times[torch.float32]
    if share <= PAYS:
        return torch.bfloat16, f"bfloat16, which takes {share:.2f} of float32's time here"
    return torch.float32, f"float32, of whose time bfloat16 would take {share:.2f} here"


def _piece_seconds(network: DenoiserNetwork, settings: Settings, dtype: torch.dtype) -> float:
    """Return the CPU seconds of a piece's forward and backward pass, the best of three."""
    x = torch.zeros(settings.piece, 1, settings.size, settings.size)
    sigma, half = torch.ones(settings.piece), dtype != torch.float32
    best = float("inf")
    for _ in range(3):
        begin = time.thread_time()  # not the wall's: a busy machine shall not decide
        with torch.autocast("cpu", dtype=dtype if half else None, enabled=half):
            loss = denoising_loss(network, x, sigma, x, network.sigma_data).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        best = min(best, time.thread_time() - begin)
    network.zero_grad(set_to_none=True)
    return best
