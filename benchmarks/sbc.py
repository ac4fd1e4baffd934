"""Simulation-based calibration with the learned prior: whether the posterior is right on average.

    python benchmarks/sbc.py --log FILE.jsonl [--draws 100] [--size 64] [--samples 19]
        [--sampler mmps] [--budget 50] [--noise poisson] [--prior KIND_OR_FOLDER]
        [--out FILE.json] [--chart FILE.png]
    python benchmarks/sbc.py markdown FILE.json [--into PAGE.md]

An object is drawn from the prior (unconditional sampling), a measurement from the likelihood, and
samples from the posterior. If all three fit together, the rank of the object among the samples is
uniform, whatever number is ranked (Talts et al., "Validating Bayesian Inference Algorithms with
Simulation-Based Calibration", 2018, arXiv 1804.06788). Ranked are pixels, sums over regions,
powers in Fourier bands, and the misfit to the data, which sees errors that the others do not
(Modrak et al., Bayesian Analysis 2023). Ranks need independent samples: no antithetic pairs here.

The measurement: periodic Gaussian blur of 1.5 px, so that there is nothing beyond the field, and
Poisson noise at 30 photons from black to white (prior units -1 to 1) over 3 of background; or
Gaussian noise of a fifth of the range from black to white. The object map is given, so that it is
known exactly.

Each setting (the sampler as it comes, and at the steps that fit the budget of network calls) of
each draw adds a line to the log; a run that was ended goes on where it was. 19 samples give 20
ranks; chi-square has 19 degrees of freedom.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch
from _common import Array, machine, publish, say
from _pages import markdown_command
from cyclopts import App
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import napari_dps
from napari_dps.components import make
from napari_dps.core.likelihood import Likelihood
from napari_dps.core.operator import Operator
from napari_dps.grid import Grid

SCALE, BACKGROUND = 30.0, 3.0
INTENSITY = {"scale": SCALE, "background": BACKGROUND}
FORWARD = {
    "kind": "gaussian-blur",
    "sigma": 1.5,
    "boundary": "periodic",
    "full_scale": 1e6,  # no count is taken for a saturated one
}
NOISES: dict[str, dict[str, Any]] = {
    "poisson": {"kind": "poisson"},
    "gaussian": {"kind": "gaussian", "sigma": 0.2 * SCALE},
}
PLACES = {"upper left": (0.25, 0.25), "centre": (0.5, 0.5), "lower right": (0.8, 0.7)}
"""Of the ranked pixels, in shares of the side."""
REGIONS = {
    "all": (slice(None), slice(None)),
    "upper left quarter": (slice(0, 0.5), slice(0, 0.5)),
    "middle": (slice(0.375, 0.625), slice(0.375, 0.625)),
    "right edge": (slice(None), slice(0.875, 1.0)),
}
BANDS = (0.0, 0.06, 0.12, 0.25, 0.71)
"""Edges in cycles per pixel; the flat part belongs to none."""
PRIOR_STEPS = 100
"""Of the unconditional draws: finer than the default's, since they stand for the truth."""
app = App(help="Simulation-based calibration with the learned prior.")


def statistics(
    image: Array, counts: Array, operator: Operator, likelihood: Likelihood
) -> dict[str, float]:
    """Return the numbers that are ranked, of one object.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        An object in photons.
    counts : ndarray, shape (Y, X)
        The measurement.
    operator, likelihood
        Of the measurement.
    """
    side = image.shape[0]
    found = {
        f"pixel, {k}": float(image[int(y * side), int(x * side)]) for k, (y, x) in PLACES.items()
    }
    for name, parts in REGIONS.items():
        cut = tuple(
            slice(None if p.start is None else round(p.start * side),
                  None if p.stop is None else round(p.stop * side))
            for p in parts
        )  # fmt: skip
        found[f"sum, {name}"] = float(image[cut].sum())
    power = np.abs(np.fft.fft2(image)) ** 2
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side),) * 2))
    for low, high in pairwise(BANDS):
        inside = (frequency > low) & (frequency <= high)
        found[f"power, {low:g} to {high:g} /px"] = float(power[inside].sum())
    x, y = (torch.as_tensor(v, dtype=torch.float64)[None, None] for v in (image, counts))
    found["misfit"] = -float(likelihood.log_density(y, operator(x)).sum())
    return found


@dataclass(frozen=True)
class Setup:
    """What is measured: size of the object, its noise and its prior."""

    size: int
    noise: str
    prior: str

    @property
    def source(self) -> Any:
        """Return the prior as a recipe has it."""
        is_folder = Path(self.prior).is_dir()
        return {"kind": "checkpoint", "path": self.prior} if is_folder else self.prior

    @cached_property
    def physics(self) -> tuple[Operator, Likelihood]:
        """Return operator and likelihood of the measurement."""
        grid = Grid((self.size, self.size), dtype="float64")
        return make("forward", FORWARD).bind(grid), make("noise", NOISES[self.noise]).bind(grid)


def settings_of(sampler: str, budget: int, setup: Setup) -> dict[str, dict[str, Any]]:
    """Return the sampler's fields by setting; a pilot draw tells how many steps fit the budget."""
    apart = {"kind": sampler}
    if "antithetic" in type(make("sampler", sampler)).model_fields:
        apart["antithetic"] = False
    _, counts, _ = draw(10**6, setup)
    steps = make("sampler", sampler).model_dump().get("steps")
    if steps is None:
        raise SystemExit(f"the sampler {sampler!r} has no steps that could fit a budget")
    calls = budget + 1
    while calls > budget and steps > 2:
        found = restore(counts, setup, {**apart, "steps": steps}, 2, 0)
        calls = sum(found.report["network_calls"].values())
        if calls > budget:
            steps = max(2, min(steps - 1, int(steps * budget / calls)))
    return {"default": apart, f"{budget} calls": {**apart, "steps": steps}}


def draw(index: int, setup: Setup) -> tuple[Array, Array, float]:
    """Return object and measurement of a draw, in photons, and the least expectation."""
    shape = (setup.size, setup.size)
    x = napari_dps.sample_prior(setup.source, 1, shape, index, steps=PRIOR_STEPS)[0]
    image = BACKGROUND + SCALE * (x.astype(np.float64) + 1) / 2
    parts = {"forward": FORWARD, "noise": NOISES[setup.noise]}
    counts = napari_dps.simulate(image, seed=index, **parts)
    expected = setup.physics[0](torch.as_tensor(image)[None, None])
    return image, np.asarray(counts, np.float64), float(expected.min())


def restore(
    counts: Array, setup: Setup, sampler: dict[str, Any], samples: int, seed: int
) -> napari_dps.Result:
    """Return posterior samples."""
    return napari_dps.reconstruct(
        counts,
        forward=FORWARD,
        noise=NOISES[setup.noise],
        prior=setup.source,
        sampler=sampler,
        intensity=INTENSITY,
        samples=samples,
        seed=seed,
    )


def ranks(image: Array, counts: Array, found: napari_dps.Result, setup: Setup) -> dict[str, int]:
    """Return how many samples lie below the object, by statistic."""

    def of(values: Array) -> dict[str, float]:
        return statistics(np.asarray(values, np.float64), counts, *setup.physics)

    truth, samples = of(image), [of(s) for s in found.samples]
    return {k: sum(s[k] < v for s in samples) for k, v in truth.items()}


def read_log(log: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of a log that was begun with the same header; begin it where there is none.

    A last line that was cut off is dropped from the file.
    """
    if not log.exists():
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return []
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if not whole or json.loads(whole[0]) != header:
        raise SystemExit(f"{log} was begun with other settings; give another file or the same ones")
    if len(whole) < len(lines):
        log.write_text("".join(whole), encoding="utf-8")
    return [json.loads(line) for line in whole[1:]]


def judge(rows: list[dict[str, Any]], samples: int) -> dict[str, Any]:
    """Return histogram, chi-square, its p-value and the 90 % interval's coverage by statistic."""
    found = {}
    for name in rows[0]["ranks"]:
        values = np.array([row["ranks"][name] for row in rows])
        histogram = np.bincount(values, minlength=samples + 1)
        chi2 = float(((histogram - len(rows) / len(histogram)) ** 2).sum())
        chi2 *= len(histogram) / len(rows)
        tail = round((samples + 1) * 0.05)
        inside = float(((values >= tail) & (values < samples + 1 - tail)).mean())
        found[name] = {
            "histogram": histogram.tolist(),
            "chi2": round(chi2, 2),
            "degrees_of_freedom": samples,
            "p": float(scipy.stats.chi2.sf(chi2, samples)),
            "mean_rank": round(float(values.mean() / samples), 3),
            "inside_90": round(inside, 3),
        }
    return found


def draw_chart(judged: dict[str, dict[str, Any]], draws: dict[str, int], path: Path) -> None:
    """Draw the rank histograms, a row for each setting."""
    names = list(next(iter(judged.values())))
    figure = Figure(figsize=(1.5 * len(names), 1.9 * len(judged)), layout="constrained", dpi=80)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(judged), len(names), squeeze=False, sharey="row")
    for axes_row, (setting, found) in zip(grid, judged.items(), strict=True):
        for axes, name in zip(axes_row, names, strict=True):
            histogram = found[name]["histogram"]
            share = 1 / len(histogram)
            middle = draws[setting] * share
            band = 2 * (draws[setting] * share * (1 - share)) ** 0.5
            axes.axhspan(
                max(middle - band, 0.0), middle + band, color="black", alpha=0.12, linewidth=0
            )
            axes.bar(range(len(histogram)), histogram, width=1.0, color="tab:green")
            axes.set_title(f"{name}\np = {found[name]['p']:.2g}", fontsize=6)
            axes.tick_params(labelsize=5)
        axes_row[0].set_ylabel(f"{setting}\ndraws", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def sample_all(
    todo: list[tuple[int, str]],
    settings: dict[str, dict[str, Any]],
    setup: Setup,
    samples: int,
    write: Callable[[dict[str, Any]], None],
) -> None:
    """Draw and rank whatever the log does not hold yet."""
    last: tuple[int, tuple[Array, Array, float]] | None = None
    for index, setting in todo:
        begin = time.perf_counter()
        if last is None or last[0] != index:
            last = index, draw(index, setup)
        image, counts, least = last[1]
        found = restore(counts, setup, settings[setting], samples, index)
        write(
            {
                "draw": index,
                "setting": setting,
                "ranks": ranks(image, counts, found, setup),
                "least_expectation": least,
                "calls": found.report["network_calls"],
                "batch": found.report["batch"],
                "chi2": found.report["misfit"],
                "seconds": round(time.perf_counter() - begin, 1),
            }
        )


@app.default
def main(
    *,
    log: Path,
    draws: int = 100,
    size: int = 64,
    samples: int = 19,
    sampler: str = "mmps",
    budget: int = 50,
    noise: str = "poisson",
    prior: str = "fluorescence",
    out: Path | None = None,
    chart: Path | None = None,
) -> None:
    """Run, or go on, and print JSON.

    Parameters
    ----------
    log
        Where finished draws are kept, a JSON line each.
    draws, samples
        Objects, and posterior samples of each; (samples + 1) should be a multiple of 20.
    size
        Side of the images in pixels.
    sampler
        Its kind.
    budget
        Network calls of the second setting, Jacobian products included.
    noise
        "poisson" or "gaussian".
    prior
        A kind, or the folder of a checkpoint.
    out, chart
        Files for the JSON and the rank histograms.
    """
    if noise not in NOISES:
        raise SystemExit(f"noise is {' or '.join(NOISES)}, not {noise!r}")
    setup = Setup(size, noise, prior)
    header: dict[str, Any] = {"size": size, "samples": samples, "sampler": sampler}
    header |= {"budget": budget, "noise": noise, "prior": prior}
    header["version"] = napari_dps.__version__
    rows = read_log(log, header)
    settings = next((row["settings"] for row in rows if "settings" in row), None)
    with log.open("a", encoding="utf-8") as file:

        def write(row: dict[str, Any]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            if "draw" in row:
                say(f"draw {row['draw']}, {row['setting']}: {row['seconds']} s")

        if settings is None:
            settings = settings_of(sampler, budget, setup)
            write({"settings": settings})
        known = {(row["draw"], row["setting"]) for row in rows if "draw" in row}
        todo = [(k, s) for k in range(draws) for s in settings if (k, s) not in known]
        sample_all(todo, settings, setup, samples, write)
    done = {s: [r for r in rows if r.get("setting") == s and r["draw"] < draws] for s in settings}
    judged = {setting: judge(found, samples) for setting, found in done.items()}
    counted = {setting: len(found) for setting, found in done.items()}
    if chart is not None:
        draw_chart(judged, counted, chart)
    report = {
        "what": __doc__,
        **header,
        "draws": counted,
        "settings": settings,
        "antithetic": False,
        "dark_draws": sum(row["least_expectation"] <= 0.05 for row in next(iter(done.values()))),
        "results": judged,
        "seconds": {s: round(sum(r["seconds"] for r in found), 1) for s, found in done.items()},
        "machine": machine(),
    }
    publish(report, out)


def table(report: dict[str, Any]) -> str:
    """Return a report's table as Markdown."""
    settings = report["results"]
    heads = [f"{name}, {report['draws'][name]} draws: p | inside 90 %" for name in settings]
    lines = [
        f"| ranked | {' | '.join(heads)} |",
        "|---" * (1 + 2 * len(settings)) + "|",
    ]
    for name in next(iter(settings.values())):
        cells = [
            f"{found[name]['p']:.2g} | {found[name]['inside_90']:.2f}"
            for found in settings.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


markdown_command(app, table, "sbc")


if __name__ == "__main__":
    app()
