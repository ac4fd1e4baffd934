"""Restore a blurred, photon-starved image and look at its error bars.

python examples/restore_image.py [IMAGE.tif RECIPE.json]
"""

import sys
from importlib.resources import files

import napari_dps

SAMPLES = files("napari_dps") / "sample_data"


def main() -> None:
    """Restore the image named, or the sample `nuclei_blur`."""
    if len(sys.argv) not in (1, 3):
        sys.exit(__doc__)
    image, recipe = sys.argv[1:] or (SAMPLES / "nuclei_blur.tif", SAMPLES / "nuclei_blur.json")
    result = napari_dps.reconstruct(image, recipe, samples=20)
    low, high = result.interval(0.9)
    y, x = (n // 2 for n in result.mean.shape[-2:])
    print(
        f"centre: {result.mean[..., y, x]:.1f} photons, "
        f"90 % between {low[..., y, x]:.1f} and {high[..., y, x]:.1f}"
    )
    print(f"misfit: {result.report['misfit']:.2f} (1 where the noise explains all that is left)")
    print(f"written: {result.save('restored.ome.tif')}")


if __name__ == "__main__":
    main()
