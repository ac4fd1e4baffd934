"""Restore with a checkpoint of the community's: a diffusers folder, a hub id, an ADM file.

python examples/community_prior.py PRIOR [IMAGE]

PRIOR is a folder, a file, a name that `napari-dps priors` lists, or an id of the Hugging Face hub,
which this example agrees to download, such as google/ddpm-cifar10-32. Without IMAGE a sample is
restored. Gray images go through priors of colours too; see docs/priors.md.
"""

import sys
from importlib.resources import files

import napari_dps

SAMPLES = files("napari_dps") / "sample_data"


def main() -> None:
    """Restore an image with the prior named, and show what the result says about it."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    prior = {"kind": "checkpoint", "path": sys.argv[1], "download": True}
    if len(sys.argv) > 2:
        image, recipe = sys.argv[2], None
    else:
        image, recipe = (str(SAMPLES / f"nuclei_missing.{end}") for end in ("tif", "json"))
    result = napari_dps.reconstruct(image, recipe, prior=prior, samples=4)
    for key, value in result.report["prior"].items():
        print(f"{key}: {value}")
    for warning in result.report["warnings"]:
        print(f"warning: {warning}")
    print(f"misfit: {result.report['misfit']:.2f}")
    print(f"written: {result.save('restored.ome.tif')}")


if __name__ == "__main__":
    main()
