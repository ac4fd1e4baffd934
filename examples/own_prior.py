"""Restore with a prior of your own: a folder that `napari-dps train` made, or a closed form.

python examples/own_prior.py [PRIOR_FOLDER]
"""

import sys
from importlib.resources import files

import napari_dps

SAMPLES = files("napari_dps") / "sample_data"


def main() -> None:
    """Restore the sample `nuclei_missing` with the prior named, or a Gaussian field."""
    if len(sys.argv) > 1:
        prior = {"kind": "checkpoint", "path": sys.argv[1]}
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
