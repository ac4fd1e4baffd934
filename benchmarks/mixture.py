"""Samplers against a posterior of many modes that is known exactly.

    python benchmarks/mixture.py [--kinds smc mmps ...] [--seeds 6] [--samples 1000] [--quick]
        [--out FILE]
    python benchmarks/mixture.py markdown FILE [--into PAGE.md]

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

import time
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
from _common import machine, publish, say
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
from _pages import markdown_command
from cyclopts import App, Parameter

from napari_dps.components import make
from napari_dps.grid import Grid

TASKS = {"2D": (2, 1), "8D": (8, 1)}
"""Dimensions and data."""
NOISE = {"modest": 1.0, "small": 0.1}
"""In widths of a mode."""
Words = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)]
app = App(help="Samplers against a posterior of many modes, as JSON.")


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


@app.default
def main(
    *,
    kinds: Words = ("smc", "mmps", "pigdm", "daps", "dps"),
    tasks: Words = tuple(TASKS),
    noise: Words = tuple(NOISE),
    seeds: int = 6,
    samples: int = 1000,
    quick: bool = False,
    out: Path | None = None,
) -> None:
    """Run the study and print JSON.

    Parameters
    ----------
    kinds
        Samplers, as they come.
    tasks, noise
        Which of 2D and 8D, and of modest and small.
    seeds
        Measurements.
    samples
        Of each.
    quick
        One measurement, 500 samples, 2D: whether it runs, no figures.
    out
        File for the JSON.
    """
    if quick:
        seeds, samples, tasks, noise = 1, 500, ("2D",), ("modest",)
    rows = []
    for task, level, kind in product(tasks, noise, kinds):
        rows.append(study(kind, task, level, samples, seeds))
        say(f"{kind}, {task}, noise {NOISE[level]}: {rows[-1]['ratio']} times the floor")
    publish({"what": __doc__, "rows": rows, "machine": machine()}, out)


def table(report: dict[str, Any]) -> str:
    """Return a report's table as Markdown."""
    rows = report["rows"]
    columns = list(dict.fromkeys((row["task"], row["noise"]) for row in rows))
    lines = [
        "| sampler | " + " | ".join(f"{task}, noise {noise:g}" for task, noise in columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for kind in dict.fromkeys(row["sampler"] for row in rows):
        cells = []
        for column in columns:
            row = next(r for r in rows if (r["sampler"], r["task"], r["noise"]) == (kind, *column))
            cells.append(f"{row['ratio']:.1f} ({row['modes']:.2f}; {row['modes_floor']:.2f})")
        lines.append(f"| `{kind}` | {' | '.join(cells)} |")
    return "\n".join(lines)


markdown_command(app, table, "mixture")


if __name__ == "__main__":
    app()
