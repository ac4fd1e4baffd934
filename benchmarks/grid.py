"""Samplers against integration on a grid: counts and phase in one or two pixels.

    python benchmarks/grid.py [--kinds smc mmps ...] [--samples 1000] [--quick]

The prior is Gaussian, so that all error is due to the noise or the operator. Reported, for the
worse pixel:

- ``bias``: error of the samples' mean, over the exact standard deviation;
- ``spread``: their standard deviation over the exact one;
- ``coverage``: exact probability between their 5 % and 95 % quantiles;
- ``distribution``: largest difference between their distribution function and the exact one
  (about 0.03 for 1000 exact samples).
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from _grid import DTYPE, compare, counts, integrate, phase
from _mixture import run

from napari_dps.components import make
from napari_dps.core.likelihood import GaussianLikelihood, PoissonLikelihood
from napari_dps.core.problem import Problem
from napari_dps.grid import Grid
from napari_dps.priors._gaussian import GaussianPrior


def gaussian(mean: float, *spectrum: float) -> GaussianPrior:
    """Return a Gaussian prior of as many pixels as it has modes."""
    return GaussianPrior(mean, torch.tensor([spectrum], dtype=DTYPE))


def cases() -> dict[str, Problem]:
    """Return the problems by name."""
    one, two, wide = gaussian(-0.2, 0.3), gaussian(-0.2, 0.5, 0.1), gaussian(0.3, 1.0, 0.5)
    return {
        "no count, one pixel": counts([0.0], 6.0, 0.5, one),
        "two counts, one pixel": counts([2.0], 6.0, 0.5, one),
        "0 and 3 counts": counts([0.0, 3.0], 6.0, 0.5, two),
        "40 and 3 counts": counts([40.0, 3.0], 20.0, 0.5, two),
        "phase of two pixels": phase([1.5, 0.4], GaussianLikelihood(0.1), wide),
        "phase, sharp": phase([1.5, 0.4], GaussianLikelihood(0.02), wide),
        "phase, counts": phase([3.0, 1.0], PoissonLikelihood(), wide),
    }


def study(kind: str, name: str, samples: int, seed: int = 0, **fields: Any) -> dict[str, Any]:
    """Run one sampler on one problem and return its figures."""
    problem = cases()[name]
    exact = integrate(problem)
    sampler = make("sampler", {"kind": kind, **fields}).bind(Grid((1, 2), dtype="float64"))
    begin = time.perf_counter()
    x, last = run(sampler, problem, samples, seed)
    seconds = time.perf_counter() - begin
    row: dict[str, Any] = {"sampler": kind, **fields, "problem": name, **compare(x, exact)}
    if "least_ess" in last.details:
        row["least_ess"] = last.details["least_ess"]
        row["log_evidence_error"] = round(last.details["log_evidence"] - exact.log_evidence, 4)
    return {**row, "samples": samples, "calls": last.calls, "seconds": round(seconds, 2)}


def main() -> None:
    """Run the study and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kinds", nargs="*", default=["smc", "mmps", "pigdm", "daps"])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--set", nargs="*", default=[], help="field=value of the samplers")
    parser.add_argument("--quick", action="store_true", help="two problems, 200 samples")
    args = parser.parse_args()
    names = list(cases())
    if args.quick:
        names, args.samples = ["0 and 3 counts", "phase of two pixels"], 200
    fields = {k: json.loads(v) for k, v in (pair.split("=", 1) for pair in args.set)}
    rows = [study(kind, name, args.samples, **fields) for name in names for kind in args.kinds]
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
