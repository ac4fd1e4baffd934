"""Phantoms against real images, structure by structure, by their statistics; prints JSON.

    python benchmarks/phantoms.py --data FOLDER [--fields N] [--before FILE] [--out FILE]
        [--figure FILE.png] [--sheet FILE.png]

FOLDER holds train_open, a folder of training images a structure. Fields of 128x128 pixels: crops of
real images (drawn evenly over a folder's images, 2x2 pixels averaged as often as training does,
nearly empty crops left out) and phantoms of the same structure. Both go through the training
normalisation, field by field. Each phantom gets white noise of the strength that was estimated on
one of the real fields, because the camera's noise is not what is compared.

Statistics: radially averaged power spectrum (Hann window), intensities, local standard deviation in
boxes of 3, 7, 15 and 31 pixels and its ratio to the local mean, kurtosis of the gradient, sparsity
(Hoyer) of each field. A distance is the first Wasserstein distance between the real and the
phantoms' distribution of a statistic, divided by the standard deviation of the real one (spectrum:
in decades, mean over rings of equal width in log k). ``between_halves`` is the distance of one
half of a folder's real images, in the order of their names, from the other half.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _common import contact_sheet, machine, publish, say
from _curves import draw_curves
from cyclopts import App
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.stats import kurtosis, wasserstein_distance

from napari_dps.training.images import Source, load_images, normalise
from napari_dps.training.phantoms import STRUCTURES, phantom

Array = NDArray[np.float64]
SIDE = 128
#: Which folders of train_open show which structure; the mixture is compared with all of them.
FOLDERS = {
    "nuclei": ("nuclei",),
    "filaments": ("tubulin", "actin"),
    "puncta": ("spots",),
    "membranes": ("membranes",),
    "mitochondria": ("mitochondria",),
    "reticulum": ("er",),
    "cytoplasm": ("cytoplasm",),
    "mixture": (),
}
BOXES = (3, 7, 15, 31)
RINGS = np.unique(np.geomspace(1, SIDE // 2, 15).round().astype(int))
DISTANCES = ("spectrum", "intensity", "local_std", "local_contrast", "kurtosis", "sparsity")
#: Columns of the contact sheet, and the side of its images.
COLUMNS, SHEET = 6, 96
app = App(help="Phantoms against real images by their statistics, as JSON.")


def real_fields(sources: list[Source], count: int, rng: np.random.Generator) -> list[Array]:
    """Return fields of real images, as many of each image as of any other."""
    fields: list[Array] = []
    order: list[int] = []
    misses = 0
    while len(fields) < count and misses < 50 * count:
        order = order or list(rng.permutation(len(sources)))
        source = sources[order.pop()]
        wanted = 0.5 if source.noise > 0.02 else 0.25
        height, width = source.pixels.shape
        factor = 2 if min(height, width) >= 2 * SIDE and rng.random() < wanted else 1
        side = SIDE * factor
        misses += 1
        if min(height, width) < side:
            continue
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        patch = source.patch(int(top), int(left), side).astype(np.float64)
        patch = patch.reshape(SIDE, factor, SIDE, factor).mean(axis=(1, 3))
        if patch.std() > 0.04:
            fields.append(patch)
    return fields


def graded(field: Array) -> Source:
    """Return a field as the training normalises it."""
    source = normalise(field)
    if source is None:
        raise SystemExit("a field is constant")
    return source


def phantom_fields(
    name: str, count: int, noises: list[float], rng: np.random.Generator
) -> list[Array]:
    """Return phantoms with the noise of real fields."""
    fields = []
    while len(fields) < count:
        clean = phantom(rng, SIDE, None if name == "mixture" else name)
        if clean.std() <= 0.02:
            continue
        source = graded(clean)
        own = source.noise
        # Sources measure noise in units of half the range.
        wanted = float(np.sqrt(max(rng.choice(noises) ** 2 - own**2, 0.0)))
        fields.append(clean + rng.normal(0, wanted * (source.high - source.low) / 2, clean.shape))
    return fields


def spectrum(field: Array) -> Array:
    """Return log10 of the power in rings of equal width in log k, shape (rings,)."""
    window = np.outer(np.hanning(SIDE), np.hanning(SIDE))
    power = np.abs(np.fft.fft2((field - field.mean()) * window)) ** 2 / (window**2).sum()
    k = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :]) * SIDE
    edges = pairwise(RINGS)
    return np.array([np.log10(power[(k >= a) & (k < b)].mean() + 1e-12) for a, b in edges])


def local(field: Array) -> tuple[Array, Array]:
    """Return log10 of local standard deviation and of its ratio to the mean, (boxes, points)."""
    light = (field + 1.0) / 2.0
    std, contrast = [], []
    for box in BOXES:
        mean = uniform_filter(light, box)
        spread = np.sqrt(np.clip(uniform_filter(light**2, box) - mean**2, 0.0, None))
        part = (slice(box // 2, -(box // 2), 4),) * 2
        std.append(np.log10(spread[part].ravel() + 1e-3))
        contrast.append(
            np.log10(spread[part].ravel() + 1e-3) - np.log10(abs(mean[part]).ravel() + 0.02)
        )
    return np.array(std, object), np.array(contrast, object)


def sparsity(field: Array) -> float:
    """Return Hoyer's sparsity of the intensities above the background: 0 flat, 1 a single pixel."""
    light = np.clip(field.ravel() + 1.0, 0.0, None)
    root = np.sqrt(light.size)
    return float((root - light.sum() / np.sqrt((light**2).sum())) / (root - 1.0))


def measure(fields: list[Array]) -> dict[str, Any]:
    """Return the statistics of fields."""
    graded_fields = []
    for field in fields:
        graded_fields.append(graded(field).patch(0, 0, SIDE).astype(np.float64))
    pairs = [local(field) for field in graded_fields]
    return {
        "spectrum": np.array([spectrum(field) for field in graded_fields]),
        "intensity": np.concatenate([field[::3, ::3].ravel() for field in graded_fields]),
        "local_std": [np.concatenate([p[0][i] for p in pairs]) for i in range(len(BOXES))],
        "local_contrast": [np.concatenate([p[1][i] for p in pairs]) for i in range(len(BOXES))],
        "kurtosis": np.array(
            [np.log10(3.0 + kurtosis(np.diff(f, axis=0).ravel())) for f in graded_fields]
        ),
        "sparsity": np.array([sparsity(field) for field in graded_fields]),
        "noise": [graded(field).noise for field in fields],
    }


def distances(real: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Return a distance per statistic, and their mean."""
    found: dict[str, float] = {}
    for name in DISTANCES:
        a, b = real[name], other[name]
        if name == "spectrum":
            parts = [wasserstein_distance(x, y) for x, y in zip(a.T, b.T, strict=True)]
        elif isinstance(a, list):
            parts = [wasserstein_distance(x, y) / x.std() for x, y in zip(a, b, strict=True)]
        else:
            parts = [wasserstein_distance(a, b) / a.std()]
        found[name] = float(np.mean(parts))
    found["mean"] = float(np.mean(list(found.values())))
    return found


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Return the middle values of statistics, to see in which way fields differ."""
    middle: Callable[[Any], float] = lambda x: round(float(np.median(x)), 3)  # noqa: E731
    return {
        "log10_power": [round(float(v), 2) for v in np.median(found["spectrum"], axis=0)],
        "intensity_deciles": [
            round(float(v), 3) for v in np.quantile(found["intensity"], np.arange(0.1, 1.0, 0.1))
        ],
        "log10_local_std": [middle(x) for x in found["local_std"]],
        "log10_local_contrast": [middle(x) for x in found["local_contrast"]],
        "log10_kurtosis": middle(found["kurtosis"]),
        "sparsity": middle(found["sparsity"]),
    }


@app.default
def main(
    *,
    data: Path,
    fields: int = 120,
    seed: int = 0,
    before: Path | None = None,
    out: Path | None = None,
    figure: Path | None = None,
    sheet: Path | None = None,
) -> None:
    """Run the comparison.

    Parameters
    ----------
    data
        Folder with train_open.
    fields
        Fields of each kind a structure.
    seed
        Seed of crops and phantoms.
    before
        A report of earlier phantoms over as many fields, whose distances are put beside.
    out
        File for the JSON.
    figure
        File for the curves, PNG.
    sheet
        File for a contact sheet of phantoms, PNG.
    """
    root = data / "train_open"
    groups = {p.name: load_images([p]) for p in sorted(root.iterdir()) if p.is_dir()}
    report: dict[str, Any] = {}
    curves: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for number, (name, folders) in enumerate(FOLDERS.items()):
        rng = np.random.default_rng([seed, number])
        real: list[Array] = []
        halves: tuple[list[Array], list[Array]] = ([], [])
        chosen = folders or tuple(groups)
        for group in chosen:
            # Images that lie beside each other are often of one specimen.
            sources, count = groups[group], -(-fields // len(chosen))
            middle = max(len(sources) // 2, 1)
            first = real_fields(sources[:middle], count // 2, rng)
            second = real_fields(sources[middle:] or sources, count - count // 2, rng)
            halves[0].extend(first)
            halves[1].extend(second)
            real += first + second
        theirs = measure(real)
        ours = measure(phantom_fields(name, fields, theirs["noise"], rng))
        curves[name] = (theirs, ours)
        report[name] = {
            "folders": list(chosen),
            "images": sum(len(groups[group]) for group in chosen),
            "distance": distances(theirs, ours),
            "between_halves": distances(measure(halves[0]), measure(halves[1])),
            "real": summary(theirs),
            "phantoms": summary(ours),
        }
        say(f"{name}: " + ", ".join(f"{k} {v:.2f}" for k, v in report[name]["distance"].items()))
        say(
            "  halves: "
            + ", ".join(f"{k} {v:.2f}" for k, v in report[name]["between_halves"].items())
        )
    if figure is not None:
        draw_curves(curves, RINGS / SIDE, BOXES, figure)
    if sheet is not None:
        draw = [np.random.default_rng([seed, number]) for number in range(COLUMNS)]
        rows = [structure for structure, _ in STRUCTURES.values()] + 4 * [phantom]
        contact_sheet([row(rng, SHEET) for row in rows for rng in draw], COLUMNS, sheet)
    if before is not None:
        earlier = json.loads(before.read_text(encoding="utf-8"))["structures"]
        for name, row in report.items():
            row["distance_before"] = earlier[name]["distance"]
    publish(
        {
            "what": __doc__,
            "fields": fields,
            "seed": seed,
            "structures": report,
            "machine": machine(),
        },
        out,
    )


if __name__ == "__main__":
    app()
