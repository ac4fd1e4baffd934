"""Measure a camera from dark frames and flats; draw its photon-transfer curve.

python examples/camera_calibration.py [DARK.tif FLAT.tif [FLAT2.tif ...]]

Without files the frames of a simulated camera are measured. Writes camera.json, which `--recipe`
and `reconstruct` take, the maps of its pixels, and photon-transfer.png.
"""

import sys

import numpy as np

import napari_dps

LEVELS = (20, 60, 200, 600, 2000, 6000)  # electrons


def simulated_frames() -> tuple[np.ndarray, list[np.ndarray]]:
    """Return dark frames and flats of a camera of which every pixel is a little different."""
    rng = np.random.default_rng(0)
    shape = (128, 128)
    gain = 2.0 * (1 + 0.02 * rng.standard_normal(shape))
    offset = 100 + 3 * rng.standard_normal(shape)
    read = 1.6 * np.exp(0.25 * rng.standard_normal(shape))
    rows, columns = np.mgrid[-1:1:128j, -1:1:128j]
    light = 1 - 0.25 * (rows**2 + columns**2)  # a lamp that is brighter in the middle

    def frames(electrons: np.ndarray) -> np.ndarray:
        stack = np.broadcast_to(electrons, (24, *shape))
        adu = gain * (rng.poisson(stack) + read * rng.standard_normal(stack.shape)) + offset
        return np.clip(np.round(adu), 0, 65535).astype(np.uint16)

    return frames(0 * light), [frames(level * light) for level in LEVELS]


def main() -> None:
    """Measure the files named on the command line, or a simulated camera."""
    if len(sys.argv) == 2:
        sys.exit(__doc__)
    dark, flats = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 2 else simulated_frames()
    camera = napari_dps.measure_camera(dark, flats)
    print(f"gain {camera.gain:.4g} ± {camera.gain_error:.2g} ADU per electron")
    print(f"offset {camera.offset:.4g} ± {camera.offset_error:.2g} ADU")
    print(f"read noise {camera.read_noise:.3g} ± {camera.read_noise_error:.2g} electrons")
    for warning in camera.warnings:
        print(f"warning: {warning}")
    written = camera.save("camera.json", maps="camera-maps")
    print("written:", *written, camera.plot("photon-transfer.png"))


if __name__ == "__main__":
    main()
