"""How exactly a network computes: in float32, or its convolutions in bfloat16 where that pays.

bfloat16 keeps float32's range and 8 of its 24 bits. Only the network's inside is computed in it;
what its output is weighted with and added to stays as it is, so that the error falls with the
noise level. On processors and CUDA the weights are laid out with channels last in either precision,
and convolutions lay out images as their weights: it saves a quarter of float32's time on a CPU. In
double precision no library has such convolutions, and Apple's GPU gains nothing that is known.

Whether it pays depends on the processor: with instructions for it a forward pass takes about half
the time, without them several times as long. ``"auto"`` therefore measures, once for a device, a
network and a version of torch, and remembers: the same recipe goes on computing the same way.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ._graphs import Graphs, are_wanted

Precision = Literal["auto", "float32", "bfloat16"]

WORTH = 0.85
"""bfloat16 is taken where it needs less than this share of float32's time."""
SIDE, TURNS = 64, 3
_known: dict[str, str] = {}


def apply_unet(unet: Any, x: Tensor, time: Tensor, fast: torch.dtype | None) -> Tensor:
    """Return a U-Net's output in the precision of ``x``, computed in ``fast`` where given.

    On CUDA from a recording, where asked for (:mod:`._graphs`).
    """
    if not are_wanted(unet, x):
        return _applied(unet, x, time, fast)
    graphs: Graphs = unet.__dict__.setdefault("graphs", Graphs())
    return graphs(
        lambda x, time: _applied(unet, x, time, fast),
        x,
        time,
        label=(fast, next(unet.parameters()).data_ptr()),
        rough=fast is not None,
        keep=lambda: [weight.detach() for weight in unet.parameters()],
    )


def _applied(unet: Any, x: Tensor, time: Tensor, fast: torch.dtype | None) -> Tensor:
    if fast is None:
        plain: Tensor = unet(x, time).sample
        return plain
    with torch.autocast(x.device.type, dtype=fast):
        out: Tensor = unet(x.contiguous(memory_format=torch.channels_last), time).sample
    return out.to(x)


def set_precision(
    network: nn.Module, precision: str, call: Callable[[Tensor], tuple[Tensor, Any]]
) -> str:
    """Let a network compute in a precision, and return which one it is.

    Parameters
    ----------
    network : nn.Module
        With a ``unet`` and the attribute ``fast`` that it hands to :func:`apply_unet`.
    precision : {"auto", "float32", "bfloat16"}
        ``"auto"`` takes what was measured to be faster on this device.
    call : callable
        The prior's ``linearize`` of one image (1, 1, H, W).
    """
    parameter = next(network.parameters())
    if parameter.dtype != torch.float32:
        precision = "float32"  # asked for in double precision: exactness is the point
    if precision == "auto":
        precision = _measured(network, parameter.device, call)
    _switch(network, precision)
    return precision


def _switch(network: nn.Module, precision: str) -> None:
    fast = precision == "bfloat16"
    network.fast = torch.bfloat16 if fast else None  # type: ignore[assignment]
    parameter = next(network.parameters())
    known = parameter.dtype == torch.float32 and parameter.device.type in ("cpu", "cuda")
    layout = torch.channels_last if known else torch.contiguous_format
    unet: Any = network.unet
    unet.to(memory_format=layout)
    unet.__dict__.pop("graphs", None)  # recordings read the weights where they were


def cache_file() -> Path:
    """Return where measurements are kept."""
    import platformdirs

    return Path(platformdirs.user_cache_path("napari-dps", appauthor=False)) / "precision.json"


def _key(network: nn.Module, device: torch.device) -> str:
    """Return what a measurement holds for."""
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    else:
        machine = f"{platform.node()} {torch.backends.cpu.get_cpu_capability()}"
    unet: Any = network.unet
    shape = [tuple(p.shape) for p in unet.parameters()]
    size = sum(p.numel() for p in unet.parameters())
    return f"{device.type} {machine}; torch {torch.__version__}; {len(shape)} tensors, {size}"


def _measured(
    network: nn.Module, device: torch.device, call: Callable[[Tensor], tuple[Tensor, Any]]
) -> str:
    """Return the faster precision, from memory where it was measured before."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return "float32"
    if device.type not in ("cpu", "cuda"):
        return "float32"  # Apple's GPU gains nothing that is known
    key = _key(network, device)
    if key not in _known:
        _known.update(_read())
    if key not in _known:
        _known[key] = _race(network, device, call)
        _write(_known)
    return _known[key]


def _race(
    network: nn.Module, device: torch.device, call: Callable[[Tensor], tuple[Tensor, Any]]
) -> str:
    """Return which precision takes less time for one pass and one product, taking turns."""
    x = torch.zeros((1, 1, SIDE, SIDE), device=device)
    least = {"float32": float("inf"), "bfloat16": float("inf")}
    for turn in range(TURNS + 1):
        for precision in least:
            _switch(network, precision)
            begin = time.perf_counter()
            x0, vjp = call(x)
            vjp(torch.ones_like(x0)).sum().item()  # waits for a GPU
            if turn:  # the first one fills caches
                least[precision] = min(least[precision], time.perf_counter() - begin)
    return "bfloat16" if least["bfloat16"] < WORTH * least["float32"] else "float32"


def _read() -> dict[str, str]:
    try:
        found = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # not there, or not whole: it is measured again
    good = isinstance(found, dict)
    return {k: v for k, v in found.items() if v in ("float32", "bfloat16")} if good else {}


def _write(known: dict[str, str]) -> None:
    """Keep measurements for the next process, whole or not at all."""
    path = cache_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, fresh = tempfile.mkstemp(prefix=path.name, dir=path.parent)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump({**_read(), **known}, file, indent=2)
        os.replace(fresh, path)
    except OSError:
        return  # where nothing can be kept, the next process measures again
