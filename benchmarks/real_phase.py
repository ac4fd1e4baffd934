"""Phase problems of real experiments, and one of a public benchmark: are their data explained.

    python benchmarks/real_phase.py --data FOLDER [--cases ring star atoms] [--pictures FOLDER]
    python benchmarks/real_phase.py markdown JSON [--into PAGE.md]

There is no truth. Printed as JSON, for the classical estimate that a run begins with (alternating
projections, ePIE) and for the best sample: the R-factor, sum | |F| - magnitude | / sum magnitude
over the measured data, and for samples the chi-square per datum.

- ring: single-shot diffraction of a ring at 32 nm (FOLDER/eval/phase/hawk_ring_processed.npz),
  amplitudes with a mask. The beam stop hides what an autocorrelation needs; what is assumed is that
  the object fills no more than a quarter of the field (oversampling 4). It is complex: no real one
  explains the amplitudes (the classical R-factor is 0.18 in place of 0.09). The noise is not known:
  Gaussian, ``RING_SIGMA`` in the file's units, about what the classical estimate leaves.
- star: far-field X-ray ptychography of a Siemens star (tike_siemens_star_ptycho.npz), the middle
  of the scan, the probe refined from the file's guess.
- atoms: data100E of Elser, Lan and Bendory, "Benchmark problems for phase retrieval", SIAM J.
  Imaging Sci. 11 (2018): 100 atoms of 8 pixels each in a periodic cell. Solved means, as there,
  that the 800 brightest pixels hold 0.95 of the power once the object has the measured magnitudes;
  the model is told that number (``support_pixels``).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from _common import Array, Watcher, machine, publish, say
from _pages import markdown_command
from _panels import panels
from cyclopts import App, Parameter

from napari_dps.api import Run

RING_SIGMA = 4.0
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
        "object": "complex",
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


def power_in_brightest(image: Array, count: int, plane: Array, mask: Array) -> float:
    """Return the share of the power that ``count`` pixels hold, the measured magnitudes put in.

    Parameters
    ----------
    image
        Periodic object.
    count
        Of the brightest pixels.
    plane, mask
        Intensities with the zero frequency in the corner, and where they were measured.
    """
    field = np.fft.fft2(image, norm="ortho")
    told = np.sqrt(np.maximum(plane, 0)) * np.exp(1j * np.angle(field))
    image = np.fft.ifft2(np.where(mask > 0, told, field), norm="ortho").real
    power = np.sort((image**2).ravel())[::-1]
    return float(power[:count].sum() / power.sum())


def shown(caption: str, values: Array) -> dict[str, Array]:
    """Return what is drawn of an object: itself, or amplitude and phase of a complex one."""
    if values.ndim == 2:
        return {caption: values}
    z = values[0] + 1j * values[1]
    phase = np.angle(z * np.exp(-1j * np.angle(z.sum())))
    return {f"{caption}, amplitude": np.abs(z), f"{caption}, phase": phase}


@app.default
def main(
    *,
    data: Path,
    cases: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (
        "ring",
        "star",
        "atoms",
    ),
    samples: int = 4,
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
        recipe |= {"samples": samples}
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
            "sampler": result.report["sampler"],
            "r_factor_classical": classical[0],
            "r_factor": r_factor(run, x),
            "chi2": result.report["chi2"],
            "found": result.report["forward"],
            "network_calls": result.report["network_calls"],
            "seconds": time.perf_counter() - begin,
        }
        if name == "atoms":
            mask = recipe["forward"]["mask"]
            for end, image in (("_classical", classical[1]), ("", best)):
                share = power_in_brightest(image.astype(np.float64), ATOM_PIXELS, measured, mask)
                row[f"power_in_brightest{end}"] = share
                row[f"solved{end}"] = share > 0.95
        rows.append(row)
        say(f"{name}: R {row['r_factor_classical']:.3f} classical, {row['r_factor']:.3f} ours")
        if pictures is not None:
            spread = result.std if result.std.ndim == 2 else np.hypot(*result.std)
            drawn = shown("classical", classical[1]) | shown("a sample", best) | {"std": spread}
            panels(drawn, pictures / f"real-{name}.png")
    publish(
        {"what": __doc__, "samples": samples, "rows": rows, "machine": machine()},
        out,
    )


def table(report: dict[str, Any]) -> str:
    """Return the figures of a report as Markdown."""
    lines = [
        "| data | object | sampler | R-factor, classical | R-factor, ours | misfit of the samples "
        "| solved, classical | solved, ours | seconds |",
        "|---" * 9 + "|",
    ]
    for row in report["rows"]:
        size = " x ".join(map(str, row["object"][-2:]))
        size += ", complex" if len(row["object"]) == 3 else ""
        lines.append(
            f"| {row['case']} | {size} | `{row['sampler']}` | {row['r_factor_classical']:.3f} "
            f"| {row['r_factor']:.3f} | {min(row['chi2']):.1f} to {max(row['chi2']):.1f} "
            f"| {share(row, '_classical')} | {share(row, '')} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def share(row: dict[str, Any], end: str) -> str:
    """Return whether a benchmark was solved, and the share of power that says so."""
    found = row.get(f"power_in_brightest{end}")
    return "" if found is None else f"{'yes' if row[f'solved{end}'] else 'no'} ({found:.2f})"


markdown_command(app, table, "real-phase")


def camera(run: Run) -> tuple[float, float]:
    """Return gain and offset of a run."""
    gain, offset = run.recipe.noise.camera()
    return float(gain), float(offset)


if __name__ == "__main__":
    app()
