"""Where does the picture come from the prior: what the data have left of the prior's variance."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.uncertainty.verdict.beside import facts_beside, key_of
from napari_dps.uncertainty.verdict.evidence import Evidence, Finding
from napari_dps.uncertainty.verdict.finders import TITLES
from napari_dps.uncertainty.verdict.pairs import variance

if TYPE_CHECKING:
    from torch import Tensor

    from napari_dps.core.prior import Prior

__all__ = ["FILE", "Spread", "draw", "find"]

Array = NDArray[np.float64]

FILE = "spread.json"
"""Beside a prior's weights: its spread by local intensity."""
WINDOW = 4.0
"""Standard deviation in pixels of the Gaussian window of a local intensity."""
SMOOTHING = 1.5
"""The variance of few samples is noisy: it is averaged over a window of this many pixels."""
UNSUPPORTED = 0.5
"""Share of the prior's variance above which a pixel owes more to the prior than to the data."""
MANY = 0.5
"""Share of the light in such pixels above which the finding is an alarm."""
BINS = 24
DRAWS, SIDE, STEPS = 16, 64, 25

_drawn: dict[str, Spread] = {}


@dataclass(frozen=True)
class Spread:
    """How far a prior's pixels lie from the intensity of their neighbourhood, by that intensity.

    Attributes
    ----------
    intensity : tuple of float
        Local means, rising, prior units.
    std : tuple of float
        Root-mean-square distance of a pixel from its local mean.
    window : float
        Pixels, see :data:`WINDOW`; 0 where the spread is that of a pixel whatever its
        neighbourhood.
    """

    intensity: tuple[float, ...]
    std: tuple[float, ...]
    window: float = WINDOW

    @classmethod
    def measured(cls, images: Array) -> Spread:
        """Return the spread of images of a prior, shape (n, Y, X), in prior units."""
        from scipy import ndimage

        images = np.asarray(images, dtype=np.float64)
        local = np.stack([ndimage.gaussian_filter(i, WINDOW, mode="mirror") for i in images])
        order = np.argsort(local, axis=None, kind="stable")
        means = local.ravel()[order]
        squares = ((images - local) ** 2).ravel()[order]
        parts = np.array_split(np.arange(order.size), BINS)
        return cls(
            tuple(float(means[p].mean()) for p in parts),
            tuple(float(np.sqrt(squares[p].mean())) for p in parts),
        )

    def at(self, mean: Array, axes: int) -> Array:
        """Return the prior's standard deviation at each pixel of an image.

        Parameters
        ----------
        mean : ndarray, shape (..., *spatial)
            In prior units.
        axes : int
            Number of spatial axes, which are the last.
        """
        from scipy import ndimage

        if self.window <= 0 or len(self.std) == 1:
            return np.full_like(mean, self.std[0])
        width = [0.0] * (mean.ndim - axes) + [self.window] * axes
        local = ndimage.gaussian_filter(mean, width, mode="mirror")
        return np.asarray(np.interp(local, self.intensity, self.std))

    def to_json(self) -> dict[str, Any]:
        """Return plain data, to lie beside the weights."""
        return {
            "window": self.window,
            "intensity": [round(v, 5) for v in self.intensity],
            "std": [round(v, 6) for v in self.std],
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Spread:
        """Return what :meth:`to_json` wrote."""
        return cls(tuple(found["intensity"]), tuple(found["std"]), float(found["window"]))


def find(evidence: Evidence) -> Finding | None:
    """Return where the data have left the prior its say.

    Parameters
    ----------
    evidence : Evidence
        Samples of one frame. A prior whose spread is not known is drawn from, once: some hundred
        calls of the network.

    Returns
    -------
    Finding or None
        None for a point estimate.
    """
    if len(evidence.x) < 2 or evidence.recipe.sampler.classical:
        return None
    if evidence.pairs and len(evidence.x) < 4:
        return Finding(
            name="support",
            title=TITLES["support"],
            sentence="Not told: one pair of samples with opposite noise does not know its own "
            "variance; draw 4 samples or more.",
            numbers={"samples": len(evidence.x)},
            told=False,
        )
    return _finding(evidence, *_spread(evidence))


def _spread(evidence: Evidence) -> tuple[Spread, str]:
    """Return the prior's spread, and where it is from."""
    source, prior = evidence.recipe.prior, evidence.problem.prior
    if source.kind == "gaussian":
        return Spread((0.0,), (float(prior.data_std),), 0.0), "in closed form"
    found = facts_beside(source, FILE)
    if found is not None:
        return Spread.from_json(found), f"from {found['draws']} draws, by local intensity"
    key = key_of(source)
    if key not in _drawn:
        _drawn[key] = Spread.measured(draw(prior, evidence.x[:1], seed=evidence.seed))
    return _drawn[key], f"from {DRAWS} draws, by local intensity"


def draw(
    prior: Prior,
    like: Tensor,
    *,
    count: int = DRAWS,
    side: int = SIDE,
    steps: int = STEPS,
    seed: int = 0,
) -> Array:
    """Return unconditional draws of a prior, shape (n, side, side).

    Parameters
    ----------
    prior : Prior
        Bound.
    like : Tensor, shape (1, *x_shape)
        An object: channels, number of axes, precision and device are taken from it. Planes of a
        volume are drawn one by one, channels count as draws.
    count : int
        How many objects.
    side : int
        In pixels; that of the training images where the prior depends on it.
    steps : int
        Noise levels.
    seed : int
        Of the draws.
    """
    import torch

    from napari_dps.core.sampler import SecondOrderMove
    from napari_dps.core.schedule import karras_ladder
    from napari_dps.core.streams import Streams

    side = prior.trained_side or side
    shape = (like.shape[1], *[1] * (like.ndim - 4), side, side)
    sigmas = karras_ladder(steps, min(80.0, prior.sigma_max), max(0.01, prior.sigma_min))
    out = []
    for k in range(count):
        streams = Streams(seed, [("spread", k)], like.device, like.dtype)

        def noise(streams: Streams = streams) -> Tensor:
            return streams.normal(shape)

        x, move = sigmas[0] * noise(), SecondOrderMove()
        with torch.no_grad():
            for sigma, lower in pairwise(sigmas):
                x = move(x, prior(x, sigma), sigma, lower, noise)
        out.append(x.reshape(-1, side, side))
    return np.asarray(torch.cat(out).double().cpu().numpy())


def _finding(evidence: Evidence, spread: Spread, source: str) -> Finding:
    from scipy import ndimage

    operator = evidence.problem.operator
    x = operator.crop(evidence.x).double().cpu().numpy()
    axes = x.ndim - 2
    mean = x.mean(0)
    width = [0.0] + [SMOOTHING] * axes
    left = ndimage.gaussian_filter(variance(x, evidence.pairs), width, mode="mirror")
    prior = spread.at(mean, axes)
    ratio = left / np.maximum(prior**2, 1e-12)
    mask = ratio > UNSUPPORTED
    # Light above what is darkest: the share of a flat background says little.
    light = mean - np.percentile(mean, 0.5)
    light = np.maximum(light, 0)
    total = float(light.sum())
    numbers: dict[str, Any] = {
        "threshold": UNSUPPORTED,
        "median_ratio": float(np.median(ratio)),
        "unsupported_share": float(mask.mean()),
        "unsupported_light": float((light * mask).sum() / total) if total > 0 else 0.0,
        "prior_spread": source,
        "information_bits": float(np.mean(np.maximum(-0.5 * np.log2(ratio.clip(1e-6)), 0))),
    }
    # All of the prior's variance is all that can come from it.
    maps = {"prior_share": ratio.clip(0, 1), "unsupported": mask}
    return Finding(
        name="support",
        title=TITLES["support"],
        sentence=_say(numbers),
        numbers=numbers,
        maps={k: _plane(v) for k, v in maps.items()},
        alarm=numbers["unsupported_light"] > MANY,
    )


def _plane(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return a map without the channel axis of one channel; of several, their mean."""
    return np.asarray(values.mean(0), dtype=np.float32)


def _say(n: dict[str, Any]) -> str:
    ratio = n["median_ratio"]
    # Samples scatter, and so does the prior's spread: nobody has more than all of it left.
    share = "all" if ratio >= 0.995 else f"{100 * ratio:.0f} %"
    return (
        f"The data have left {share} of the prior's variance in a typical pixel. "
        f"{100 * n['unsupported_share']:.0f} % of the pixels, with "
        f"{100 * n['unsupported_light']:.0f} % of the light, owe more to the prior than to the "
        f"data (above {100 * UNSUPPORTED:.0f} %); what is seen there is what such samples usually "
        f"look like. The prior's spread is known {n['prior_spread']}."
    )
