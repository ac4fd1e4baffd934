"""Figures of a training run: curves from its log, sheets of samples, nearest patches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .nearest import Match


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; a last line that a kill cut short is left out."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=80)
    FigureCanvasAgg(figure)
    return figure


def curves(log: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a run's curves as PNG: losses, held-out denoising, rate and gradient, speed and waits.

    Parameters
    ----------
    log : sequence of dict
        Lines of log.jsonl.
    path : Path
        Target.
    """
    steps = [line for line in log if "loss" in line]
    looks = [line for line in log if "held_out" in line]
    figure = _figure(11, 6.5)
    loss, score, rate, speed = figure.subplots(2, 2).flat
    for name in sorted({k for line in steps for k in line if k.startswith("loss<")}, key=_edge):
        rows = [(line["step"], line[name]) for line in steps if name in line]
        at, value = np.array(rows, float).T
        loss.plot(
            at, _smooth(value), label=name.replace("loss<", "noise below ").replace("1e+09", "any")
        )
    loss.set(title="weighted loss by noise level", xlabel="step", yscale="log")
    for level in looks[-1]["held_out"] if looks else ():
        rows = [(line["step"], line["held_out"].get(level)) for line in looks]
        at, value = np.array([row for row in rows if row[1] is not None], float).T
        score.plot(at, value - value[0], "o-", label=f"noise {level} ({value[0]:.2f} dB at first)")
    score.set(title="denoising of held-out images: gain in dB", xlabel="step")
    at = np.array([line["step"] for line in steps], float)
    if len(at):
        rate.plot(at, [line["rate"] for line in steps], label="learning rate")
        rate.plot(
            at, [1e-3 * float(line["norm"]) for line in steps], lw=0.5, label="gradient / 1000"
        )
        share = [100 * line["waiting"] if "waiting" in line else np.nan for line in steps]
        speed.plot(at, share, label="waiting for data, %")
        speed.plot(at, [line.get("per_second", np.nan) for line in steps], label="patches a second")
    rate.set(title="rate and gradient", xlabel="step")
    speed.set(title="speed", xlabel="step")
    for axes in (loss, score, rate, speed):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _edge(name: str) -> float:
    return float(name.removeprefix("loss<"))


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a running mean over a tenth of the curve, shorter at its ends."""
    half = max(len(values) // 20, 0)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))


def sheet(images: NDArray[np.float32], path: Path, title: str = "") -> None:
    """Write images (N, size, size) of prior units as one PNG, from -1 (black) to 1 (white)."""
    columns = min(len(images), 8 if len(images) > 8 else 4)
    rows = -(-len(images) // columns)
    figure = _figure(1.5 * columns, 1.5 * rows + (0.3 if title else 0.0))
    if title:
        figure.suptitle(title, fontsize=9)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    for axes, image in zip(grid, images, strict=False):
        axes.imshow(image, cmap="gray", vmin=-1, vmax=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def pairs(samples: NDArray[np.float32], matches: Sequence[Match], path: Path) -> None:
    """Write samples (N, size, size), each above its nearest training patch, as one PNG."""
    columns = min(len(samples), 8)
    blocks = -(-len(samples) // columns)
    figure = _figure(1.5 * columns, 3.4 * blocks)
    figure.suptitle("samples, and below each the nearest training patch (correlation)", fontsize=9)
    grid = figure.subplots(2 * blocks, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for k, (sample, match) in enumerate(zip(samples, matches, strict=True)):
        row, column = 2 * (k // columns), k % columns
        grid[row, column].imshow(sample, cmap="gray", vmin=-1, vmax=1)
        grid[row + 1, column].imshow(match.patch, cmap="gray", vmin=-1, vmax=1)
        grid[row + 1, column].set_title(f"{match.correlation:.2f}", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
