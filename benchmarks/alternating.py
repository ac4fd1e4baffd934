"""Error reduction, hybrid input-output, oversampling smoothness, averaged reflections, as JSON.

    python benchmarks/alternating.py --data FOLDER [--images 4] [--totals 1e5 --totals 1e6]

Objects and figures as in benchmarks/phase.py: 64x64 crops of FOLDER/eval/clean and clean halves of
FOLDER/eval/denoise (or the files that ``--files`` names), far field on 128x128 pixels, Poisson
counts, ``total`` photons in all; PSNR after registration and one fitted gain, of the restart with
the smallest misfit.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from _common import clean_images, machine, mean_of, publish, read, say
from cyclopts import App, Parameter
from phase import FORWARD, measure, registered_psnr

import napari_dps

KINDS = ("er", "hio", "oss", "raar")
Many = Parameter(negative="", consume_multiple=True)
app = App(help="Phase retrieval by alternating projections, as JSON.")


@app.default
def main(
    *,
    data: Path,
    images: int = 4,
    files: Annotated[tuple[Path, ...], Many] = (),
    totals: Annotated[tuple[float, ...], Many] = (1e5, 1e6),
    iterations: int = 1000,
    restarts: int = 8,
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    data
        Folder with eval/clean and eval/denoise.
    images
        How many objects.
    files
        Gray images below ``data`` to take instead.
    totals
        Photons in all.
    iterations, restarts
        Of every sampler.
    out
        File for the JSON.
    """
    paths = [data / name for name in files] or clean_images(data, images)
    rows: list[dict[str, Any]] = []
    for total in totals:
        for number, path in enumerate(paths):
            counts, truth = measure(read(path), total, seed=number)
            row: dict[str, Any] = {"image": path.name, "total": total}
            for kind in KINDS:
                begin = time.perf_counter()
                result = napari_dps.reconstruct(
                    counts,
                    forward=FORWARD,
                    noise="poisson",
                    sampler={"kind": kind, "iterations": iterations, "restarts": restarts},
                )
                row[f"{kind}_seconds"] = time.perf_counter() - begin
                row[kind] = registered_psnr(result.mean, truth)
                row[f"{kind}_chi2"] = result.report["misfit"]
            rows.append(row)
            say(f"{path.name} at {total:g}: " + ", ".join(f"{k} {row[k]:.1f}" for k in KINDS))
    summary = {
        f"{total:g}": {
            name: mean_of([row for row in rows if row["total"] == total], name)
            for kind in KINDS
            for name in (kind, f"{kind}_chi2", f"{kind}_seconds")
        }
        for total in totals
    }
    report = {"iterations": iterations, "restarts": restarts, "machine": machine()}
    publish({**report, "summary": summary, "rows": rows}, out)


if __name__ == "__main__":
    app()
