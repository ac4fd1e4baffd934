"""How well images, stacks and calibration frames tell of their camera: simulated, and real pairs.

Simulated: phantoms of every structure, blurred as a microscope does (a standard deviation of one
pixel: sampling at about Nyquist), and the clean images of a folder, seen by cameras of many gains,
offsets and read noises; the estimate against the truth, from one image and from a stack that
bleaches and drifts; and cameras measured from dark frames and flats. Pairs: files NAME_noisy.png
beside NAME_clean.png; the estimated variance against the variance of noisy minus clean, brightness
by brightness.

An image counts as one that can tell where the stated error is within half of the goal: 5 % of the
gain, 10 % of the read noise.

Run ``python benchmarks/camera.py [--clean FOLDER] [--pairs FOLDER --match fmd_] [--out FILE]``.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, shift
from skimage.io import imread

from napari_dps.camera import measure_camera
from napari_dps.errors import InputError
from napari_dps.noise.poisson_gaussian import PoissonGaussian
from napari_dps.training.phantoms import STRUCTURES, phantom

IMAGES = (".png", ".tif", ".tiff")


def drawn() -> dict[str, np.ndarray]:
    """Return objects from 0 to about 1: a ramp, and two phantoms of every structure."""
    ramp = np.broadcast_to(np.linspace(0.05, 0.95, 256), (256, 256))
    found = {"ramp": ramp}
    for name in STRUCTURES:
        for seed in (1, 2):
            sharp = phantom(np.random.default_rng(seed), 256, name)
            found[f"{name} {seed}"] = gaussian_filter(sharp, 1)
    return found


def objects(folder: Path | None) -> dict[str, np.ndarray]:
    """Return the drawn objects and the images of a folder, slightly blurred to free of noise."""
    found = drawn()
    for path in sorted(folder.rglob("*")) if folder else []:
        if path.suffix.lower() not in IMAGES:
            continue
        image = np.asarray(imread(path), dtype=np.float64)
        if image.ndim != 2 or min(image.shape) < 128:
            continue
        image = gaussian_filter(image[:512, :512], 1)
        low, high = np.quantile(image, [0.001, 0.998])
        if high > low:
            found[path.name] = np.clip((image - low) / (high - low), 0, 1.5)
    return found


def variance(noise: PoissonGaussian, mean: np.ndarray) -> np.ndarray:
    """Return the variance in ADU that a resolved noise gives to means in ADU."""
    gain, offset = noise.camera()
    return gain * (mean - offset) + gain**2 * float(noise.read_noise) ** 2


def recorded(
    rng: np.random.Generator, electrons: np.ndarray, gain: float, offset: float, read: float
) -> np.ndarray:
    """Return what a 16-bit camera records."""
    adu = gain * (rng.poisson(electrons) + read * rng.standard_normal(electrons.shape)) + offset
    return np.clip(np.round(adu), 0, 65535).astype(np.uint16)


def simulated(folder: Path | None, repeats: int, frames: int) -> list[dict[str, Any]]:
    """Return one row per simulated image: truth, estimate, worst error of the variance."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(repeats):
        for name, shape in objects(folder).items():
            gain, peak = (float(np.exp(rng.uniform(*np.log(r)))) for r in ((0.3, 5), (20, 2000)))
            offset, read = float(rng.choice([20, 100, 200])), float(rng.uniform(1, 5))
            ground = float(rng.choice([0, 0.5, 3, 20]))
            electrons = ground + peak * shape
            stack = np.stack([
                ground + peak * 0.97**t * np.clip(
                    shift(shape, (0.1 * t, -0.05 * t), order=1, mode="nearest"), 0, None)
                for t in range(frames)
            ])  # fmt: skip
            image = recorded(rng, stack, gain, offset, read)
            row: dict[str, Any] = {
                "name": name, "gain": gain, "offset": offset, "read_noise": read, "peak": peak,
                "ground": ground,
            }  # fmt: skip
            report: dict[str, Any] = {}
            source = "stack" if frames > 1 else "image"
            try:
                found = PoissonGaussian(estimate_from=source).resolve(image, report)
            except InputError as error:
                rows.append({**row, "refused": str(error)})
                continue
            levels = np.quantile(electrons, [0.05, 0.5, 0.95, 0.99])
            ours = variance(found, gain * levels + offset)
            # Rounding to whole grey values adds a twelfth to the variance, as read noise does: the
            # likelihood must have it; the read noise told beside is the camera's own.
            ratio = ours / (gain**2 * (levels + read**2) + 1 / 12)
            keys = {"gain": "gain", "offset": "offset", "own_read_noise": "read_noise"}
            row["estimate"] = {
                to + end: report[key + end] for key, to in keys.items() for end in ("", "_error")
            }
            row["unsure"] = report["unsure"]
            row["variance_ratio"] = [float(r) for r in ratio]
            rows.append(row)
    return rows


def calibrated(repeats: int) -> list[dict[str, Any]]:
    """Return one row per simulated camera measured from 20 dark frames and three flats."""
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(repeats):
        gain, read = float(np.exp(rng.uniform(np.log(0.3), np.log(5)))), float(rng.uniform(1, 5))
        empty = np.zeros((20, 128, 128))
        flats = [recorded(rng, empty + z, gain, 100.0, read) for z in (50, 500, 5000)]
        found = measure_camera(recorded(rng, empty, gain, 100.0, read), flats)
        rows.append({
            "gain": gain, "read_noise": read, "gain_ratio": found.gain / gain,
            "read_noise_ratio": found.own_read_noise / read,
            "offset_difference": found.offset - 100,
            "rounding_told": any("mostly rounding" in w for w in found.warnings),
        })  # fmt: skip
    return rows


def pairs(folder: Path, match: str) -> list[dict[str, Any]]:
    """Return one row per pair: the estimate, and (mean, measured, estimated variance)."""
    rows = []
    for noisy_path in sorted(folder.glob(f"{match}*_noisy.png")):
        clean_path = noisy_path.with_name(noisy_path.name.replace("_noisy", "_clean"))
        noisy, clean = imread(noisy_path), np.asarray(imread(clean_path), dtype=np.float64)
        report: dict[str, Any] = {}
        row: dict[str, Any] = {"name": noisy_path.name}
        try:
            found = PoissonGaussian().resolve(noisy[None], report)
        except InputError as error:
            rows.append({**row, "refused": str(error)})
            continue
        below = noisy < noisy.max()
        edges = np.quantile(clean, np.linspace(0, 1, 9))
        curve = []
        for low, high in pairwise(edges):
            inside = below & (clean >= low) & (clean <= high)
            if inside.sum() < 100:
                continue
            mean = clean[inside].mean()
            measured = float((noisy[inside] - clean[inside]).var())
            curve.append([float(mean), measured, float(variance(found, mean))])
        report.pop("levels")
        rows.append({**row, "estimate": report, "curve": curve})
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the shares of simulated images that are within the goals."""
    kept = [row for row in rows if "refused" not in row]

    def column(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        error = np.array([row["estimate"][f"{name}_error"] for row in kept])
        truth = np.array([row[name] for row in kept])
        return np.array([row["estimate"][name] for row in kept]) - truth, error, truth

    gain, gain_error, true_gain = column("gain")
    read, read_error, true_read = column("read_noise")
    offset, offset_error, _ = column("offset")
    sure, told = read_error < 0.1 * true_read, gain_error < 0.05 * true_gain
    worst = np.array([np.abs(np.array(row["variance_ratio"]) - 1).max() for row in kept])
    plain = np.array(["gain" not in row["unsure"] for row in kept])
    plain_read = np.array(["read_noise" not in row["unsure"] for row in kept])
    return {
        "images": len(rows),
        "refused": len(rows) - len(kept),
        "gain not called unsure": float(np.mean(plain)),
        "of these gain within 10 %": float(np.mean((np.abs(gain) < 0.1 * true_gain)[plain])),
        "read noise not called unsure": float(np.mean(plain_read)),
        "of these read noise within 20 %": float(
            np.mean((np.abs(read) < 0.2 * true_read)[plain_read])
        ),
        "gain within 10 %": float(np.mean(np.abs(gain) < 0.1 * true_gain)),
        "gain stated to 5 %": float(np.mean(told)),
        "of these within 10 %": float(np.mean((np.abs(gain) < 0.1 * true_gain)[told])),
        "gain within 2 stated errors": float(np.mean(np.abs(gain) < 2 * gain_error)),
        "read noise stated to 10 %": float(np.mean(sure)),
        "of these within 20 %": float(np.mean(np.abs(read[sure]) < 0.2 * true_read[sure])),
        "read noise within 2 stated errors": float(np.mean(np.abs(read) < 2 * read_error)),
        "offset within 2 stated errors": float(np.mean(np.abs(offset) < 2 * offset_error)),
        "worst variance error, median": float(np.median(worst)),
        "worst variance error, 90th percentile": float(np.quantile(worst, 0.9)),
    }


def rounded(value: Any) -> Any:
    """Return the figures with five digits: more are chance."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clean", type=Path, help="folder of clean images")
    parser.add_argument("--repeats", type=int, default=4, help="cameras per clean image")
    parser.add_argument("--pairs", type=Path, help="folder with NAME_noisy.png, NAME_clean.png")
    parser.add_argument("--match", default="", help="how the names of the pairs begin")
    parser.add_argument("--out", type=Path, help="JSON file for all rows")
    options = parser.parse_args()
    result: dict[str, Any] = {}
    for source, frames in (("image", 1), ("stack", 8)):
        rows = simulated(options.clean, options.repeats, frames)
        result[source] = {"summary": summary(rows), "simulated": rows}
    rows = calibrated(12)
    result["calibration"] = {
        "worst gain error": max(abs(row["gain_ratio"] - 1) for row in rows),
        "worst read noise error": max(
            abs(row["read_noise_ratio"] - 1) for row in rows if not row["rounding_told"]
        ),
        "read noise called mostly rounding": sum(row["rounding_told"] for row in rows),
        "worst offset error [ADU]": max(abs(row["offset_difference"]) for row in rows),
        "cameras": rows,
    }
    result["pairs"] = pairs(options.pairs, options.match) if options.pairs else []
    if options.out is not None:
        options.out.write_text(json.dumps(rounded(result), indent=1) + "\n", encoding="utf-8")
    for source in ("image", "stack"):
        print(f"\nfrom one {source}")
        for key, value in result[source]["summary"].items():
            print(f"{key:40s} {value:.3g}")
    print("\nfrom 20 dark frames and three flats of 20")
    for key, value in result["calibration"].items():
        if key != "cameras":
            print(f"{key:40s} {value:.3g}")
    for row in result["pairs"]:
        if "refused" in row:
            print(f"\n{row['name']}: refused, {row['refused']}")
            continue
        e = row["estimate"]
        print(
            f"\n{row['name']}: gain {e['gain']:.3g} ± {e['gain_error']:.2g}, offset "
            f"{e['offset']:.4g} ± {e['offset_error']:.2g}, read noise {e['read_noise']:.2g} ± "
            f"{e['read_noise_error']:.2g}, correlation {e['correlation']}"
        )
        print(f"{'mean':>10s}{'measured':>12s}{'estimated':>12s}{'ratio':>8s}  variance")
        for mean, measured, ours in row["curve"]:
            print(f"{mean:10.1f}{measured:12.1f}{ours:12.1f}{ours / measured:8.2f}")


if __name__ == "__main__":
    main()
