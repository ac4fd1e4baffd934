"""Compute the PSF of a microscope from its optics, and restore an image that it blurred.

python examples/optics_psf.py
"""

import numpy as np
import tifffile

import napari_dps
from napari_dps.components import make
from napari_dps.grid import Grid
from napari_dps.image import Image

SIDE, PIXEL = 64, 0.16  # micrometres


def main() -> None:
    """Simulate beads under a 40x/0.8 water objective, and restore them."""
    widefield = {
        "kind": "widefield",
        "numerical_aperture": 0.8,
        "wavelength": 580,  # nm
        "immersion_index": 1.33,
        "sample_index": 1.36,
        "depth": 20,  # um
    }
    grid = Grid((SIDE, SIDE), (PIXEL, PIXEL))
    model = make("forward", widefield)
    psf = model.psf(grid)
    print(f"PSF: {psf.shape[0]} x {psf.shape[1]} pixels, brightest {psf.max():.4f}")
    print("\n".join(model.warnings(grid)) or "nothing to warn of")
    tifffile.imwrite("psf.tif", psf.astype(np.float32))

    rng = np.random.default_rng(0)
    beads = np.full((SIDE, SIDE), 2.0)
    rows, cols = np.indices(beads.shape)
    for row, col, radius in zip(*rng.uniform(0, SIDE, (2, 12)), rng.uniform(2, 5, 12), strict=True):
        beads[np.hypot(rows - row, cols - col) < radius] += 60
    truth = Image.from_array(beads, axes="YX", pixel_size=PIXEL)
    measured = napari_dps.simulate(truth, forward=widefield, noise="poisson", seed=1)
    result = napari_dps.reconstruct(
        measured, forward=widefield, noise="poisson", samples=2, pixel_size=PIXEL
    )
    for name, image in (("measured", measured), ("restored", result.mean)):
        print(f"{name}: off by {np.sqrt(np.mean((image - beads) ** 2)):.1f} photons RMS")
    print(f"written: psf.tif, {result.save('restored.ome.tif')}")


if __name__ == "__main__":
    main()
