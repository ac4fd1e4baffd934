"""Unconditional samples of a prior as one PNG: what it takes microscopy to look like.

    python benchmarks/sheet.py [--prior KIND_OR_FOLDER] [--number N] [--side PIXELS] [--steps N]
        [--seed N] [--out FILE.png]

Grey levels are prior units, -1 black and 1 white, the same for all samples. Prints JSON.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import contact_sheet, machine, publish
from cyclopts import App

from napari_dps.api import sample_prior

app = App(help="Unconditional samples of a prior as one PNG.")


@app.default
def main(
    *,
    prior: str = "fluorescence",
    number: int = 16,
    side: int = 64,
    steps: int = 50,
    seed: int = 0,
    out: Path = Path("docs/images/unconditional.png"),
) -> None:
    """Draw the sheet.

    Parameters
    ----------
    prior
        A kind, or the folder of a checkpoint.
    number, side
        Samples and their side in pixels.
    steps
        Noise levels gone through.
    seed
        Seed of all random numbers.
    out
        File for the sheet.
    """
    source: Any = {"kind": "checkpoint", "path": prior} if Path(prior).is_dir() else prior
    begin = time.perf_counter()
    draws = np.asarray(sample_prior(source, number, (side, side), seed, steps=steps), float)
    seconds = time.perf_counter() - begin
    contact_sheet([(draw + 1.0) / 2.0 for draw in draws], int(np.ceil(number**0.5)), out)
    report = {
        "what": __doc__,
        "prior": prior,
        "samples": number,
        "side": side,
        "steps": steps,
        "mean": float(draws.mean()),
        "std_within": float(draws.std(axis=(1, 2)).mean()),
        "seconds": seconds,
        "machine": machine(),
    }
    publish(report, None)


if __name__ == "__main__":
    app()
