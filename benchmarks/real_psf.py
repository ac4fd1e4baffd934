"""Real blurred images and their optics: widefield beside SIM, a bead, a lensless camera; as JSON.

    python benchmarks/real_psf.py --data FOLDER [--cases microtubules factin bead lensless]
        [--samples 4] [--pictures FOLDER] [--out FILE]
    python benchmarks/real_psf.py markdown JSON [--into PAGE.md]

FOLDER/eval/deconv holds the files. No truth is known; printed before and after:

- microtubules, factin (BioSR): Pearson correlation with the SIM image after a fit of gain and
  offset (to which it is blind), and the resolution at which the Fourier ring correlation with it
  falls below 1/7; of Richardson-Lucy, stopped by the noise, beside ours. The PSF follows from NA
  1.3, 525 nm and 62.6 nm pixels, which the files do not say (the spectrum ends at 4.96 per
  micrometre or beyond, so that the NA is at least 1.26).
- bead (EPFL): full widths at half maximum of a bead of 2.5 micrometres along the lines through its
  centre of light, lateral and axial, in voxels (its pitch is not in the file).
- lensless (DiffuserCam): total variation of the restored hand over its mean, and what the restored
  image explains of the capture. No noise level is known: it is read from the highest frequencies.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tifffile
from _common import Array, Watcher, machine, publish, say
from _pages import markdown_command
from _panels import panels
from cyclopts import App, Parameter

import napari_dps

app = App(help="Real blurred images, as JSON.")
PITCH = 0.0626
CROP = slice(160, 304)
EDGE = 8


def ring_correlation(first: Array, second: Array) -> Array:
    """Return the Fourier ring correlation per ring of one cycle per field."""
    window = np.outer(*(np.hanning(n) for n in first.shape))
    a, b = (np.fft.fft2((v - v.mean()) * window) for v in (first, second))
    k = [np.fft.fftfreq(n) * n for n in first.shape]
    ring = np.hypot(k[0][:, None], k[1][None]).round().astype(int)
    cross, one, two = (
        np.bincount(ring.ravel(), (v).real.ravel())
        for v in (a * b.conj(), np.abs(a) ** 2, np.abs(b) ** 2)
    )
    return np.asarray((cross / np.sqrt(one * two))[: min(first.shape) // 2])


def resolution(first: Array, second: Array, pitch: float) -> float | None:
    """Return the length in nm at which the smoothed ring correlation falls below 1/7."""
    curve = np.convolve(ring_correlation(first, second), np.ones(3) / 3, "same")
    below = np.flatnonzero(curve[3:] < 1 / 7)
    return float(1000 * pitch * len(first) / (below[0] + 3)) if below.size else None


def beside_sim(folder: Path, name: str, samples: int) -> tuple[dict[str, Any], dict[str, Array]]:
    """Restore a crop of a BioSR widefield image, and compare with SIM."""
    wide, sim = (
        tifffile.imread(folder / f"biosr_{name}_1_{kind}.tif")[CROP, CROP].astype(np.float64)
        for kind in ("widefield", "sim")
    )
    forward = {
        "kind": "widefield",
        "numerical_aperture": 1.3,
        "wavelength": 525,
        "immersion_index": 1.518,
        "sample_index": 1.4,
        "cover_index": 1.5255,
    }
    recipe = {
        "forward": forward,
        "noise": {"kind": "gaussian", "sigma": noise_beyond(wide, PITCH, 2 * 1.3 / 0.525)},
    }
    result = napari_dps.reconstruct(
        wide, recipe, samples=samples, pixel_size=PITCH, on_step=Watcher(name)
    )
    classical = napari_dps.reconstruct(
        wide, recipe, sampler="richardson-lucy", samples=1, pixel_size=PITCH
    )
    inner = (slice(EDGE, -EDGE), slice(EDGE, -EDGE))
    report: dict[str, Any] = {"sigma": result.recipe.noise.sigma}
    images = {
        "widefield": wide,
        "richardson_lucy": classical.mean.astype(np.float64),
        "restored": result.mean.astype(np.float64),
    }
    for label, image in images.items():
        report[label] = {
            "pearson": float(np.corrcoef(image[inner].ravel(), sim[inner].ravel())[0, 1]),
            "frc_nm": resolution(image[inner], sim[inner], PITCH),
        }
    report["chi2"] = result.report["misfit"]
    return report, {"measured": wide, "restored": result.mean, "std": result.std, "SIM": sim}


def noise_beyond(image: Array, pitch: float, cutoff: float) -> float:
    """Return the noise of a pixel from the spectrum where no light can be: beyond the cutoff.

    Dense structure looks like noise to an estimate that does not know the optics.
    """
    window = np.outer(*(np.hanning(n) for n in image.shape))
    spectrum = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    k = [np.fft.fftfreq(n, pitch) for n in image.shape]
    outside = np.hypot(k[0][:, None], k[1][None]) > 1.1 * cutoff
    return float(np.sqrt(spectrum[outside].mean() / (window**2).sum()))


def width(line: Array) -> float:
    """Return the full width at half of the maximum above the line's ends, in pixels."""
    low = min(line[0], line[-1])
    half = low + (line.max() - low) / 2
    above = np.flatnonzero(line >= half)
    a, b = int(above[0]), int(above[-1])
    left = (line[a] - half) / (line[a] - line[a - 1]) if a else 0.0
    right = (line[b] - half) / (line[b] - line[b + 1]) if b + 1 < len(line) else 0.0
    return float(b - a + left + right)


def bead(folder: Path, samples: int) -> tuple[dict[str, Any], dict[str, Array]]:
    """Restore the EPFL bead with its PSF, as a volume.

    The bead lies alone in the dark, so that the object need not go on beyond the field: with the
    PSF's borders it has 14 times as many voxels, all of which pass the network, and the network
    is where the time goes (an operator's product takes a hundredth of a call).

    The dark corners scatter by 1.8 of 3700 at the peak, which no PSF is exact enough for: as noise
    counts 3 per cent of the peak, the size of the PSF's own error (with 1 per cent no object above
    the dark level explains the data). The camera's dark level is that of the darkest voxels.
    """
    volume = tifffile.imread(folder / "epfl_bead_zyx.tif").astype(np.float64)[8:-8, 8:-8, 8:-8]
    dark = float(np.quantile(volume, 0.001))
    result = napari_dps.reconstruct(
        volume,
        forward={
            "kind": "psf",
            "psf": folder / "epfl_bead_psf_zyx.tif",
            "crop": 0.95,
            "boundary": "periodic",
            "background": dark,
        },
        noise={"kind": "gaussian", "sigma": 0.03 * float(volume.max())},
        samples=samples,
        axes="ZYX",
        on_step=Watcher("bead"),
    )
    report: dict[str, Any] = {"chi2": result.report["misfit"], "background": dark}
    light = np.where(volume > volume.max() / 2, volume, 0)
    at = [round(float(np.average(k, weights=light))) for k in np.indices(volume.shape)]
    for label, image in (("widefield", volume), ("restored", result.mean.astype(np.float64))):
        report[label] = {
            f"fwhm_{letter}": width(np.asarray(image[tuple(lines)]))
            for axis, letter in enumerate("zyx")
            for lines in [[slice(None) if a == axis else at[a] for a in range(3)]]
        }
    pictures = {"measured": volume, "restored": result.mean, "std": result.std}
    return report, {key: value[:, at[1]] for key, value in pictures.items()}


def lensless(folder: Path, samples: int) -> tuple[dict[str, Any], dict[str, Array]]:
    """Restore the DiffuserCam capture, binned to 150 x 200, with its measured PSF."""

    def halved(image: Array) -> Array:
        return np.asarray(image.reshape(150, 2, 200, 2).mean((1, 3)))

    capture, psf = (
        halved(tifffile.imread(folder / f"diffusercam_{name}_sample_ds4.tif").astype(np.float64))
        for name in ("rawdata_hand", "psf")
    )
    dark = float(np.quantile(psf, 0.05))
    result = napari_dps.reconstruct(
        capture - capture.min(),
        forward={
            "kind": "psf",
            "psf": np.clip(psf - dark, 0, None),
            "psf_background": "none",
            "centre": "none",
            "crop": 1.0,
        },
        noise={"kind": "gaussian", "sigma": noise_beyond(capture, 1.0, 0.5)},
        samples=samples,
        on_step=Watcher("lensless"),
    )
    image = result.mean.astype(np.float64)
    steps = np.abs(np.diff(image, axis=0)).sum() + np.abs(np.diff(image, axis=1)).sum()
    report = {
        "chi2": result.report["misfit"],
        "sigma": result.recipe.noise.sigma,
        "total_variation_over_sum": float(steps / image.sum()),
        "spread_over_contrast": float(result.std.mean() / np.ptp(image)),
    }
    return report, {"measured": capture, "restored": result.mean, "std": result.std}


@app.default
def main(
    *,
    data: Path,
    cases: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    samples: int = 4,
    pictures: Path | None = None,
    out: Path | None = None,
) -> None:
    """Restore and print."""
    folder = data / "eval" / "deconv"
    found: dict[str, Any] = {}
    for case in cases or ["microtubules", "factin", "bead", "lensless"]:
        begin = time.perf_counter()
        if case in ("microtubules", "factin"):
            report, shown = beside_sim(folder, case, samples)
        else:
            report, shown = {"bead": bead, "lensless": lensless}[case](folder, samples)
        found[case] = {**report, "samples": samples, "seconds": time.perf_counter() - begin}
        say(f"{case}: {found[case]}")
        if pictures is not None:
            panels(shown, pictures / f"real-{case}.png")
    publish({"what": "real blurred images", "machine": machine(), "cases": found}, out)


def table(report: dict[str, Any]) -> str:
    """Return the figures of a report as Markdown."""
    cases = report["cases"]
    lines = [
        "| data | figure | measured | Richardson-Lucy | ours | misfit | seconds |",
        "|---" * 7 + "|",
    ]

    def row(case: str, what: str, cells: list[str]) -> None:
        found = cases[case]
        last = [f"{found['chi2']:.2f}", f"{found['seconds']:.0f}"]
        lines.append(f"| {' | '.join([case, what, *cells, *last])} |")

    images = ("widefield", "richardson_lucy", "restored")
    for case in ("microtubules", "factin"):
        if case in cases:
            found = [cases[case][image] for image in images]
            row(case, "correlation with SIM", [f"{one['pearson']:.3f}" for one in found])
            row(case, "resolution, nm", [f"{one['frc_nm']:.0f}" for one in found])
    if "bead" in cases:
        wide, ours = (
            " x ".join(f"{cases['bead'][image][f'fwhm_{axis}']:.1f}" for axis in "zyx")
            for image in ("widefield", "restored")
        )
        row("bead", "widths z, y, x, voxels", [wide, "", ours])
    if "lensless" in cases:
        spread = cases["lensless"]["spread_over_contrast"]
        row("lensless", "mean std over contrast", ["", "", f"{spread:.3f}"])
    return "\n".join(lines)


markdown_command(app, table, "real-psf")


if __name__ == "__main__":
    app()
