"""Our samplers and deepinv's beside the bare network: seconds a call, and memory, as JSON.

    python benchmarks/speed.py --deepinv-python OTHER/bin/python [--sides 128 256] [--out FILE]
    python benchmarks/speed.py --markdown JSON [--into PAGE.md]

One network (the shipped prior's), one problem: a Gaussian blur on a periodic grid with Gaussian
noise, in single precision. Every row is a process of its own, so that its peak memory is its own;
rows of the same size take turns, and each figure is the least of all turns. ``cpu_seconds`` is the
process's own time, which a busy machine changes little; ``over_network`` is what a sampler adds to
the calls that it makes, each timed as it is made. ``resident_mib`` is what the resident set grew
by from before the first network call; it holds what the C library's heap cannot fill again.
``memory_mib`` is the same of a turn of its own in which every block is given back at once: what
is in use, and what a GPU would need. deepinv and the bare network run the U-Net as diffusers made
it, ours frozen so that it keeps less (:mod:`napari_dps.priors._frozen`).

deepinv brings a torchvision that may not fit this environment's torch: give it an environment of
its own (torch, deepinv, diffusers, safetensors, pydantic, scipy; nothing of ours is installed
there) and name its interpreter. Without one, only our rows are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from _network import load_network

ROOT = Path(__file__).resolve().parent.parent
OURS = ("dps", "diffpir", "pigdm", "mmps", "daps")
THEIRS = ("deepinv-dps", "deepinv-diffpir")
BARE = ("forward", "forward+vjp")
SIGMA, NOISE = 2.0, 0.05
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""What lets glibc give every larger block back as soon as it is freed."""
LABELS = {
    "forward": "the network, a pass",
    "forward+vjp": "the network, a pass and a product",
    "deepinv-dps": "deepinv's DPS",
    "deepinv-diffpir": "deepinv's DiffPIR",
}


class Counted:
    """Counts and times the calls of a network, and the products with its Jacobian."""

    def __init__(self) -> None:
        self.calls = {"forward": 0, "vjp": 0}
        self.seconds = 0.0

    def __call__(self, kind: str, work: Any, *arguments: Any) -> Any:
        """Do ``work`` and count it as a call of a kind."""
        begin = time.process_time()
        result = work(*arguments)
        self.seconds += time.process_time() - begin
        self.calls[kind] += 1
        return result


def counted_prior(counted: Counted) -> Any:
    """Return the shipped prior, counted."""
    from napari_dps.core.prior import WrappedPrior

    class CountedPrior(WrappedPrior):
        def forward(self, x: Any, sigma: Any) -> Any:
            return counted("forward", self.prior, x, sigma)

        def linearize(self, x: Any, sigma: Any) -> Any:
            x0, vjp = counted("forward", self.prior.linearize, x, sigma)
            return x0, lambda v: counted("vjp", vjp, v)

    return CountedPrior(load_network())


def counted_denoiser(counted: Counted) -> Any:
    """Return the shipped prior as deepinv wants a denoiser: of images in [0, 1]."""
    import torch

    prior = load_network(as_made=True)

    class Both(torch.autograd.Function):
        """Lets the backward pass be counted and timed as a call."""

        @staticmethod
        def forward(context: Any, x: Any, sigma: Any) -> Any:
            x0, context.vjp = counted("forward", prior.linearize, x, sigma)
            return x0

        @staticmethod
        def backward(context: Any, v: Any) -> Any:
            return counted("vjp", context.vjp, v), None

    class Denoiser(torch.nn.Module):
        def forward(self, x: Any, sigma: Any, *args: Any, **kwargs: Any) -> Any:
            level = 2 * torch.as_tensor(sigma, dtype=x.dtype).flatten().expand(len(x))
            if torch.is_grad_enabled() and x.requires_grad:
                return (Both.apply(2 * x - 1, level) + 1) / 2
            with torch.no_grad():
                return (counted("forward", prior, 2 * x - 1, level) + 1) / 2

    return Denoiser()


def our_problem(side: int, samples: int, counted: Counted) -> tuple[Any, Any]:
    """Return the problem of the samplers, and its streams."""
    import torch

    from napari_dps.components import make
    from napari_dps.core.likelihood import GaussianLikelihood
    from napari_dps.core.operator import MappedOperator
    from napari_dps.core.problem import Problem
    from napari_dps.core.streams import Streams
    from napari_dps.grid import Grid

    forward = make("forward", {"kind": "gaussian-blur", "sigma": SIGMA, "boundary": "periodic"})
    # Objects in [0, 1], which is what deepinv restores.
    scale = torch.ones((1, 1, 1, 1))
    operator = MappedOperator(forward.bind(Grid((side, side))), scale, 0 * scale)
    streams = Streams(0, range(samples))
    y = operator(scene(side)) + NOISE * Streams(1, [0]).normal(operator.y_shape)
    return Problem(y, counted_prior(counted), operator, GaussianLikelihood(NOISE)), streams


def scene(side: int) -> Any:
    """Return a smooth object (1, 1, side, side) in [-1, 1]."""
    import torch

    line = torch.linspace(0, 12, side)
    return (0.5 * torch.sin(line)[:, None] * torch.cos(1.7 * line)[None] - 0.3)[None, None]


def run_ours(kind: str, side: int, samples: int, steps: int, counted: Counted) -> Any:
    """Return what draws samples with one of our samplers, ready to go."""
    from napari_dps.components import make
    from napari_dps.grid import Grid

    problem, streams = our_problem(side, samples, counted)
    sampler = make("sampler", {"kind": kind, "steps": steps}).bind(Grid((side, side)))

    def draw() -> None:
        for _ in sampler.sample(problem, samples, streams):
            pass

    return draw


def run_theirs(kind: str, side: int, samples: int, steps: int, counted: Counted) -> Any:
    """Return what draws samples with one of deepinv's samplers, ready to go."""
    import torch
    from _deepinv import load_deepinv

    from napari_dps.components import make

    deepinv = load_deepinv()
    model = make("forward", {"kind": "gaussian-blur", "sigma": SIGMA, "boundary": "periodic"})
    psf = torch.from_numpy(model.psf()).float()[None, None]
    physics = deepinv.physics.BlurFFT(
        img_size=(1, side, side), filter=psf, noise_model=deepinv.physics.GaussianNoise(NOISE)
    )
    y = physics((scene(side) + 1) / 2).expand(samples, -1, -1, -1).contiguous()
    denoiser = counted_denoiser(counted)
    if kind == "deepinv-dps":
        # As many network calls as ours: the last of their levels makes none.
        method = deepinv.sampling.DPS(denoiser, num_steps=steps + 1, dtype=torch.float32)
    else:
        method = deepinv.sampling.DiffPIR(denoiser, deepinv.optim.L2(), sigma=NOISE, max_iter=steps)
    return lambda: method(y, physics)


def run_bare(kind: str, side: int, samples: int, steps: int, counted: Counted) -> Any:
    """Return what calls the network and does nothing else."""
    import torch

    prior, x = load_network(as_made=True), torch.zeros((samples, 1, side, side))

    def call() -> None:
        for _ in range(steps):
            if kind == "forward":
                with torch.no_grad():
                    counted("forward", prior, x, 1.0)
            else:
                _, vjp = counted("forward", prior.linearize, x, 1.0)
                counted("vjp", vjp, x)
                del vjp  # and what it holds of the pass, before the next one

    return call


def resident_mib() -> float:
    """Return the largest resident set so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def measure(name: str, side: int, samples: int, steps: int, threads: int) -> dict[str, Any]:
    """Return one turn of one row; the process must do nothing else before."""
    import torch

    from napari_dps.allocator import memory_kept

    torch.set_num_threads(threads)
    if name in THEIRS:
        from _deepinv import load_deepinv

        load_deepinv()  # before diffusers looks for torchvision
    counted = Counted()
    build = run_bare if name in BARE else run_theirs if name in THEIRS else run_ours
    draw = build(name, side, samples, steps, counted)
    before = resident_mib()
    warm = build(name, 32, 1, 2, Counted())
    warm()  # libraries choose their kernels
    # Our runs keep freed memory for the next step; that is not to be had beside deepinv.
    with nullcontext() if name in THEIRS else memory_kept("cpu"):
        begin, cpu = time.perf_counter(), time.process_time()
        draw()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - begin
    calls = counted.calls["forward"]
    return {
        "name": name,
        "side": side,
        "samples": samples,
        "calls": counted.calls,
        "cpu_seconds": cpu,
        "cpu_seconds_per_call": cpu / calls,
        "cpu_seconds_per_call_and_sample": cpu / calls / samples,
        "seconds_per_call": wall / calls,
        "over_network": cpu / counted.seconds - 1,
        "resident_mib": resident_mib() - before,
    }


def in_a_process(python: str, *arguments: object, **environment: str) -> dict[str, Any]:
    """Return a turn measured by another interpreter."""
    paths = [str(ROOT / "src"), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [python, __file__, "--one", *map(str, arguments)],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(p for p in paths if p)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{python} failed at {arguments}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def best(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the least of every figure."""
    least = dict(turns[0])
    for turn in turns[1:]:
        for key, value in turn.items():
            if isinstance(value, float):
                least[key] = min(least[key], value)
    return least


def table(report: dict[str, Any]) -> str:
    """Return the figures of a report as Markdown, a row for each sampler."""
    rows = report["rows"]
    columns = list(dict.fromkeys((row["side"], row["samples"]) for row in rows))
    lines = [
        f"Thousandths of a second of a call and sample, on {report['threads']} thread of a CPU; in "
        "brackets what the method adds to its network calls, and the most memory in use.",
        "",
        "| method | "
        + " | ".join(f"{side} px, {samples} at once" for side, samples in columns)
        + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        cells = []
        for column in columns:
            row = next(r for r in rows if (r["name"], r["side"], r["samples"]) == (name, *column))
            took = 1000 * row["cpu_seconds_per_call_and_sample"]
            cell = f"{took:.0f} ({100 * row['over_network']:.1f} %, {row['memory_mib']:.0f} MiB)"
            cells.append(cell if name not in BARE else f"{took:.0f} ({row['memory_mib']:.0f} MiB)")
        lines.append(f"| {LABELS.get(name, f'`{name}`')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=6, help="network calls of a run, about")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[*BARE, *OURS, *THEIRS])
    parser.add_argument("--deepinv-python", help="an interpreter that has deepinv")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--markdown", type=Path, help="write the table of this JSON instead")
    parser.add_argument("--into", type=Path, help="page that gets it, between its marks speed")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, *numbers = given.one
        print(json.dumps(measure(name, *map(int, numbers))))
        return
    from _common import machine, publish, say
    from _pages import to_page

    if given.markdown:
        text = table(json.loads(given.markdown.read_text(encoding="utf-8")))
        to_page(text, given.into, "speed")
        return
    from napari_dps.components import registry

    known = registry("sampler")
    names = [n for n in given.only if n not in OURS or n in known]
    if given.deepinv_python is None:
        names = [n for n in names if n not in THEIRS]
    rows = []
    for side in given.sides:
        for samples in given.samples:
            turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            for _ in range(given.turns):
                for name in names:
                    python = given.deepinv_python if name in THEIRS else sys.executable
                    turn = in_a_process(python, name, side, samples, given.steps, given.threads)
                    turns[name].append(turn)
            for name in names:
                row = best(turns[name])
                python = given.deepinv_python if name in THEIRS else sys.executable
                in_use = in_a_process(python, name, side, samples, 2, given.threads, **GIVEN_BACK)
                row["memory_mib"] = in_use["resident_mib"]
                rows.append(row)
                say(
                    f"{name} {side} x {side}, {samples} samples: "
                    f"{row['cpu_seconds_per_call_and_sample']:.3f} s a call and sample, "
                    f"{100 * row['over_network']:.1f} % over the network, "
                    f"{row['memory_mib']:.0f} MiB"
                )
    publish({"what": __doc__, "rows": rows, "steps": given.steps, **machine()}, given.out)


if __name__ == "__main__":
    main()
