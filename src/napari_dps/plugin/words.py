"""Numbers in words, as the dock shows them."""

from __future__ import annotations

from typing import Any

from napari_dps.plugin.messages import Estimate, Update


def duration(seconds: float) -> str:
    """Return a time in words: ``40 s``, ``3 min``, ``2 h 10 min``."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def memory(count: float) -> str:
    """Return a number of bytes in words: ``300 MB``, ``1.2 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 0.95e9 else f"{max(count / 1e6, 1):.0f} MB"


def estimate_text(estimate: Estimate) -> str:
    """Return what a run will cost, in one line."""
    tiles = "" if estimate.tile is None else f", tiles of {estimate.tile} px"
    return (
        f"about {duration(estimate.seconds)}, {memory(estimate.bytes)} "
        f"({estimate.network_calls} network calls{tiles})"
    )


def result_text(result: Any) -> str:
    """Return what came back, in one line."""
    took = result.report.get("seconds")
    text = "" if took is None else f" in {duration(took)}"
    verdict = result.report.get("verdict") or {}
    told = ""
    if verdict.get("alarm"):  # of a long sentence the first part
        told = f". {verdict['sentence'].split('. ')[0].rstrip('.')}"
    if result.point_estimate:
        return f"done{text}: a point estimate, without error bars or samples{told}"
    count = len(result)
    kept = str(result.report.get("calibration") or "")
    intervals = f", intervals {kept}" if kept.startswith("calibrated") else ""
    return f"done: {count} sample{'s' * (count != 1)}{text}{intervals}{told}"


def progress_text(update: Update) -> str:
    """Return how far a run is, in one line."""
    if update.stage != "sample":
        if update.seconds_left is None:
            return "looking at the data…"
        return f"looking for the best start, {duration(update.seconds_left)} left"
    text = f"{update.samples_done} of {update.samples} samples"
    if update.seconds_left is not None:
        text += f", {duration(update.seconds_left)} left"
    if update.misfit is not None:
        text += f", misfit {update.misfit:.2f}"
    return text
