"""``napari-dps priors``: the priors at hand; what one is; adding and removing your own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from napari_dps.cli._options import Chosen
from napari_dps.cli._terminal import note, print_json, print_table, size
from napari_dps.components import nearest
from napari_dps.errors import DPSError, InputError

GROUPS: tuple[str, ...] = ()

Json = Annotated[bool, Parameter(negative=())]
Flag = Annotated[bool, Parameter(negative=())]


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command: a group of four."""
    app = App(name="priors", help="List, inspect, add and remove priors.")
    app.default(overview)
    app.command(list_priors, name="list")
    app.command(inspect, name="inspect")
    app.command(add, name="add")
    app.command(remove, name="remove")
    return app


def overview(*words: Annotated[str, Parameter(show=False)], json: Json = False) -> None:
    """List, inspect, add and remove priors.

    Parameters
    ----------
    words
        None: without an action all priors are listed.
    json
        Print one JSON object.
    """
    if words:
        hint = nearest(words[0], ["list", "inspect", "add", "remove"])
        raise InputError(f"priors knows no {words[0]!r}; {hint}")
    list_priors(json=json)


def list_priors(*, json: Json = False) -> None:
    """List the priors that come with napari-dps and your own.

    Parameters
    ----------
    json
        Print one JSON object.
    """
    from napari_dps.priors._library import SHIPPED, entries, library

    found = [_entry(kind, shipped=True) for kind in SHIPPED]
    found += [_entry(name) for name in entries()]
    if json:
        print_json({"folder": str(library()), "priors": found})
        return
    rows = [
        [
            item["name"],
            item.get("problem") or item["format"],
            {1: "gray", 3: "colour"}.get(item.get("channels", 0), ""),
            _microns(item.get("pixel_size")),
            item.get("licence") or "not stated",
            size(item.get("bytes", 0)),
            item.get("hash", ""),
        ]
        for item in found
    ]
    columns = ("name", "format", "images", "pixel", "licence", "size", "hash")
    print_table("priors", columns, rows)
    note(
        f"your own lie in {library()}: --prior checkpoint --prior.path NAME takes one; "
        f"--prior {SHIPPED[0]} takes the one that comes along"
    )


def _microns(value: float | None) -> str:
    return "any" if value is None else f"{value:g} um"


def _entry(name: str, shipped: bool = False) -> dict[str, Any]:
    from napari_dps.priors._formats import describe, find
    from napari_dps.priors._library import locate
    from napari_dps.priors.fluorescence import FOLDER

    use = f"--prior {name}" if shipped else f"--prior checkpoint --prior.path {name}"
    entry: dict[str, Any] = {"name": name, "shipped": shipped, "use": use}
    try:
        facts = describe(find(FOLDER if shipped else locate(name))).as_dict()
    except DPSError as error:
        return {**entry, "problem": str(error)}
    return {**entry, **facts, "name": name, "title": facts["name"]}


def _source(prior: str, download: bool) -> Path:
    from napari_dps.priors._library import SHIPPED, entries, resolve
    from napari_dps.priors.fluorescence import FOLDER

    if prior in SHIPPED and prior not in entries() and not Path(prior).exists():
        return FOLDER
    return resolve(prior, download=download)


def inspect(prior: str, /, *, download: Flag = False, json: Json = False) -> None:
    """Tell what a prior says about itself, and whether its weights can be loaded.

    Parameters
    ----------
    prior
        A name, a folder or file, or an id of the Hugging Face hub.
    download
        Agree to download it from the hub.
    json
        Print one JSON object.
    """
    from napari_dps.priors._formats import describe, find

    found = find(_source(prior, download))
    facts = describe(found)
    from napari_dps.priors._load import load

    count = sum(value.numel() for value in load(found).parameters())
    answer = {**facts.as_dict(), "parameters": count}
    if json:
        print_json(answer)
        return
    rows = [
        ["name", facts.name],
        ["format", facts.format],
        ["lies in", facts.path],
        ["hash", facts.hash],
        ["licence", facts.licence or "not stated"],
        ["images", "colour" if facts.channels == 3 else "gray"],
        ["noise levels", f"{facts.sigma_min:.3g} to {facts.sigma_max:.4g}"],
        ["pixel size", "not stated" if facts.pixel_size is None else _microns(facts.pixel_size)],
        ["trained on sides of", f"{facts.trained_side} px" if facts.trained_side else "any"],
        ["predicts", facts.predicts + (", learned variance" if facts.learned_variance else "")],
        ["parameters", f"{count / 1e6:.3g} million"],
        ["size", size(facts.bytes)],
        *([f"training: {key}", str(value)] for key, value in facts.training.items()),
    ]
    print_table(prior, ("", ""), rows)


def add(
    source: str,
    /,
    *,
    name: str | None = None,
    replace: Flag = False,
    download: Flag = False,
    json: Json = False,
) -> None:
    """Copy a prior into your folder, so that its name suffices.

    Parameters
    ----------
    source
        A folder or file, or an id of the Hugging Face hub.
    name
        What to call it; otherwise as the folder or file is called.
    replace
        Replace the prior of that name.
    download
        Agree to download it from the hub.
    json
        Print one JSON object.
    """
    from napari_dps.priors._library import add as put
    from napari_dps.priors._library import resolve

    here = resolve(source, download=download)
    if name is None and not Path(source).expanduser().exists():
        name = source.partition("@")[0].rpartition("/")[2]
    facts = put(here, name, replace=replace)
    called = Path(facts.path).name if Path(facts.path).is_dir() else Path(facts.path).stem
    if json:
        print_json({"added": called, **facts.as_dict()})
    else:
        note(f"{facts.path}: use it with --prior checkpoint --prior.path {called}")


def remove(name: str, /, *, yes: Flag = False, json: Json = False) -> int:
    """Delete one of your priors.

    Parameters
    ----------
    name
        As `napari-dps priors` lists it.
    yes
        Do not ask.
    json
        Print one JSON object.
    """
    from napari_dps.priors._library import locate
    from napari_dps.priors._library import remove as delete

    path = locate(name)
    if not yes and not _agreed(path):
        note("nothing was removed")
        return 0
    gone = delete(name)
    if json:
        print_json({"removed": name, "paths": [str(path) for path in gone]})
    else:
        note(f"removed {', '.join(str(path) for path in gone)}")
    return 0


def _agreed(path: Path) -> bool:
    """Ask; where nobody can answer, say what to write instead."""
    if not sys.stdin.isatty():
        raise InputError(f"{str(path)!r} is to be deleted for good; agree with --yes")
    print(f"Delete {path} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
