"""What the restoration benchmarks share: images, crops, classical baselines, tables of figures."""

from __future__ import annotations

import json
import platform
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import skimage.io
import torch
from numpy.typing import NDArray

from napari_dps.api import Progress
from napari_dps.demo._baselines import Blur, counts_misfit, richardson_lucy

Array = NDArray[np.float64]


def read(path: Path) -> Array:
    """Return a gray image as floats."""
    image = skimage.io.imread(path)
    if image.ndim != 2:
        raise SystemExit(f"{path} has shape {image.shape}; the benchmark needs gray images")
    return image.astype(np.float64)


def clean_images(data: Path, count: int | None = None) -> list[Path]:
    """Return clean images of ``data/eval``, single ones and clean halves of pairs in turn."""
    single = sorted((data / "eval" / "clean").glob("*.png"))
    halves = sorted((data / "eval" / "denoise").glob("*_clean.png"))
    if not single and not halves:
        raise SystemExit(f"{data} has no eval/clean or eval/denoise with PNG images")
    if count is None or count >= len(single) + len(halves):
        return single + halves
    # Few images: as many as possible of different kinds, spread evenly over both lists.
    first = min(len(single), (count + 1) // 2)
    rest = count - first
    spread = [halves[i * len(halves) // rest] for i in range(rest)] if rest else []
    return single[:first] + spread


STRUCTURES = {
    "nuclei": ("nucleus", "nuctrack", "dsb", "bbbc", "bpae_b"),
    "actin": ("actin", "bpae_g"),
    "mitochondria": ("mito", "bpae_r"),
    "microtubules": ("tubul",),
    "endoplasmic reticulum": ("_er_",),
    "bacteria": ("bacteria",),
    "zebrafish": ("fish",),
}
"""What names of files say of structures. BPAE: mitochondria are red, actin green, DNA blue."""


def structure_of(name: str) -> str:
    """Return the structure that an image of ``data/eval`` shows, by its name."""
    for structure, words in STRUCTURES.items():
        if any(word in name.lower() for word in words):
            return structure
    return "other"


def best_crop(image: Array, side: int, margin: int = 0, seed: int = 0, tries: int = 16) -> Array:
    """Return the crop with the largest variance among seeded ones, with its margin.

    The margin is image where there is image, and mirrored beyond its border.
    """
    wide = np.pad(image, margin, mode="reflect") if margin else image
    rng = np.random.default_rng(seed)
    best, value = (0, 0), -1.0
    for _ in range(tries):
        place = tuple(int(rng.integers(0, n - side + 1)) for n in image.shape)
        variance = float(image[tuple(slice(p, p + side) for p in place)].var())
        if variance > value:
            best, value = (place[0], place[1]), variance
    top, left = best
    size = side + 2 * margin
    return wide[top : top + size, left : left + size]


def photons(image: Array, peak: float, background: float, inner: tuple[slice, ...]) -> Array:
    """Scale so that the inner part's 99.8th percentile is ``peak`` photons over a background."""
    low, high = np.percentile(image[inner], [0.5, 99.8])
    return background + peak * np.clip((image - low) / (high - low), 0, None)


def stopped_richardson_lucy(
    counts: Array, blur: Blur, iterations: int = 500
) -> tuple[Array, int, float]:
    """Return Richardson-Lucy's first iterate that explains the data as well as noise allows.

    Discrepancy principle: chi-square per datum at most 1. Returns (image, iterations, chi2).
    """
    found = (counts, 0, np.inf)
    for k, (estimate, expected) in enumerate(islice(richardson_lucy(counts, blur), iterations)):
        found = (estimate, k + 1, float(counts_misfit(counts, expected)))
        if found[2] <= 1:
            break
    return found


def wiener(counts: Array, blur: Blur, balance: float) -> tuple[Array, Array]:
    """Return (image, expected counts) of a Wiener filter with a Laplacian's spectrum as prior."""
    rows, columns = (np.fft.fftfreq(n) for n in blur.wide)
    columns = np.abs(columns[: blur.transfer.shape[1]])
    laplacian = 4 - 2 * np.cos(2 * np.pi * rows)[:, None] - 2 * np.cos(2 * np.pi * columns)
    transfer = blur.transfer
    gain = transfer.conj() / (np.abs(transfer) ** 2 + balance * laplacian**2)
    spectrum = np.fft.rfft2(blur.embed(counts))
    wide = np.maximum(np.fft.irfft2(spectrum * gain, s=blur.wide), 0)
    return blur.crop(wide), blur.forward(wide)


def wiener_filters(counts: Array, blur: Blur) -> list[tuple[float, Array, float]]:
    """Return (balance, image, chi-square per datum) for balances from strong to weak."""
    found = []
    for balance in 10.0 ** np.arange(3, -4.1, -0.25):
        image, expected = wiener(counts, blur, balance)
        found.append((float(balance), image, float(counts_misfit(counts, expected))))
    return found


def paired(rows: list[dict[str, Any]], first: str, second: str) -> dict[str, float]:
    """Return mean, standard error and minimum of row[first] - row[second], where both are."""
    gains = np.array([r[first] - r[second] for r in rows if first in r and second in r])
    error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else 0.0
    return {
        "mean": float(gains.mean()),
        "standard_error": error,
        "min": float(gains.min()),
        "images": len(gains),
    }


def mean_of(rows: list[dict[str, Any]], key: str) -> float | None:
    """Return the mean of a figure over the rows that have it."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return float(np.mean(values)) if values else None


def machine() -> dict[str, Any]:
    """Return what the seconds depend on."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def say(text: str) -> None:
    """Write a line to stderr."""
    print(text, file=sys.stderr, flush=True)


def contact_sheet(images: list[Array], columns: int, path: Path) -> None:
    """Write gray images of one shape, 0 black and 1 white, side by side as a PNG."""
    side = images[0].shape
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (side[0] + 2) - 2, columns * (side[1] + 2) - 2), 0.35)
    for number, image in enumerate(images):
        top, left = number // columns * (side[0] + 2), number % columns * (side[1] + 2)
        sheet[top : top + side[0], left : left + side[1]] = np.clip(image, 0.0, 1.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    skimage.io.imsave(path, (255 * sheet).round().astype(np.uint8), check_contrast=False)


class Watcher:
    """Tells on stderr how a run goes, each quarter of it."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._quarter = 0

    def __call__(self, step: Progress) -> None:
        """Take a step."""
        quarter = 4 * step.done // max(step.total, 1)
        if quarter > self._quarter:
            self._quarter = quarter
            left = "" if step.seconds_left is None else f", {step.seconds_left:.0f} s left"
            say(f"  {self.label}: {25 * quarter} %{left}")


def publish(report: dict[str, Any], out: Path | None) -> None:
    """Print a report as JSON on stdout, and write it to a file."""
    text = json.dumps(report, indent=2)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
