"""Samplers against a posterior of many modes that is known exactly.

    python benchmarks/mixture.py [--kinds smc mmps ...] [--seeds 6] [--samples 1000] [--quick]

The prior has 25 modes of unequal weight (benchmarks/_mixture.py) in 2 and 8 dimensions; one noisy
projection on a random direction is measured. Reported, as the mean over measurements, in widths of
a mode:

- ``distance``: sliced Wasserstein-1 distance of the samples to exact ones, over 128 directions;
- ``distance_floor``: the same between two sets of exact samples of the same size;
- ``ratio``: the one over the other;
- ``modes``: total variation between the shares of samples in each mode and the exact weights, and
  ``modes_floor``, that of exact samples.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from _mixture import (
    UNIT,
    draw_posterior,
    grid_of_modes,
    linear_problem,
    measurement,
    mode_error,
    run,
    sliced_distance,
)

from napari_dps.components import make
from napari_dps.grid import Grid

TASKS = {"2D": (2, 1), "8D": (8, 1)}
"""Dimensions and data."""
NOISE = {"modest": 1.0, "small": 0.1}
"""In widths of a mode."""


def study(
    kind: str, task: str, noise: str, samples: int, seeds: int, **fields: Any
) -> dict[str, Any]:
    """Run one sampler on ``seeds`` measurements of one task and return its figures."""
    d, data = TASKS[task]
    prior = grid_of_modes(d, torch.Generator().manual_seed(5))
    sampler = make("sampler", {"kind": kind, **fields}).bind(Grid((1, d), dtype="float64"))
    sigma, seconds, calls = NOISE[noise] * UNIT, 0.0, {}
    rows, ess = [], []
    for seed in range(seeds):
        a, y, _ = measurement(prior, data, sigma, seed)
        posterior = prior.posterior(a, y, sigma)
        generator = torch.Generator().manual_seed(seed)
        one, other = (draw_posterior(posterior, samples, generator) for _ in range(2))
        begin = time.perf_counter()
        x, last = run(sampler, linear_problem(prior, a, y, sigma), samples, seed)
        seconds += time.perf_counter() - begin
        calls = last.calls
        if "least_ess" in last.details:
            ess.append(last.details["least_ess"])
        rows.append(
            [
                sliced_distance(x, one),
                sliced_distance(other, one),
                mode_error(x, posterior),
                mode_error(one, posterior),
            ]
        )
    distance, floor, modes, modes_floor = torch.tensor(rows).mean(0).tolist()
    return {
        "sampler": kind,
        **fields,
        "task": task,
        "noise": NOISE[noise],
        "distance": round(distance, 3),
        "distance_floor": round(floor, 3),
        "ratio": round(distance / floor, 2),
        "modes": round(modes, 3),
        "modes_floor": round(modes_floor, 3),
        "least_ess": min(ess) if ess else None,
        "samples": samples,
        "seeds": seeds,
        "calls": calls,
        "seconds": round(seconds / seeds, 2),
    }


def main() -> None:
    """Run the study and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kinds", nargs="*", default=["smc", "mmps", "pigdm", "daps", "dps"])
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--noise", nargs="*", choices=NOISE, default=list(NOISE))
    parser.add_argument("--seeds", type=int, default=6, help="measurements")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--set", nargs="*", default=[], help="field=value of the samplers")
    parser.add_argument("--quick", action="store_true", help="one measurement, 500 samples, 2D")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.samples, args.tasks, args.noise = 1, 500, ["2D"], ["modest"]
    fields = {k: json.loads(v) for k, v in (pair.split("=", 1) for pair in args.set)}
    rows = [
        study(kind, task, noise, args.samples, args.seeds, **fields)
        for task in args.tasks
        for noise in args.noise
        for kind in args.kinds
    ]
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
