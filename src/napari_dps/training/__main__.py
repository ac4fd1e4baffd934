"""``python -m napari_dps.training IMAGES... -o DIR``: train a prior, resume, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from ..errors import DPSError

app = App(name="python -m napari_dps.training", help="Train a diffusion prior from images.")


@app.default
def run(
    images: Annotated[list[Path] | None, Parameter(negative="")] = None,
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    minutes: float = 60.0,
    steps: int | None = None,
    batch: int = 8,
    rate: float = 5e-4,
    channels: Annotated[tuple[int, ...], Parameter(negative="")] = (32, 64, 128, 128),
    threads: int = 0,
    seed: int = 0,
    start: Annotated[Path | None, Parameter(name="--from")] = None,
    resume: bool = False,
    finish: bool = False,
) -> None:
    """Train a prior.

    Parameters
    ----------
    images
        Image files or folders; none trains on synthetic images alone.
    out
        Folder of the run; the prior appears in its subfolder 'prior'.
    minutes
        Active minutes in all; pauses of the process do not count.
    steps
        Number of steps instead of minutes.
    batch
        Patches a step.
    rate
        Peak learning rate.
    channels
        Widths of the network's levels, finest first.
    threads
        Threads; 0 means one for each core.
    seed
        Seed of weights, patches and noise.
    start
        Prior folder whose weights to go on from; its widths count.
    resume
        Continue the run in 'out'.
    finish
        Tell the run in 'out' to cool down and end, and return at once.
    """
    from .train import FINISH, Settings, train

    if finish:
        out.mkdir(parents=True, exist_ok=True)
        (out / FINISH).touch()
        return
    (out / FINISH).unlink(missing_ok=True)
    settings = Settings(
        minutes=minutes, steps=steps, batch=batch, rate=rate, threads=threads, seed=seed
    )
    folder = train(
        images or [],
        out,
        settings=settings,
        channels=channels,
        start=start,
        resume=resume,
        on_step=_show,
    )
    print(f"prior: {folder}")


@app.command
def export(
    run_folder: Path,
    folder: Path,
    /,
    *,
    name: str = "prior",
    licence: str = "",
    credits_file: Annotated[Path | None, Parameter(name="--credits")] = None,
) -> None:
    """Write a prior folder from a run's newest checkpoint, while it runs or after.

    Parameters
    ----------
    run_folder
        Folder of the run ('out' of the training command).
    folder
        Prior folder to write.
    name
        Name in the model card.
    licence
        Licence of the weights, for the model card.
    credits_file
        Text file that says whose images were used, for the model card.
    """
    from .train import export as write

    text = credits_file.read_text(encoding="utf-8") if credits_file else ""
    print(f"prior: {write(run_folder, folder, name, licence, text)}")


def _show(line: dict[str, Any]) -> None:
    text = f"step {line['step']:6d}  {line['minutes']:7.1f} min  loss {line['loss']:.4f}"
    print(text, flush=True)


def main() -> None:
    """Run the command; a mistake ends it with one sentence and code 2."""
    try:
        app()
    except DPSError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
