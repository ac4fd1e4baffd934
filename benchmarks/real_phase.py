"""Phase problems of real experiments, and one of a public benchmark: are their data explained.

    python benchmarks/real_phase.py --data FOLDER [--cases ring star atoms] [--pictures FOLDER]

There is no truth. Printed as JSON, for the classical estimate that a run begins with (alternating
projections, ePIE) and for the best sample: the R-factor, sum | |F| - magnitude | / sum magnitude
over the measured data, and for samples the chi-square per datum.

- ring: single-shot diffraction of a ring at 32 nm (FOLDER/eval/phase/hawk_ring_processed.npz),
  amplitudes with a mask. The beam stop hides what an autocorrelation needs; what is assumed is that
  the object fills no more than a quarter of the field (oversampling 4), and is real. The noise is
  not known: Gaussian, ``RING_SIGMA`` in the file's units.
- star: far-field X-ray ptychography of a Siemens star (tike_siemens_star_ptycho.npz), the middle
  of the scan, the probe refined from the file's guess.
- atoms: data100E of Elser, Lan and Bendory, "Benchmark problems for phase retrieval", SIAM J.
  Imaging Sci. 11 (2018): 100 atoms of 8 pixels each in a periodic cell. Solved means that the 800
  brightest pixels hold 0.95 of the power; the model is told that number (``support_pixels``).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import skimage.io
from _common import Array, Watcher, machine, publish, say
from cyclopts import App, Parameter

from napari_dps.api import Run

RING_SIGMA = 2.0
ATOM_PIXELS = 800
app = App(help="Real phase problems, as JSON.")


def ring(folder: Path) -> tuple[Array, dict[str, Any]]:
    """Return amplitudes and recipe of the ring."""
    file = np.load(folder / "hawk_ring_processed.npz")
    forward = {
        "kind": "phase-retrieval",
        "measured": "magnitude",
        "origin": "corner",
        "mask": file["mask"],
        "oversampling": 4.0,
    }
    noise = {"kind": "gaussian", "sigma": RING_SIGMA}
    return file["amplitude"].astype(np.float64), {"forward": forward, "noise": noise}


def star(folder: Path, reach: float = 30.0) -> tuple[Array, dict[str, Any]]:
    """Return the patterns within ``reach`` pixels of the scan's middle, and the recipe."""
    file = np.load(folder / "tike_siemens_star_ptycho.npz")
    places = file["scan_yx_px"]
    chosen = (np.abs(places) < reach).all(1)
    forward = {
        "kind": "ptychography",
        "probe": file["probe"],
        "positions": places[chosen],
        "origin": "corner",
        "refine_probe": True,
    }
    return file["intensity"][chosen].astype(np.float64), {"forward": forward, "noise": "poisson"}


def atoms(folder: Path) -> tuple[Array, dict[str, Any]]:
    """Return the whole plane of a benchmark's half plane of intensities, and the recipe."""
    half = np.loadtxt(folder / "elser_benchmark" / "data100E")
    side = len(half)
    plane = np.zeros((side, side))
    plane[:, : side // 2] = half
    opposite = (-np.arange(side)) % side
    plane[:, side // 2 + 1 :] = half[opposite][:, side // 2 - 1 : 0 : -1]
    mask = np.ones((side, side))
    mask[0, 0] = 0  # the direct beam; the Nyquist column is not in the file either
    mask[:, side // 2] = 0
    forward = {
        "kind": "phase-retrieval",
        "oversampling": 1.0,
        "origin": "corner",
        "mask": mask,
        "support_pixels": ATOM_PIXELS,
    }
    return plane, {"forward": forward, "noise": "poisson"}


def r_factor(run: Run, x: Any) -> float:
    """Return the R-factor of an object in prior units."""
    problem, operator = run._problem, run._problem.operator.operator
    z, y = problem.operator(x), problem.y
    if operator.intensity:
        z, y = z.clamp_min(0).sqrt(), y.clamp_min(0).sqrt()
    weight = 1.0 if problem.valid is None else problem.valid.to(y)
    return float((weight * (z - y).abs()).sum() / (weight * y).sum())


def power_in_brightest(image: Array, count: int) -> float:
    """Return the share of the power that the ``count`` brightest pixels hold."""
    power = np.sort((image.astype(np.float64) ** 2).ravel())[::-1]
    return float(power[:count].sum() / power.sum())


def gray(image: Array) -> Array:
    """Stretch an image to 0..1 between its outer percentiles."""
    low, high = np.percentile(image, [0.5, 99.5])
    return np.asarray(np.clip((image - low) / max(high - low, 1e-12), 0, 1))


def panels(values: Array) -> list[Array]:
    """Return what is drawn of an object: itself, or amplitude and phase of a complex one."""
    if values.ndim == 2:
        return [gray(values)]
    z = values[0] + 1j * values[1]
    phase = np.angle(z * np.exp(-1j * np.angle(z.sum())))
    return [gray(np.abs(z)), gray(phase)]


@app.default
def main(
    *,
    data: Path,
    cases: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (
        "ring",
        "star",
        "atoms",
    ),
    samples: int = 2,
    steps: int = 30,
    pictures: Path | None = None,
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    data
        Folder with eval/phase.
    cases
        Which of ring, star and atoms.
    samples
        Posterior samples of each.
    steps
        Noise levels of the sampler (DAPS).
    pictures
        Folder for a PNG of each case: the classical estimate, the best sample, and the standard
        deviation (complex objects: amplitude and phase of each).
    out
        File for the JSON.
    """
    makers = {"ring": ring, "star": star, "atoms": atoms}
    rows: list[dict[str, Any]] = []
    for name in cases:
        measured, recipe = makers[name](data / "eval" / "phase")
        recipe |= {"sampler": {"kind": "daps", "steps": steps}, "samples": samples}
        begin = time.perf_counter()
        run = Run(measured, recipe)
        watch, classical = Watcher(name), None
        for progress in run:
            watch(progress)
            if classical is None and run._problem.start is not None:
                start = run._problem.start.estimate[:1]
                classical = (r_factor(run, start), run._to_input(start, run._problem.operator)[0])
        result = run.result()
        assert classical is not None
        best = result.samples[0]
        unit = run.recipe.forward.object_from_input(best.astype(np.float64), *camera(run))
        x = run._problem.operator.from_object(
            run._problem.y.new_tensor(unit).reshape(1, *run._problem.operator.x_shape)
        )
        row = {
            "case": name,
            "data": list(measured.shape),
            "object": list(best.shape),
            "r_factor_classical": classical[0],
            "r_factor": r_factor(run, x),
            "chi2": result.report["chi2"],
            "found": result.report["forward"],
            "network_calls": result.report["network_calls"],
            "seconds": time.perf_counter() - begin,
        }
        if name == "atoms":
            row["power_in_brightest_classical"] = power_in_brightest(classical[1], ATOM_PIXELS)
            row["power_in_brightest"] = power_in_brightest(best, ATOM_PIXELS)
            row["solved"] = row["power_in_brightest"] > 0.95
        rows.append(row)
        say(f"{name}: R {row['r_factor_classical']:.3f} classical, {row['r_factor']:.3f} ours")
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            spread = result.std if result.std.ndim == 2 else np.hypot(*result.std)
            drawn = np.hstack([*panels(classical[1]), *panels(best), gray(spread)])
            target = pictures / f"{name}.png"
            skimage.io.imsave(target, np.uint8(255 * drawn), check_contrast=False)
    publish(
        {"what": __doc__, "samples": samples, "steps": steps, "rows": rows, "machine": machine()},
        out,
    )


def camera(run: Run) -> tuple[float, float]:
    """Return gain and offset of a run."""
    gain, offset = run.recipe.noise.camera()
    return float(gain), float(offset)


if __name__ == "__main__":
    app()
