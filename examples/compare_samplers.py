"""One measurement, several samplers: how near the truth, how sure, how many network passes.

python examples/compare_samplers.py [KIND ...]
"""

import sys
from importlib.resources import files

import napari_dps
from napari_dps.evaluate import compare
from napari_dps.io import read_image

SAMPLES = files("napari_dps") / "sample_data"
FORWARD = {"kind": "gaussian-blur", "sigma": 2.0}
NOISE = "poisson"
# Fewer steps than by default, for a look; the page docs/samplers.md has figures that count.
CHOICES = {
    "mmps": {"kind": "mmps", "steps": 12},
    "daps": {"kind": "daps", "steps": 25},
    "pigdm": {"kind": "pigdm", "steps": 25},
}


def main(kinds: list[str]) -> None:
    """Measure a part of the sample `nuclei_blur` anew, and restore it by each sampler."""
    truth = read_image(str(SAMPLES / "nuclei_blur_truth.tif")).data[:64, :64]
    measured = napari_dps.simulate(truth, forward=FORWARD, noise=NOISE)
    print("sampler    PSNR (dB)   CRPS   spread/error   passes   seconds")
    for kind in kinds or list(CHOICES):
        sampler = CHOICES.get(kind, {"kind": kind})
        result = napari_dps.reconstruct(
            measured, forward=FORWARD, noise=NOISE, sampler=sampler, samples=4
        )
        # A point estimate comes alone: it has no spread, and so no CRPS.
        found = compare(result.mean, truth, result.samples, pairs=result.pairs)
        spread, crps = (
            "-" if found[name] is None else f"{found[name]:.2f}"
            for name in ("spread_skill", "crps")
        )
        passes = sum(result.report["network_calls"].values())
        print(
            f"{kind:10} {found['psnr']:9.1f} {crps:>6} {spread:>14} {passes:8} "
            f"{result.report['seconds']:9.1f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
