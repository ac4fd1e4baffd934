"""Pictures of a report: images with a scale, and the charts of the residual, as PNG."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["chart", "picture"]

INK, SOFT, FILL = "#1b2733", "#5d6b78", "#2a6f97"
LARGEST = 512
"""Pictures larger than this are shown coarser: the page stays small."""


def picture(array: NDArray[Any], kind: str, unit: str = "") -> str:
    """Return an image as the data of an ``img`` element.

    Parameters
    ----------
    array : ndarray, shape (Y, X), or (3, Y, X): red, green and blue
        What to show; not finite is drawn gray.
    kind : {"intensity", "spread", "signed", "share"}
        Chooses colours and limits: from the 0.1 to the 99.9 percentile, from 0, symmetric about 0
        up to 4, from 0 to 1. All are safe for the colour-blind.
    unit : str
        Beside the colour scale.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    colour = array.ndim == 3
    shown = _coarser(np.asarray(array, dtype=np.float64))
    finite = shown[np.isfinite(shown)]
    low, high = (0.0, 1.0) if not finite.size else np.percentile(finite, [0.1, 99.9])
    maps = {"intensity": "gray", "spread": "viridis", "signed": "RdBu_r", "share": "cividis"}
    if kind == "spread":
        low = 0.0
    elif kind == "signed":
        high = max(4.0, min(8.0, abs(low), abs(high))) if finite.size else 4.0
        low = -high
    elif kind == "share":
        low, high = 0.0, max(1.0, float(high))
    if high <= low:
        high = low + 1.0
    rows, columns = shown.shape[-2:]
    side = 3.1
    figure = Figure(figsize=(side * 1.22, side * min(max(rows / columns, 0.3), 2.0)), dpi=100)
    axes = figure.add_axes((0.01, 0.02, 0.78, 0.96))
    axes.set_axis_off()
    if colour:
        axes.imshow(np.clip((np.moveaxis(shown, 0, -1) - low) / (high - low), 0, 1))
    else:
        table = colormaps[maps[kind]].with_extremes(bad="#9aa5b1")
        drawn = axes.imshow(shown, cmap=table, vmin=low, vmax=high, interpolation="nearest")
        bar = figure.colorbar(drawn, cax=figure.add_axes((0.81, 0.06, 0.035, 0.88)))
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7, colors=SOFT, length=2)
        # Over the numbers, to the right: centred, a long unit would reach into the picture.
        bar.ax.set_title(unit, fontsize=7, color=SOFT, pad=4, loc="left")
    return _png(figure)


def chart(numbers: dict[str, Any], what: str) -> str:
    """Return a chart of the residual's figures.

    Parameters
    ----------
    numbers : dict
        Of the finding ``data_fit``.
    what : {"chi2", "autocorrelation", "pit", "spectrum"}
        Which.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.7, 2.35), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7, colors=SOFT)
    {"chi2": _chi2, "autocorrelation": _lags, "pit": _pit, "spectrum": _spectrum}[what](
        axes, numbers
    )
    axes.xaxis.label.set(fontsize=8, color=INK)
    axes.yaxis.label.set(fontsize=8, color=INK)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=7, frameon=False)
    return _png(figure)


def _chi2(axes: Any, numbers: dict[str, Any]) -> None:
    told = numbers["chi2"]
    values = np.asarray(told["samples"])
    middle, half = told["expected"], 2 * told["sd"]
    axes.axhspan(
        middle - half, middle + half, color=FILL, alpha=0.18, lw=0, label="expected ± 2 sd"
    )
    axes.axhline(middle, color=FILL, lw=1)
    axes.plot(np.arange(len(values)), values, "o", ms=4, color=INK, label="samples")
    axes.set(xlabel="sample", ylabel="chi-square per datum")
    low, high = min(values.min(), middle - 2 * half), max(values.max(), middle + 2 * half)
    pad = 0.15 * (high - low)
    axes.set_ylim(low - pad, high + pad)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _lags(axes: Any, numbers: dict[str, Any]) -> None:
    told = numbers["autocorrelation"]
    lags, sd = np.asarray(told["lags"]), np.asarray(told["sd"])
    axes.fill_between(lags, -2 * sd, 2 * sd, color=FILL, alpha=0.18, lw=0, label="white ± 2 sd")
    axes.axhline(0, color=FILL, lw=1)
    axes.plot(lags, told["value"], "o-", ms=4, lw=1, color=INK)
    axes.set(xlabel="distance (pixels)", ylabel="autocorrelation")


def _pit(axes: Any, numbers: dict[str, Any]) -> None:
    shares = np.asarray(numbers["pit"]["shares"])
    bins = len(shares)
    edges = np.arange(bins) / bins
    axes.bar(edges, shares * bins, width=1 / bins, align="edge", color=FILL, edgecolor="white")
    axes.axhline(1, color=INK, lw=1, ls="--", label="expected")
    axes.set(xlabel="rank of the datum in the prediction", ylabel="density", xlim=(0, 1))


def _spectrum(axes: Any, numbers: dict[str, Any]) -> None:
    told = numbers["spectrum"]
    power, sd = np.asarray(told["power"]), np.asarray(told["sd"])
    f = (np.arange(len(power)) + 0.5) / (2 * len(power))
    axes.fill_between(f, 1 - 2 * sd, 1 + 2 * sd, color=FILL, alpha=0.18, lw=0, label="white ± 2 sd")
    axes.axhline(1, color=FILL, lw=1)
    axes.plot(f, power, "o-", ms=3, lw=1, color=INK, label="samples")
    axes.plot(f, np.maximum(told["mean_power"], 0), "--", lw=1, color="#bc4b1d", label="mean")
    axes.set(xlabel="frequency (cycles per pixel)", ylabel="power of the residual", ylim=(0, None))


def _coarser(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an image of at most `LARGEST` pixels a side, by means of blocks."""
    step = -(-max(array.shape[-2:]) // LARGEST)
    if step < 2:
        return array
    rows, columns = (max(n // step, 1) * step for n in array.shape[-2:])
    if min(array.shape[-2:]) < step:
        return array[..., ::step, ::step]
    cut = array[..., :rows, :columns]
    blocks = cut.reshape(*cut.shape[:-2], rows // step, step, columns // step, step)
    found: NDArray[np.float64] = blocks.mean((-3, -1))
    return found


def _png(figure: Any) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None}, facecolor="white")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
