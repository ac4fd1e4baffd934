"""Motion seen through a camera's gamma, saturated at the top.

python examples/nonlinear_blur.py
"""

from importlib.resources import files

import napari_dps
from napari_dps.io import read_image

SAMPLES = files("napari_dps") / "sample_data"
FORWARD = {"kind": "nonlinear-blur", "white": 30.0, "gamma": 2.2, "extent": 9}
NOISE = {"kind": "gaussian", "sigma": 1.0}


def main() -> None:
    """Measure the truth of the sample `nuclei_blur` in this way, and restore it."""
    truth = read_image(str(SAMPLES / "nuclei_blur_truth.tif")).data
    measured = napari_dps.simulate(truth, forward=FORWARD, noise=NOISE)
    result = napari_dps.reconstruct(measured, forward=FORWARD, noise=NOISE, samples=4)
    print(f"measured {measured.shape}, restored {result.mean.shape}")
    print(f"misfit: {result.report['misfit']:.2f}")
    print(f"written: {result.save('nonlinear_blur.ome.tif')}")


if __name__ == "__main__":
    main()
