"""The classical estimate: how far it may be from the truth, where it does not know."""

import numpy as np
import torch

from napari_dps.components import make
from napari_dps.core.estimate import gaussian_field_estimate
from napari_dps.core.gaussian_field import GaussianField
from napari_dps.core.streams import Streams
from napari_dps.grid import Grid


def test_few_bright_objects_on_a_wide_dark_ground_are_known_to_be_missed():
    """One field variance is too small for them; the error says so, and samples start wider."""
    y, x = np.mgrid[:80, :80]
    bright = (y - 30) ** 2 + (x - 50) ** 2 < 80
    grid = Grid((80, 80), dtype="float64")
    operator = make("forward", "identity").bind(grid)
    likelihood = make("noise", "poisson").bind(grid)
    truth = torch.as_tensor(0.4 + 17.0 * bright)[None, None]
    counts = likelihood.sample(truth, Streams(0, ["counts"], dtype=torch.float64))

    def estimate(valid=None):
        streams = Streams(0, ["estimate"], dtype=torch.float64)
        return gaussian_field_estimate(operator, counts, likelihood, valid, streams, positive=True)

    found = estimate()
    light_missed = float((truth - found.image)[0, 0][torch.as_tensor(bright)].mean())
    assert light_missed > 3  # what the case is about
    assert float(found.error) > 0.8 * light_missed
    without = estimate(torch.as_tensor(~bright)[None, None])
    assert float(without.error) < 1  # pixels that do not count say nothing


def test_sparse_counts_are_not_called_explained_by_a_flat_field():
    """A field's chi-square is compared with what the truth has, not with one per datum."""
    y, x = np.mgrid[:96, :96]
    truth = torch.as_tensor(0.004 + 0.6 * np.exp(-((y - 40) ** 2 + (x - 50) ** 2) / 60.0))
    grid = Grid((96, 96), dtype="float64")
    operator = make("forward", "identity").bind(grid)
    likelihood = make("noise", "poisson").bind(grid)
    counts = likelihood.sample(truth[None, None], Streams(3, ["counts"], dtype=torch.float64))
    field = GaussianField(operator, counts, likelihood, None)
    for _ in field.explain_steps():
        pass
    image = (field.level + field.image)[0, 0]
    assert float(field.chi2(field.image)) > 0.7
    assert float(image[36:45, 46:55].mean()) > 0.1  # of 0.49; 0.015 if called explained
