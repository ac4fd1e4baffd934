"""Restore a complex object, and refine the probe, from overlapping diffraction patterns.

python examples/ptychography.py
"""

import numpy as np

import napari_dps


def main() -> None:
    """Simulate a scan of 5x5 positions with a probe of 32x32 pixels, and restore the object."""
    rows, columns = np.mgrid[-16:16, -16:16]
    distance = rows**2 + columns**2
    probe = 40 * np.exp(-distance / 50 + 0.02j * distance)
    positions = [(6.0 * r + 0.4 * c, 6.0 * c) for r in range(5) for c in range(5)]
    forward = {"kind": "ptychography", "probe": probe, "positions": positions}

    y, x = np.mgrid[:64, :56]
    angle = np.arctan2(y - 29.0, x - 28.0)
    spokes = np.exp(0.8j * (np.sin(12 * angle) > 0))
    patterns = napari_dps.simulate(spokes, forward=forward, noise="poisson")

    # What is known of the probe is rarely exact: here its curvature is off by a fifth.
    guess = 40 * np.exp(-distance / 50 + 0.016j * distance)
    result = napari_dps.reconstruct(
        patterns,
        forward={**forward, "probe": guess, "refine_probe": True},
        noise="poisson",
        samples=2,
    )
    print(f"chi-square per datum: {result.report['misfit']:.2f}")
    print(f"written: {result.save('object.ome.tif')} (real and imaginary part)")


if __name__ == "__main__":
    main()
