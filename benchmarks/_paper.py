"""The tasks of benchmarks/paper_tables.py, from images in [0, 1], and their tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import skimage.io
from _common import Array, best_crop, mean_of, read
from _samplers import Task

import napari_dps

MARGIN = 16
SIGMA, PEAK, TOTAL_PER_PIXEL = 0.05, 255.0, 25.0
"""Gaussian noise in [0, 1]; photons of white; photons of a pattern for each pixel of its object."""
ZETA = {"phase": 0.4}
"""The DPS paper's zeta' (FFHQ) where it is not 1."""
LINEAR = ("super-resolution", "box", "random", "gaussian", "motion")
GRAY = ("phase", "nonlinear")
TITLES = {
    "super-resolution": "Super-resolution 4x",
    "box": "Inpainting, box",
    "random": "Inpainting, random",
    "gaussian": "Gaussian deblurring",
    "motion": "Motion deblurring",
    "phase": "Phase retrieval",
    "nonlinear": "Nonlinear deblurring",
}
METHODS = {
    **dict.fromkeys(LINEAR, ("dps", "ddrm", "mcg", "pnp-admm", "ilvr", "admm-tv")),
    "phase": ("dps", "oss", "hio", "er"),
    "nonlinear": ("dps",),
}
HIGHER = {"psnr": True, "ssim": True, "fid": False, "lpips": False}


def images_of(data: Path | None, images: Path | None, count: int) -> list[Path]:
    """Return the files to restore and, last, one more for tuning: of eval/clean, or of a folder."""
    if images is not None:
        endings = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
        found = sorted(p for p in images.rglob("*") if p.suffix.lower() in endings)
    elif data is not None:
        found = sorted((data / "eval" / "clean").glob("*.png"))
    else:
        raise SystemExit("name --data, a folder with eval/clean, or --images, a folder of images")
    if len(found) < 2:
        raise SystemExit(
            f"{images or data} has {len(found)} images; two are needed, one to tune on"
        )
    return found[: min(count, len(found) - 1)] + found[-1:]


def unit_image(path: Path, side: int, *, stretched: bool) -> tuple[Array, int]:
    """Return an image in [0, 1], (C, Y, X) where it has colours, and its margin.

    Parameters
    ----------
    path : Path
        A file.
    side : int
        Of the part to restore; what lies around it sends light in where the image is larger.
    stretched : bool
        Whether it is a micrograph: its crop with the largest variance of some, from the 0.5 to the
        99.8 percentile. Else the middle of a picture of 8 bits.
    """
    if stretched:
        wide = best_crop(read(path), side, MARGIN, 0)
        inner = wide[MARGIN:-MARGIN, MARGIN:-MARGIN]
        low, high = np.percentile(inner, [0.5, 99.8])
        return np.clip((wide - low) / (high - low), 0, 1), MARGIN
    image = np.asarray(skimage.io.imread(path), np.float64) / 255
    image = image[..., :3].transpose(2, 0, 1) if image.ndim == 3 else image
    least = min(image.shape[-2:])
    if least < side:
        raise SystemExit(f"{path} has {least} pixels along one side; --side {side} is too large")
    margin = min(MARGIN, (least - side) // 2) // 4 * 4
    begin = [(n - side) // 2 - margin for n in image.shape[-2:]]
    cut = tuple(slice(b, b + side + 2 * margin) for b in begin)
    return image[(..., *cut)], margin


def models(side: int, peak: float, module: str | None) -> dict[str, dict[str, Any]]:
    """Return the forward models by task.

    Those of the paper at 256 pixels: a missing box of half the side (here in the middle), 92 % of
    the pixels missing, a Gaussian of 3 pixels, a random path of 61 pixels (or half the side). The
    nonlinear blur is a network where its file is given, else a path seen through a camera's gamma.
    """
    low, high = side // 4, side // 4 + side // 2
    extent = float(min(61, side // 2 - 1))
    nonlinear: dict[str, Any] = {"kind": "nonlinear-blur"}
    if module is None:
        nonlinear |= {"path": "random", "extent": extent, "white": peak, "gamma": 2.2}
    else:
        nonlinear |= {"module": module, "module_scale": peak}
    return {
        "super-resolution": {"kind": "downsample", "factor": 4, "method": "bicubic"},
        "box": {"kind": "inpaint", "box": [low, low, high, high]},
        "random": {"kind": "random-inpaint", "missing": 0.92},
        "gaussian": {"kind": "gaussian-blur", "sigma": 3.0},
        "motion": {"kind": "motion-blur", "path": "random", "extent": extent, "intensity": 0.5},
        "phase": {"kind": "phase-retrieval", "oversampling": 2.0},
        "nonlinear": nonlinear,
    }


def paper_tasks(
    noise: str, side: int, *, stretched: bool, module: str | None = None
) -> dict[str, Task]:
    """Return the tasks under one kind of noise.

    Gaussian noise of 0.05 where images are in [0, 1] (the paper adds it where they are in [-1, 1]
    and reports the same number), or Poisson noise of images with 255 photons where white. Far
    fields: magnitudes with the same Gaussian noise, or intensities of 25 photons a pixel of the
    object. Images are gray there and of the nonlinear blur. Coarse pixels are bicubic; of counts,
    binned.
    """
    peak = 1.0 if noise == "gaussian" else PEAK
    spec = {"kind": "gaussian", "sigma": SIGMA} if noise == "gaussian" else {"kind": "poisson"}
    found = {}
    for name, forward in models(side, peak, module).items():
        if name == "super-resolution" and noise == "poisson":
            forward["method"] = "binning"  # bicubic weights are negative in part, light is not
        if name == "phase":
            forward["measured"] = "magnitude" if noise == "gaussian" else "intensity"
        outside = name in ("super-resolution", "gaussian", "motion", "nonlinear")

        def measure(
            image: Array,
            seed: int,
            margin: int,
            side: int,
            forward: dict[str, Any] = forward,
            outside: bool = outside,
            far: bool = name == "phase",
            gray: bool = name in GRAY,
        ) -> tuple[Array, Array]:
            edge = slice(margin, margin + side)
            inner = (..., edge, edge)
            wide = peak * (image if outside else image[inner])
            wide = wide.mean(0) if gray and wide.ndim == 3 else wide
            if far and noise == "poisson":
                wide = wide * np.sqrt(TOTAL_PER_PIXEL * wide.size / (wide**2).sum())
            axes = "CYX" if wide.ndim == 3 else "YX"
            y = napari_dps.simulate(wide, seed=seed, forward=forward, noise=spec, axes=axes)
            y = np.asarray(y, np.float64)
            if not outside:
                return y, wide
            factor = wide.shape[-1] // y.shape[-1]
            cut = slice(margin // factor, (margin + side) // factor)
            return y[..., cut, cut], wide[inner]

        # The range of the images is known, as in the paper; a pattern's photons are free.
        known = None if name == "phase" and noise == "poisson" else {"scale": peak}
        found[name] = Task(
            TITLES[name], forward, spec, measure, name == "phase", known, name in GRAY
        )
    return found


def paper_scale(task: str, noise: str) -> float:
    """Return the paper's step length in the units of Gaussian data in [0, 1].

    A step of zeta' / norm along the gradient of the squared norm is one of 2 zeta' along that of
    the norm; in [0, 1] residuals are half of those in [-1, 1].
    """
    if noise != "gaussian":
        raise SystemExit("the paper's step length for counts is in units of its own; tune it")
    return 4 * ZETA.get(task, 1.0)


def table_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return means over the images, for every noise, task and kind."""
    found = []
    for noise, task, kind in dict.fromkeys((r["noise"], r["task"], r["kind"]) for r in rows):
        part = [r for r in rows if (r["noise"], r["task"], r["kind"]) == (noise, task, kind)]
        good = [r for r in part if r.get("psnr") is not None]
        mean: dict[str, Any] = {"noise": noise, "task": task, "kind": kind, "images": len(good)}
        for word in ("refused", "failed"):
            reasons = [r[word] for r in part if r.get(word)]
            mean |= {word: reasons[0]} if reasons else {}
        for key in (*HIGHER, "seconds", "calls"):
            mean[key] = mean_of(good, key)
        found.append(mean)
    return found


def rivals(rows: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for every task in which something beats DPS, and by how much."""
    lines = []
    for noise, task in dict.fromkeys((r["noise"], r["task"]) for r in rows):
        part = {r["kind"]: r for r in rows if (r["noise"], r["task"]) == (noise, task)}
        dps = part.pop("dps", None)
        if dps is None or not dps["images"]:
            continue
        found = []
        for key, higher in HIGHER.items():
            better = {
                kind: abs(r[key] - dps[key])
                for kind, r in part.items()
                if r[key] is not None and dps[key] is not None
                if (r[key] > dps[key]) == higher and r[key] != dps[key]
            }
            unit = " dB" if key == "psnr" else ""
            digits = 1 if key in ("psnr", "fid") else 3
            names = [f"`{kind}` (by {by:.{digits}f}{unit})" for kind, by in better.items()]
            found += [f"in {key.upper()} by {', '.join(names)}"] if names else []
        if found:
            lines.append(f"- {TITLES[task]}, {noise} noise: DPS is beaten {'; '.join(found)}.")
    compared = {r["kind"] for r in rows if r["images"]} > {"dps"}
    return lines or [f"Nothing {'beats' if compared else 'was compared with'} DPS in any task."]


def table(report: dict[str, Any]) -> str:
    """Return a report's tables."""
    rows, text = report["table"], []
    shown = [k for k in HIGHER if any(r[k] is not None for r in rows)]
    for noise in dict.fromkeys(r["noise"] for r in rows):
        for tasks, title in (
            (LINEAR, "Linear problems"),
            (("phase",), TITLES["phase"]),
            (("nonlinear",), TITLES["nonlinear"]),
        ):
            part = [r for r in rows if r["noise"] == noise and r["task"] in tasks]
            if not part:
                continue
            names = [task for task in tasks if any(r["task"] == task for r in part)]
            heads = [f"{TITLES[t]}: {' / '.join(k.upper() for k in shown)}" for t in names]
            text += [f"**{title}, {noise} noise**", "", f"| kind | {' | '.join(heads)} |"]
            text += [f"|---|{'---|' * len(names)}"]
            for kind in dict.fromkeys(r["kind"] for r in part):
                cells = [_cell(part, task, kind, shown) for task in names]
                text.append(f"| `{kind}` | {' | '.join(cells)} |")
            text.append("")
    reasons = {(r["kind"], r[w]): w for r in rows for w in ("refused", "failed") if w in r}
    text += [f"- `{kind}` {word}: {why}" for (kind, why), word in reasons.items()]
    return "\n".join([*text, "", *rivals(rows)]).strip()


def _cell(rows: list[dict[str, Any]], task: str, kind: str, shown: list[str]) -> str:
    here = [r for r in rows if r["task"] == task]
    row = next((r for r in here if r["kind"] == kind), None)
    if row is None or not row["images"]:
        return "-" if row is None else "refused" if "refused" in row else "failed"
    words = []
    for key in shown:
        values = [r[key] for r in here if r[key] is not None]
        if row[key] is None:
            words.append("-")
            continue
        best = max(values) if HIGHER[key] else min(values)
        text = f"{row[key]:.{2 if key in ('psnr', 'fid') else 3}f}"
        words.append(f"**{text}**" if row[key] == best else text)
    return " / ".join(words)
