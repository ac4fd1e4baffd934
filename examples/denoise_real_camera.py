"""Denoise an image of a camera of which nothing is known: gain, offset, read noise from the image.

python examples/denoise_real_camera.py IMAGE.tif
"""

import sys

import napari_dps


def main() -> None:
    """Denoise the image named on the command line."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    result = napari_dps.reconstruct(sys.argv[1], noise="poisson-gaussian", samples=20)
    noise = result.recipe.noise
    print(
        f"gain {noise.gain:.3g} ADU per electron, offset {noise.offset:.4g} ADU, "
        f"read noise {noise.read_noise:.3g} electrons"
    )
    for warning in result.report["warnings"]:
        print(f"warning: {warning}")
    print(f"written: {result.save('denoised.ome.tif')}")


if __name__ == "__main__":
    main()
