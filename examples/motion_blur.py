"""The camera moved along a random path while light was collected.

python examples/motion_blur.py
"""

from importlib.resources import files

import napari_dps
from napari_dps.io import read_image

SAMPLES = files("napari_dps") / "sample_data"
FORWARD = {"kind": "motion-blur", "path": "random", "extent": 21, "path_seed": 1}
NOISE = "poisson"


def main() -> None:
    """Measure the truth of the sample `nuclei_blur` in this way, and restore it."""
    truth = read_image(str(SAMPLES / "nuclei_blur_truth.tif")).data
    measured = napari_dps.simulate(truth, forward=FORWARD, noise=NOISE)
    result = napari_dps.reconstruct(measured, forward=FORWARD, noise=NOISE, samples=4)
    print(f"measured {measured.shape}, restored {result.mean.shape}")
    print(f"misfit: {result.report['misfit']:.2f}")
    print(f"written: {result.save('motion_blur.ome.tif')}")


if __name__ == "__main__":
    main()
