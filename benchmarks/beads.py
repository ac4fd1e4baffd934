"""How well a PSF is measured from beads: simulated ones behind a known PSF, and a real stack.

Simulated: eight beads at random sub-pixel places behind a widefield objective of NA 1.4 (computed,
`widefield`), 2D and 3D, as points and as spheres, bright and dim, with shot noise. Real: a stack of
beads, of which the widths are printed and the sections drawn.

Run ``python benchmarks/beads.py [--stack FILE --pixel-size 0.125,0.022,0.022] [--out FILE]
[--picture FILE]``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from napari_dps._beadwidth import sphere_spectrum, widths
from napari_dps.beads import measure_psf
from napari_dps.forward.widefield import Widefield
from napari_dps.grid import Grid

SCENES: list[tuple[tuple[int, ...], tuple[float, ...]]] = [
    ((256, 256), (0.065, 0.065)),
    ((48, 160, 160), (0.2, 0.065, 0.065)),
]
CASES = [(2000, None), (200, None), (2000, 0.1), (2000, 0.2)]  # photons at the peak, micrometres
BEADS, APART, EDGE, DARK = 8, 36, 25, 10


def places(rng: np.random.Generator, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Return positions that keep their distance."""
    found: list[np.ndarray] = []
    while len(found) < BEADS:
        spot = np.array([rng.uniform(EDGE, n - EDGE) for n in shape[-2:]])
        if all(np.hypot(*(spot - other)) > APART for other in found):
            found.append(spot)
    if len(shape) == 3:
        return [np.array([shape[0] / 2 + rng.uniform(-1, 1), *spot]) for spot in found]
    return found


def along(values: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    """Return values laid along one of ``ndim`` axes."""
    return values.reshape([-1 if a == axis else 1 for a in range(ndim)])


def image_of(
    psf: np.ndarray,
    shape: tuple[int, ...],
    steps: tuple[float, ...],
    peak: float,
    diameter: float | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return counts of beads behind a PSF, placed exactly, by phases of its spectrum."""
    short = [min(n, k) for n, k in zip(shape, psf.shape, strict=True)]
    part = tuple(
        slice(k // 2 - m // 2, k // 2 - m // 2 + m) for k, m in zip(psf.shape, short, strict=True)
    )
    kernel = np.zeros(shape)
    kernel[tuple(slice(0, m) for m in short)] = psf[part]
    kernel = np.roll(kernel, [-(m // 2) for m in short], range(len(shape)))
    spectrum = np.fft.fftn(kernel)
    if diameter is not None:
        spectrum = spectrum * sphere_spectrum(shape, steps, diameter)
    phases: Any = 0
    for spot in places(rng, shape):
        turn: Any = 1
        for axis, (n, c) in enumerate(zip(shape, spot, strict=True)):
            wave = np.exp(-2j * np.pi * np.fft.fftfreq(n) * c)
            turn = turn * along(wave, axis, len(shape))
        phases = phases + turn
    light = np.fft.ifftn(spectrum * phases).real.clip(0)
    return rng.poisson(light / light.max() * peak + DARK).astype(np.uint16)


def simulated() -> list[dict[str, Any]]:
    """Return one row per case: widths over the true ones, correlation with the true PSF."""
    rows = []
    for shape, steps in SCENES:
        psf = Widefield().psf(Grid(shape, steps))
        true = widths(psf) * np.array(steps)
        rng = np.random.default_rng(0)
        for peak, diameter in CASES:
            image = image_of(psf, shape, steps, peak, diameter, rng)
            found = measure_psf(image, pixel_size=steps, bead_diameter=diameter)
            half = [min(a // 2, b // 2) for a, b in zip(psf.shape, found.psf.shape, strict=True)]
            pair = [
                values[
                    tuple(
                        slice(n // 2 - h, n // 2 + h + 1)
                        for n, h in zip(values.shape, half, strict=True)
                    )
                ]
                for values in (psf, found.psf)
            ]
            ratios = np.array(list(found.fwhm.values())) / true
            rows.append(
                {
                    "dimensions": len(shape),
                    "peak": peak,
                    "bead_diameter": diameter,
                    "used": found.used,
                    "fwhm": found.fwhm,
                    "fwhm_over_true": {
                        a: float(r) for a, r in zip(found.axes, ratios, strict=True)
                    },
                    "correlation": float(np.corrcoef(pair[0].ravel(), pair[1].ravel())[0, 1]),
                    "signal_to_noise": found.signal_to_noise,
                }
            )
            print(rows[-1])
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", type=Path)
    parser.add_argument("--pixel-size", default="0.125,0.022,0.022")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/beads.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/psf-beads.png"))
    given = parser.parse_args()
    found: dict[str, Any] = {"simulated": simulated()}
    if given.stack is not None:
        steps = tuple(float(part) for part in given.pixel_size.split(","))
        real = measure_psf(given.stack, pixel_size=steps)
        found["stack"] = {"file": given.stack.name, **real.report()}
        print(found["stack"])
        real.plot(given.picture)
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
