"""Make the catalogue's pictures: truth, measurement and reconstruction of every kind.

    python tools/catalogue_pictures.py [KIND ...]

Simulates a synthetic specimen with each page's own recipe, restores it with the shipped prior and
the default sampler (two or four samples), and writes docs/images/catalogue/*.png and
benchmarks/results/catalogue.json. Without kinds it makes all; half an hour on two cores.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import tifffile
from _catalogue_examples import EXAMPLES, recipe
from catalogue import PICTURES, ROOT, page_name
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

import napari_dps
from napari_dps.training.phantoms import STRUCTURES
from napari_dps.uncertainty.registration import register

Array = NDArray[np.float64]
RESULTS = ROOT / "benchmarks" / "results" / "catalogue.json"
SIDE = 80
BACKGROUND = 0.02
"""Of what is bright."""


def structure(name: str, seed: int, side: int = SIDE) -> Array:
    """Return a sharp phantom, 1 where bright."""
    found = STRUCTURES[name][0](np.random.default_rng(seed), side).astype(np.float64)
    return np.clip(found / np.percentile(found, 99.8), 0, 1.5)


def bright(name: str, seed: int, peak: float, side: int = SIDE) -> Array:
    """Return a phantom in photons."""
    return peak * (BACKGROUND + structure(name, seed, side))


def volume(name: str, seed: int, peak: float, depth: int = 6, side: int = 40) -> Array:
    """Return a few planes, what is bright in each falling off to its neighbours."""
    planes = np.zeros((depth, side, side))
    for number, centre in enumerate(np.arange(1.5, depth - 1, 2)):
        weight = np.exp(-((np.arange(depth) - centre) ** 2))
        planes += weight[:, None, None] * structure(name, seed + number, side)
    return peak * (BACKGROUND + planes / np.percentile(planes, 99.8))


def round_field(image: Array, radius: float) -> Array:
    """Return an image that is dark beyond a radius."""
    rows, columns = np.mgrid[[slice(n) for n in image.shape]]
    middle = [(n - 1) / 2 for n in image.shape]
    distance = np.hypot(rows - middle[0], columns - middle[1])
    return image * np.clip(radius - distance, 0, 1)


def spot() -> Array:
    """Return the image of a point through an astigmatic, slightly defocused lens."""
    rows, columns = np.mgrid[-12:13, -12:13] * 1.0
    along, across = (rows + columns) / np.sqrt(2), (rows - columns) / np.sqrt(2)
    core = np.exp(-(along**2) / (2 * 3.0**2) - across**2 / (2 * 1.2**2))
    return core + 0.25 * np.exp(-(rows**2 + columns**2) / (2 * 4.0**2))


def scratches() -> NDArray[np.uint8]:
    """Return a mask with scratches and dead columns."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    mask = np.ones((SIDE, SIDE), np.uint8)
    for slope, start, width in ((0.4, 8, 2), (-0.8, 70, 3), (2.0, -60, 2)):
        mask[np.abs(rows - slope * columns - start) < width] = 0
    mask[:, [31, 57]] = 0
    return mask


def pattern_log(values: Array) -> Array:
    """Return the logarithm of a pattern, that of its complex parts' amplitude too."""
    amplitude = np.hypot(*values) if values.ndim == 3 and len(values) == 2 else np.abs(values)
    return np.log10(amplitude + 1e-3 * amplitude.max())


def masked(values: Array, known: NDArray[Any]) -> Array:
    """Return an image with NaN where it was not measured."""
    return np.where(known, values, np.nan)


def filled(values: Array) -> Array:
    """Return an image whose NaN pixels take the value of the nearest measured one."""
    missing = np.isnan(values)
    if not missing.any():
        return values
    nearest = distance_transform_edt(missing, return_distances=False, return_indices=True)
    return np.asarray(values[tuple(nearest)])


def psnr(estimate: Array, truth: Array) -> float:
    """Return the PSNR against the truth's range in dB."""
    error = float(np.mean((estimate - truth) ** 2))
    return float(10 * np.log10((truth.max() - truth.min()) ** 2 / error))


@dataclass(frozen=True)
class Scene:
    """What one kind measures, and how its panels are shown.

    ``seen`` turns the measurement into what is shown of it, ``compared`` into an estimate of the
    truth to give a PSNR to (None where there is none); ``shown`` is what of an object is shown,
    ``part`` the part of it that is shown and judged.
    """

    truth: Callable[[], Array]
    seen: Callable[[Array], Array] = np.asarray
    compared: Callable[[Array], Array] | None = np.asarray
    shown: Callable[[Array], Array] = np.asarray
    files: tuple[tuple[str, Callable[[], Array]], ...] = ()
    samples: int = 4
    registered: str = ""
    units: tuple[float, float] = (1.0, 0.0)
    part: tuple[Any, ...] = (...,)


def amplitude(parts: Array) -> Array:
    """Return the amplitude of real and imaginary part."""
    return np.hypot(parts[0], parts[1])


def phase(parts: Array) -> Array:
    """Return the phase of real and imaginary part."""
    return np.arctan2(parts[1], parts[0])


def probe() -> Array:
    """Return a round probe with a curved wavefront, real and imaginary part."""
    rows, columns = np.mgrid[-16:16, -16:16]
    distance = rows**2 + columns**2
    found = 40 * np.exp(-distance / 50 + 0.02j * distance)
    return np.stack((found.real, found.imag))


def positions() -> Array:
    """Return a grid of places with a little unevenness, so that its period is not seen."""
    rng = np.random.default_rng(3)
    places = np.array([(6.0 * r, 6.0 * c) for r in range(8) for c in range(8)])
    return places + rng.uniform(0, 1, places.shape)


def phase_object(side: int) -> Array:
    """Return cells that turn the phase by up to one radian."""
    found = np.exp(1j * np.clip(structure("cytoplasm", 2, side), 0, 1))
    return np.stack((found.real, found.imag))


def complex_object() -> Array:
    """Return a slice with a slowly varying phase."""
    signal = round_field(structure("cytoplasm", 4, 64), 30)
    rows, columns = np.mgrid[:64, :64] / 32 - 1
    found = signal * np.exp(1j * (0.5 * columns + 0.4 * rows))
    return np.stack((found.real, found.imag))


def diffracting() -> Array:
    """Return nuclei of a million photons in all, as amplitude."""
    found = np.zeros((64, 64))
    found[8:56, 8:56] = round_field(structure("nuclei", 10, 48), 23)
    return found * np.sqrt(1e6 / (found**2).sum())


def enlarged(values: Array) -> Array:
    """Return an image with every pixel twice along both axes."""
    return np.kron(values, np.ones((2, 2)))


def known_pixels(kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return what a masking model of the catalogue measures."""
    from napari_dps.components import make

    model: Any = make("forward", recipe("forward", kind)["forward"])
    steps = model.steps if kind == "compose" else (model,)
    return np.asarray(steps[-1].measured_pixels(np.zeros((1, *shape))).reshape(shape))


def chained(values: Array) -> Array:
    """Return the chain's measurement with NaN where it lost pixels."""
    return masked(values, known_pixels("compose", values.shape))


def inpainted(values: Array) -> Array:
    """Return what mask and box leave."""
    return masked(values, known_pixels("inpaint", values.shape))


def thinned(values: Array) -> Array:
    """Return what random loss leaves."""
    return masked(values, known_pixels("random-inpaint", values.shape))


SCENES: dict[str, Scene] = {
    "identity": Scene(lambda: bright("nuclei", 1, 20)),
    "gaussian-blur": Scene(lambda: bright("nuclei", 2, 100)),
    "motion-blur": Scene(lambda: bright("mitochondria", 3, 100), samples=2),
    "psf": Scene(lambda: bright("mitochondria", 4, 100), files=(("psf.tif", spot),)),
    "widefield": Scene(lambda: volume("filaments", 5, 200), samples=2),
    "confocal": Scene(lambda: volume("filaments", 12, 40, 8, 48), samples=2),
    "lightsheet": Scene(lambda: bright("filaments", 5, 100, 64), samples=2),
    "inpaint": Scene(
        lambda: bright("membranes", 6, 100),
        inpainted,
        lambda y: filled(inpainted(y)),
        files=(("mask.tif", scratches),),
    ),
    "random-inpaint": Scene(
        lambda: bright("nuclei", 7, 100), thinned, lambda y: filled(thinned(y)), samples=2
    ),
    "downsample": Scene(lambda: bright("cytoplasm", 8, 200), compared=enlarged),
    "nonlinear-blur": Scene(lambda: bright("mitochondria", 9, 100), compared=None, samples=2),
    "phase-retrieval": Scene(diffracting, pattern_log, None, registered="all", samples=2),
    "ptychography": Scene(
        lambda: phase_object(80),
        lambda y: pattern_log(y[27]),
        None,
        phase,
        (("probe.npy", probe), ("positions.npy", positions)),
        registered="phase",
        samples=2,
        part=(..., slice(12, 63), slice(12, 63)),
    ),
    "radon": Scene(lambda: round_field(structure("cytoplasm", 10, 64), 30), compared=None),
    "fourier-mask": Scene(complex_object, pattern_log, None, amplitude),
    "compose": Scene(
        lambda: bright("cytoplasm", 11, 200), chained, lambda y: enlarged(filled(chained(y)))
    ),
    "noise-gaussian": Scene(lambda: bright("membranes", 12, 100), samples=2),
    "noise-poisson": Scene(lambda: bright("puncta", 13, 30), units=(2.2, 100.0), samples=2),
    "noise-poisson-gaussian": Scene(
        lambda: bright("reticulum", 14, 30), units=(2.2, 100.0), samples=2
    ),
}


def sections(values: Array) -> Array:
    """Return a volume's middle plane above a section along Z, a plane four rows high."""
    if values.ndim == 2:
        return values
    middle = values[len(values) // 2]
    along = np.repeat(values[:, values.shape[1] // 2], 4, axis=0)
    return np.concatenate((middle, np.full((2, middle.shape[1]), np.nan), along))


def draw(name: str, panels: list[tuple[str, Array, bool]]) -> None:
    """Write the panels; those that are marked share the first one's gray values."""
    figure = Figure(figsize=(7.2, 2.65), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    low, high = np.nanpercentile(panels[0][1], [0.0, 99.8])
    for axes, (title, values, shared) in zip(figure.subplots(1, 3), panels, strict=True):
        limits = (low, high) if shared else np.nanpercentile(values, [0.1, 99.9])
        axes.set_facecolor("#203864")  # where nothing was measured
        axes.imshow(values, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    PICTURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURES / f"{name}.png", pil_kwargs={"optimize": True})


def make_one(group: str, kind: str) -> dict[str, Any]:
    """Simulate, restore, draw; return the figures."""
    name = page_name(group, kind)
    scene, parts = SCENES[name], recipe(group, kind)
    for file, values in scene.files:
        write = np.save if file.endswith(".npy") else tifffile.imwrite
        write(file, values().astype(np.float32))
    truth = scene.truth()
    gain, offset = scene.units
    channels = truth.ndim == 3 and (kind in ("ptychography", "fourier-mask"))
    axes = "CYX" if channels else "ZYX" if truth.ndim == 3 else None
    measured = napari_dps.simulate(truth * gain + offset, parts, seed=1, axes=axes)
    stacks = {"ptychography": "TYX", "fourier-mask": "CYX"}
    began = time.perf_counter()
    result = napari_dps.reconstruct(
        measured, parts, samples=scene.samples, seed=1, axes=stacks.get(kind, axes)
    )
    seconds = time.perf_counter() - began
    counted = (measured.astype(np.float64) - offset) / gain
    mean = (np.asarray(result.mean, dtype=np.float64) - offset) / gain
    if scene.registered:
        mean = register(mean, truth, phase_only=scene.registered == "phase")
    truth, mean = truth[scene.part], mean[scene.part]
    row: dict[str, Any] = {"kind": kind, "group": group, "shape": list(truth.shape)}
    row["psnr of measurement"] = None
    if scene.compared is not None:
        row["psnr of measurement"] = round(psnr(scene.compared(counted), truth), 2)
    # Of complex objects both parts count, not their amplitude alone.
    row["psnr of reconstruction"] = round(psnr(mean, truth), 2)
    if channels:
        span = scene.shown(truth)
        row["psnr of what is shown"] = round(psnr(scene.shown(mean), span), 2)
    row["samples"] = scene.samples
    row["chi-square per datum"] = round(float(result.report["misfit"]), 3)
    row["sum over truth's"] = round(float(np.abs(mean).sum() / np.abs(truth).sum()), 4)
    row["flux"] = result.report.get("flux")
    row["warnings"] = result.report.get("warnings", [])
    row["seconds"] = round(seconds, 1)
    same = scene.compared is not None and scene.seen is not pattern_log
    ours = f"reconstruction ({row['psnr of reconstruction']:.1f} dB)"
    theirs = "measurement" + (f" ({row['psnr of measurement']:.1f} dB)" if same else "")
    draw(
        name,
        [
            ("truth", sections(scene.shown(truth)), True),
            (theirs, sections(scene.seen(counted)), same),
            (ours, sections(scene.shown(mean)), True),
        ],
    )
    return row


def main() -> None:
    """Make the pictures of the kinds named, or of all."""
    wanted = sys.argv[1:] or list(SCENES)
    unknown = [name for name in wanted if name not in SCENES]
    if unknown:
        raise SystemExit(f"no scene for {', '.join(unknown)}; known are {', '.join(SCENES)}")
    kinds = {
        page_name(group, kind): (group, kind) for group in EXAMPLES for kind in EXAMPLES[group]
    }
    for name in wanted:
        here = Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                row = make_one(*kinds[name])
            finally:
                os.chdir(here)
        print(json.dumps(row), flush=True)
        rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        rows[name] = row
        ordered = {key: rows[key] for key in SCENES if key in rows}
        RESULTS.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
