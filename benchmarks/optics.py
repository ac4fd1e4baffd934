"""PSFs of microscopes beside psf-generator's: agreement, time, and a picture of the three models.

    python benchmarks/optics.py

Writes benchmarks/results/optics.json and docs/images/optics.png; needs the extra `test`.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from psf_generator.propagators import ScalarSphericalPropagator, VectorialSphericalPropagator

from napari_dps.components import make
from napari_dps.forward._kernel import make_kernel
from napari_dps.forward._optics import Light, intensity, make_pupil
from napari_dps.forward._wavefront import Objective
from napari_dps.grid import Grid

ROOT = Path(__file__).resolve().parent.parent
WAVE = 0.52
PITCH, STEP, SIDE, PLANES = 0.04, 0.1, 81, 61
CASES = [
    ("oil into oil", 1.4, 1.515, 0.0),
    ("oil into water, 5 um deep", 1.2, 1.33, 5.0),
    ("oil into water, 20 um deep", 1.2, 1.33, 20.0),
    ("oil into water, 10 um deep", 1.3, 1.33, 10.0),
]
PICTURE: dict[str, dict[str, Any]] = {
    "widefield": {"numerical_aperture": 1.2, "sample_index": 1.515},
    "widefield, 10 um into water": {
        "kind": "widefield", "numerical_aperture": 1.2, "sample_index": 1.33, "depth": 10,
    },
    "confocal": {"numerical_aperture": 1.2, "sample_index": 1.515},
    "lightsheet": {"numerical_aperture": 1.0, "sheet_thickness": 2.0},
}  # fmt: skip


def width(values: NDArray[Any], step: float) -> float:
    """Return the full width at half maximum of a profile."""
    values = values / values.max()
    peak = int(values.argmax())

    def crossing(side: NDArray[Any]) -> float:
        k = int(np.argmax(side < 0.5))
        return k - 1 + float((side[k - 1] - 0.5) / (side[k - 1] - side[k]))

    return step * (crossing(values[peak:]) + crossing(values[: peak + 1][::-1]))


def theirs(objective: Objective, vectorial: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return psf-generator's intensity and its planes; see tests/test_optics.py on the units."""
    aberrated = objective.depth > 0
    unit = 1e3 * (objective.immersion_index / objective.sample_index if aberrated else 1)
    fields: dict[str, Any] = {
        "n_pix_pupil": 1001, "n_pix_psf": SIDE, "n_defocus": PLANES, "wavelength": WAVE * 1e3,
        "na": objective.numerical_aperture, "pix_size": PITCH * unit * (SIDE - 1) / SIDE,
        "defocus_step": STEP * unit * (PLANES - 1) / PLANES, "apod_factor": True,
        "gibson_lanni": aberrated, "z_p": objective.depth * 1e3, "n_s": objective.sample_index,
        "n_i": objective.immersion_index, "n_i0": objective.immersion_index,
        "n_g": objective.cover_index, "n_g0": objective.cover_index_design,
        "t_g": objective.cover_thickness * 1e3, "t_g0": objective.cover_thickness_design * 1e3,
        "t_i0": objective.working_distance * 1e3,
    }  # fmt: skip
    kind = VectorialSphericalPropagator if vectorial else ScalarSphericalPropagator
    made = kind(**fields)
    values = (made.compute_focus_field().abs() ** 2).sum(1).double()
    if vectorial:  # the other polarisation is the first one, turned
        values = values + values.mT
    planes = np.linspace(made.defocus_min, made.defocus_max, PLANES) / unit
    return values.numpy(), -planes


def compare() -> list[dict[str, Any]]:
    """Return the agreement of every case."""
    found = []
    for name, aperture, sample, depth in CASES:
        for vectorial in (False, True):
            objective = Objective(
                aperture, 1.515, 1.515, 150.0, 1.5255, 1.5255, 170.0, 170.0, sample, depth
            )
            expected, planes = theirs(objective, vectorial)
            x = (torch.arange(SIDE, dtype=torch.float64) - SIDE // 2) * PITCH
            radii, where = torch.unique(torch.hypot(x[:, None], x), return_inverse=True)
            z = torch.from_numpy(planes)
            pupil = make_pupil(Light(objective, WAVE, vectorial), float(radii[-1]), 4.0)
            ours = intensity(pupil, radii, z)[:, where].numpy()
            product = float((ours * expected).sum())
            norm = float(np.sqrt((ours**2).sum() * (expected**2).sum()))
            best = np.unravel_index(ours.argmax(), ours.shape)
            row: dict[str, Any] = {
                "case": name, "aperture": aperture, "vectorial": vectorial,
                "one minus correlation": 1 - product / norm,
            }  # fmt: skip
            for axis, pitch, cut in (
                ("lateral", PITCH, (best[0], best[1], slice(None))),
                ("axial", STEP, (slice(None), best[1], best[2])),
            ):
                a, b = width(ours[cut], pitch), width(expected[cut], pitch)
                row[f"{axis} FWHM um"] = round(a, 4)
                row[f"{axis} FWHM off by %"] = round(100 * abs(a / b - 1), 4)
            found.append(row)
            print(row)
    return found


def timed() -> dict[str, float]:
    """Return the seconds of a PSF of 41 x 65 x 65 voxels, on as many threads as torch takes."""
    found = {}
    grid = Grid((20, 32, 32), (0.2, 0.065, 0.065))
    for kind in ("widefield", "confocal", "lightsheet"):
        model = make("forward", {"kind": kind, "margin": 1, "crop": 0.9999})
        best = float("inf")
        for _ in range(3):
            make_kernel.cache_clear()
            begin = time.perf_counter()
            model.psf(grid)  # type: ignore[attr-defined]
            best = min(best, time.perf_counter() - begin)
        found[kind] = round(best, 3)
        print(kind, model.psf(grid).shape, f"{best:.3f} s")  # type: ignore[attr-defined]
    return found


def draw(path: Path) -> None:
    """Draw lateral and axial sections, gamma 0.5, on one scale of lengths."""
    figure = Figure(figsize=(9.6, 6.0), layout="constrained", dpi=90)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(PICTURE), height_ratios=[1, 2])
    pitch, step, half, high = 0.025, 0.05, 1.0, 2.0
    grid = Grid(
        (round(high / step), round(half / pitch), round(half / pitch)), (step, pitch, pitch)
    )
    for column, (name, fields) in zip(axes.T, PICTURE.items(), strict=True):
        model = make("forward", {"kind": name, **fields, "margin": 1, "crop": 0.9999})
        psf = model.psf(grid)  # type: ignore[attr-defined]
        full = np.zeros([2 * n + 1 for n in grid.shape])
        both = zip(grid.shape, psf.shape, strict=True)
        full[tuple(slice(n - k // 2, n + k // 2 + 1) for n, k in both)] = psf
        middle = [n // 2 for n in full.shape]
        across, along = full[middle[0]], full[:, middle[1]]
        sizes = width(across[middle[1]], pitch), width(along[:, middle[2]], step)
        column[0].set_title(
            f"{name}\n{sizes[0] * 1e3:.0f} nm across, {sizes[1] * 1e3:.0f} nm along", fontsize=9
        )
        column[0].imshow(np.sqrt(across), extent=(-half, half, -half, half), cmap="magma", vmin=0)
        column[1].imshow(np.sqrt(along), extent=(-half, half, high, -high), cmap="magma", vmin=0)
        column[1].set_xlabel("x (um)")
    axes[0, 0].set_ylabel("y (um)")
    axes[1, 0].set_ylabel("focal plane below the object (um)")
    figure.savefig(path)


def main() -> None:
    """Compare, time and draw."""
    result = {
        "psf-generator": importlib.metadata.version("psf-generator"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "agreement": compare(),
        "seconds of 41 x 65 x 65": timed(),
    }
    target = ROOT / "benchmarks" / "results" / "optics.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(ROOT / "docs" / "images" / "optics.png")


if __name__ == "__main__":
    main()
