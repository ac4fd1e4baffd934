"""Make the sample data again: measurements, truths and recipes in src/napari_dps/sample_data.

    python tools/make_samples.py IMAGES

IMAGES is a folder with the clean images named in SOURCES below. Every measurement is simulated
from a real image by `napari_dps.simulate`, so that its truth is known; same images, same files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import skimage.io
import tifffile
from numpy.typing import NDArray

import napari_dps

Array = NDArray[np.float64]
TARGET = Path(__file__).resolve().parent.parent / "src" / "napari_dps" / "sample_data"
SIDE = 128
PIXEL = 0.65
MARGIN = 20

DSB = "dsbt_{}.png"
SOURCES = """# Sample data

Every sample is `NAME.tif` (the measurement), `NAME_truth.tif` (the object, in the measurement's
unit) and `NAME.json` (the recipe that restores it). `python tools/make_samples.py IMAGES` makes
them again. The measurements are simulated from real images, so that the truth is known.

Objects: nuclei from stage 1 of the 2018 Data Science Bowl, Broad Bioimage Benchmark Collection
BBBC038 (Caicedo et al., Nature Methods 16, 1247, 2019; https://bbbc.broadinstitute.org/BBBC038).
Licence: CC0 1.0 (public domain). Light from outside the crop of a blurred sample is simulated
too. The source states no pixel size: 0.65 micrometres, as written into the files, is nominal.

- `nuclei_blur`: test image bdc789019cee, 128x128 crop. Gaussian PSF of sigma 2 px, Poisson noise,
  30 photons at the 99.8th percentile over a background of 1.
- `nuclei_missing`: test image 8b59819fbc92, 128x128 crop. 80 % of the pixels lost, Poisson noise,
  100 photons over a background of 2.
- `cells_mask`: test image f0d0ab13ff53, 128x128 crop. Scratches and a dead block
  (`cells_mask_mask.tif`); camera with 2.2 ADU per electron, offset 100 ADU and read noise of 1.6
  electrons; 60 photons over a background of 2.
- `psf_measured`: test image 8b59819fbc92, 128x128 crop. Astigmatic, defocused PSF
  (`psf_measured_psf.tif`, a simulated image of a bead), Poisson noise, 100 photons over a
  background of 1.
- `diffraction`: test image 8b59819fbc92, 192x192 crop binned to 64x64, taken as amplitude. Photon
  counts of its far field on 128x128 pixels, 1e6 photons in all.

The PSF and the mask are this project's own, BSD-3-Clause as the rest.
"""


def photons(image: Array, peak: float, background: float) -> Array:
    """Scale an image: 99.8th percentile at ``peak`` photons over ``background``."""
    low, high = np.percentile(image, [0.5, 99.8])
    return background + peak * np.clip((image - low) / (high - low), 0, None)


def crop(image: Array, top: int, left: int, margin: int = 0) -> Array:
    """Return a crop of SIDE pixels with a margin, which must lie inside the image."""
    rows, columns = (slice(p - margin, p + SIDE + margin) for p in (top, left))
    part = image[rows, columns]
    assert part.shape == (SIDE + 2 * margin,) * 2, f"the crop leaves the image: {part.shape}"
    return part


def inner(image: NDArray[Any]) -> NDArray[Any]:
    """Cut the margin off."""
    return image[MARGIN:-MARGIN, MARGIN:-MARGIN]


def astigmatic_psf(side: int = 31) -> Array:
    """Return a PSF of sum one: a pupil with defocus and astigmatism, smoothed by the pixel."""
    grid = 128
    v, u = np.meshgrid(*2 * [np.fft.fftfreq(grid)], indexing="ij")
    rho = np.hypot(u, v) / 0.16
    angle = np.arctan2(v, u)
    phase = 2.6 * (2 * rho**2 - 1) + 1.8 * rho**2 * np.cos(2 * (angle - 0.5))
    field = np.fft.ifft2(np.where(rho <= 1, np.exp(1j * phase), 0))
    psf = np.fft.fftshift(np.abs(field) ** 2)
    middle = slice(grid // 2 - side // 2, grid // 2 + side // 2 + 1)
    return psf[middle, middle] / psf[middle, middle].sum()


def scratches() -> NDArray[np.uint8]:
    """Return a mask of SIDE x SIDE pixels: 1 where measured, 0 on scratches and a dead block."""
    rng = np.random.default_rng(5)
    mask = np.ones((SIDE, SIDE), np.uint8)
    rows, columns = np.indices(mask.shape)
    for _ in range(9):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-50, 50)
        distance = (columns - 64) * np.cos(angle) + (rows - 64) * np.sin(angle) - offset
        mask[np.abs(distance) < rng.uniform(1, 3.5)] = 0
    mask[70:92, 64:86] = 0
    return mask


def write(name: str, data: NDArray[Any], pixel: float | None = PIXEL) -> None:
    """Write an ImageJ TIFF; ``pixel`` is its pixel size in micrometres."""
    about: dict[str, Any] = {"axes": "YX"}
    resolution = {}
    if pixel is not None:
        about["unit"] = "um"
        resolution = {"resolution": (1 / pixel, 1 / pixel)}
    tifffile.imwrite(TARGET / f"{name}.tif", data, imagej=True, metadata=about, **resolution)


def save(
    name: str,
    measured: NDArray[Any],
    truth: Array,
    forward: dict[str, Any],
    noise: dict[str, Any],
    *,
    samples: int = 8,
    pixel: float | None = PIXEL,
) -> None:
    """Write a sample."""
    assert measured.max() < 65535
    write(name, np.rint(measured).astype(np.uint16), pixel)
    write(f"{name}_truth", truth.astype(np.float32), pixel)
    recipe = {
        "forward": forward,
        "noise": noise,
        "prior": {"kind": "fluorescence"},
        "sampler": {"kind": "auto"},
        "samples": samples,
        "seed": 0,
    }
    (TARGET / f"{name}.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")


def main(folder: Path) -> None:
    """Make all samples from the images in a folder."""

    def image(number: str) -> Array:
        return skimage.io.imread(folder / DSB.format(number)).astype(np.float64)

    TARGET.mkdir(parents=True, exist_ok=True)
    counts = {"kind": "poisson"}

    blur = {"kind": "gaussian-blur", "sigma": 2.0}
    wide = photons(crop(image("bdc789019cee"), 215, 546, MARGIN), 30, 1)
    measured = napari_dps.simulate(wide, seed=1, forward=blur, noise=counts)
    save("nuclei_blur", inner(measured), inner(wide), blur, counts, samples=20)

    lost = {"kind": "random-inpaint", "missing": 0.8, "mask_seed": 7}
    truth = photons(crop(image("8b59819fbc92"), 110, 300), 100, 2)
    measured = napari_dps.simulate(truth, seed=2, forward=lost, noise=counts)
    save("nuclei_missing", measured, truth, lost, counts)

    camera = {"kind": "poisson-gaussian", "gain": 2.2, "offset": 100.0, "read_noise": 1.6}
    truth = photons(crop(image("f0d0ab13ff53"), 140, 380), 60, 2)
    truth = camera["offset"] + camera["gain"] * truth  # type: ignore[operator]
    mask = scratches()
    write("cells_mask_mask", mask, None)
    measured = napari_dps.simulate(
        truth, seed=3, forward={"kind": "inpaint", "mask": mask}, noise=camera
    )
    save("cells_mask", measured, truth, {"kind": "inpaint", "mask": "cells_mask_mask.tif"}, camera)

    bead = np.random.default_rng(6).poisson(100 + 2e6 * astigmatic_psf())
    write("psf_measured_psf", bead.astype(np.uint16), PIXEL)
    wide = photons(crop(image("8b59819fbc92"), 370, 210, MARGIN), 100, 1)
    path = str(TARGET / "psf_measured_psf.tif")
    measured = napari_dps.simulate(wide, seed=4, forward={"kind": "psf", "psf": path}, noise=counts)
    save(
        "psf_measured",
        inner(measured),
        inner(wide),
        {"kind": "psf", "psf": "psf_measured_psf.tif"},
        counts,
    )

    far = {"kind": "phase-retrieval", "oversampling": 2.0, "measured": "intensity"}
    part = image("8b59819fbc92")[84:276, 250:442]
    small = part.reshape(SIDE // 2, 3, SIDE // 2, 3).mean((1, 3))
    amplitude = photons(small, 1, 0)
    amplitude *= np.sqrt(1e6 / (amplitude**2).sum())
    measured = napari_dps.simulate(amplitude, seed=5, forward=far, noise=counts)
    save("diffraction", measured, amplitude, far, counts, samples=4, pixel=None)

    (TARGET / "SOURCES.md").write_text(SOURCES, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
