"""Draw from a prior and write its spread by local intensity beside its weights.

    python tools/prior_spread.py [FOLDER]

FOLDER is a prior folder of ours; the shipped one where it is left out. Run again after the weights
have changed: the file names the hash of those it was made with, and counts for no others.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from napari_dps.priors._folder import load_prior, prior_hash
from napari_dps.priors.fluorescence import FOLDER
from napari_dps.uncertainty.verdict.support import FILE, Spread, draw

COUNT, SIDE, STEPS = 48, 96, 40


def main() -> None:
    """Draw, measure, write."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    prior = load_prior(folder)
    images = draw(prior, torch.zeros(1, 1, SIDE, SIDE), count=COUNT, side=SIDE, steps=STEPS)
    found = {
        "prior": prior_hash(folder),
        "draws": COUNT,
        "side": SIDE,
        "steps": STEPS,
        **Spread.measured(images).to_json(),
    }
    (folder / FILE).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for intensity, std in zip(found["intensity"], found["std"], strict=True):
        print(f"{intensity:7.3f}  {std:.4f}")


if __name__ == "__main__":
    main()
