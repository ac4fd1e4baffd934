"""``napari-dps train``: a prior from your own images."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from napari_dps.cli._options import Chosen, option, signature
from napari_dps.cli._progress import ProgressDisplay
from napari_dps.cli._terminal import note, print_json
from napari_dps.errors import InputError

GROUPS: tuple[str, ...] = ()

# Options that are settings of the same name.
SETTINGS: list[tuple[str, Any, str]] = [
    ("batch", int, "Patches a step."),
    ("size", int, "Side of the patches in pixels, a multiple of 16 for the presets' networks."),
    ("rate", float, "Peak learning rate."),
    ("phantoms", float, "Share of the patches that are procedural fluorescence."),
    ("textures", float, "Share of the patches that are synthetic edges and textures."),
    ("held_out", float, "Share of the files kept apart, to judge by (0.1)."),
    ("judged", int, "Held-out images that the final table rests on (8); 0 judges nothing."),
    ("device", str, "auto, cpu, cuda, cuda:1, mps."),
    ("precision", str, "auto, float32, bfloat16, float16."),
    ("compile", str, "auto (on CUDA, in long runs), on, off."),
    ("threads", int, "Threads on a CPU; 0 means one for each core."),
    ("workers", int, "Processes that prepare patches; -1 takes as many as are needed."),
    ("seed", int, "Seed of weights, patches and noise."),
]


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command."""
    images = inspect.Parameter(
        "images",
        inspect.Parameter.VAR_POSITIONAL,
        annotation=Annotated[str, Parameter(help="Image files, or folders of them.")],
    )
    out = "Folder of the run; the prior appears in its subfolder 'prior'."
    weight = "FOLDER=W: draw images of that folder (or end of a path) W times as often; repeatable."
    start = "Prior to go on from: a folder, fluorescence, or one that `napari-dps priors` lists."
    widths = "Widths of a new network's levels, finest first, such as 32,64,128,128."
    return signature(
        train,
        [
            images,
            option("out", str, out, short="-o", required=True),
            option("minutes", float, "Minutes to train (60)."),
            option("steps", int, "Number of steps instead of minutes."),
            option("preset", str, "auto, small, standard, large.", default="auto"),
            option("start", str, start, short="--from"),
            option("weight", list[str], weight),
            option("synthetic", bool, "Use procedural images alone.", default=False),
            option("resume", bool, "Continue the run in --out.", default=False),
            option("finish", bool, "Tell the run in --out to end soon, and return.", default=False),
            option("name", str, "Name of the prior, for its model card."),
            option("licence", str, "Licence of the weights, for the model card."),
            option("credits", str, "Text file for the model card: whose images these are."),
            option("channels", str, widths),
            *(option(name, kind, text) for name, kind, text in SETTINGS),
            option("json", bool, "Print one JSON object on stdout.", default=False),
            option("quiet", bool, "Show no progress.", short="-q", default=False),
        ],
    )


def train(*images: str, **given: Any) -> int:
    """Train a prior on images; --resume continues a training that was stopped."""
    out = Path(given["out"])
    if given.get("finish"):
        return _finish(out)
    if bool(images) == bool(given.get("synthetic")):
        raise InputError(
            "--synthetic uses no images, yet some were named; leave one of both out"
            if images
            else "no image was named; give image files or folders of them"
        )
    weights = _weights(given.get("weight") or [])
    settings = {name: given[name] for name, _, _ in SETTINGS if given.get(name) is not None}
    if given.get("channels") is not None:
        settings["channels"] = _widths(given["channels"])
    if given.get("minutes") is not None and not given["minutes"] > 0:
        raise InputError(f"--minutes = {given['minutes']:g} is not allowed, give a number > 0")
    words = _credits(given.get("credits"))
    from napari_dps.training.train import train as train_prior
    from napari_dps.training.trainer import CHECKPOINT

    first = os.environ.get("RANK", "0") == "0"  # of several processes one speaks
    quiet = bool(given.get("quiet")) or not first
    try:
        with ProgressDisplay("training", quiet) as display:

            def show(line: dict[str, Any]) -> None:
                if "loss" in line:
                    waits = f"waiting for data {100 * line['waiting']:.0f} %"
                    state = f"step {line['step']}, loss {line['loss']:.4f}, {waits}"
                    display.update(round(1000 * line["done"]), 1000, state)

            folder = train_prior(
                images,
                out,
                preset=given.get("preset", "auto"),
                minutes=given.get("minutes"),
                steps=given.get("steps"),
                start=given.get("start"),
                resume=bool(given.get("resume")),
                weights=weights,
                settings=settings,
                name=given.get("name"),
                licence=given.get("licence"),
                credits_text=words,
                on_step=show,
                on_note=None if quiet else note,
            )
    except KeyboardInterrupt:
        if (out / CHECKPOINT).is_file():
            note(f"stopped; `napari-dps train ... -o {out} --resume` goes on from its checkpoint")
        else:
            note("stopped before the first checkpoint: nothing was saved")
        return 130
    if given.get("json") and first:
        print_json({"prior": str(folder)})
    elif first:
        note(f"{folder}: use it with --prior checkpoint --prior.path {folder}")
    return 0


def _finish(out: Path) -> int:
    from napari_dps.training.export import LOG
    from napari_dps.training.loop import FINISH
    from napari_dps.training.trainer import CHECKPOINT

    # A run writes its log from the first step on, and checkpoints later.
    if not any((out / name).is_file() for name in (CHECKPOINT, LOG)):
        raise InputError(f"there is no run in {str(out)!r}; name the folder given to train with -o")
    (out / FINISH).touch()
    note(f"the run in {out} cools down and ends within minutes")
    return 0


def _weights(pairs: Sequence[str]) -> dict[str, float]:
    """Read FOLDER=W."""
    found = {}
    for pair in pairs:
        folder, _, value = pair.rpartition("=")
        try:
            found[folder] = float(value)
        except ValueError:
            folder = ""
        if not folder:
            raise InputError(f"--weight {pair} is not understood; write FOLDER=2, for example")
    return found


def _widths(text: str) -> tuple[int, ...]:
    """Read widths separated by commas; groups of eight are normalised together."""
    parts = text.replace("/", ",").split(",")
    if not all(part.strip().isdigit() and int(part) % 8 == 0 and int(part) for part in parts):
        raise InputError(f"--channels {text} is not understood; write multiples of 8 as 32,64,128")
    if len(parts) > 7 or max(map(int, parts)) > 1024:
        raise InputError(f"--channels {text} is too much; at most 7 levels up to 1024 wide")
    return tuple(int(part) for part in parts)


def _credits(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--credits {path} cannot be read ({error}); name a text file") from error
