"""Samplers against a posterior known in closed form: bias, spread and coverage.

    python benchmarks/exactness.py [--kinds mmps daps ...] [--samples 79] [--truths 2]
        [--size 16] [--budgets 20 50 100] [--out JSON] [--table MD] [--chart PNG] [--quick]
    python benchmarks/exactness.py join JSON... [--out JSON] [--table MD] [--chart PNG]

A Gaussian prior, a linear operator and Gaussian noise give a Gaussian posterior. Three spectra,
three tasks, three noise levels (:mod:`_closed_form` states them); every sampler that draws
samples, as it comes and at a budget of network calls, each Jacobian product counting as one. The
samples are independent, without antithetic pairs. Reported for each cell:

- ``error``: root-mean-square error of the samples' mean against the exact mean, over the
  Monte-Carlo floor (exact standard deviation over root S); ``bias``: the same error without the
  noise of the draw (from antithetic partners), over the exact standard deviation;
- ``spread``: the samples' standard deviation over the exact one (root of the mean ratio of
  variances), over measured and missing pixels, and over the posterior's eigenmodes that the data
  measure well (less than a tenth of the prior's variance left), partly, or not (more than nine
  tenths left);
- ``coverage``: what the sampled 50, 80, 90 and 95 % intervals hold of the exact posterior, over
  the same pixels and modes.

Gate: at its default and at budgets of 50 calls and more, the default sampler's 90 % interval
covers 0.87 to 0.93 of every one of these groups, and its error is at most 1.2.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from _closed_form import DTYPE, NOISE, PARTNERS, SPECTRA, TASKS, Case, average
from _common import machine, publish, say
from _exactness_chart import draw_chart, summary, write_table
from cyclopts import App, Parameter

from napari_dps.components import make, registry
from napari_dps.core.streams import Streams
from napari_dps.errors import DPSError
from napari_dps.grid import Grid
from napari_dps.kinds import SamplerChoice

app = App(
    help="Samplers against a posterior known in closed form.",
    default_parameter=Parameter(consume_multiple=True),
)
BUDGETS = (20, 50, 100)
GATED = "mmps"
"""What `auto` takes where the operator is affine."""


def drawing_kinds() -> list[str]:
    """Return the kinds of samplers that draw from a posterior, with a prior."""
    return [
        kind
        for kind, cls in registry("sampler").items()
        if issubclass(cls, SamplerChoice)
        and not (cls.point_estimate or cls.classical or kind == "auto")
    ]


def examine(case: Case, choice: Any, samples: int, truths: int) -> dict[str, Any]:
    """Run one sampler on one case and return its figures.

    Parameters
    ----------
    case : Case
        The problem.
    choice : SamplerChoice
        The sampler.
    samples, truths : int
        Samples of a measurement, and measurements.

    Raises
    ------
    DPSError
        If the sampler refuses the problem, or its own result.
    """
    sampler = choice.bind(Grid((case.size, case.size), dtype="float64"))
    # Samples drawn together have no partners of their own.
    partners = 0 if choice.interacting else min(PARTNERS, samples)
    judged, calls, begin = [], {}, time.perf_counter()
    for t in range(truths):
        y = case.draw(t)
        problem = case.problem(y, informed=getattr(choice, "informed_start", False))
        sampler.check(problem)
        streams = Streams(
            t,
            [*range(samples), *range(partners)],
            dtype=DTYPE,
            mirrored=[k >= samples for k in range(samples + partners)],
        )
        *_, last = sampler.sample(problem, samples + partners, streams)
        x, calls = last.x0.flatten(1), dict(last.calls)
        judged.append(case.judge(x[:samples], case.mean(y), x[samples:] if partners else None))
    seconds = round(time.perf_counter() - begin, 1)
    return average(judged) | {"calls": calls, "seconds": seconds}


def study(
    kind: str,
    task: str,
    sigma: float,
    samples: int,
    truths: int,
    informed: bool,
    *,
    spectrum: str = "smooth",
    size: int = 24,
    **fields: object,
) -> dict[str, Any]:
    """Run one sampler on one task and return its figures, 90 % intervals by name.

    Parameters
    ----------
    kind : str
        Of the sampler.
    task, sigma, spectrum, size
        See :class:`_closed_form.Case`.
    samples, truths : int
        Samples of a measurement, and measurements.
    informed : bool
        Whether a sampler that can start from a classical estimate does.
    **fields
        Of the sampler.
    """
    cls = registry("sampler")[kind]
    if "informed_start" in cls.model_fields:
        fields = {"informed_start": informed, **fields}
    row = examine(Case(task, sigma, spectrum, size), make_sampler(kind, fields), samples, truths)
    spread, coverage = row["spread"], {k: v[90] for k, v in row["coverage"].items()}
    seen = "measured pixels" if "measured pixels" in spread else "pixels"
    return {
        "sampler": kind,
        "task": task,
        "noise": sigma,
        "informed": informed and "informed_start" in cls.model_fields,
        **fields,
        "error": row["error"],
        "bias": row["bias"],
        "spread": spread[seen],
        "spread_unmeasured": spread.get("missing pixels"),
        "coverage": coverage["pixels"],
        "coverage_measured": coverage[seen],
        "coverage_unmeasured": coverage.get("missing pixels"),
        "mode_spread": {k: v for k, v in spread.items() if k.endswith("modes")},
        "mode_coverage": {k: v for k, v in coverage.items() if k.endswith("modes")},
        "calls": row["calls"],
        "seconds": row["seconds"],
    }


def make_sampler(kind: str, fields: dict[str, Any]) -> SamplerChoice:
    """Return a sampler of a kind."""
    choice = make("sampler", {"kind": kind, **fields})
    assert isinstance(choice, SamplerChoice)
    return choice


def within(
    case: Case, kind: str, budget: int, known: dict[str, Any], samples: int, truths: int
) -> dict[str, Any]:
    """Return the figures at the most steps whose calls stay within a budget.

    Parameters
    ----------
    case, kind, samples, truths
        See :func:`examine`.
    budget : int
        Network calls, Jacobian products included.
    known : dict
        The row of the default, which says what a step costs.
    """
    bounds = registry("sampler")[kind].model_fields["steps"].metadata
    least = next((m.ge for m in bounds if hasattr(m, "ge")), 1)
    most = next((m.le for m in bounds if hasattr(m, "le")), 10_000)
    calls = sum(known["calls"].values())
    steps = int(known["steps"] * budget / calls)
    while True:
        steps = min(max(least, steps), most)
        if steps == known["steps"]:
            return {**known, "setting": f"{budget} calls"}
        row = examine(case, make_sampler(kind, {"steps": steps}), samples, truths)
        calls = sum(row["calls"].values())
        if calls <= budget or steps <= least:
            return {"setting": f"{budget} calls", "steps": steps, **row}
        steps = min(steps, int(steps * budget / calls) + 1)
        # Few long steps may need more products each than the default's many.
        steps -= 1


def rows_of(
    case: Case, kind: str, budgets: tuple[int, ...], samples: int, truths: int
) -> list[dict[str, Any]]:
    """Return the rows of one sampler on one case: its default, then the budgets."""
    where = {"sampler": kind, "spectrum": case.name, "task": case.task, "noise": case.noise}
    choice = make_sampler(kind, {})
    try:
        found = examine(case, choice, samples, truths)
    except DPSError as error:
        return [where | {"setting": "default", "refused": str(error)}]
    default = {"setting": "default", "steps": getattr(choice, "steps", None), **found}
    rows = [default]
    for budget in budgets if default["steps"] is not None else ():
        try:
            rows.append(within(case, kind, budget, default, samples, truths))
        except DPSError as error:  # too few steps for it, as it says itself
            rows.append({"setting": f"{budget} calls", "refused": str(error)})
    return [where | row for row in rows]


def missed(row: dict[str, Any]) -> list[str]:
    """Return what of the gate a row misses."""
    found = [
        f"{group} {levels[90]}"
        for group, levels in row["coverage"].items()
        if not 0.87 <= levels[90] <= 0.93
    ]
    return found + ([f"error {row['error']}"] if row["error"] > 1.2 else [])


def gate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return which cells of the gated sampler miss the gate, at 50 calls and more."""
    gated = [
        row
        for row in rows
        if row["sampler"] == GATED
        and "refused" not in row
        and (row["setting"] == "default" or int(row["setting"].split()[0]) >= 50)
    ]
    names = ("spectrum", "task", "noise", "setting")
    failed = [{k: row[k] for k in names} | {"missed": missed(row)} for row in gated if missed(row)]
    return {"sampler": GATED, "rows": len(gated), "failed": failed}


@app.default
def main(
    *,
    kinds: list[str] | None = None,
    tasks: list[str] | None = None,
    spectra: list[str] | None = None,
    noise: list[float] | None = None,
    budgets: list[int] | None = None,
    samples: int = 79,
    truths: int = 2,
    size: int = 16,
    quick: bool = False,
    out: Path | None = None,
    table: Path | None = None,
    chart: Path | None = None,
) -> None:
    """Run the study and print JSON.

    Parameters
    ----------
    kinds
        Samplers; all that draw from a posterior.
    tasks, spectra, noise
        Which cells; all 27.
    budgets
        Network calls, besides the default's.
    samples, truths
        Samples of a measurement (one short of a multiple of 40, so that the four intervals lie
        between samples and not within), and measurements of a cell.
    size
        Side of the images in pixels, even.
    quick
        One cell of each task and few samples: whether it runs, no figures.
    out, table, chart
        Files for the JSON, a Markdown table and a figure.
    """
    torch.set_num_threads(1)
    begin = time.perf_counter()
    if quick:
        spectra, noise, samples, truths = ["smooth"], [0.1], 39, 1
    cells = [
        Case(task, level, spectrum, size)
        for spectrum in spectra or SPECTRA
        for task in tasks or TASKS
        for level in noise or NOISE
    ]
    rows: list[dict[str, Any]] = []
    for kind in kinds or drawing_kinds():
        for case in cells:
            rows += rows_of(case, kind, tuple(budgets or BUDGETS), samples, truths)
        say(f"{kind}: {time.perf_counter() - begin:.0f} s")
    for row in rows:
        if row.get("refused"):
            say(f"{row['sampler']} refuses {row['task']}, {row['setting']}: {row['refused']}")
    spent = round(time.perf_counter() - begin)
    tell(rows, {"samples": samples, "truths": truths, "size": size}, spent, out, table, chart)


@app.command
def join(
    sources: list[Path],
    /,
    *,
    out: Path | None = None,
    table: Path | None = None,
    chart: Path | None = None,
) -> None:
    """Put the cells of several runs with the same settings into one, the last one's of each.

    Parameters
    ----------
    sources
        JSON files of this benchmark.
    out, table, chart
        As above.
    """
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in sources]
    settings = {name: parts[0][name] for name in ("samples", "truths", "size")}
    for path, part in zip(sources, parts, strict=True):
        if any(part[name] != value for name, value in settings.items()):
            raise SystemExit(f"{path} has other settings than {sources[0]}; join equal ones")
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for part in parts:
        found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in part["rows"]:
            cell = tuple(row[name] for name in ("sampler", "spectrum", "task", "noise"))
            found.setdefault(cell, []).append(row)
        rows |= found
    every = [row for found in rows.values() for row in found]
    for row in every:  # JSON has no numbers for names
        row["coverage"] = {
            group: {int(level): value for level, value in levels.items()}
            for group, levels in row.get("coverage", {}).items()
        }
    tell(every, settings, sum(part["seconds"] for part in parts), out, table, chart)


def tell(
    rows: list[dict[str, Any]],
    settings: dict[str, Any],
    seconds: int,
    out: Path | None,
    table: Path | None,
    chart: Path | None,
) -> None:
    """Publish the rows, their summary and what the gate says of them."""
    report = {
        "what": __doc__,
        **settings,
        "spectra": {
            k: dict(zip(("length", "exponent"), v, strict=True)) for k, v in SPECTRA.items()
        },
        "summary": summary(rows),
        "gate": gate(rows),
        "rows": rows,
        "seconds": seconds,
        "machine": machine(),
    }
    if table is not None:
        write_table(report, table)
    if chart is not None:
        draw_chart(rows, chart)
    publish(report, out)


if __name__ == "__main__":
    app()
