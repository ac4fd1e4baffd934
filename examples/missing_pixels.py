"""Fill pixels that were never measured: NaN, a mask, or both; and see how sure the filling is.

python examples/missing_pixels.py
"""

from importlib.resources import files

import numpy as np

import napari_dps
from napari_dps.io import read_image

SAMPLES = files("napari_dps") / "sample_data"


def main() -> None:
    """Restore the sample `cells_mask`, its missing pixels marked by NaN."""
    counts = read_image(str(SAMPLES / "cells_mask.tif")).data.astype(np.float32)
    mask = read_image(str(SAMPLES / "cells_mask_mask.tif")).data > 0
    counts[~mask] = np.nan
    result = napari_dps.reconstruct(
        counts,
        forward="inpaint",  # without a mask: NaN pixels are missing
        noise={"kind": "poisson-gaussian", "gain": 2.2, "offset": 100.0, "read_noise": 1.6},
        samples=8,
    )
    print(
        f"standard deviation: {result.std[mask].mean():.2f} ADU where measured, "
        f"{result.std[~mask].mean():.2f} ADU where missing"
    )
    print(f"written: {result.save('filled.ome.tif')}")


if __name__ == "__main__":
    main()
