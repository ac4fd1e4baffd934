"""The summary, the Markdown table and the figure of benchmarks/exactness.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Rows = list[dict[str, Any]]
COLOURS = {0.02: "tab:blue", 0.1: "tab:green", 0.4: "tab:orange"}
GROUPS = (
    "measured pixels",
    "missing pixels",
    "well measured modes",
    "partly measured modes",
    "unmeasured modes",
)


def settings_of(rows: Rows) -> list[str]:
    """Return the settings in their order."""
    return list(dict.fromkeys(row["setting"] for row in rows))


def kinds_of(rows: Rows) -> list[str]:
    """Return the samplers in their order."""
    return list(dict.fromkeys(row["sampler"] for row in rows))


def span(values: list[float]) -> list[float] | None:
    """Return the least and the largest."""
    return [min(values), max(values)] if values else None


def summary(rows: Rows) -> list[dict[str, Any]]:
    """Return the extremes over the cells, for each sampler and setting."""
    found = []
    for kind in kinds_of(rows):
        for setting in settings_of(rows):
            here = [r for r in rows if r["sampler"] == kind and r["setting"] == setting]
            ran = [r for r in here if "refused" not in r]
            entry: dict[str, Any] = {"sampler": kind, "setting": setting, "cells": len(ran)}
            refused = sorted({r["refused"] for r in here if "refused" in r})
            if refused:
                entry["refused"] = refused
            if ran:
                entry["steps"] = span([r["steps"] for r in ran if r["steps"] is not None])
                entry["calls"] = span([sum(r["calls"].values()) for r in ran])
                entry["error"] = span([r["error"] for r in ran])
                entry["bias"] = span([r["bias"] for r in ran if r["bias"] is not None])
                for what in ("spread", "coverage"):
                    entry[what] = {
                        group: span(
                            [
                                r[what][group] if what == "spread" else r[what][group][90]
                                for r in ran
                                if group in r[what]
                            ]
                        )
                        for group in ("pixels", *GROUPS)
                    }
            if here:
                found.append(entry)
    return found


def _range(values: list[float] | None, digits: int = 2) -> str:
    if not values:
        return "-"
    low, high = (f"{v:.{digits}f}" if digits else f"{v:.0f}" for v in values)
    return low if low == high else f"{low} to {high}"


def write_table(report: dict[str, Any], path: Path) -> None:
    """Write the summary, and every cell of the gated sampler, as Markdown."""
    lines = ["# Samplers against a posterior in closed form", ""]
    lines += ["Coverage of the 90 % interval, spread over the exact one: extremes over cells.", ""]
    heads = ["sampler", "setting", "calls", "error", "all pixels", *GROUPS]
    for what in ("coverage", "spread"):
        lines += [f"## {what.capitalize()}", "", "| " + " | ".join(heads) + " |"]
        lines += ["|" + "---|" * len(heads)]
        for entry in report["summary"]:
            if not entry["cells"]:
                refused = " ".join(entry["refused"])
                lines.append(f"| {entry['sampler']} | {entry['setting']}, refused: {refused} |")
                continue
            cells = [entry["sampler"], entry["setting"], _range(entry["calls"], 0)]
            cells += [_range(entry["error"])]
            cells += [_range(entry[what][group]) for group in ("pixels", *GROUPS)]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    gated = report["gate"]["sampler"]
    heads = ["prior", "task", "noise", "setting", "steps", "calls", "error", "bias"]
    heads += ["all pixels", *GROUPS]
    lines += [f"## Every cell of {gated}", "", "Coverage of the 90 % interval, spread in brackets."]
    lines += ["", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in report["rows"]:
        if row["sampler"] != gated or "refused" in row:
            continue
        cells = [row["spectrum"], row["task"], f"{row['noise']:g}", row["setting"]]
        cells += [str(row["steps"]), str(sum(row["calls"].values()))]
        cells += [f"{row['error']:.2f}", "-" if row["bias"] is None else f"{row['bias']:.3f}"]
        for group in ("pixels", *GROUPS):
            known = group in row["coverage"]
            cells.append(
                f"{row['coverage'][group][90]:.3f} ({row['spread'][group]:.2f})" if known else "-"
            )
        lines.append("| " + " | ".join(cells) + " |")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw_chart(rows: Rows, path: Path) -> None:
    """Draw coverage of the 90 % interval and spread, a point for each group of each cell."""
    ran = [r for r in rows if "refused" not in r]
    kinds, settings = kinds_of(ran), settings_of(ran)
    width = 1.2 + len(settings) * (0.6 + 0.32 * len(kinds))
    figure = Figure(figsize=(max(width, 6.0), 5.2), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(settings), squeeze=False, sharex=True, sharey="row")
    for column, setting in enumerate(settings):
        top, bottom = grid[0, column], grid[1, column]
        top.axhspan(0.87, 0.93, color="black", alpha=0.1, linewidth=0)
        top.axhline(0.9, color="black", linewidth=0.6)
        bottom.axhline(1.0, color="black", linewidth=0.6)
        for row in ran:
            if row["setting"] != setting:
                continue
            shift = 0.22 * (list(COLOURS).index(row["noise"]) - 1) if row["noise"] in COLOURS else 0
            at = kinds.index(row["sampler"]) + shift
            colour = COLOURS.get(row["noise"], "tab:gray")
            for group, levels in row["coverage"].items():
                marker = "." if group.endswith("pixels") else "x"
                style = {"color": colour, "marker": marker, "ms": 3, "mew": 0.6, "alpha": 0.7}
                top.plot(at, levels[90], **style)
                bottom.plot(at, row["spread"][group], **style)
        top.set_title(setting, fontsize=9)
        top.set_ylim(0.0, 1.0)
        bottom.set_yscale("log")
        bottom.set_xticks(range(len(kinds)), kinds, rotation=90, fontsize=8)
        for axes in (top, bottom):
            axes.tick_params(axis="y", labelsize=7)
    grid[0, 0].set_ylabel("coverage of the 90 % interval", fontsize=8)
    grid[1, 0].set_ylabel("spread over the exact one", fontsize=8)
    for noise, colour in COLOURS.items():
        grid[0, 0].plot([], [], ".", color=colour, label=f"noise {noise:g}")
    grid[0, 0].plot([], [], ".", color="black", label="pixels")
    grid[0, 0].plot([], [], "x", color="black", ms=4, label="modes")
    grid[0, 0].legend(fontsize=6, loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
