"""Restore a complex image from a third of its k-space; complex arrays are taken as they are.

python examples/kspace.py
"""

import numpy as np

import napari_dps


def phantom(side: int = 64) -> np.ndarray:
    """Return ellipses of different signal, with a slowly varying phase."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side * 2 - 1
    signal = 0.6 * (x**2 / 0.6 + y**2 / 0.8 < 1) + 0.4 * ((x - 0.2) ** 2 + y**2 < 0.1)
    signal -= 0.5 * ((x + 0.35) ** 2 / 0.02 + y**2 / 0.1 < 1)
    return np.asarray(signal * np.exp(1j * (0.4 * x + 0.3 * y)))


def main() -> None:
    """Simulate k-space of one coil, every third line of it, and restore the image."""
    forward = {"kind": "fourier-mask", "acceleration": 3, "centre": 0.1, "object": "complex"}
    noise = {"kind": "gaussian", "sigma": 0.02}
    parts = napari_dps.simulate(phantom(), forward=forward, noise=noise)
    kspace = parts[0] + 1j * parts[1]  # files hold the two parts as an axis of length 2
    result = napari_dps.reconstruct(kspace, forward=forward, noise=noise, samples=4)
    print(f"chi-square per datum: {result.report['misfit']:.2f}")
    print(f"written: {result.save('image.ome.tif')} (real and imaginary part)")


if __name__ == "__main__":
    main()
