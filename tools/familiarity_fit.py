"""Fit the score of unfamiliar images and write it beside a prior's weights.

    python tools/familiarity_fit.py --images FOLDER [--prior FOLDER] [--work DIR] [--part K N]

FOLDER holds fluorescence images by structure, such as the prior was trained on. Against them stand
images that scikit-image brings (people, animals, textures, stained tissue, a fundus), membranes and
transmitted light made here, textures, and fluorescence with its contrast inverted. Some of all are
magnified, some of the fluorescence is saturated. Each is judged as it is and as the prior denoises
it at a noise of 0.35, which looks like a restoration. A logistic regression on the features and
their squares, with a penalty on its weights, is fitted; the threshold is what 4 % of the
unaltered fluorescence exceeds when the fit has not seen its group.

Run again after the weights have changed. Features are kept in ``--work``; ``--part K N`` computes
every N-th only, for several processes side by side.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import skimage
import skimage.io
import torch
from _unfamiliar import membranes, transmitted
from cyclopts import App, Parameter
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize

from napari_dps.priors._folder import load_prior, prior_hash
from napari_dps.priors.fluorescence import FOLDER
from napari_dps.training import textures
from napari_dps.uncertainty.verdict.appearance import TILE, looks, normalised
from napari_dps.uncertainty.verdict.familiarity import FILE, Model, asked

Array = NDArray[np.float64]
OTHERS = (
    "astronaut.png", "brick.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png",
    "ihc.png", "retina.jpg", "page.png", "text.png", "motorcycle_left.png", "rocket.jpg",
    "clock_motion.png",
)  # fmt: skip
PENALTY, EXCEEDED, DENOISED = 20.0, 0.04, 0.35
app = App(help="Fit the score of unfamiliar images.")


def gray(path: Path) -> Array:
    """Return an image as floats, colours averaged."""
    image = skimage.io.imread(path)
    return (image[..., :3].mean(-1) if image.ndim == 3 else image).astype(np.float64)


def crops(image: Array, rng: np.random.Generator, count: int) -> Iterator[Array]:
    """Yield crops that are not empty."""
    rows, columns = (min(TILE, n // 8 * 8) for n in image.shape)
    for _ in range(count if min(rows, columns) >= 64 else 0):
        for _ in range(20):
            top = int(rng.integers(0, image.shape[0] - rows + 1))
            left = int(rng.integers(0, image.shape[1] - columns + 1))
            crop = image[top : top + rows, left : left + columns]
            if crop.std() > 0.15 * image.std():
                yield crop
                break


def scenes(images: Path) -> Iterator[tuple[str, int, Array]]:
    """Yield (group, 1 if it is no fluorescence, crop); the same in every run."""
    for folder in sorted(p for p in images.iterdir() if p.is_dir()):
        rng = np.random.default_rng(len(folder.name))
        files = sorted(folder.glob("*.png"))
        files = [files[k] for k in rng.permutation(len(files))[:12]]
        for path in files:
            for crop in crops(gray(path), rng, max(1, min(4, 12 // len(files)))):
                yield folder.name, 0, crop
        for path in files[:2]:
            for crop in crops(gray(path), rng, 1):
                yield "inverted", 1, -crop
    rng = np.random.default_rng(1)
    for name in OTHERS:
        for crop in crops(gray(Path(skimage.__file__).parent / "data" / name), rng, 3):
            yield name, 1, crop
    for _ in range(24):
        yield "drawn membranes", 1, membranes(rng, TILE)
        yield "transmitted", 1, transmitted(rng, TILE)
    for _ in range(8):
        yield "leaves", 1, textures.dead_leaves(rng, TILE)
        yield "power law", 1, textures.power_law(rng, TILE)
    yield from altered(images)


def altered(images: Path) -> Iterator[tuple[str, int, Array]]:
    """Yield crops full of structure, magnified or saturated as images for display are."""
    rng = np.random.default_rng(2)
    for folder in sorted(p for p in images.iterdir() if p.is_dir()):
        files = sorted(folder.glob("*.png"))
        for k in rng.permutation(len(files))[:12]:
            found = list(crops(gray(files[k]), rng, 8))
            if found:
                crop = max(found, key=lambda c: float(normalised(c).var()))
                crop = magnified(crop, rng.choice([1.0, 1.5, 2.0, 3.0]))
                if rng.random() < 0.5:
                    crop = np.minimum(crop, np.percentile(crop, rng.uniform(60, 99)))
                yield f"{folder.name}, altered", 0, crop
    for name in OTHERS:
        whole = gray(Path(skimage.__file__).parent / "data" / name)
        for factor in (0.5, 2.0):
            for crop in crops(magnified(whole, factor), rng, 1):
                yield name, 1, crop


def magnified(image: Array, factor: float) -> Array:
    """Return an image on a finer or coarser grid; of a finer one the middle."""
    if factor == 1:
        return image
    fine = ndimage.zoom(ndimage.gaussian_filter(image, 0.5 * max(1 / factor - 1, 0)), factor)
    top, left = (
        (n - m) // 2 if factor > 1 else 0 for n, m in zip(fine.shape, image.shape, strict=True)
    )
    return np.asarray(fine[top : top + image.shape[0], left : left + image.shape[1]])


def fit(values: Array, labels: NDArray[np.int_]) -> tuple[Array, float]:
    """Return weights and bias of a logistic regression, both kinds weighed alike."""
    share = np.where(labels == 1, 0.5 / (labels == 1).sum(), 0.5 / (labels == 0).sum())
    sign = 2 * labels - 1

    def loss(p: Array) -> tuple[float, Array]:
        margin = sign * (values @ p[:-1] + p[-1])
        pull = -sign * share * 0.5 * (1 - np.tanh(margin / 2))
        penalty = PENALTY / len(labels)
        value = float((share * np.logaddexp(0, -margin)).sum() + penalty * (p[:-1] ** 2).sum())
        return value, np.append(values.T @ pull + 2 * penalty * p[:-1], pull.sum())

    found = minimize(loss, np.zeros(values.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return found[:-1], float(found[-1])


@app.default
def main(
    *,
    images: Path,
    prior: Path = FOLDER,
    work: Path = Path("familiarity-fit"),
    part: Annotated[tuple[int, int], Parameter(consume_multiple=True)] = (0, 1),
) -> None:
    """Compute the features, fit, write."""
    work.mkdir(parents=True, exist_ok=True)
    keep = work / f"{prior_hash(prior)}-{part[0]}-{part[1]}.jsonl"
    done = len(keep.read_text().splitlines()) if keep.exists() else 0
    denoise = asked(load_prior(prior), torch.zeros(1, 1, TILE, TILE))
    with keep.open("a") as file:
        for index, (group, label, crop) in enumerate(scenes(images)):
            if index % part[1] != part[0] or index // part[1] < done:
                continue
            image = normalised(crop)
            noise = np.random.default_rng(index).standard_normal(image.shape)
            again = normalised(denoise(image + DENOISED * noise, DENOISED))
            row: dict[str, Any] = {"group": group, "label": label}
            row["looks"] = [looks(image, denoise), looks(again, denoise)]
            file.write(json.dumps(row) + "\n")
            file.flush()
    if part[1] == 1:
        write(prior, [json.loads(line) for line in keep.read_text().splitlines()])


@app.command
def join(*, prior: Path = FOLDER, work: Path = Path("familiarity-fit")) -> None:
    """Fit to the features that several processes have left."""
    files = sorted(work.glob(f"{prior_hash(prior)}-*.jsonl"))
    write(prior, [json.loads(line) for f in files for line in f.read_text().splitlines()])


def write(prior: Path, rows: list[dict[str, Any]]) -> None:
    """Fit and write the score."""
    names = sorted(rows[0]["looks"][0])
    raw = np.array([[look[n] for n in names] for row in rows for look in row["looks"]])
    labels = np.repeat([row["label"] for row in rows], 2)
    groups = np.repeat([f"{row['group'].split(',')[0]} ({row['label']})" for row in rows], 2)
    plain = np.repeat([row["label"] == 0 and "altered" not in row["group"] for row in rows], 2)
    centre, scale = raw.mean(0), raw.std(0) + 1e-6
    values = ((raw - centre) / scale).clip(-4, 4)
    values = np.hstack([values, values**2])
    unseen = np.zeros(len(values))
    for group in np.unique(groups):
        inside = groups == group
        weights, bias = fit(values[~inside], labels[~inside])
        unseen[inside] = values[inside] @ weights + bias
        spread = np.round(np.quantile(unseen[inside], [0.1, 0.5, 0.9]), 2)
        print(f"{group:24s} {spread}")
    threshold = float(np.quantile(unseen[plain], 1 - EXCEEDED))
    weights, bias = fit(values, labels)
    model = Model(
        tuple(names),
        tuple(centre),
        tuple(scale),
        tuple(weights[: len(names)]),
        tuple(weights[len(names) :]),
        bias,
        threshold,
    )
    kinds = {"fluorescence": plain, "altered": (labels == 0) & ~plain, "other": labels == 1}
    flagged = {name: float((unseen[kind] > threshold).mean()) for name, kind in kinds.items()}
    found = {
        "prior": prior_hash(prior),
        "crops": {"fluorescence": int((labels == 0).sum()), "other": int((labels == 1).sum())},
        "flagged_when_unseen": flagged,
        **model.to_json(),
    }
    (prior / FILE).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found["flagged_when_unseen"]), threshold)


if __name__ == "__main__":
    app()
