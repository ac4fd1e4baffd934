"""What benchmarks/frontier.py makes of its rows: means, the gate, tables and charts."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from _budget import FULL
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

FIGURES = (
    *("psnr", "psnr_one", "ssim", "crps", "interval_score", "coverage"),
    *("seconds", "calls", "forward", "vjp", "misfit"),
)
PICTURES = Path(__file__).resolve().parent.parent / "docs" / "images"
SHARE, DECIBELS, PERCENT = 0.1, 0.3, 0.05
"""The gate: at most this share of the time of 1000-step DPS; better by more than this."""
# Okabe and Ito's colours, which colour-blind eyes tell apart; kinds beyond them differ by marks.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = "osD^vP*"


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for every kind and budget: means over the images, or why there are none."""
    found = []
    for kind, budget in dict.fromkeys((r["kind"], r["budget"]) for r in rows):
        part = [r for r in rows if (r["kind"], r["budget"]) == (kind, budget)]
        good = [r for r in part if r.get("psnr") is not None]
        mean: dict[str, Any] = {"kind": kind, "budget": budget, "images": len(good)}
        for word in ("refused", "failed"):
            reasons = [r[word] for r in part if r.get(word)]
            if reasons:
                mean[word] = reasons[0]
        if good:
            for key in FIGURES:
                values = [r[key] for r in good if r.get(key) is not None]
                mean[key] = float(np.mean(values)) if values else None
            for key in ("sampler", "point", "classical", "samples"):
                mean[key] = good[0][key]
            mean["only"] = sorted(r["image"] for r in good)
        found.append(mean)
    return found


def better(row: dict[str, Any], than: dict[str, Any]) -> dict[str, float]:
    """Return by how much a row is better where that is more than the gate lets pass.

    ``psnr`` in dB and ``crps`` as a share; empty where it is not better.
    """
    gain = row["psnr"] - than["psnr"]
    less = 1 - row["crps"] / than["crps"] if than["crps"] > 0 else 0.0
    found = {"psnr": gain} if gain > DECIBELS else {}
    return found | ({"crps": less} if less > PERCENT else {})


def gate(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return whether the default holds what it should on one task; None where it did not run.

    - ``reaches_dps``: PSNR and CRPS no worse than DPS of 1000 steps;
    - ``in_a_tenth``: and in at most a tenth of its time;
    - ``beaten_by``: what is both faster and better by more than 0.3 dB or 5 % of the CRPS;
    - ``on_the_frontier``: nothing is.

    Only images that both have count.
    """
    table = means(rows)
    default = next((r for r in table if r["kind"] == "auto" and r["images"]), None)
    if default is None:
        return None

    def both(kind: str, budget: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return the means of a row and of the default over the images that both have."""
        own = {r["image"] for r in rows if r["kind"] == "auto" and r.get("psnr") is not None}
        part = [r for r in rows if (r["kind"], r["budget"]) == (kind, budget)]
        shared = own & {r["image"] for r in part if r.get("psnr") is not None}
        if not shared:
            return None
        mine = [r for r in rows if r["kind"] == "auto" and r["image"] in shared]
        return means([r for r in part if r["image"] in shared])[0], means(mine)[0]

    found: dict[str, Any] = {"sampler": default["sampler"], "images": default["images"]}
    pair = both("dps", FULL)
    if pair is not None:
        dps, ours = pair
        found["psnr_over_dps"] = ours["psnr"] - dps["psnr"]
        found["crps_over_dps"] = ours["crps"] / dps["crps"]
        found["time_over_dps"] = ours["seconds"] / dps["seconds"]
        found["reaches_dps"] = ours["psnr"] >= dps["psnr"] and ours["crps"] <= dps["crps"]
        found["in_a_tenth"] = found["reaches_dps"] and found["time_over_dps"] <= SHARE
    beaten: list[dict[str, Any]] = []
    for row in table:
        pair = both(row["kind"], row["budget"]) if row["kind"] != "auto" else None
        if pair is None or pair[0]["seconds"] >= pair[1]["seconds"]:
            continue
        gains = better(*pair)
        if gains:
            point = {"point_estimate": True} if row["point"] else {}
            which = {"kind": row["kind"], "budget": row["budget"], **point}
            beaten.append({**which, "seconds": pair[0]["seconds"], "better": gains})
    found["beaten_by"] = beaten
    found["on_the_frontier"] = not beaten
    return found


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means and the gate's answer, for every task."""
    found = {}
    for task in dict.fromkeys(r["task"] for r in rows):
        part = [r for r in rows if r["task"] == task]
        found[task] = {"gate": gate(part), "table": means(part)}
    return found


def number(value: float | None, digits: int) -> str:
    """Return a figure as text."""
    return "-" if value is None else f"{value:.{digits}f}"


def answer(found: dict[str, Any] | None) -> str:
    """Return the gate's answer as a sentence."""
    if found is None:
        return "The default did not run."
    text = [f"The default, `{found['sampler']}`,"]
    if "reaches_dps" in found:
        word = "reaches" if found["reaches_dps"] else "does **not** reach"
        text.append(
            f"{word} the quality of 1000-step DPS ({found['psnr_over_dps']:+.1f} dB, "
            f"{found['crps_over_dps']:.2f} times its CRPS) in {found['time_over_dps']:.3f} of its "
            "time, and"
        )
    if found["on_the_frontier"]:
        return " ".join([*text, "is on the frontier."])
    names = []
    for one in found["beaten_by"]:
        gains = one["better"]
        by = [f"{gains['psnr']:.1f} dB"] if "psnr" in gains else []
        by += [f"{100 * gains['crps']:.0f} % of the CRPS"] if "crps" in gains else []
        note = " (a point estimate)" if one.get("point_estimate") else ""
        names.append(f"`{one['kind']}` at {one['budget']} by {' and '.join(by)}{note}")
    return " ".join(
        [*text, f"is **not** on the frontier: faster and better are {', '.join(names)}."]
    )


def table(report: dict[str, Any]) -> str:
    """Return a report's summary as Markdown."""
    many, threads = len(report["images"]), report["machine"]["threads"]
    timed = f"seconds on {threads} thread{'s' if threads > 1 else ''} of a CPU"
    lines = [
        f"{many} image{'s' if many > 1 else ''} of {report['side']}x{report['side']} pixels, "
        f"{report['samples']} samples; {timed}. "
        "Calls are those made for every sample. In square brackets: a point estimate, whose CRPS "
        "is its mean absolute error.",
        "",
    ]
    for name, found in report["summary"].items():
        title = report["titles"][name]
        lines += [f"**{title}.** {answer(found['gate'])}", ""]
        if (PICTURES / f"frontier-{name}.png").is_file():
            alt = f"{title}: PSNR and CRPS against seconds and calls"
            lines += [f"![{alt}](images/frontier-{name}.png)", ""]
        good = [r for r in found["table"] if r["images"]]
        if good:
            lines += ["| sampler | calls | seconds | PSNR | SSIM | CRPS | interval score |"]
            lines += ["|---|---|---|---|---|---|---|"]
        for r in sorted(good, key=lambda r: (r["kind"] != "auto", r["kind"], r["calls"])):
            text = "`auto`: the default" if r["kind"] == "auto" else f"`{r['kind']}`"
            text += f", {FULL}" if r["budget"] == FULL else ""
            text = f"[{text}]" if r["point"] else text
            text += f" ({r['images']} of {many} images)" if r["images"] < many else ""
            cells = [
                *(text, number(r["calls"], 0), number(r["seconds"], 1), number(r["psnr"], 2)),
                *(number(r["ssim"], 3), number(r["crps"], 3), number(r["interval_score"], 2)),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
        for word in ("refused", "failed"):
            reasons = {r["kind"]: r[word] for r in found["table"] if word in r}
            lines += [f"- `{kind}` {word}: {why}" for kind, why in reasons.items()]
        lines.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def spread(values: list[float], least: float, low: float, high: float) -> list[float]:
    """Return places of labels: near their values, at least so far apart, inside the range."""
    order = np.argsort(values, kind="stable")
    places = np.clip(np.asarray(values, float)[order], low, high)
    step = min(least, (high - low) / max(len(places) - 1, 1))
    for _ in range(200):
        for k in range(len(places) - 1):
            overlap = step - (places[k + 1] - places[k])
            if overlap > 0:
                places[k] -= overlap / 2
                places[k + 1] += overlap / 2
        places = np.clip(places, low, high)
    # Pushing by halves only converges; the last word is had from below.
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + step)
    excess = max(0.0, float(places[-1]) - high) if len(places) else 0.0
    found = np.empty(len(places))
    found[order] = places - excess
    return [float(v) for v in found]


def draw(rows: list[dict[str, Any]], title: str, path: Path, kinds: list[str]) -> None:
    """Write a task's chart: PSNR and CRPS against seconds and calls.

    Parameters
    ----------
    rows : list of dict
        The task's table.
    title : str
        Above it.
    path : Path
        Target, PNG.
    kinds : list of str
        All kinds of all tasks, so that a kind looks the same in every chart.
    """
    good = [r for r in rows if r["images"]]
    figure = Figure(figsize=(10, 7), layout="constrained", dpi=90)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    for line, (key, label) in zip(axes, (("psnr", "PSNR (dB)"), ("crps", "CRPS")), strict=True):
        values = np.array([r[key] for r in good])
        # What failed altogether would squeeze all others together; it is drawn at the edge.
        low, high = float(values.min()), float(values.max())
        if key == "psnr":
            low = max(low, float(np.quantile(values, 0.9)) - 15)
        else:
            high = min(high, 6 * float(np.quantile(values, 0.1)))
        cut = bool((np.clip(values, low, high) != values).any())
        # Places are found as the axis shows them: half the CRPS looks alike at any level.
        scale, back = (np.log, np.exp) if key == "crps" and low > 0 else (np.array, np.array)
        bottom, top = float(scale(low)), float(scale(high))
        room = 0.06 * (top - bottom) or 1.0
        for one, against in zip(line, ("seconds", "calls"), strict=True):
            ends = []
            for n, kind in enumerate(kinds):
                part = [r for r in good if r["kind"] == kind and r[against]]
                part.sort(key=lambda r: r[against])
                if not part:
                    continue
                x = [r[against] for r in part]
                y = np.clip([r[key] for r in part], low, high)
                colour = COLOURS[n % len(COLOURS)]
                mark = MARKS[(n + n // len(COLOURS)) % len(MARKS)]
                style = "-" if n < len(COLOURS) else "--"
                one.plot(x, y, style, marker=mark, color=colour, ms=4.5, lw=1.1)
                ends.append((kind, x[-1], float(y[-1]), colour))
            for r in (r for r in good if r["kind"] == "auto" and r[against]):
                at = float(np.clip(r[key], low, high))
                one.plot(r[against], at, "*", ms=15, mfc="none", mec="black", mew=1.4, zorder=5)
                ends.append((f"auto = {r['sampler']}", r[against], at, "black"))
            heights = [float(scale(e[2])) for e in ends]
            places = spread(heights, 1.15 * room, bottom - room, top + room)
            for (name, x_end, y_end, colour), place in zip(ends, places, strict=True):
                one.annotate(
                    name, (x_end, y_end), (1.02, float(back(place))),
                    textcoords=one.get_yaxis_transform(), fontsize=7.5, color=colour, va="center",
                    arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.4, "alpha": 0.5},
                )  # fmt: skip
            one.set_xscale("log")
            one.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
            one.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            one.xaxis.set_minor_formatter(NullFormatter())
            if scale is np.log:
                one.set_yscale("log")
                one.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
                one.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
                one.yaxis.set_minor_formatter(NullFormatter())
            one.set_ylim(float(back(bottom - 1.5 * room)), float(back(top + 1.5 * room)))
            one.grid(alpha=0.25)
            one.tick_params(labelsize=8)
        line[0].set_ylabel(label + (" (at the edge: worse still)" if cut else ""), fontsize=9)
    axes[1, 0].set_xlabel("seconds", fontsize=9)
    axes[1, 1].set_xlabel("network calls for each sample", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    figure.savefig(buffer)
    # Few colours, so that the file stays small; lines keep their own by the extra rounds.
    picture = Image.open(buffer).convert("RGB").quantize(128, kmeans=3)
    picture.save(path, optimize=True)
