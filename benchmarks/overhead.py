"""What a sampler adds to its bare network calls, as JSON.

    python benchmarks/overhead.py [--kinds mmps pigdm] [--sides 256] [--samples 1 8]
        [--steps 4] [--out FILE]

A blurred synthetic scene with Poisson noise. Every forward pass and every product with the
transposed Jacobian is timed on its own; what a step takes beyond their sum is the sampler's, its
operator and its random numbers included. As many steps as the sampler's default (of ``dps``, whose
steps are all alike, 10): those at high noise, where linear systems are solved with more iterations,
count as often as they come. One thread, and the process's own time beside the wall's: other work on
the machine changes it little.
"""

from __future__ import annotations

import time
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from _common import machine, publish, say
from cyclopts import App, Parameter
from torch import Tensor

import napari_dps
from napari_dps.allocator import memory_kept
from napari_dps.components import make
from napari_dps.core.prior import Prior, Vjp, WrappedPrior
from napari_dps.run import Run
from napari_dps.start import find_start
from napari_dps.training.phantoms import phantom

FORWARD = {"kind": "gaussian-blur", "sigma": 2.0}
ALIKE = {"dps": 10}
"""Steps of samplers whose steps cost the same."""
app = App(help="A sampler's overhead over its network calls, as JSON.")


class TimedPrior(WrappedPrior):
    """A prior that adds up the seconds of its calls."""

    def __init__(self, prior: Prior) -> None:
        super().__init__(prior)
        self.seconds = {"forward": 0.0, "vjp": 0.0}
        self.cpu = 0.0
        self.calls = {"forward": 0, "vjp": 0}

    def _timed(self, kind: str, work: Any, *arguments: Any) -> Any:
        begin, cpu = time.perf_counter(), time.process_time()
        result = work(*arguments)
        self.cpu += time.process_time() - cpu
        self.seconds[kind] += time.perf_counter() - begin
        self.calls[kind] += 1
        return result

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Call the prior."""
        result: Tensor = self._timed("forward", self.prior, x, sigma)
        return result

    def linearize(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Vjp]:
        """Linearize the prior and time its products too."""
        x0, vjp = self._timed("forward", self.prior.linearize, x, sigma)
        return x0, lambda v: self._timed("vjp", vjp, v)


def study(kind: str, side: int, samples: int, steps: int | None) -> dict[str, Any]:
    """Return the figures of one sampler, size and number of samples drawn at once."""
    if steps is None:
        steps = ALIKE.get(kind) or int(make("sampler", kind).steps)
    scene = 40 * phantom(np.random.default_rng(0), side).astype(np.float64) + 1
    counts = napari_dps.simulate(scene, seed=0, forward=FORWARD, noise="poisson")
    recipe = {
        "forward": FORWARD,
        "noise": "poisson",
        "sampler": {"kind": kind, "steps": steps},
        "samples": samples,
    }
    run = Run(counts, recipe, device="cpu")
    run._bind()
    for _ in find_start(run):
        pass
    batch = [(s, 0) for s in range(samples)]
    with memory_kept("cpu"):  # as a run does
        for _ in run._sample(batch):  # warm caches and allocator
            break
        timed = TimedPrior(run._prior)
        run._prior = timed
        begin, cpu = time.perf_counter(), time.process_time()
        for _ in run._sample(batch):
            pass
        cpu, seconds = time.process_time() - cpu, time.perf_counter() - begin
    network = sum(timed.seconds.values())
    return {
        "sampler": kind,
        "side": side,
        "samples": samples,
        "steps": steps,
        "forward_calls": timed.calls["forward"],
        "vjp_calls": timed.calls["vjp"],
        "seconds_per_forward": timed.seconds["forward"] / max(timed.calls["forward"], 1),
        "seconds_per_vjp": timed.seconds["vjp"] / max(timed.calls["vjp"], 1),
        "seconds_per_step": seconds / steps,
        "cpu_seconds_per_step": cpu / steps,
        "overhead": cpu / timed.cpu - 1,
        "overhead_of_wall_time": seconds / network - 1,
    }


def operator_share(side: int, repeats: int = 5) -> dict[str, float]:
    """Return the seconds of a blur and its adjoint, of a network call, and their ratio.

    The process's own time, the least of some repeats.
    """

    def least(work: Any, times: int) -> float:
        found = []
        for _ in range(times + 1):  # the first warms caches and allocator
            begin = time.process_time()
            work()
            found.append(time.process_time() - begin)
        return min(found[1:])

    counts = np.random.default_rng(0).poisson(9.0, (side, side))
    run = Run(counts, {"forward": FORWARD, "noise": "poisson", "samples": 1}, device="cpu")
    run._bind()
    operator = run._problem.operator.operator
    x = torch.rand((1, *operator.x_shape))
    z = operator(x)
    with torch.no_grad():
        blur = least(lambda: operator(x), 10 * repeats)
        adjoint = least(lambda: operator.adjoint(z), 10 * repeats)
        call = least(lambda: run._prior(x, 1.0), repeats)
    return {
        "side": side,
        "blur": blur,
        "adjoint": adjoint,
        "network_call": call,
        "share_of_a_call": (blur + adjoint) / call,
    }


@app.default
def main(
    *,
    kinds: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (
        "dps",
        "pigdm",
        "mmps",
        "daps",
    ),
    sides: Annotated[tuple[int, ...], Parameter(negative="", consume_multiple=True)] = (256, 512),
    samples: Annotated[tuple[int, ...], Parameter(negative="", consume_multiple=True)] = (1, 8),
    steps: int | None = None,
    operator_side: int = 512,
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    kinds
        Samplers.
    sides
        Of the image, in pixels.
    samples
        How many samples are drawn at once.
    steps
        Steps of each run; its sampler's own where left out.
    operator_side
        Image side at which a blur and its adjoint are set beside a network call; 0: not at all.
    out
        File for the JSON.
    """
    torch.set_num_threads(1)
    rows = []
    for kind, side, count in product(kinds, sides, samples):
        rows.append(study(kind, side, count, steps))
        say(
            f"{kind}, {side} x {side}, {count} samples: "
            f"{rows[-1]['cpu_seconds_per_step']:.2f} s a step, "
            f"{100 * rows[-1]['overhead']:.1f} % over its network calls"
        )
    result: dict[str, Any] = {"what": __doc__, "rows": rows, "machine": machine()}
    if operator_side:
        result["operator"] = operator_share(operator_side)
        share = result["operator"]["share_of_a_call"]
        say(f"a blur and its adjoint, {operator_side} px: {100 * share:.2f} % of a network call")
    publish(result, out)


if __name__ == "__main__":
    app()
