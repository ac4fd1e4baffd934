"""How many products with the network's Jacobian a step of moment matching needs, as JSON.

    python benchmarks/products.py --data FOLDER [--images 2] [--peak 300] [--side 64]
        [--guess 20] [--out FILE]

Deblurring (Gaussian PSF of sigma 2 px, Poisson noise, the 99.8th percentile at ``peak`` photons
over a background of 1) of crops of FOLDER/eval/clean. At every noise level of a run the linear
system of the step is solved with 1, 2, 3, 4, 8 and 12 products, led by the prior's power spectrum
(``led``) and not (``alone``), and compared with 40 led products: root-mean-square error of the step
over its own root mean square; 1 and more is no better than no step. Levels where the Jacobian is
not asked are not in the table.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import restore
from _common import clean_images, machine, publish, read, say
from cyclopts import App
from torch import Tensor

import napari_dps
from napari_dps.core import moments
from napari_dps.core.problem import Problem
from napari_dps.core.sampler import GuidedSampler, Sampler
from napari_dps.grid import Grid
from napari_dps.samplers import mmps

COUNTS, REFERENCE = (1, 2, 3, 4, 8, 12), 40
Guess = Callable[[Tensor], Tensor] | None
app = App(help="Products with the Jacobian that a step of moment matching needs, as JSON.")


class Watch:
    """Solves each step in every way, keeps the errors and hands out the reference."""

    def __init__(self) -> None:
        self.sigma = 0.0
        self.rows: list[dict[str, Any]] = []
        self._solve = moments.solve_moments

    def __call__(
        self,
        product: Callable[[Tensor], tuple[Tensor, Tensor]],
        rhs: Tensor,
        *,
        iterations: int,
        tolerance: float,
        guess: Guess = None,
    ) -> moments.MomentSolution:
        """Stand in for :func:`napari_dps.core.moments.solve_moments`."""

        def image(count: int, lead: Guess) -> Tensor:
            solved = self._solve(product, rhs, iterations=count, tolerance=0, guess=lead)
            return solved.image

        reference = image(REFERENCE, guess)
        row: dict[str, Any] = {"sigma": self.sigma}
        for name, lead in (("led", guess), ("alone", None)):
            row[name] = {
                str(count): float((image(count, lead) - reference).norm() / reference.norm())
                for count in COUNTS
            }
        self.rows.append(row)
        say(f"  noise level {self.sigma:.3g}: {row['led']['3']:.2f}, {row['alone']['12']:.2f}")
        return moments.MomentSolution(reference, REFERENCE)


class Watched(mmps.MMPS):
    """Moment matching that tells the watch its noise levels."""

    def bind(self, grid: Grid) -> Sampler:
        """Build the sampler."""
        sampler = super().bind(grid)
        assert isinstance(sampler, GuidedSampler)
        guide = sampler.guide

        def telling(problem: Problem, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
            WATCH.sigma = sigma
            return guide(problem, x, sigma)

        sampler.guide = telling
        return sampler


WATCH = Watch()


@app.default
def main(
    *,
    data: Path,
    images: int = 2,
    peak: float = 300.0,
    side: int = 64,
    guess: int | None = None,
    out: Path | None = None,
) -> None:
    """Run the study.

    Parameters
    ----------
    data
        Folder with eval/clean.
    images
        How many images.
    peak
        Photons at the 99.8th percentile.
    side
        Of the crops, in pixels.
    guess
        Iterations of the system by the power spectrum that leads the products; the sampler's own.
    out
        File for the JSON.
    """
    moments.solve_moments = WATCH
    if guess is not None:
        mmps.leading_iterations = lambda problem, largest: guess
    rows = []
    for number, path in enumerate(clean_images(data, images)):
        counts, _ = restore.measure(read(path), peak, seed=number, side=side)
        WATCH.rows = []
        napari_dps.reconstruct(
            counts, forward=restore.FORWARD, noise="poisson", sampler=Watched(), samples=2
        )
        rows += [{"image": path.name, **row} for row in WATCH.rows]
    middle = [row for row in rows if 0.05 < row["sigma"] < 0.7]
    summary = {
        name: {
            str(count): float(np.median([row[name][str(count)] for row in middle]))
            for count in COUNTS
        }
        for name in ("led", "alone")
    }
    settings = {"peak": peak, "side": side, "guess": guess or "sampler's own"}
    found = {"what": __doc__, **settings, "summary": summary, "rows": rows}
    publish({**found, "summary_levels": [0.05, 0.7], "machine": machine()}, out)


if __name__ == "__main__":
    app()
