"""Train a prior on images of yours and restore with it, or restore with a closed form.

python examples/own_prior.py [PRIOR_FOLDER | IMAGES...]

A folder with a config.json is a prior that was trained before; anything else are images, on which
the shipped prior is trained further for a few minutes (15 are better).
"""

import sys
from importlib.resources import files
from pathlib import Path

import napari_dps

SAMPLES = files("napari_dps") / "sample_data"


def main() -> None:
    """Restore the sample `nuclei_missing` with the prior named, or a Gaussian field."""
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        if not (folder / "config.json").exists():
            folder = napari_dps.train(
                sys.argv[1:], "own_prior", start="fluorescence", minutes=3, on_note=print
            )
        prior = {"kind": "checkpoint", "path": str(folder)}
    else:
        prior = {"kind": "gaussian", "std": 0.5, "correlation_length": 8.0, "exponent": 2.0}
    draws = napari_dps.sample_prior(prior, 4, (64, 64))
    print(f"draws of the prior alone: mean {draws.mean():.2f}, std {draws.std():.2f}")
    recipe = str(SAMPLES / "nuclei_missing.json")
    result = napari_dps.reconstruct(str(SAMPLES / "nuclei_missing.tif"), recipe, prior=prior)
    print(f"misfit: {result.report['misfit']:.2f}")
    print(f"written: {result.save('restored.ome.tif')}")


if __name__ == "__main__":
    main()
