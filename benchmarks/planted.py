"""Do error bars of measurements hold on objects that were planted? As JSON.

    python benchmarks/planted.py --ledger runs/planted.jsonl [--cases 100] [--kinds points ...]
        [--samples 20] [--steps 16] [--iterations 4] [--out benchmarks/results/planted.json]

Kinds: ``points`` (32 x 32 pixels), two points of equal brightness, of 500 to 5000 photons each,
0.5 to 2 FWHM apart, measured by how long their common spot is (``PairSeparation``) and, in the same
restorations as ``maxima``, as the distance of two maxima along a line through both; ``spot``
(32 x 32), one spot of 100 to 3000 photons, measured as the sum over a disc above the background;
``nuclei`` (48 x 48), 1 to 6 nuclei of 15 to 40 photons a pixel, counted above Otsu's threshold.
Background 2 photons, Gaussian PSF of sigma 1.5 pixels (FWHM 3.53), Poisson noise; restored with the
shipped prior by moment matching with fewer steps than its default.

Reported, at 90 %: the share of cases whose truth lies inside the draws' own interval (``nominal``)
and inside the calibrated one, each half of the cases (every other one) judged by factors fitted to
the other half: the planted values are drawn from the distribution that is calibrated on. That takes
38 cases. (Leave one out would come out right whatever the cases are: order statistics see to it.)
Cases in which fewer than half of the draws have a value (two maxima that are one) have no interval
and do not count. Gate: 0.82 to 0.97; of counts, which are whole numbers and so hold more often than
they promise, 0.82 alone.

Every case is a line of the ledger: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from _common import Array, machine, publish, say
from _ledger import Ledger
from cyclopts import App, Parameter

import napari_dps
from napari_dps.uncertainty.measure import Measurement, from_draws, measure
from napari_dps.uncertainty.measure_calibration import calibrate_measurement, cases_needed
from napari_dps.uncertainty.profiles import LineProfile, PairSeparation, PeakDistance
from napari_dps.uncertainty.regions import Objects, RegionSum

LEVEL, BACKGROUND, SIGMA = 0.9, 2.0, 1.5
FWHM = SIGMA * 2 * math.sqrt(2 * math.log(2))
GATE = {"points": (0.82, 0.97), "maxima": (0.82, 0.97), "spot": (0.82, 0.97), "nuclei": (0.82, 1.0)}
FLOORS = {"points": None, "maxima": None, "spot": None, "nuclei": 0.5}
Scene = tuple[Array, float, Callable[[Any], Any]]
Words = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)]
app = App(help="Coverage of measurements' error bars on planted objects, as JSON.")


def grid(size: int) -> tuple[Array, Array]:
    """Return row and column of every pixel."""
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    return rows, columns


def spot(size: int, y: float, x: float, width: float, photons: float) -> Array:
    """Return a round Gaussian spot that holds so many photons."""
    rows, columns = grid(size)
    shape = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
    return np.asarray(photons * shape / shape.sum())


def points(rng: np.random.Generator) -> Scene:
    """Return two points, their distance in pixels, and what measures it."""
    size = 32
    distance = rng.uniform(0.5, 2.0) * FWHM
    angle = rng.uniform(0, math.pi)
    middle = size / 2 - 0.5 + rng.uniform(-2, 2, 2)
    photons = 500 * 10 ** rng.uniform(0, 1)
    along = np.array([math.sin(angle), math.cos(angle)])
    ends = [middle + sign * distance / 2 * along for sign in (-1, 1)]
    scene = BACKGROUND + sum(spot(size, *end, 0.7, photons) for end in ends)
    reach = 10 * along
    line = LineProfile(tuple(middle - reach), tuple(middle + reach), width=3)
    apart, maxima = PairSeparation(line), PeakDistance(line)
    return scene, distance, lambda image: {"separation": apart(image), "distance": maxima(image)}


def one_spot(rng: np.random.Generator) -> Scene:
    """Return a spot, its photons, and what sums them."""
    size = 32
    y, x = size / 2 - 0.5 + rng.uniform(-2, 2, 2)
    photons = 100 * 30 ** rng.uniform(0, 1)
    rows, columns = grid(size)
    disc = (rows - y) ** 2 + (columns - x) ** 2 <= 7**2
    scene = BACKGROUND + spot(size, y, x, rng.uniform(0.8, 2.0), photons)
    return scene, photons, RegionSum(disc.astype(int), unit="photons", background=BACKGROUND)


def nuclei(rng: np.random.Generator) -> Scene:
    """Return nuclei that do not touch, their number, and what counts them."""
    size, number = 48, int(rng.integers(1, 7))
    rows, columns = grid(size)
    scene = np.full((size, size), BACKGROUND)
    placed: list[tuple[float, float, float]] = []
    while len(placed) < number:
        radius = rng.uniform(4.0, 6.0)
        y, x = rng.uniform(radius + 1, size - radius - 2, 2)
        if any(math.dist((y, x), (v, u)) < radius + r + 3.0 for v, u, r in placed):
            # A full field may have no place left: begin again.
            if rng.random() < 0.002:
                placed = []
            continue
        placed.append((y, x, radius))
    for y, x, radius in placed:
        tilt, flat = rng.uniform(0, math.pi), rng.uniform(0.8, 1.0)
        u = (rows - y) * math.cos(tilt) + (columns - x) * math.sin(tilt)
        v = ((columns - x) * math.cos(tilt) - (rows - y) * math.sin(tilt)) / flat
        edge = 1 / (1 + np.exp((np.hypot(u, v) - radius) / 0.4))
        scene += rng.uniform(15, 40) * edge
    return scene, float(number), Objects(smallest=12)


KINDS = {"points": points, "spot": one_spot, "nuclei": nuclei}
VALUE = {"points": "separation", "maxima": "distance", "spot": "sum 1", "nuclei": "count"}


def case(kind: str, number: int, recipe: napari_dps.Recipe, device: str) -> dict[str, Any]:
    """Plant, measure and restore one case; return its row."""
    begin = time.perf_counter()
    rng = np.random.default_rng([sorted(KINDS).index(kind), number])
    scene, truth, function = KINDS[kind](rng)
    recipe = recipe.with_parts(seed=number)
    measured = napari_dps.simulate(scene, recipe, seed=number)
    result = napari_dps.reconstruct(measured, recipe, device=device)
    found = measure(result, function, level=0.5)
    told = function(measured)
    kinds = [kind, "maxima"] if kind == "points" else [kind]
    return {
        "kind": kind,
        "case": number,
        "truth": truth,
        "draws": {k: plain(found.select(VALUE[k]).draws[:, 0]) for k in kinds},
        "in_measurement": {k: plain([told[VALUE[k]]])[0] for k in kinds},
        "misfit": result.report.get("misfit"),
        "calls": result.report.get("network_calls"),
        "seconds": round(time.perf_counter() - begin, 2),
    }


def plain(values: Any) -> list[float | None]:
    """Return numbers as JSON has them: None where there is none."""
    return [round(float(v), 5) if math.isfinite(v) else None for v in values]


def judge(kind: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the coverage of one kind."""
    truths = [row["truth"] for row in rows]
    found = [remade(row, kind) for row in rows]
    count = sum(bool(m.found[0] >= 0.5) for m in found)
    if count < cases_needed(LEVEL):
        return {"cases": len(rows), "with_value": count, "passed": None}
    fitted = calibrate_measurement(truths, found, levels=(LEVEL,), floor=FLOORS[kind])
    key = f"{LEVEL:g}"
    low, high = GATE[kind]
    share, nominal = fitted.calibrated_coverage[key], fitted.nominal_coverage[key]
    usable = [m for m in found if m.found[0] >= fitted.least_found]
    known = [t for t, m in zip(truths, found, strict=True) if m.found[0] >= fitted.least_found]
    error = np.array([m.value[0] for m in usable]) - known
    below, above = fitted.factors[key]
    own = [m.high[0] - m.low[0] for m in usable if np.isfinite(m.high[0])]
    spread = np.array([max(m.std[0], fitted.floor) for m in usable])
    return {
        "cases": len(rows),
        "with_value": fitted.cases,
        "with_value_by_truth": by_truth(kind, truths, found, fitted.least_found),
        "nominal": nominal,
        "calibrated": share,
        "factors": fitted.factors[key],
        "floor": fitted.floor,
        "bias": float(error.mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "width_nominal": float(np.mean(own)) if own else None,
        "width_calibrated": float(np.mean((above - below) * spread)),
        "gate": [low, high],
        "passed": None if share is None else low <= share <= high,
        "nominal_passed": None if nominal is None else low <= nominal <= high,
        "seconds_per_case": float(np.median([row["seconds"] for row in rows])),
        "calls": rows[0]["calls"],
        "truth_mean_std": [
            [round(float(v), 4) for v in (t, m.value[0], m.std[0])]
            for t, m in zip(known, usable, strict=True)
        ],
    }


def by_truth(
    kind: str, truths: list[float], found: list[Measurement], least: float
) -> dict[str, str] | None:
    """Return, of two points, how many have a value at which distance in FWHM."""
    if kind not in ("points", "maxima"):
        return None
    told = {}
    for low in (0.5, 1.0, 1.5):
        there = [
            m.found[0] >= least
            for t, m in zip(truths, found, strict=True)
            if low <= t / FWHM < low + 0.5
        ]
        told[f"{low:g} to {low + 0.5:g} FWHM"] = f"{sum(there)} of {len(there)}"
    return told


def remade(row: dict[str, Any], kind: str) -> Measurement:
    """Return the measurement of a row."""
    draws = np.array([math.nan if v is None else v for v in row["draws"][kind]])
    return from_draws(draws[:, None], [VALUE[kind]], level=LEVEL)


@app.default
def main(
    *,
    ledger: Path | None = None,
    cases: int = 100,
    kinds: Words = tuple(KINDS),
    samples: int = 20,
    steps: int = 16,
    iterations: int = 4,
    seconds: float | None = None,
    device: str = "auto",
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    ledger
        File of the cases that are done.
    cases
        Of each kind, 38 or more.
    kinds
        Which of points, spot, nuclei.
    samples
        Posterior samples a case.
    steps, iterations
        Of moment matching.
    seconds
        Stop when so many have passed, and judge what there is.
    device
        Device.
    out
        File for the JSON.
    """
    sampler = {"kind": "mmps", "steps": steps, "iterations": iterations}
    recipe = napari_dps.Recipe(
        forward={"kind": "gaussian-blur", "sigma": SIGMA},
        noise="poisson",
        sampler=sampler,
        samples=samples,
    )
    settings = {"benchmark": "planted", "samples": samples, "sampler": sampler}
    done = Ledger(ledger, settings, ("kind", "case"))
    begin = time.perf_counter()
    for number in range(cases):
        for kind in kinds:
            late = seconds is not None and time.perf_counter() - begin > seconds
            if late or {"kind": kind, "case": number} in done:
                continue
            row = case(kind, number, recipe, device)
            done.add(row)
            say(f"{kind} {number}: {row['truth']:.2f}, {row['seconds']} s")
    report = {}
    for kind in kinds:
        rows = [r for r in done.rows.values() if r["kind"] == kind and r["case"] < cases]
        if rows:
            report[kind] = judge(kind, rows)
        if rows and kind == "points":
            report["maxima"] = judge("maxima", rows)
    publish(
        {
            "what": __doc__,
            "level": LEVEL,
            "settings": settings,
            "fwhm": FWHM,
            "kinds": report,
            "machine": machine(),
        },
        out,
    )


if __name__ == "__main__":
    app()
