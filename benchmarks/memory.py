"""Peak memory and time of large restorations, as JSON.

    python benchmarks/memory.py [--sides 512 2048] [--samples 1] [--steps 2] [--out FILE]

A blurred synthetic scene with Poisson noise. Memory does not depend on the number of steps, so that
few are enough. Each size is a process of its own, and the peak is its whole resident set;
``images_gib`` is what 64 images of the larger size take, which is about what a run holds of them.
``time_ratio`` is time per pixel over that of the first size: 1 where time grows as the area.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from _common import Watcher, machine, publish, say
from cyclopts import App, Parameter

import napari_dps
from napari_dps.training.phantoms import phantom

FORWARD = {"kind": "gaussian-blur", "sigma": 2.0}
HELD = 64
app = App(help="Peak memory and time of large restorations, as JSON.")


@app.command
def one(side: int, samples: int, steps: int, sampler: str) -> None:
    """Restore one image in this process and print its figures."""
    tile = phantom(np.random.default_rng(0), 256).astype(np.float64)
    repeats = -(-side // 256)
    scene = 40 * np.tile(tile, (repeats, repeats))[:side, :side] + 1
    counts = napari_dps.simulate(scene, seed=0, forward=FORWARD, noise="poisson")
    begin, cpu = time.perf_counter(), time.process_time()
    result = napari_dps.reconstruct(
        counts,
        forward=FORWARD,
        noise="poisson",
        sampler={"kind": sampler, "steps": steps},
        samples=samples,
        device="cpu",
        on_step=Watcher(f"{side} x {side}"),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {
        "side": side,
        # Linux counts in KiB, macOS in bytes.
        "peak_gib": peak / (2**30 if sys.platform == "darwin" else 2**20),
        "images_gib": HELD * samples * 4 * side**2 / 2**30,
        "batch": result.report["batch"],
        "tile": result.report["tile"],
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "network_calls": result.report["network_calls"],
    }
    print(json.dumps(figures))


@app.default
def main(
    *,
    sides: Annotated[tuple[int, ...], Parameter(negative="", consume_multiple=True)] = (512, 2048),
    samples: int = 1,
    steps: int = 2,
    sampler: str = "pigdm",
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    sides
        Of the images, in pixels, smallest first.
    samples
        Posterior samples.
    steps
        Noise levels.
    sampler
        Its kind; pigdm makes one pass and one product a step.
    out
        File for the JSON.
    """
    rows: list[dict[str, Any]] = []
    for side in sides:
        words = [__file__, "one", str(side), str(samples), str(steps), sampler]
        done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        rows.append(row)
        first = rows[0]
        pixels = (side / first["side"]) ** 2
        row["time_ratio"] = row["cpu_seconds"] / first["cpu_seconds"] / pixels
        row["memory_ratio"] = (row["peak_gib"] - row["images_gib"]) / first["peak_gib"]
        say(
            f"{side} x {side}: {row['peak_gib']:.2f} GiB, {row['memory_ratio']:.2f} times the "
            f"first without the images; {row['cpu_seconds']:.0f} s, "
            f"{row['time_ratio']:.2f} times the first a pixel"
        )
    what = {"what": __doc__, "samples": samples, "steps": steps, "sampler": sampler}
    publish({**what, "rows": rows, "machine": machine()}, out)


if __name__ == "__main__":
    app()
