"""The report as one HTML page: the verdict first, then what it rests on."""

from __future__ import annotations

import html
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dps._resultmeta import plain
from napari_dps.errors import InputError
from napari_dps.uncertainty.verdict.charts import chart, picture
from napari_dps.uncertainty.verdict.finders import TITLES
from napari_dps.uncertainty.verdict.looks import STYLE
from napari_dps.uncertainty.verdict.unit import units_of

if TYPE_CHECKING:
    from napari_dps.result import Result

__all__ = ["check_page", "page", "write_page"]

SUFFIXES = (".html", ".htm")
CHARTS = {
    "chi2": "Chi-square per datum of each sample, against what the model expects of one",
    "autocorrelation": "Autocorrelation of the whitened residual",
    "pit": "Rank of each datum among draws of the samples' predictions (PIT)",
    "spectrum": "Power of the whitened residual by spatial frequency",
}
NAMES = {
    "measurement": "Measurement",
    "whitened_residual": "Whitened residual: (measured - expected) / noise",
}
MARKS = {
    "good": ("✓", "fine"),
    "bad": ("✗", "alarm"),
    "open": ("?", "not told"),
    "none": ("–", "not asked"),
}
"""Sign and word of each state."""
PARTS, COLOURS = 2, 3
"""Channels of a complex object, real and imaginary, and of one in colour."""
LONG = 8
"""Of lists longer than this the range is told."""


def check_page(path: Path) -> None:
    """Refuse a name that is no page's.

    Raises
    ------
    InputError
        If the suffix is another than ``.html`` or ``.htm``.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"'{path}' ends in '{path.suffix}'; a report is saved as .html.")


def write_page(result: Result, path: Path) -> Path:
    """Write the report of a result; see :meth:`napari_dps.Result.save_report`."""
    check_page(path)
    text = page(result)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: {error.strerror or error}.") from error
    finally:
        if part.is_file():
            part.unlink()
    return path


def page(result: Result) -> str:
    """Return the page as text."""
    told = result.report.get("verdict")
    title = html.escape(result.name)
    pictures = "".join(_pictures(result))
    body = "\n".join(
        [
            f"<header><h1>{title}</h1><p>{html.escape(_line(result))}</p></header>",
            _verdict(result, told),
            f"<section><h2>Pictures</h2><div class=grid>{pictures}</div></section>",
            _figures(told),
            _assumed(result),
            _recipe(result),
        ]
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}: verdict</title><style>{STYLE}</style></head>\n<body>\n{body}\n"
        f"</body></html>\n"
    )


def _line(result: Result) -> str:
    """Return what was restored, in one line."""
    report = result.report
    size = " x ".join(map(str, result.shape))
    count = "a point estimate" if result.point_estimate else f"{len(result)} samples"
    forward = getattr(getattr(result.recipe, "forward", None), "kind", None)
    parts = [f"{result.axes} {size}", f"{count} by {report.get('sampler', 'an unknown sampler')}"]
    parts += [f"forward model {forward}"] if forward else []
    parts += [] if result.complete else ["stopped early"]
    return ", ".join(parts)


def _mark(state: str) -> str:
    """Return a mark that is told by its shape and its word, not by its colour alone."""
    sign, word = MARKS[state]
    return f'<span class="mark {state}"><b>{sign}</b> {word}</span>'


def _verdict(result: Result, told: dict[str, Any] | None) -> str:
    rows = []
    notes = list(told["notes"]) if told else []
    if told is None:
        rows.append(_row("none", "No verdict", "This result was saved without one; run assess."))
    else:
        for finding in told["findings"].values():
            rows.append(_row(_state(finding), finding["title"], finding["sentence"]))
        rows += _absent(result, told)
        frames = told["frames"]
        if len(frames) > 1:
            alarmed = sum(line["alarm"] for line in frames)
            notes.append(
                f"{alarmed} of {len(frames)} frames raise an alarm; shown is the worst of them, "
                f"frame {told['frame']}."
            )
    if result.point_estimate and not any("point estimate" in note for note in notes):
        notes.append("A point estimate has no error bars: only the data side can be judged.")
    lost = [name for name in ("mean", "std") if len(result) > 1 and not result.holds(name)]
    if lost and not result.point_estimate:
        notes.append(f"The file was saved without {' and '.join(lost)}: no picture shows it.")
    notes += [str(w) for w in result.report.get("warnings", [])]
    listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (
        f"<section class=verdict><h2>Verdict</h2>{''.join(rows)}"
        f"{f'<ul class=notes>{listed}</ul>' if listed else ''}</section>"
    )


def _state(finding: dict[str, Any]) -> str:
    """Return the state of a finding; those of older files have two."""
    if finding["alarm"]:
        return "bad"
    return "good" if finding.get("told", True) else "open"


def _absent(result: Result, told: dict[str, Any]) -> list[str]:
    """Return a row for each question of the closer look that has no finding, with the reason."""
    missing = {name: title for name, title in TITLES.items() if name not in told["findings"]}
    if result.point_estimate:  # it has no samples to ask; the notes say so
        return []
    # Files of before this was written down: whoever asked got one answer at least.
    asked = told.get("closer", len(missing) < len(TITLES))
    if not asked:
        why = "Not asked: napari_dps.assess(result, image) does, or a closer look from the dock."
        state = "none"
    elif len(result) < 2:
        state, why = "open", "Too few samples: draw two or more."
    else:
        state, why = "none", "The question does not arise for this model, prior and sampler."
    return [_row(state, title, why) for title in missing.values()]


def _row(state: str, title: str, sentence: str) -> str:
    return (
        f"<div class=finding>{_mark(state)}<div><h3>{html.escape(title)}</h3>"
        f"<p>{html.escape(sentence)}</p></div></div>"
    )


def _pictures(result: Result) -> Iterator[str]:
    told = result.report.get("verdict") or {}
    # Not frame 0 where that is constant: it was not restored.
    first = int(told["frames"][0]["frame"]) if told.get("frames") else 0
    worst, own = int(told.get("frame", first)), _own_axes(result)
    frames = [first, worst] if worst != first else [first]
    units = units_of(result.recipe)
    for name, array in sorted(result.maps.items(), key=lambda item: item[0] != "measurement"):
        base, _, at = name.partition("@")
        if base == "measurement":
            words = _caption(base, at or str(worst), len(frames))
            yield _panel(array, "intensity", words, units["measurement"])
    arrays = {"mean": result.mean} if result.holds("mean") else {}
    if len(result) > 1 and result.holds("std"):
        arrays["std"] = result.std
    for name, array in arrays.items():
        for frame in frames:
            shown, how = flat(array, result.axes, frame, own)
            words = "Posterior mean" if name == "mean" else "Posterior standard deviation"
            words = "Estimate" if result.point_estimate else words
            extra = [how] if how else []
            extra += [f"frame {frame}"] if len(frames) > 1 else []
            kind = "intensity" if name == "mean" else "spread"
            yield _panel(shown, kind, ", ".join([words, *extra]), units["object"])
    for name, array in result.maps.items():
        base, _, at = name.partition("@")
        if base != "measurement":
            words = _caption(base, at or str(worst), len(frames))
            unit = {"whitened_residual": "sd", "error_of_the_mean": units["object"]}.get(base, "")
            yield _panel(array, _kind(base, array), words, unit)


def _caption(base: str, frame: str, many: int) -> str:
    words = NAMES.get(base, base.replace("_", " ").capitalize())
    return f"{words}, frame {frame}" if many > 1 else words


def _kind(name: str, array: NDArray[np.float32]) -> str:
    if name == "whitened_residual":
        return "signed"
    finite = array[np.isfinite(array)]
    inside = finite.size > 0 and float(finite.min()) >= 0 and float(finite.max()) <= 1
    return "share" if inside else "spread"


def _panel(array: NDArray[Any], kind: str, words: str, unit: str = "") -> str:
    """Return a picture, or the first of a few, with its caption."""
    if array.ndim == 3 and not (array.shape[0] == 3 and kind == "intensity"):
        array = array[int(np.argmax(np.nan_to_num(array).astype(np.float64).var((1, 2))))]
    label = html.escape(words)
    shown = f'<img alt="{label}" src="{picture(array, kind, unit)}">'
    return f"<figure>{shown}<figcaption>{label}</figcaption></figure>"


def flat(array: NDArray[Any], axes: str, frame: int, own: str = "ZYX") -> tuple[NDArray[Any], str]:
    """Return one picture of an image of any axes, and how it was made of a volume.

    Parameters
    ----------
    array : ndarray
        Mean or deviation of a result.
    axes : str
        Its axes.
    frame : int
        Which frame, counted over all axes but those of one object.
    own : str
        Axes of one object: Y and X, with Z of a volume and C in colour or of a complex one.
    """
    own = "".join(letter for letter in own if letter in axes)
    order = [k for k, letter in enumerate(axes) if letter not in own]
    moved = array.transpose(order + [axes.index(letter) for letter in own])
    frames = moved.reshape(-1, *moved.shape[len(order) :])
    shown, how = frames[min(frame, len(frames) - 1)], []
    if "C" in own and shown.shape[own.index("C")] == PARTS:
        at = own.index("C")
        # Of the mean and of the deviation of both parts, not those of the samples' magnitudes.
        shown, how = np.hypot(shown.take(0, at), shown.take(1, at)), ["root of both parts' squares"]
        own = own.replace("C", "")
    if "Z" in own:
        shown, how = shown.max(own.index("Z")), [*how, "greatest along Z"]
    return shown, ", ".join(how)


def _own_axes(result: Result) -> str:
    """Return the axes of one object; of results that do not know, Z is depth and C=3 colour."""
    colour = "C" in result.axes and result.shape[result.axes.index("C")] == COLOURS
    return str(result.report.get("object_axes") or ("CZYX" if colour else "ZYX"))


def _figures(told: dict[str, Any] | None) -> str:
    if told is None:
        return ""
    numbers = told["findings"]["data_fit"]["numbers"]
    shown = "".join(
        f'<figure><img alt="{html.escape(words)}" src="{chart(numbers, what)}">'
        f"<figcaption>{html.escape(words)}</figcaption></figure>"
        for what, words in CHARTS.items()
    )
    tables = [_scores(numbers)]
    for name, finding in told["findings"].items():
        if name != "data_fit":
            tables.append(_table(finding["title"], _rows(finding["numbers"])))
    if len(told["frames"]) > 1:
        tables.append(_frames(told["frames"]))
    return (
        f"<section><h2>Figures</h2><div class='grid charts'>{shown}</div>"
        f"<div class=tables>{''.join(tables)}</div></section>"
    )


SCORES = {
    "chi2": "Chi-square per datum",
    "noise_variance": "Variance of the noise over the assumed",
    "dark": "Chi-square of the darker half",
    "bright": "Chi-square of the brighter half",
    "mean": "Mean of the residual (in its own error)",
    "background": "Background (score)",
    "psf_width": "Narrower PSF (score)",
    "structure": "Largest excess of power",
    "pit": "Ranks from even (chi-square per degree)",
}


def _scores(numbers: dict[str, Any]) -> str:
    head = "<tr><th>Residual</th><th>found</th><th>expected</th><th>sd</th><th>z</th></tr>"
    rows = "".join(
        f"<tr><td>{html.escape(words)}</td>"
        + "".join(f"<td>{_number(numbers[name][k])}</td>" for k in ("value", "expected", "sd", "z"))
        + "</tr>"
        for name, words in SCORES.items()
    )
    return f"<table>{head}{rows}</table>"


def _frames(frames: list[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>frame {line['frame']}</td><td>{_mark('bad' if line['alarm'] else 'good')}</td>"
        f"<td>{_number(line['chi2'])}</td><td>{html.escape(', '.join(line['suspects']))}</td></tr>"
        for line in frames
    )
    return (
        f"<table><tr><th>Frame</th><th></th><th>chi-square</th><th>suspects</th></tr>{rows}</table>"
    )


def _rows(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _rows(value, f"{name}: ")
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            for k, item in enumerate(value):
                told = (f"{word.replace('_', ' ')} {_number(v)}" for word, v in item.items())
                yield f"{name}, {k + 1}", ", ".join(told)
        elif not isinstance(value, list) or len(value) <= LONG:
            yield name, value
        elif all(isinstance(item, (int, float)) for item in value):
            yield name, _range(value)


def _range(values: list[Any]) -> str:
    low, high = _number(min(values)), _number(max(values))
    return f"{low if low == high else f'{low} to {high}'} ({len(values)} values)"


def _table(title: str, rows: Iterator[tuple[str, Any]]) -> str:
    cells = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{_number(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table><tr><th colspan=2>{html.escape(title)}</th></tr>{cells}</table>"


def _number(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_number(item) for item in value)
    if isinstance(value, dict):
        return _number([f"{word} {_number(item)}" for word, item in value.items()])
    return html.escape(str(value))


def _assumed(result: Result) -> str:
    report = result.report
    keys = ("scale", "background", "calibration", "seconds", "network_calls", "steps", "device")
    told = {key: report[key] for key in keys if report.get(key) is not None}
    unit = units_of(result.recipe)["scale"]
    for name in ("scale", "background"):
        if name in told and unit:
            values = np.ravel(told[name]).tolist()
            shown = _number(values) if len(values) <= LONG else _range(values)
            told[name] = f"{shown} {unit}"
    told["pixel_size"] = ", ".join(
        f"{letter} {step:g} {word}"
        for letter, step, word in zip(result.axes, result.scale, result.units, strict=True)
        if letter in "ZYX"
    )
    found = {"prior": report.get("prior", {}), "noise": dict(report.get("noise", {}))}
    found["noise"].pop("warnings", None)  # they stand above
    tables = [
        _table("Run", _rows(told)),
        *(_table(name.capitalize(), _rows(values)) for name, values in found.items() if values),
        _table("Versions", iter(report.get("versions", {}).items())),
    ]
    return f"<section><h2>What was assumed</h2><div class=tables>{''.join(tables)}</div></section>"


def _recipe(result: Result) -> str:
    recipe = result.recipe
    if recipe is None:
        return ""
    known = hasattr(recipe, "to_json")
    text = recipe.to_json() if known else json.dumps(plain(recipe, "recipe"), indent=2)
    return f"<section><h2>Recipe</h2><pre>{html.escape(text)}</pre></section>"
