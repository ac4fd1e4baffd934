"""Measure a point spread function from an image of beads, and restore with it.

python examples/measure_psf.py [BEADS.tif PIXEL_SIZE [BEAD_DIAMETER]]

PIXEL_SIZE in micrometres, one number or Z,Y,X with commas between them; BEAD_DIAMETER too. Without
files simulated beads of 0.2 µm are measured. Writes psf.tif, which `--forward psf --forward.psf`
takes, and psf.png, its sections; a PSF in 2D then blurs a sample image, which is restored.
"""

import sys
from importlib.resources import files

import numpy as np
from scipy.ndimage import gaussian_filter

import napari_dps
from napari_dps.io import read_image

SAMPLES = files("napari_dps") / "sample_data"
NOISE = "poisson"
PIXEL, DIAMETER = 0.1, 0.2  # micrometres


def simulated_beads() -> np.ndarray:
    """Return beads at random places, two of them stuck together, behind a lens of NA 0.8."""
    rng = np.random.default_rng(0)
    fine = 5  # points per pixel
    light = np.zeros((256 * fine, 256 * fine))
    rows, columns = np.indices(light.shape, sparse=True)
    places = [*rng.uniform(80, 1200, (20, 2)), (700, 700), (707, 707)]
    for y, x in places:
        square = (DIAMETER / PIXEL * fine / 2) ** 2 - (rows - y) ** 2 - (columns - x) ** 2
        light += np.sqrt(np.clip(square, 0, None))  # as deep as the bead is there
    light = light.reshape(256, fine, 256, fine).sum((1, 3))
    seen = gaussian_filter(light, (1.4, 1.7))  # the PSF, of some astigmatism
    return rng.poisson(2000 * seen / seen.max() + 20).astype(np.uint16)


def main() -> None:
    """Measure the file named on the command line, or simulated beads."""
    if len(sys.argv) == 2:
        sys.exit(__doc__)
    if len(sys.argv) > 2:
        pixel = tuple(float(part) for part in sys.argv[2].split(","))
        diameter = float(sys.argv[3]) if len(sys.argv) > 3 else None
        beads = read_image(sys.argv[1], pixel_size=pixel)
        found = napari_dps.measure_psf(beads, bead_diameter=diameter)
    else:
        found = napari_dps.measure_psf(simulated_beads(), pixel_size=PIXEL, bead_diameter=DIAMETER)
    print(f"{found.used} of {found.found} beads used; left out: {found.rejected}")
    for axis, width in found.fwhm.items():
        print(f"{axis}: {width:.3g} ± {found.fwhm_spread[axis]:.2g} {found.units[axis]}")
    for warning in found.warnings:
        print("warning:", warning)
    print("written:", found.save("psf.tif"), found.plot("psf.png"))
    if found.axes == "YX":
        forward = found.forward()
        truth = read_image(str(SAMPLES / "nuclei_blur_truth.tif")).data
        measured = napari_dps.simulate(truth, forward=forward, noise=NOISE)
        result = napari_dps.reconstruct(measured, forward=forward, noise=NOISE, samples=4)
        print(f"misfit: {result.report['misfit']:.2f}")
        print("written:", result.save("restored.ome.tif"))


if __name__ == "__main__":
    main()
