"""Values in metres or amperes: the unit of a measurement changes nothing but the unit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import napari_dps

FEW = {"admm-tv": {"iterations": 12}, "mmps": {"steps": 4}, "dps": {"steps": 8}}


@pytest.mark.parametrize("kind", ["wiener", "richardson-lucy", *FEW])
def test_a_unit_changes_nothing_but_the_unit(kind: str, rng: np.random.Generator) -> None:
    spots = gaussian_filter((rng.random((16, 16)) > 0.9).astype(float), 1.0)
    seen = gaussian_filter(spots, 1.5) + 0.02 * rng.standard_normal((16, 16))

    def restored(unit: float) -> np.ndarray:
        result = napari_dps.reconstruct(
            seen * unit,
            {
                "forward": {"kind": "gaussian-blur", "sigma": 1.5},
                "noise": {"kind": "gaussian", "sigma": 0.02 * unit},
                "prior": "gaussian",
                "sampler": {"kind": kind, **FEW.get(kind, {})},
                "samples": 1,
            },
            device="cpu",
        )
        return np.asarray(result.mean, dtype=float) / unit

    plain = restored(1.0)
    for unit in (1e-12, 1e12):
        np.testing.assert_allclose(restored(unit), plain, atol=2e-3 * np.abs(plain).max())


def test_noise_is_found_on_a_high_level(rng: np.random.Generator) -> None:
    spots = gaussian_filter((rng.random((64, 64)) > 0.97).astype(float), 2.0) * 500
    result = napari_dps.reconstruct(
        spots + 5 * rng.standard_normal((64, 64)) + 1e7,
        {"forward": "identity", "noise": "gaussian", "sampler": "wiener", "samples": 1},
        device="cpu",
    )
    assert result.report["noise"]["sigma"] == pytest.approx(5, rel=0.15)
