"""Tables 1 to 4 of the DPS paper, on one's own ground: DPS against its rivals.

    python benchmarks/paper_tables.py --data FOLDER [--side 64] [--count 2] [--noise gaussian]
    python benchmarks/paper_tables.py --images FOLDER --side 256 --count 1000 --steps 1000
        --prior.path ffhq_10m.pt [--fid-weights FILE] [--lpips-weights FILE] [--module blur.pt2]
    python benchmarks/paper_tables.py markdown benchmarks/results/paper-tables.json [--into PAGE.md]

With --data: crops of FOLDER/eval/clean, scaled from their 0.5 to their 99.8 percentile to [0, 1],
and the shipped prior. With --images: 8-bit pictures, gray or in colours, their middle if larger
than --side, and a prior such as a file of guided-diffusion. Tasks and noise are those of
``_paper.py``: Gaussian noise of 0.05 where images are in [0, 1], or Poisson noise of 255 photons
where white.

Each method draws one sample, as in the paper; of phase retrieval DPS draws four and keeps the one
with the smallest misfit, and the classical methods restart by themselves. Phase results are
registered and given one gain before metrics. DPS and MCG take --steps steps, 200 by
default where the paper takes 1000; their step length is chosen for every task on the last image,
which is in no table (--scale tuned), or is the paper's (--scale paper). `auto` is what this package
takes by default.

FID and LPIPS need packages and weights of your own: torch-fidelity and lpips. FID of a few images
is no figure to compare; the paper takes 1000.

A run that was stopped goes on where it was: every cell is a line of the ledger.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from _budget import SCALED
from _common import Array, machine, publish, say
from _ledger import Ledger
from _pages import markdown_command
from _paper import METHODS, images_of, paper_scale, paper_tasks, table, table_rows, unit_image
from _perceptual import fid, lpips_of, save_picture
from _samplers import Task, cell, counted_prior, has_scale, tuned_scale
from cyclopts import App, Parameter

from napari_dps.components import registry
from napari_dps.demo import fit_one_gain
from napari_dps.uncertainty.registration import register

Words = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)]
KEYS = ("noise", "task", "kind", "budget", "image")
RESTARTS = 4
app = App(help="DPS against its rivals, as in the tables of its paper.")


def picture_of(result: Any, task: Task, truth: Array) -> Array:
    """Return the image that counts: the sample, of phase retrieval the best one in its place."""
    image = np.asarray(result.samples[0], np.float64)
    if not task.symmetric:
        return image
    placed = register(image, truth)
    return np.asarray(fit_one_gain(placed, truth) * placed)


@app.default
def main(
    *,
    data: Path | None = None,
    images: Path | None = None,
    ledger: Path = Path("runs/paper-tables.jsonl"),
    pictures: Path = Path("runs/paper-tables"),
    tasks: Words = (),
    kinds: Words = (),
    noise: Words = ("gaussian",),
    count: int = 2,
    side: int = 64,
    steps: int = 200,
    scale: str = "tuned",
    prior: str = "fluorescence",
    prior_path: Annotated[Path | None, Parameter(name="--prior.path")] = None,
    module: str | None = None,
    fid_weights: Path | None = None,
    lpips_weights: Path | None = None,
    out: Path | None = None,
) -> None:
    """Run the benchmark, or go on with it.

    Parameters
    ----------
    data
        Folder with eval/clean.
    images
        Folder of 8-bit pictures in place of that.
    ledger
        File of the cells that are done.
    pictures
        Folder of what was restored, as 8-bit pictures.
    tasks, kinds
        What to run; all where left out.
    noise
        gaussian, poisson or both.
    count
        How many images; one more is tuned on.
    side
        Of the images, in pixels.
    steps
        Of DPS and MCG; 1000 in the paper.
    scale
        Step length of DPS and MCG: tuned, paper, or a number.
    prior, prior_path
        Prior of all: a kind, or the file or folder of a checkpoint.
    module
        TorchScript or torch.export file of the nonlinear blur.
    fid_weights, lpips_weights
        Weights; the figures are left out without them.
    out
        File for the JSON.
    """
    name = str(prior_path) if prior_path is not None else prior
    settings = {"side": side, "steps": steps, "scale": scale, "prior": name, "module": module}
    settings["source"] = str(images or "eval/clean")
    book = Ledger(ledger, settings, KEYS)
    paths = images_of(data, images, count)
    stretched, registered = images is None, registry("sampler")
    source, gray = counted_prior(name), counted_prior(name, gray=True)
    rows, broken = [], 0
    for kind_of_noise in noise:
        every = paper_tasks(kind_of_noise, side, stretched=stretched, module=module)
        for task_name in tasks or every:
            if task_name not in every:
                raise SystemExit(f"there is no task {task_name!r}; there are {', '.join(every)}")
            task = every[task_name]
            for kind in ("auto", *METHODS[task_name]):
                if (kinds and kind not in kinds) or kind not in registered:
                    continue
                for seed, path in enumerate(paths[:-1]):
                    row: dict[str, Any] = {"noise": kind_of_noise, "task": task_name}
                    row |= {"kind": kind, "budget": f"{steps} steps", "image": path.name}
                    if row not in book:
                        found = one_cell(
                            book,
                            row,
                            task,
                            gray if task.gray else source,
                            (path, seed),
                            paths[-1],
                            settings,
                            stretched,
                            pictures,
                        )
                        broken += "failed" in found
                    rows.append(book[row])
    if lpips_weights is not None or fid_weights is not None:
        rows = perceived(rows, pictures, fid_weights, lpips_weights)
    report = {
        "what": __doc__,
        **settings,
        "images": [path.name for path in paths[:-1]],
        "tuned_on": paths[-1].name,
        "table": table_rows(rows),
        "rows": rows,
        "machine": machine(),
    }
    publish(report, out)
    say(table(report))
    if broken:
        raise SystemExit(f"{broken} cells failed for reasons nobody foresaw; see above")


def one_cell(
    book: Ledger,
    row: dict[str, Any],
    task: Task,
    prior: Any,
    image: tuple[Path, int],
    spare: Path,
    settings: dict[str, Any],
    stretched: bool,
    pictures: Path,
) -> dict[str, Any]:
    """Restore one image by one method, keep the figures and the picture, and say them."""
    (path, seed), kind, side = image, row["kind"], settings["side"]
    values, margin = unit_image(path, side, stretched=stretched)
    y, truth = task.measure(values, seed, margin, side)
    sampler: dict[str, Any] = {"kind": kind}
    if kind in SCALED:
        sampler["steps"] = settings["steps"]
    if kind in SCALED and has_scale(kind):
        sampler["scale"] = chosen_scale(book, row, task, sampler, spare, settings, stretched, prior)
    peak = float(truth.max()) if task.intensity is None else task.intensity["scale"]
    folder = pictures / row["noise"] / row["task"]

    def keep(result: Any) -> None:
        save_picture(picture_of(result, task, truth), peak, folder / kind / f"{path.stem}.png")
        save_picture(truth, peak, folder / "truth" / f"{path.stem}.png")

    samples = RESTARTS if task.symmetric else 1
    found = row | {"fields": sampler}
    found |= cell(task, y, truth, sampler, prior, samples, keep, best=task.symmetric)
    book.add(found)
    words = found.get("refused") or found.get("failed")
    say(f"{row['noise']}, {row['task']}, {kind}, {path.name}: {words or found['psnr']}")
    return found


def chosen_scale(
    book: Ledger,
    row: dict[str, Any],
    task: Task,
    sampler: dict[str, Any],
    spare: Path,
    settings: dict[str, Any],
    stretched: bool,
    prior: Any,
) -> float:
    """Return the step length: the paper's, a number, or the best on the image kept for it."""
    if settings["scale"] == "paper":
        return paper_scale(row["task"], row["noise"])
    if settings["scale"] != "tuned":
        return float(settings["scale"])
    values, margin = unit_image(spare, settings["side"], stretched=stretched)
    y, truth = task.measure(values, 999, margin, settings["side"])
    where = {key: row[key] for key in ("noise", "task", "kind", "budget")}
    found = tuned_scale(book, where, task, sampler, y, truth, prior)
    return 1.0 if found is None else found


def perceived(
    rows: list[dict[str, Any]], pictures: Path, fid_weights: Path | None, lpips_weights: Path | None
) -> list[dict[str, Any]]:
    """Return rows with LPIPS, and with the FID of all their pictures together."""
    distance = None if lpips_weights is None else lpips_of(lpips_weights)
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row.get("psnr") is not None:
            groups.setdefault((row["noise"], row["task"], row["kind"]), []).append(row)
    found = [row for row in rows if row.get("psnr") is None]
    for (noise, task, kind), part in groups.items():
        folder = pictures / noise / task
        names = [f"{Path(row['image']).stem}.png" for row in part]
        restored, truths = ([folder / k / n for n in names] for k in (kind, "truth"))
        whole = {}
        if fid_weights is not None and len(part) > 1:
            whole["fid"] = fid(restored, truths, fid_weights)
        for row, one, truth in zip(part, restored, truths, strict=True):
            own = {} if distance is None else {"lpips": distance(one, truth)}
            found.append({**row, **whole, **own})
    return found


markdown_command(app, table, "paper")


if __name__ == "__main__":
    app()
