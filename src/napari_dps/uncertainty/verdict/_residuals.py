"""Residuals of samples, and of measurements drawn from the model in their place (torch part).

If the model and the sampler are right, a sample and the measurement are jointly distributed as the
truth and the measurement are. So a figure of (y, z_s), z_s the expectation of one sample s, has
the same distribution as that figure of (y', z_s) with y' drawn from the likelihood at z_s. The
measurement is used once for the sample and once for the figure, and no correction is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_dps.core.streams import Streams

if TYPE_CHECKING:
    from napari_dps.core.problem import Problem

DRAWS = 9
"""Measurements drawn from the model for every sample; a datum has one of ten ranks among them."""
RINGS = 16
"""Rings of spatial frequency, a sixteenth of Nyquist wide each; the last one holds the corners."""
LAGS = 8
"""Autocorrelation is looked at up to this distance, in pixels."""
NAMES = ("chi2", "dark", "bright", "fourth", "mean", "background", "width")
"""Chi-square per datum: of all, of the darker and the brighter half; the fourth moment; then the
residual along a constant, along a background, and along a narrower PSF, of variance one each."""
LINEAR = ("mean", "background", "width")


@dataclass
class Figures:
    """What the samples of one frame leave of it.

    Attributes
    ----------
    observed : list of Tensor, each of shape (K,), float64
        Of each sample: `NAMES`, then the power of `RINGS` rings, then `LAGS` autocovariances.
    null : list of Tensor, each of shape (DRAWS, K)
        The same of measurements drawn from the model at that sample.
    ranks : list of Tensor, each of shape (DRAWS + 1,)
        Of each sample: how many data have which rank among the drawn ones.
    total : Tensor, shape y_shape
        Sum of the expectations of all samples.
    """

    total: Tensor
    observed: list[Tensor] = field(default_factory=list)
    null: list[Tensor] = field(default_factory=list)
    ranks: list[Tensor] = field(default_factory=list)

    @property
    def mean(self) -> Tensor:
        """Mean expectation over the samples, shape y_shape."""
        return self.total / len(self.observed)


class Residuals:
    """Collects the figures of every frame while its samples are finished.

    Parameters
    ----------
    seed : int
        Of the measurements drawn.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.frames: dict[int, Figures] = {}

    def add(self, problem: Problem, z: Tensor, items: Sequence[tuple[int, int]]) -> None:
        """Take finished samples.

        Parameters
        ----------
        problem : Problem
            Of this batch.
        z : Tensor, shape (B, *y_shape)
            Expectations of the samples.
        items : sequence of (int, int)
            Sample and frame of each.
        """
        # Sample by sample, so that memory does not grow with the batch.
        for k, (sample, frame) in enumerate(items):
            own = slice(k, k + 1) if problem.y.shape[0] > 1 else slice(0, 1)
            y = problem.y[own]
            valid = None
            if problem.valid is not None:
                valid = problem.valid[own if problem.valid.shape[0] > 1 else slice(0, 1)]
            figures = self.frames.setdefault(frame, Figures(torch.zeros_like(z[k])))
            self._add(figures, problem, y, z[k : k + 1], valid, (frame, sample))

    def _add(
        self,
        figures: Figures,
        problem: Problem,
        y: Tensor,
        z: Tensor,
        valid: Tensor | None,
        label: tuple[int, int],
    ) -> None:
        streams = Streams(self.seed, [("verdict", *label)], z.device, z.dtype)
        look = Look(problem, z, valid)
        figures.total += z[0]
        figures.observed.append(look(y))
        null = []
        below = torch.zeros_like(z)
        for _ in range(DRAWS):
            drawn = problem.likelihood.sample(z, streams).to(z)
            null.append(look(drawn))
            # Of equal counts one half at random lies below.
            coin = (streams.uniform(z.shape[1:]) < 0.5).to(z)
            below += torch.where(drawn == y, coin, (drawn < y).to(z))
        figures.null.append(torch.stack(null))
        counted = below if valid is None else below[valid.expand_as(below)]
        figures.ranks.append(torch.bincount(counted.flatten().long(), minlength=DRAWS + 1).cpu())


class Look:
    """Turns measurements of one expectation into figures.

    Parameters
    ----------
    problem : Problem
        Gives the likelihood.
    z : Tensor, shape (1, *y_shape)
        Expectation.
    valid : Tensor of bool or None
        Which data count.
    """

    def __init__(self, problem: Problem, z: Tensor, valid: Tensor | None) -> None:
        self.z = z
        self.weight = (problem.likelihood.redundancy / problem.likelihood.variance(z)).sqrt()
        if valid is not None:
            self.weight = self.weight * valid
        self.counts = (self.weight > 0).to(z)
        self.number = max(float(self.counts.sum()), 1.0)
        self.rings = rings(tuple(z.shape[-2:])).to(z.device)
        self.overlap, self.distance = self._overlap()
        # What a slightly narrower PSF adds to the expectation is minus its Laplacian.
        self.steeper = -laplacian(z) * self.weight
        counted = z[self.counts > 0]
        middle = counted.median() if counted.numel() else z.new_zeros(())
        self.halves = [self.counts * (z <= middle), self.counts * (z > middle)]

    def __call__(self, y: Tensor) -> Tensor:
        """Return the figures of a measurement (1, *y_shape), shape (K,), float64, on the CPU."""
        white = (y - self.z) * self.weight
        square = white**2
        values = [
            square.sum() / self.number,
            *((square * half).sum() / half.sum().clamp_min(1) for half in self.halves),
            (square**2).sum() / self.number,
            white.sum() / self.number**0.5,
            project(white, self.weight),
            project(white, self.steeper),
        ]
        power = torch.fft.fft2(white).abs() ** 2
        flat = power.reshape(-1, self.rings.numel()).sum(0)
        total = torch.zeros(RINGS, dtype=flat.dtype, device=flat.device)
        total.index_add_(0, self.rings.flatten(), flat)
        sizes = torch.bincount(self.rings.flatten(), minlength=RINGS).clamp_min(1)
        ringed = total / sizes / self.number
        lagged = self._lagged(white)
        joined = torch.cat([torch.stack(values).double(), ringed.double(), lagged.double()])
        return joined.cpu()

    def _overlap(self) -> tuple[Tensor, Tensor]:
        rows, columns = self.z.shape[-2:]
        # Pairs further apart than the image is wide are none.
        y, x = torch.meshgrid(
            torch.arange(-LAGS, LAGS + 1), torch.arange(-LAGS, LAGS + 1), indexing="ij"
        )
        near = (y.abs() < rows) & (x.abs() < columns)
        distance = (y.double() ** 2 + x.double() ** 2).sqrt().round().long()
        distance = torch.where(near & (distance <= LAGS), distance, LAGS + 1).to(self.z.device)
        return _by_distance(_products(self.counts), distance), distance

    def _lagged(self, white: Tensor) -> Tensor:
        found = _by_distance(_products(white), self.distance)
        return found[1:] / self.overlap[1:].clamp_min(1)


def _products(image: Tensor) -> Tensor:
    """Return sums of products of pixels up to `LAGS` rows and columns apart."""
    rows, columns = image.shape[-2:]
    # Wide enough that nothing comes around, and for all lags of the smallest picture.
    shape = (max(rows + LAGS, 2 * LAGS + 1), max(columns + LAGS, 2 * LAGS + 1))
    power = torch.fft.rfft2(image, s=shape).abs() ** 2
    summed = torch.fft.irfft2(power.reshape(-1, *power.shape[-2:]).sum(0), s=shape)
    turned = torch.roll(summed, (LAGS, LAGS), (0, 1))
    return turned[: 2 * LAGS + 1, : 2 * LAGS + 1]


def _by_distance(sums: Tensor, distance: Tensor) -> Tensor:
    out = torch.zeros(LAGS + 2, dtype=sums.dtype, device=sums.device)
    out.index_add_(0, distance.flatten(), sums.flatten())
    return out[: LAGS + 1]


def project(white: Tensor, direction: Tensor) -> Tensor:
    """Return the residual along a direction, of variance one under white noise."""
    norm = (direction**2).sum().sqrt().clamp_min(1e-30)
    return (white * direction).sum() / norm


def laplacian(z: Tensor) -> Tensor:
    """Return the five-point Laplacian over the last two axes, borders repeated."""
    shape = z.shape
    flat = z.reshape(-1, 1, *shape[-2:])
    wide = torch.nn.functional.pad(flat, (1, 1, 1, 1), mode="replicate")
    found = wide[..., 2:, 1:-1] + wide[..., :-2, 1:-1] + wide[..., 1:-1, 2:]
    return (found + wide[..., 1:-1, :-2] - 4 * flat).reshape(shape)


@lru_cache(maxsize=8)
def rings(shape: tuple[int, int]) -> Tensor:
    """Return for each frequency of a picture the number of its ring, shape (Y, X)."""
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in shape)
    radius = (rows[:, None] ** 2 + columns[None, :] ** 2).sqrt()
    number: Tensor = (radius * 2 * RINGS).long().clamp_max(RINGS - 1)
    return number
