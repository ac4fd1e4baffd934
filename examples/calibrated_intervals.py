"""Fit intervals that cover, on simulated images of your own optics, and restore with them.

python examples/calibrated_intervals.py [IMAGE.tif RECIPE.json PHOTONS [CLEAN ...]]
"""

import sys
from importlib.resources import files
from pathlib import Path

import napari_dps

SAMPLES = files("napari_dps") / "sample_data"
KEPT = Path("calibration.json")


def main() -> None:
    """Calibrate the recipe once (minutes to hours), then restore the image."""
    if 1 < len(sys.argv) < 4:
        sys.exit(__doc__)
    given = sys.argv[1:4] or (SAMPLES / "nuclei_blur.tif", SAMPLES / "nuclei_blur.json", "30")
    image, recipe, photons = given
    if KEPT.exists():
        calibration = napari_dps.Calibration.load(KEPT)
    else:
        calibration = napari_dps.calibrate(
            recipe,
            sys.argv[4:] or None,  # clean images like yours, else phantoms and the prior itself
            photons=float(photons),
            on_step=lambda step: print(f"{step.done} of {step.total} crops", end="\r"),
            keep="calibration.crops.jsonl",  # Ctrl-C loses nothing
        )
        calibration.save(KEPT)
    for level, factor in calibration.lambdas.items():
        print(
            f"{float(level):.0%}: as drawn {calibration.nominal_coverage[level]}, mean +- "
            f"{factor:.2f} std {calibration.calibrated_coverage[level]}"
        )
    result = napari_dps.reconstruct(image, recipe).calibrated(calibration)
    low, high = result.interval(0.9)
    print(f"{result.report['calibration']}: 90 % within {(high - low).mean():.2f} on average")
    print(f"written: {result.save('restored.ome.tif')}")


if __name__ == "__main__":
    main()
