"""Does a restoration claim structure where there is none? Blank fields and single spots, as JSON.

    python benchmarks/blank.py [--fields N] [--side PIXELS] [--samples N] [--prior KIND_OR_FOLDER]
        [--sampler KIND] [--scale PHOTONS] [--out FILE]

A blank field is a background of 1 photon a pixel and nothing else. A field with a spot holds beside
it a Gaussian object of standard deviation 1.5 px at a seeded place, 5 photons high above the
background; both are blurred by a Gaussian PSF of sigma 2 px, and the detector counts photons
(Poisson), as in benchmarks/restore.py. (A 99.8th percentile says nothing about such fields, so the
peak is the maximum.) Restored with the default sampler.

A pixel claims structure where the lower bound of its 99 % interval lies above the true background.
From 199 samples on the bound is that of ``Result.interval(0.99)``; fewer samples have no such order
statistic, and it is then mean - 2.576 std, that of a normal distribution; the error of std at few
samples makes claims likelier, not rarer. The footprint of a spot is left out: pixels where the
expected light of the spot is above 1 % of its maximum. Gate: the mean share of claiming pixels over
all fields is at most 1 %.

A flat restoration whose level is off by a hundredth of a photon claims everywhere, though it shows
no structure. So two more shares are given: ``above_own_level``, bounds above the median of the
restored mean outside of the footprint, and ``visible``, bounds above the background by more than
half a photon. ``spot_found``: the bound rises above the background by more than half a photon
somewhere within a spot; ``spot_light``: the share of its light that the mean holds. ``--scale``
gives the contrast of the object map, over a background of 1, in place of ``"intensity": "auto"``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _common import Array, Watcher, machine, publish, say
from cyclopts import App
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

import napari_dps
from napari_dps.result import Result, samples_needed

BACKGROUND, PEAK, SPOT, SIGMA, LEVEL, GATE = 1.0, 5.0, 1.5, 2.0, 0.99, 0.01
VISIBLE = 0.1 * PEAK
FORWARD = {"kind": "gaussian-blur", "sigma": SIGMA}
app = App(help="Structure claimed where there is none, as JSON.")


def field(side: int, spot: bool, seed: int) -> tuple[Array, Array]:
    """Return (object, footprint) of a blank field or one with a spot; the footprint is a mask."""
    image = np.full((side, side), BACKGROUND)
    if not spot:
        return image, np.zeros((side, side), bool)
    centre = np.random.default_rng(seed).uniform(side / 4, 3 * side / 4, 2)
    yy, xx = np.mgrid[:side, :side]
    light = np.exp(-((yy - centre[0]) ** 2 + (xx - centre[1]) ** 2) / (2 * SPOT**2))
    seen = gaussian_filter(light, SIGMA)
    return image + PEAK * light, seen > 0.01 * seen.max()


def lower_bound(result: Result) -> Array:
    """Return the lower bound of the 99 % interval of each pixel."""
    count = len(result)
    if count >= samples_needed(LEVEL):
        return np.asarray(result.interval(LEVEL)[0], float)
    if count < 4:
        raise SystemExit(f"{count} samples tell too little of the spread: ask for 4 or more")
    return np.asarray(result.mean - norm.ppf(0.5 + LEVEL / 2) * result.std, float)


def claimed(lower: Array, footprint: Array, above: float = BACKGROUND) -> float:
    """Return the share of the pixels outside of the footprint whose lower bound is above."""
    return float((lower[~footprint] > above).mean())


@app.default
def main(
    *,
    fields: int = 4,
    side: int = 64,
    samples: int = 16,
    prior: str = "fluorescence",
    sampler: str = "auto",
    scale: float | None = None,
    out: Path | None = None,
) -> None:
    """Run the benchmark.

    Parameters
    ----------
    fields
        Blank fields, and as many with a spot.
    side
        Their side in pixels.
    samples
        Posterior samples a field.
    prior
        A kind, or the folder of a checkpoint.
    sampler
        Sampler.
    scale
        Contrast of the object map in photons, where it is not to be found from the data.
    out
        File for the JSON.
    """
    source: Any = {"kind": "checkpoint", "path": prior} if Path(prior).is_dir() else prior
    intensity: Any = "auto" if scale is None else {"scale": scale, "background": BACKGROUND}
    recipe = {
        "forward": FORWARD,
        "noise": "poisson",
        "prior": source,
        "sampler": sampler,
        "samples": samples,
        "intensity": intensity,
    }
    rows: list[dict[str, Any]] = []
    for number in range(2 * fields):
        spot = number % 2 == 1
        truth, footprint = field(side, spot, number)
        counts = napari_dps.simulate(truth, seed=number, forward=FORWARD, noise="poisson")
        result = napari_dps.reconstruct(
            counts.astype(np.float64), recipe, on_step=Watcher(f"field {number}")
        )
        lower = lower_bound(result)
        row = {
            "kind": "spot" if spot else "blank",
            "seed": number,
            "claims": claimed(lower, footprint),
            "above_own_level": claimed(lower, footprint, float(np.median(result.mean[~footprint]))),
            "visible": claimed(lower, footprint, BACKGROUND + VISIBLE),
            "mean_outside": float(result.mean[~footprint].mean()),
            "highest_mean_outside": float(result.mean[~footprint].max()),
            "std_outside": float(result.std[~footprint].mean()),
            "scale": result.report["scale"][0],
            "background": result.report["background"][0],
            "seconds": result.report["seconds"],
        }
        if spot:
            row["spot_found"] = bool((lower[footprint] > BACKGROUND + VISIBLE).any())
            light = (truth - BACKGROUND)[footprint].sum()
            row["spot_light"] = float((result.mean - BACKGROUND)[footprint].sum() / light)
            row["highest_mean_in_spot"] = float(result.mean[footprint].max())
        rows.append(row)
        say(f"field {number}, {row['kind']}: {100 * row['claims']:.2f} % of pixels")
    shares = {
        kind: {
            name: float(np.mean([row[name] for row in rows if row["kind"] in kinds]))
            for name in ("claims", "above_own_level", "visible")
        }
        for kind, kinds in (("blank", ["blank"]), ("spot", ["spot"]), ("all", ["blank", "spot"]))
    }
    publish(
        {
            "what": __doc__,
            "samples": samples,
            "interval": "order statistics" if samples >= samples_needed(LEVEL) else "normal",
            "side": side,
            "prior": prior,
            "sampler": sampler,
            "intensity": intensity,
            "shares": shares,
            "spots_found": sum(row.get("spot_found", False) for row in rows),
            "gate": GATE,
            "passed": shares["all"]["claims"] <= GATE,
            "rows": rows,
            "machine": machine(),
        },
        out,
    )


if __name__ == "__main__":
    app()
