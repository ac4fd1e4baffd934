"""Numbers with error bars from a result: intensities, objects, a width, and pictures of certainty.

python examples/measure_result.py [RESULT.ome.tif]
"""

import sys
from importlib.resources import files

import numpy as np
from skimage.measure import label

import napari_dps
from napari_dps.uncertainty.looks import bivariate
from napari_dps.uncertainty.probability import probability_above
from napari_dps.uncertainty.profiles import FWHM, LineProfile
from napari_dps.uncertainty.regions import Objects, RegionSum

SAMPLES = files("napari_dps") / "sample_data"


def main() -> None:
    """Measure a result that was saved, or the sample's after restoring it (a minute)."""
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    if len(sys.argv) == 2:
        result = napari_dps.Result.load(sys.argv[1])
    else:
        result = napari_dps.reconstruct(
            SAMPLES / "nuclei_blur.tif", SAMPLES / "nuclei_blur.json", samples=20
        )
    threshold = float(np.percentile(result.mean, 90))
    chance = probability_above(result, threshold)
    # Regions must be fixed before they are measured: here what is above with at least 90 %.
    regions = label(chance >= 0.9)
    if regions.max() > 0:
        background = float(np.percentile(result.mean, 5))
        sums = napari_dps.measure(result, RegionSum(regions, "counts", background=background))
        print(f"light of {regions.max()} regions above {background:.1f} counts a pixel:")
        for name, value, low, high in zip(
            sums.names[:5], sums.value, sums.low, sums.high, strict=False
        ):
            print(f"  {name}: {value:.0f} counts, 90 % within {low:.0f} to {high:.0f}")

    objects = napari_dps.measure(result, Objects(threshold=threshold, smallest=8)).select("count")
    print(f"objects: 90 % within {objects.low[0]:.0f} to {objects.high[0]:.0f} ({objects.note})")

    top = np.unravel_index(int(result.mean.argmax()), result.mean.shape)
    ends = [(float(top[0]), float(np.clip(top[1] + d, 0, result.shape[1] - 1))) for d in (-15, 15)]
    pixel = result.scale[-1] if result.units[-1] == "micrometer" else 1.0
    unit = "um" if result.units[-1] == "micrometer" else "px"
    line = LineProfile(*ends, width=3, pixel_size=pixel, position_unit=unit)
    width = napari_dps.measure(result, FWHM(line))
    print(
        f"FWHM through the brightest pixel: {width.value[0]:.3g} {unit}, "
        f"90 % within {width.low[0]:.3g} to {width.high[0]:.3g} "
        f"(found in {width.found[0]:.0%} of the samples)"
    )
    napari_dps.measure(result, line).plot().figure.savefig("profile.png")

    look = bivariate(result, unit="counts")
    axes = look.legend()
    axes.figure.savefig("legend.png")
    print(f"written: profile.png, legend.png ({look.what}, gray at {look.certainty_limits[1]:.3g})")


if __name__ == "__main__":
    main()
