"""Blur, then binning, then missing pixels: a chain of forward models.

python examples/compose.py
"""

from importlib.resources import files

import napari_dps
from napari_dps.io import read_image

SAMPLES = files("napari_dps") / "sample_data"
FORWARD = {
    "kind": "compose",
    "steps": [
        {"kind": "gaussian-blur", "sigma": 1.5},
        {"kind": "downsample", "factor": 2},
        {"kind": "random-inpaint", "missing": 0.3},
    ],
}
NOISE = "poisson"


def main() -> None:
    """Measure the truth of the sample `nuclei_blur` in this way, and restore it."""
    truth = read_image(str(SAMPLES / "nuclei_blur_truth.tif")).data
    measured = napari_dps.simulate(truth, forward=FORWARD, noise=NOISE)
    result = napari_dps.reconstruct(measured, forward=FORWARD, noise=NOISE, samples=4)
    print(f"measured {measured.shape}, restored {result.mean.shape}")
    print(f"misfit: {result.report['misfit']:.2f}")
    print(f"written: {result.save('compose.ome.tif')}")


if __name__ == "__main__":
    main()
