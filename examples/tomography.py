"""Restore a slice from a few noisy projections, a sinogram, with error bars.

python examples/tomography.py
"""

from importlib.resources import files

import numpy as np

import napari_dps
from napari_dps.io import read_image

SAMPLES = files("napari_dps") / "sample_data"


def main() -> None:
    """Measure a phantom of 64x64 pixels along 24 directions over 120 degrees, and restore it."""
    counts = read_image(str(SAMPLES / "nuclei_blur.tif")).data.astype(np.float64)
    phantom = counts[:64, :64] / counts[:64, :64].max()
    rows, columns = np.mgrid[:64, :64] - 31.5
    phantom *= rows**2 + columns**2 < 30**2  # nothing beyond what every projection sees
    forward = {
        "kind": "radon",
        "angles": np.arange(24) * 5.0,  # degrees: a wedge of 60 degrees is missing
        "layout": "angles-detector",
    }
    noise = {"kind": "gaussian", "sigma": 0.5}
    sinogram = napari_dps.simulate(phantom, forward=forward, noise=noise)
    result = napari_dps.reconstruct(sinogram, forward=forward, noise=noise, samples=4)
    for warning in result.report.get("warnings", []):
        print("note:", warning)
    print(f"chi-square per datum: {result.report['misfit']:.2f}")
    print(f"written: {result.save('slice.ome.tif')}")


if __name__ == "__main__":
    main()
