"""Peak memory of a large restoration, as JSON.

    python benchmarks/memory.py [--side 1024] [--samples 4] [--steps 2] [--out FILE]

A blurred synthetic scene with Poisson noise, default sampler. Memory does not depend on the number
of steps, so that few are enough; the peak is the whole process's resident set.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np
from _common import Watcher, machine, publish
from cyclopts import App

import napari_dps
from napari_dps.training.phantoms import phantom

FORWARD = {"kind": "gaussian-blur", "sigma": 2.0}
app = App(help="Peak memory of a large restoration, as JSON.")


@app.default
def main(*, side: int = 1024, samples: int = 4, steps: int = 2, out: Path | None = None) -> None:
    """Run the benchmark.

    Parameters
    ----------
    side
        Of the image, in pixels.
    samples
        Posterior samples.
    steps
        Noise levels.
    out
        File for the JSON.
    """
    tile = phantom(np.random.default_rng(0), 256).astype(np.float64)
    repeats = -(-side // 256)
    scene = 40 * np.tile(tile, (repeats, repeats))[:side, :side] + 1
    counts = napari_dps.simulate(scene, seed=0, forward=FORWARD, noise="poisson")
    begin = time.perf_counter()
    result = napari_dps.reconstruct(
        counts,
        forward=FORWARD,
        noise="poisson",
        sampler={"kind": "mmps", "steps": steps},
        samples=samples,
        device="cpu",
        on_step=Watcher(f"{side} x {side}"),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    gib = peak / (2**30 if sys.platform == "darwin" else 2**20)
    publish(
        {
            "what": __doc__,
            "side": side,
            "samples": samples,
            "steps": steps,
            "peak_gib": gib,
            "batch": result.report["batch"],
            "tile": result.report["tile"],
            "seconds": time.perf_counter() - begin,
            "network_calls": result.report["network_calls"],
            "machine": machine(),
        },
        out,
    )


if __name__ == "__main__":
    app()
