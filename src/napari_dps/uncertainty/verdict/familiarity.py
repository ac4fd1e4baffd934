"""Does the prior know such images? A score, fitted to fluorescence and to what is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.uncertainty.verdict.appearance import Denoise, looks, normalised, tiles
from napari_dps.uncertainty.verdict.beside import facts_beside
from napari_dps.uncertainty.verdict.evidence import Evidence, Finding
from napari_dps.uncertainty.verdict.finders import TITLES

if TYPE_CHECKING:
    from napari_dps.components import PriorSource
    from napari_dps.core.prior import Prior

__all__ = ["FILE", "Model", "asked", "find"]

Array = NDArray[np.float64]

FILE = "familiarity.json"
"""Beside a prior's weights: features, weights and threshold of its score."""
SMALLEST = 96
"""Below this side an image has too little of the features to be judged."""


@dataclass(frozen=True)
class Model:
    """A quadratic score of an image's features: above the threshold it is unfamiliar.

    Attributes
    ----------
    features : tuple of str
        Which, see :func:`napari_dps.uncertainty.verdict.appearance.looks`.
    centre, scale : tuple of float
        Mean and standard deviation of each over the images that it was fitted to.
    weights, squares : tuple of float
        Of the standardised features, and of their squares.
    bias, threshold : float
        Of the score, the logarithm of the odds that an image is no fluorescence.
    """

    features: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    squares: tuple[float, ...]
    bias: float
    threshold: float

    @classmethod
    def load(cls, source: PriorSource) -> Model | None:
        """Return the score that lies beside a prior's weights, None where there is none."""
        found = facts_beside(source, FILE)
        return None if found is None else cls.from_json(found)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Model:
        """Return what :meth:`to_json` wrote."""
        rows = found["features"]
        return cls(
            tuple(row["name"] for row in rows),
            tuple(float(row["centre"]) for row in rows),
            tuple(float(row["scale"]) for row in rows),
            tuple(float(row["weight"]) for row in rows),
            tuple(float(row["square"]) for row in rows),
            float(found["bias"]),
            float(found["threshold"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data, to lie beside the weights."""
        names = ("centre", "scale", "weight", "square")
        columns = zip(self.centre, self.scale, self.weights, self.squares, strict=True)
        rows = [
            {"name": feature, **{n: round(v, 5) for n, v in zip(names, values, strict=True)}}
            for feature, values in zip(self.features, columns, strict=True)
        ]
        return {
            "features": rows,
            "bias": round(self.bias, 5),
            "threshold": round(self.threshold, 5),
        }

    def of(self, found: dict[str, float]) -> float:
        """Return the score of features."""
        values = np.array([found[name] for name in self.features])
        # An image unlike any that was fitted to shall not win by one extreme feature.
        standard = ((values - np.array(self.centre)) / np.array(self.scale)).clip(-4, 4)
        total = standard @ np.array(self.weights) + (standard**2) @ np.array(self.squares)
        return float(total + self.bias)

    def score(self, planes: Array, denoise: Denoise) -> float:
        """Return the score of an image's planes (n, Y, X): the mean over the parts that show most.

        Brightness and offset do not matter.
        """
        scores = [self.of(looks(part, denoise)) for part in tiles(normalised(planes))]
        return float(np.mean(scores))


def asked(prior: Prior, like: Any) -> Denoise:
    """Return a prior as a function of arrays.

    Parameters
    ----------
    prior : Prior
        Of images of one channel, as a network is.
    like : Tensor, shape (1, *x_shape)
        Gives number of axes and channels, precision and device.
    """
    import torch

    shape = (1, like.shape[1], *[1] * (like.ndim - 4))

    def denoise(image: Array, sigma: float) -> Array:
        x = torch.as_tensor(image, dtype=like.dtype, device=like.device)
        with torch.no_grad():
            # Of several channels each gets the image.
            out = prior(x.expand(*shape, *image.shape), sigma)
        return np.asarray(out[0].reshape(-1, *image.shape).mean(0).double().cpu().numpy())

    return denoise


def find(evidence: Evidence) -> Finding | None:
    """Return whether the restored image looks like those that the prior knows.

    Parameters
    ----------
    evidence : Evidence
        Samples of one frame; two calls of the network for each of four parts of the image at most.

    Returns
    -------
    Finding or None
        None for a classical method, which has no prior.
    """
    if evidence.recipe.sampler.classical:
        return None
    model = Model.load(evidence.recipe.prior)
    planes = evidence.problem.operator.crop(evidence.x).double().mean(0).cpu().numpy()
    planes = planes.reshape(-1, *planes.shape[-2:])
    if model is None or min(planes.shape[1:]) < SMALLEST:
        why = (
            f"there is no score for the prior {evidence.recipe.prior.kind!r}"
            if model is None
            else f"the image has fewer than {SMALLEST} pixels a side, too few to tell"
        )
        return Finding(
            name="familiarity",
            title=TITLES["familiarity"],
            sentence=f"Not told: {why}.",
            numbers={"score": None},
            told=False,
        )
    score = model.score(planes, asked(evidence.problem.prior, evidence.x))
    strange = score > model.threshold
    numbers = {"score": score, "threshold": model.threshold, "familiar": not strange}
    sentence = (
        "The restored image does not look like fluorescence: the prior was not made for it, and "
        "the error bars may be too small"
        if strange
        else "The restored image looks like those that the prior was made for"
    )
    return Finding(
        name="familiarity",
        title=TITLES["familiarity"],
        sentence=f"{sentence} (score {score:.2f}, unfamiliar above {model.threshold:.2f}).",
        numbers=numbers,
        alarm=strange,
    )
