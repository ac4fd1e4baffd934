"""A diffraction pattern by classical phase retrieval, and with the prior that they lack.

python examples/phase_baselines.py [KIND ...]
"""

import sys
from importlib.resources import files

import numpy as np

import napari_dps
from napari_dps.components import registry
from napari_dps.demo import fit_one_gain
from napari_dps.evaluate import psnr
from napari_dps.io import read_image
from napari_dps.uncertainty.registration import register

SAMPLES = files("napari_dps") / "sample_data"
FORWARD = {"kind": "phase-retrieval", "oversampling": 2.0, "measured": "intensity"}
KINDS = ("er", "hio", "oss", "raar", "auto")


def main(kinds: list[str]) -> None:
    """Restore the sample `diffraction`, and compare with what was measured, which is known here."""
    truth = np.asarray(read_image(str(SAMPLES / "diffraction_truth.tif")).data, np.float64)
    for kind in kinds or [kind for kind in KINDS if kind in registry("sampler")]:
        result = napari_dps.reconstruct(
            str(SAMPLES / "diffraction.tif"),
            forward=FORWARD,
            noise="poisson",
            sampler=kind,
            samples=4,
        )
        # Flipped and shifted objects have the same pattern: move this one onto the truth.
        found = register(np.asarray(result.mean, np.float64), truth)
        quality = psnr(fit_one_gain(found, truth) * found, truth)
        what = "one image" if result.point_estimate else f"mean of {len(result)} samples"
        print(f"{kind:5} {quality:5.1f} dB, misfit {result.report['misfit']:.2f} ({what})")


if __name__ == "__main__":
    main(sys.argv[1:])
