"""``napari-dps train``: a prior from your own images."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter

from napari_dps.cli._options import Chosen, option, signature
from napari_dps.cli._progress import ProgressDisplay
from napari_dps.cli._terminal import note, print_json
from napari_dps.errors import InputError

GROUPS: tuple[str, ...] = ()


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command."""
    images = inspect.Parameter(
        "images",
        inspect.Parameter.VAR_POSITIONAL,
        annotation=Annotated[str, Parameter(help="Image files, or folders of them.")],
    )
    out = "Folder of the run; the prior appears in its subfolder 'prior'."
    return signature(
        train,
        [
            images,
            option("out", str, out, short="-o", required=True),
            option("minutes", float, "Minutes to train.", default=60.0),
            option("steps", int, "Number of steps instead of minutes."),
            option("threads", int, "Threads; 0 means one for each core.", default=0),
            option("seed", int, "Seed of weights, patches and noise.", default=0),
            option("start", str, "Prior folder to go on from.", short="--from"),
            option("resume", bool, "Continue the run in --out.", default=False),
            option("json", bool, "Print one JSON object on stdout.", default=False),
            option("quiet", bool, "Show no progress.", short="-q", default=False),
        ],
    )


def train(*images: str, **given: Any) -> int:
    """Train a prior on images; --resume continues a training that was stopped."""
    if not images:
        raise InputError("no image was named; give image files or folders of them")
    for name, least in (("minutes", 0.0), ("steps", 0), ("threads", -1), ("seed", -1)):
        if given.get(name) is not None and not given[name] > least:
            raise InputError(
                f"--{name} = {given[name]:g} is not allowed, give a number > {least:g}"
            )
    from napari_dps.training.train import Settings
    from napari_dps.training.train import train as train_prior

    names = ("minutes", "steps", "threads", "seed")
    settings = Settings(**{name: given[name] for name in names if name in given})
    try:
        with ProgressDisplay("training", bool(given.get("quiet"))) as display:

            def show(line: dict[str, Any]) -> None:
                if settings.steps is not None:
                    done, total = line["step"], settings.steps
                else:
                    done, total = round(60 * line["minutes"]), round(60 * settings.minutes)
                display.update(done, total, f"step {line['step']}, loss {line['loss']:.4f}")

            folder = train_prior(
                images,
                given["out"],
                settings=settings,
                start=given.get("start"),
                resume=bool(given.get("resume")),
                on_step=show,
            )
    except KeyboardInterrupt:
        out = given["out"]
        note(f"stopped; `napari-dps train ... -o {out} --resume` goes on from its checkpoint")
        return 130
    if given.get("json"):
        print_json({"prior": str(folder)})
    else:
        note(f"{folder}: use it with --prior checkpoint --prior.path {folder}")
    return 0
