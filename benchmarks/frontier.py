"""Every sampler at every budget of network calls, on real images: quality against time.

    python benchmarks/frontier.py --data FOLDER --ledger runs/frontier.jsonl
        [--tasks deblur-5 --tasks phase] [--kinds mmps --kinds dps] [--calls 20 --calls 250]
        [--images 4] [--samples 4] [--side 64] [--out benchmarks/results/frontier.json]
    python benchmarks/frontier.py charts benchmarks/results/frontier.json
    python benchmarks/frontier.py markdown benchmarks/results/frontier.json [--into PAGE.md]

FOLDER holds eval/clean. Tasks: deblurring (Gaussian PSF of sigma 2 px) at 5, 30 and 300 photons
over a background of 1; four times coarser pixels, and 80 % of the pixels missing, at 200 photons
over a background of 5; phase retrieval from 1e5 photons in all. Poisson noise. Kinds: all that are
registered but `smc`, which is for small problems. A call is a forward pass of the network on one
image or a product with its Jacobian, of each sample; ``_budget.py`` says how a sampler is told to
spend so many. `auto` runs at its default, DPS at 1000 steps too, and methods without a network have
one row. Step lengths (`scale` of DPS and MCG) are chosen for every task and budget on an image that
is not in the table.

PSNR and SSIM of the mean of the samples, in the truth's range; CRPS and interval score (of the 60 %
interval with 4 samples) in photoelectrons, of phase retrieval in their root, after registration and
one gain. Seconds are of the whole restoration, weights in memory.

A run that was stopped goes on where it was: every cell is a line of the ledger.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

from _budget import FULL, SCALED, budgets, fields_for, kinds_of
from _common import machine, publish, read, say
from _frontier import draw, summary, table
from _ledger import Ledger
from _pages import markdown_command
from _samplers import (
    Task,
    cell,
    chosen_images,
    counted_prior,
    frontier_tasks,
    has_scale,
    tuned_scale,
)
from cyclopts import App, Parameter

Words = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)]
Numbers = Annotated[tuple[int, ...], Parameter(negative="", consume_multiple=True)]
CALLS = (20, 50, 100, 250)
KEYS = ("task", "kind", "budget", "image")
app = App(help="Every sampler at every budget of network calls, on real images.")


def chosen_tasks(names: tuple[str, ...]) -> dict[str, Task]:
    """Return the tasks named, or all."""
    every = frontier_tasks()
    unknown = [name for name in names if name not in every]
    if unknown:
        raise SystemExit(f"there is no task {unknown[0]!r}; there are {', '.join(every)}")
    return {name: every[name] for name in names} if names else every


def tell(row: dict[str, Any]) -> None:
    """Say a row on stderr."""
    where = f"{row['task']}, {row['kind']} {row['budget']}, {row['image']}"
    for word in ("refused", "failed"):
        if row.get(word):
            say(f"{where}: {word}: {row[word]}")
            return
    say(
        f"{where}: {row['psnr']:.2f} dB, CRPS {row['crps']:.3g}, {row['calls']:.0f} calls, "
        f"{row['seconds']:.1f} s"
    )


@app.default
def main(
    *,
    data: Path,
    ledger: Path = Path("runs/frontier.jsonl"),
    tasks: Words = (),
    kinds: Words = (),
    calls: Numbers = CALLS,
    full: bool = True,
    images: int = 4,
    diverse: bool = False,
    samples: int = 4,
    side: int = 64,
    prior: str = "fluorescence",
    scale: float | None = None,
    minutes: float | None = None,
    out: Path | None = None,
) -> None:
    """Run the benchmark, or go on with it.

    Parameters
    ----------
    data
        Folder with eval/clean.
    ledger
        File of the cells that are done.
    tasks, kinds
        What to run; all where left out.
    calls
        Budgets of network calls for each sample.
    full
        Whether DPS also runs at 1000 steps, which the summary compares with.
    images
        How many images.
    diverse
        Images of many structures (clean halves of eval/denoise too), not eval/clean alone.
    samples
        Posterior samples.
    side
        Of the crops, in pixels.
    prior
        A kind, or the folder or file of a checkpoint.
    scale
        Step length of DPS and MCG; chosen on an image outside the table where left out.
    minutes
        Begin no further cell after so long; the next run goes on.
    out
        File for the JSON.
    """
    chosen, names = chosen_tasks(tasks), kinds_of(kinds)
    if not kinds:  # an oracle for small problems: a product for every datum and particle
        names = [name for name in names if name != "smc"]
    paths, spare, crop_seed = chosen_images(data, images, diverse=diverse)
    settings = {"samples": samples, "side": side, "prior": prior, "scale": scale}
    settings["diverse"] = diverse
    book = Ledger(ledger, settings, KEYS)
    source, begin, broken = counted_prior(prior), time.perf_counter(), 0

    def late() -> bool:
        return minutes is not None and time.perf_counter() - begin > 60 * minutes

    # Image by image, so that a run that is stopped has whole tables of the first ones.
    for number, path in enumerate(paths):
        for name, task in chosen.items():
            y, truth = task.measure(read(path), number, 0, side)
            for kind in names:
                for budget in budgets(kind, calls):
                    row = {"task": name, "kind": kind, "budget": budget, "image": path.name}
                    if row in book or late() or (budget == FULL and not full):
                        continue
                    sampler = {"kind": kind, **fields_for(kind, budget, samples)}
                    if kind in SCALED and has_scale(kind):
                        trial = task.measure(read(spare), 999, crop_seed, side)
                        where = {key: row[key] for key in ("task", "kind", "budget")}
                        step = scale or tuned_scale(book, where, task, sampler, *trial, source)
                        sampler |= {} if step is None else {"scale": step}
                    row |= {"fields": sampler}
                    row |= cell(task, y, truth, sampler, source, samples)
                    book.add(row)
                    tell(row)
                    broken += "failed" in row
    wanted = {path.name for path in paths}
    done = [row for row in book.rows.values() if row["image"] in wanted]
    rows = [row for name in chosen for row in done if row["task"] == name]
    scales = [
        {key: r[key] for key in (*KEYS, "psnr") if key in r}
        for r in book.rows.values()
        if r["image"].startswith("scale ")
    ]
    report = {
        "what": __doc__,
        **settings,
        "images": [path.name for path in paths],
        "tuned_on": spare.name,
        "titles": {name: task.title for name, task in chosen.items()},
        "summary": summary(rows),
        "rows": rows,
        "scales": scales,
        "machine": machine(),
    }
    publish(report, out)
    if broken:
        raise SystemExit(f"{broken} cells failed for reasons nobody foresaw; see above")


@app.command
def charts(results: Path, /, *, folder: Path = Path("docs/images")) -> None:
    """Draw a chart for every task, frontier-TASK.png.

    Parameters
    ----------
    results
        JSON of a run.
    folder
        Where the charts go.
    """
    report = json.loads(results.read_text(encoding="utf-8"))
    kinds = sorted({row["kind"] for row in report["rows"]} - {"auto"})
    for name, found in report["summary"].items():
        if not any(row["images"] for row in found["table"]):
            continue  # every sampler refused
        path = folder / f"frontier-{name}.png"
        draw(found["table"], report["titles"][name], path, kinds)
        say(str(path))


markdown_command(app, table, "frontier")


if __name__ == "__main__":
    app()
