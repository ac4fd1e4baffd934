"""Light beyond what integers count, and recipes whose keys are no words."""

from __future__ import annotations

import numpy as np
import pytest

from napari_dps import reconstruct, simulate
from napari_dps.core.streams import COUNTED
from napari_dps.errors import RecipeError


def test_counts_beyond_integers_are_drawn_as_normal_numbers() -> None:
    for level in (1e14, 4e15, 1e19):
        counts = simulate(np.full((64, 64), level), forward="identity", noise="poisson", seed=0)
        assert counts.mean() == pytest.approx(level, rel=1e-6) and counts.min() > 0
    mixed = np.full((64, 64), 20.0)
    mixed[:, 32:] = 10 * COUNTED
    plain = simulate(np.full((64, 64), 20.0), forward="identity", noise="poisson", seed=0)
    counts = simulate(mixed, forward="identity", noise="poisson", seed=0)
    assert counts[:, :32].mean() == pytest.approx(20, abs=0.5)
    np.testing.assert_array_equal(counts[:1, :32], plain[:1, :32])


def test_a_key_that_is_no_word_is_refused_in_a_sentence() -> None:
    with pytest.raises(RecipeError, match="has the key 1; its keys are words: forward, noise"):
        reconstruct(np.ones((16, 16)), {1: 2})
