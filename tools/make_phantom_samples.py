"""Make the samples whose objects are phantoms: measurements, truths, recipes, and their notes.

    python tools/make_phantom_samples.py

Run after tools/make_samples.py, whose notes (SOURCES.md) these are added to. Same code, same files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

import napari_dps
from napari_dps.recipe import Recipe
from napari_dps.training.phantoms import phantom

Array = NDArray[np.float64]
TARGET = Path(__file__).resolve().parent.parent / "src" / "napari_dps" / "sample_data"
SIDE, MARGIN = 96, 24
COUNTS = {"kind": "poisson"}
HEAD = "\nObjects that are this project's own phantoms (BSD-3-Clause), with Poisson noise but for"
SOURCES = f"""{HEAD} `kspace`:

- `motion`: filaments of 96x96 pixels, moved 15 px at 30 degrees; 100 photons.
- `coarse_pixels`: mitochondria of 96x96 pixels, binned 2 x 2; 100 photons.
- `widefield_volume`: 8 x 40 x 40 voxels of 0.25 and 0.1 um, NA 0.9 in water; 200 photons.
- `confocal_plane`, `lightsheet_plane`: 64x64 pixels of 0.055 and 0.15 um; 60 photons.
- `overexposed`: nuclei of 64x64 pixels that moved, through a gamma of 2.2 with a white of 400.
- `chain`: blurred by 1 px, binned 2 x 2, a fifth of the pixels lost; 100 photons.
- `sinogram`: a slice of 64x64 pixels, 30 projections over 180 degrees; 20 photons a pixel.
- `kspace`: a complex image of 64x64 pixels, every third line of its k-space.
- `scan`: a phase object behind 25 positions of a probe of 32x32 pixels.
"""


def bright(kind: str, side: int, peak: float, seed: int) -> Array:
    """Return a phantom with its 99.8th percentile at ``peak`` photons over a background of 2."""
    image = phantom(np.random.default_rng(seed), side, kind).astype(np.float64)
    low, high = np.percentile(image, [0.5, 99.8])
    return np.asarray(2 + peak * np.clip((image - low) / (high - low), 0, None))


def write(name: str, data: NDArray[Any], axes: str, pixel: tuple[float, ...] | None) -> None:
    """Write a TIFF of ImageJ's kind, with its voxel size in micrometres."""
    about: dict[str, Any] = {"axes": axes}
    resolution: dict[str, Any] = {}
    if pixel is not None:
        about["unit"] = "um"
        resolution = {"resolution": (1 / pixel[-1], 1 / pixel[-2])}
        if len(pixel) == 3:
            about["spacing"] = pixel[0]
    tifffile.imwrite(TARGET / f"{name}.tif", data, imagej=True, metadata=about, **resolution)


def save(
    name: str,
    truth: Array,
    forward: dict[str, Any],
    noise: dict[str, Any] = COUNTS,
    *,
    margin: int = 0,
    pixel: tuple[float, ...] | None = None,
    axes: tuple[str, str] = ("YX", "YX"),
    samples: int = 4,
) -> None:
    """Simulate and write a sample; a margin of the truth lies outside what is shown."""
    from napari_dps.image import Image

    given = Image.from_array(truth, axes[0], None if pixel is None else pixel)
    measured = napari_dps.simulate(given, seed=1, forward=forward, noise=noise)
    if margin:
        inner = (..., slice(margin, -margin), slice(margin, -margin))
        measured, truth = measured[inner], truth[inner]
    if noise["kind"] == "poisson":
        measured = np.rint(measured).astype(np.uint16)
    write(name, measured, axes[1], pixel)
    write(f"{name}_truth", truth.astype(np.float32), axes[0], pixel)
    Recipe.parse({"forward": forward, "noise": noise, "samples": samples}).save(
        TARGET / f"{name}.json"
    )


def optics() -> None:
    """Make what microscopes see: a volume, and planes."""
    rng = np.random.default_rng(11)
    z, y, x = np.indices((8, 40, 40))
    volume = np.full((8, 40, 40), 2.0)
    for _ in range(9):  # vesicles: hollow spheres in cytoplasm
        at = rng.uniform((2, 8, 8), (6, 32, 32))
        r = np.sqrt((2.5 * (z - at[0])) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2)
        radius = rng.uniform(4, 8)
        volume += 200 * np.exp(-((r - radius) ** 2) / 1.5) + 25 * (r < radius)
    water = {"immersion_index": 1.33, "sample_index": 1.33, "wavelength": 520}
    wide = {"kind": "widefield", "numerical_aperture": 0.9, "crop": 0.95, **water}
    save("widefield_volume", volume, wide, pixel=(0.25, 0.1, 0.1), axes=("ZYX", "ZYX"), samples=2)
    plane = bright("mitochondria", 64 + 2 * MARGIN, 60, 12)
    save("confocal_plane", plane, {"kind": "confocal"}, margin=MARGIN, pixel=(0.055, 0.055))
    sheet = {"kind": "lightsheet", "numerical_aperture": 0.8, **water}
    plane = bright("membranes", 64 + 2 * MARGIN, 60, 13)
    save("lightsheet_plane", plane, sheet, margin=MARGIN, pixel=(0.15, 0.15))


def far_from_images() -> None:
    """Make what has to be computed to be seen: projections, k-space, a scan."""
    rows, columns = np.mgrid[:64, :64] - 31.5
    slice_ = (bright("cytoplasm", 64, 20, 14) - 2) * (rows**2 + columns**2 < 30**2)
    angles = [6.0 * k for k in range(30)]
    save("sinogram", slice_, {"kind": "radon", "angles": angles, "layout": "angles-detector"})

    signal = bright("nuclei", 64, 1, 15) - 2
    image = np.stack([signal * np.cos(0.01 * columns), signal * np.sin(0.01 * columns)])
    mask = {"kind": "fourier-mask", "acceleration": 3, "centre": 0.1, "object": "complex"}
    noise = {"kind": "gaussian", "sigma": 0.02}
    save("kspace", image, mask, noise, axes=("CYX", "CYX"))

    probe_rows, probe_columns = np.mgrid[-16:16, -16:16]
    distance = probe_rows**2 + probe_columns**2
    probe = 40 * np.exp(-distance / 50 + 0.02j * distance)
    positions = [(6.0 * r + 0.4 * c, 6.0 * c) for r in range(5) for c in range(5)]
    forward = {"kind": "ptychography", "probe": probe, "positions": np.array(positions)}
    y, x = np.mgrid[:64, :56]
    spokes = 0.8 * (np.sin(12 * np.arctan2(y - 29.0, x - 28.0)) > 0)
    truth = np.stack([np.cos(spokes), np.sin(spokes)])
    save("scan", truth, forward, axes=("CYX", "ZYX"), samples=2)


def main() -> None:
    """Make all."""
    motion = {"kind": "motion-blur", "path": "straight", "length": 15.0, "angle": 30.0}
    save("motion", bright("filaments", SIDE + 2 * MARGIN, 100, 1), motion, margin=MARGIN)
    save("coarse_pixels", bright("mitochondria", SIDE, 100, 2), {"kind": "downsample"})
    exposed = {"kind": "nonlinear-blur", "white": 400.0, "gamma": 2.2, "extent": 9.0}
    save("overexposed", bright("nuclei", 64, 350, 3), exposed)
    steps = [
        {"kind": "gaussian-blur", "sigma": 1.0},
        {"kind": "downsample", "factor": 2},
        {"kind": "random-inpaint", "missing": 0.2},
    ]
    save("chain", bright("membranes", SIDE, 100, 4), {"kind": "compose", "steps": steps})
    optics()
    far_from_images()
    notes = TARGET / "SOURCES.md"
    notes.write_text(notes.read_text(encoding="utf-8").split(HEAD)[0].rstrip() + "\n" + SOURCES)


if __name__ == "__main__":
    main()
