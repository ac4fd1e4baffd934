"""Whether torch.compile and CUDA graphs pay for the shipped prior's network here, as JSON.

    python benchmarks/compiled.py [--sides 256] [--samples 1] [--device auto] [--threads 1]
        [--out FILE]

Seconds of a forward pass (no gradients), of one that keeps what a product needs, and of a product
with the transposed Jacobian, as the samplers make them and behind ``torch.compile``; the seconds
that compiling takes; and after how many steps of ``mmps`` (a pass and two products) compiling has
paid for itself, null where it never does. Largest difference of the outputs, in prior units.
On a CPU the process's own time, the least of some turns. On CUDA also from recorded graphs
(``graphs``, with the step's share of the plain time and the largest difference).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import torch._inductor.config
from _common import machine, publish, say
from _network import load_network
from cyclopts import App, Parameter

from napari_dps.allocator import memory_kept
from napari_dps.device import choose_device
from napari_dps.priors._graphs import VARIABLE

Numbers = Annotated[tuple[int, ...], Parameter(negative="", consume_multiple=True)]
SIGMA, TURNS, PRODUCTS = 0.5, 5, 2
app = App(help="Whether torch.compile and CUDA graphs pay for the shipped prior's network here.")


def least(work: Callable[[], Any], device: str) -> float:
    """Return the least seconds of some turns, the first not counted."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    found = []
    for _ in range(TURNS + 1):
        begin = clock()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        found.append(clock() - begin)
    return min(found[1:])


def figures(prior: Any, x: torch.Tensor, device: str) -> dict[str, float]:
    """Return the seconds of the three kinds of calls."""

    def passed() -> Any:
        with torch.no_grad():
            return prior(x, SIGMA)

    found = {
        "forward": least(passed, device),
        "linearize": least(lambda: prior.linearize(x, SIGMA), device),
    }
    x0, vjp = prior.linearize(x, SIGMA)  # after what is recorded, where it is
    direction = torch.ones_like(x0)
    return found | {"vjp": least(lambda: vjp(direction), device)}


def step(seconds: dict[str, float]) -> float:
    """Return the seconds of a step."""
    return seconds["linearize"] + PRODUCTS * seconds["vjp"]


def study(device: str, side: int, samples: int) -> dict[str, Any]:
    """Return the figures of one size and number of samples."""
    prior = load_network(device, as_made=True)
    x = torch.randn((samples, 1, side, side), generator=torch.Generator().manual_seed(0)).to(device)
    os.environ[VARIABLE] = "0"
    found: dict[str, Any] = {"side": side, "samples": samples, "plain": figures(prior, x, device)}
    with torch.no_grad():
        plain = prior(x, SIGMA)
    if device.startswith("cuda"):
        os.environ[VARIABLE] = "1"
        found["graphs"] = figures(prior, x, device)
        with torch.no_grad():
            found["difference_of_graphs"] = float((prior(x, SIGMA) - plain).abs().max())
        found["graphs_over_plain"] = step(found["graphs"]) / step(found["plain"])
        os.environ[VARIABLE] = "0"
    torch._dynamo.reset()
    prior.network.unet = torch.compile(prior.network.unet, dynamic=False)
    begin = time.perf_counter()
    with torch.no_grad():
        compiled = prior(x, SIGMA)
    x0, vjp = prior.linearize(x, SIGMA)
    vjp(torch.ones_like(x0))
    found["seconds_to_compile"] = time.perf_counter() - begin
    found["difference"] = float((compiled - plain).abs().max())
    found["compiled"] = figures(prior, x, device)
    saved = step(found["plain"]) - step(found["compiled"])
    found["step_over_plain"] = step(found["compiled"]) / step(found["plain"])
    found["pays_after_steps"] = found["seconds_to_compile"] / saved if saved > 0 else None
    return found


@app.default
def main(
    *,
    sides: Numbers = (256,),
    samples: Numbers = (1,),
    device: str = "auto",
    threads: int = 1,
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    sides
        Of the images, in pixels.
    samples
        Images at once.
    device
        As in a run.
    threads
        Of a CPU.
    out
        File for the JSON.
    """
    torch.set_num_threads(threads)
    torch._inductor.config.force_disable_caches = True  # as on the first run of a new machine
    name = choose_device(device)[0]
    rows = []
    with memory_kept(name):
        for side, count in product(sides, samples):
            rows.append(study(name, side, count))
            say(
                f"{side} x {side}, {count} at once: a step takes "
                f"{rows[-1]['step_over_plain']:.2f} of its time compiled, after "
                f"{rows[-1]['seconds_to_compile']:.0f} s of compiling"
            )
    publish({"what": __doc__, "device": name, "rows": rows, "machine": machine()}, out)


if __name__ == "__main__":
    app()
