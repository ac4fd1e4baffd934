"""Which sampler's intervals are narrowest once all of them are scaled to cover? As JSON.

    python benchmarks/calibrated.py --data FOLDER --work WORK
        [--frontier benchmarks/results/frontier.json] [--tasks blur-5 ...] [--kinds auto daps ...]
        [--budget 100] [--crops 20] [--samples 8] [--out FILE]
    python benchmarks/calibrated.py markdown FILE [--into PAGE.md]

An interval can be made to hold nine tenths of the pixels whatever sampler it came from: what is
left to compare is how wide it has to be, and what is missed by how much. Every sampler that draws
restores the same crops of real clean images (one of each, FOLDER/eval/clean and FOLDER/eval/denoise
in turn), simulated as benchmarks/intervals.py does it. Each image is judged by a share and a factor
fitted to the others by conformal risk control, as ``napari-dps calibrate`` does it. Reported of the
90 % interval: share and factor, its coverage, and its interval score; the CRPS of the samples as
drawn, their spread over the error of their mean, and seconds a crop.

`auto` runs as it is, the others with so many network calls a sample. Step lengths of DPS and MCG
are those that benchmarks/frontier.py has chosen for the same problem; without them they are left
out. Crops that are done are kept in ``--work``; the same command goes on from there.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from _budget import SCALED, budgets, fields_for
from _common import clean_images, machine, publish, say
from _pages import markdown_command
from _samplers import has_scale
from cyclopts import App, Parameter
from exactness import drawing_kinds
from intervals import BACKGROUND, LEVEL, TASKS, restored

from napari_dps.components import registry
from napari_dps.errors import DPSError
from napari_dps.recipe import Recipe
from napari_dps.uncertainty.calibrate import calibrate

FRONTIER = {"blur-5": "deblur-5", "blur-30": "deblur-30", "blur-300": "deblur-300"}
"""Names of the same problems in benchmarks/frontier.py."""
TITLES = {
    "blur-5": "Deblurring, 5 photons",
    "blur-30": "Deblurring, 30 photons",
    "blur-300": "Deblurring, 300 photons",
    "missing-80": "80 % of the pixels missing, 30 photons",
    "denoise": "Denoising, 30 photons",
}
Words = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)]
app = App(help="Samplers compared by intervals that are scaled to cover, as JSON.")


def compared_kinds() -> list[str]:
    """Return ``auto``, and the samplers that draw one sample at a time."""
    apart = (k for k in drawing_kinds() if not registry("sampler")[k].interacting)  # type: ignore[attr-defined]
    return ["auto", *apart]


def step_length(frontier: Path | None, task: str, kind: str, budget: str) -> float | None:
    """Return the step length that the frontier's benchmark took, None where it has none."""
    if frontier is None or task not in FRONTIER:
        return None
    for row in json.loads(frontier.read_text(encoding="utf-8"))["rows"]:
        if (row["task"], row["kind"], row["budget"]) == (FRONTIER[task], kind, budget):
            found: float | None = row["fields"].get("scale")
            return found
    return None


@app.default
def main(
    *,
    data: Path,
    work: Path,
    frontier: Path | None = None,
    tasks: Words = tuple(FRONTIER),
    kinds: Words = (),
    budget: int = 100,
    crops: int = 20,
    samples: int = 8,
    size: int = 64,
    prior: str = "fluorescence",
    device: str = "auto",
    out: Path | None = None,
) -> None:
    """Run the benchmark, or go on with it.

    Parameters
    ----------
    data
        Folder with eval/clean and eval/denoise.
    work
        Folder for what was restored.
    frontier
        JSON of benchmarks/frontier.py, for step lengths.
    tasks
        Of benchmarks/intervals.py.
    kinds
        Samplers; all that draw where left out.
    budget
        Network calls a sample of all but `auto`.
    crops
        Images, one crop of each.
    samples
        Posterior samples a crop.
    size
        Side of the crops.
    prior
        A kind, or the folder of a checkpoint.
    device
        Device.
    out
        File for the JSON.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise SystemExit(f"there is no task {unknown[0]!r}; there are {', '.join(TASKS)}")
    source: Any = {"kind": "checkpoint", "path": prior} if Path(prior).is_dir() else prior
    images, rows = clean_images(data, crops), []
    for task in tasks:
        forward, photons = TASKS[task]
        for kind in kinds or compared_kinds():
            spent = budgets(kind, (budget,))[0]
            sampler: dict[str, Any] = {"kind": kind, **fields_for(kind, spent, samples)}
            row = {"task": task, "kind": kind, "budget": spent}
            if kind in SCALED and has_scale(kind):
                scale = step_length(frontier, task, kind, spent)
                if scale is None:
                    rows.append({**row, "left_out": "no step length was chosen for this problem"})
                    continue
                sampler["scale"] = scale
            recipe = Recipe(
                forward=forward, noise="poisson", prior=source, sampler=sampler, samples=samples
            )

            def run(recipe: Recipe = recipe, photons: float = photons, **given: Any) -> Any:
                return calibrate(
                    recipe, images, size=size, photons=photons, background=BACKGROUND,
                    device=device, **given,
                )  # fmt: skip

            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # fewer crops than a calibration for use has
                    keep = work / f"{task}-{kind}-{spent}.jsonl"
                    fit, records = restored(keep, f"{task}, {kind}", run, crops)
            except DPSError as error:
                rows.append({**row, "left_out": str(error)})
                continue
            rows.append(
                {
                    **row,
                    "sampler": fit.parts["sampler"],
                    "share": fit.share,
                    "lambda": fit.lambdas[f"{LEVEL:g}"],
                    "coverage": fit.calibrated_coverage[f"{LEVEL:g}"],
                    "interval_score": fit.calibrated_score[f"{LEVEL:g}"],
                    "crps": fit.crps,
                    "spread_skill": fit.spread_skill,
                    "seconds": float(np.mean([r["seconds"] for r in records])),
                }
            )
            say(f"{task}, {kind}: score {rows[-1]['interval_score']:.3g}")
    report = {
        "what": __doc__,
        "level": LEVEL,
        "crops": crops,
        "samples": samples,
        "size": size,
        "budget": budget,
        "images": [path.name for path in images],
        "rows": rows,
        "machine": machine(),
    }
    publish(report, out)


def table(report: dict[str, Any]) -> str:
    """Return a report's tables as Markdown."""
    lines = [
        f"{report['crops']} real images, a crop of {report['size']}x{report['size']} pixels of "
        f"each, {report['samples']} samples, {report['budget']} network calls a sample "
        "(`auto`: as it comes). Each image is judged by a share and a factor fitted to the "
        "others.",
        "",
    ]
    for task in dict.fromkeys(row["task"] for row in report["rows"]):
        part = [row for row in report["rows"] if row["task"] == task]
        good = sorted((r for r in part if "crps" in r), key=lambda r: r["interval_score"])
        lines += [
            f"**{TITLES[task]}**",
            "",
            "| sampler | seconds | share, λ | coverage | interval score | CRPS | spread/error |",
            "|---|---|---|---|---|---|---|",
            *(
                f"| `{r['kind']}` | {r['seconds']:.1f} | {r['share']:g}, {r['lambda']:.2f} | "
                f"{r['coverage']:.2f} | {r['interval_score']:.3g} | {r['crps']:.3g} | "
                f"{r['spread_skill']:.2f} |"
                for r in good
            ),
            "",
            *(f"- `{r['kind']}`: {r['left_out']}" for r in part if "left_out" in r),
            "",
        ]
    return "\n".join(lines).strip()


markdown_command(app, table, "calibrated")


if __name__ == "__main__":
    app()
