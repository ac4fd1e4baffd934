"""The contrast that a classical estimate loses, and the object map that undoes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_dps import reconstruct
from napari_dps.components import make
from napari_dps.core.contrast import contrast
from napari_dps.core.covariance import power_law_spectrum
from napari_dps.core.estimate import Estimate, gaussian_field_estimate, object_map
from napari_dps.core.likelihood import GaussianLikelihood, PoissonLikelihood
from napari_dps.core.streams import Streams
from napari_dps.grid import Grid

SIDE = 64
BLUR = make("forward", {"kind": "gaussian-blur", "sigma": 2.0})
HOLES = make("forward", {"kind": "random-inpaint", "missing": 0.5})


def scene(seed: int, peak: float) -> torch.Tensor:
    """Return a smooth random object, from 1 to about ``peak`` photoelectrons."""
    root = power_law_spectrum((SIDE, SIDE), 1.0, 3.0, 2.0).sqrt()
    white = Streams(seed, [0], dtype=torch.float64).normal((1, SIDE, SIDE))
    field = (0.4 * torch.fft.ifft2(torch.fft.fft2(white) * root).real).exp()
    low, high = contrast(field)
    return (1 + (peak - 1) * (field - low) / (high - low)).clamp_min(0)


def estimate(truth: torch.Tensor, model, seed: int) -> tuple[Estimate, torch.Tensor]:
    """Return the estimate from a Poisson measurement, cropped to the field."""
    operator = model.bind(Grid((SIDE, SIDE), dtype="float64"))
    wide = torch.nn.functional.pad(
        truth, [(operator.x_shape[-1] - SIDE) // 2] * 4, mode="replicate"
    )
    streams = Streams(seed, [0], dtype=torch.float64)
    y = streams.poisson(operator(wide))
    valid = None if operator.measured is None else operator.measured[None, None]
    found = gaussian_field_estimate(operator, y, PoissonLikelihood(), valid, streams, positive=True)
    return found, operator.crop(found.image)


@pytest.mark.parametrize("model", [BLUR, HOLES])
@pytest.mark.parametrize("peak", [8.0, 200.0])
def test_scale_comes_closer_to_the_objects_own(model, peak) -> None:
    after, before = [], []
    for seed in range(5):
        found, image = estimate(scene(seed, peak), model, seed + 100)
        assert found.lost is not None
        lost = found.lost()
        assert 1.0 <= float(lost) <= 2.0
        scale, _ = object_map(image, found.noise, lost)
        low, high = contrast(image)
        after.append(float(scale) / (peak - 1))
        before.append(float(high - low) / (peak - 1))
    errors = [torch.tensor(ratio).log().abs().mean() for ratio in (after, before)]
    assert errors[0] < (0.75 if peak < 50 else 1.0) * errors[1]
    assert max(after) < 1.5


def test_noise_that_neighbours_share_does_not_hide_the_object() -> None:
    """Each pixel counts with more variance then, but does not scatter by it."""
    model = make("forward", "identity").bind(Grid((SIDE, SIDE), dtype="float64"))
    truth, sigma = scene(2, 100.0), 15.0
    white = sigma * Streams(5, [0], dtype=torch.float64).normal((1, SIDE, SIDE))
    shared = sum(white.roll((i, j), (2, 3)) for i in (0, 1) for j in (0, 1)) / 2
    likelihood = GaussianLikelihood(sigma, 4.0)
    streams = Streams(6, [0], dtype=torch.float64)
    found = gaussian_field_estimate(
        model, truth + shared, likelihood, None, streams, positive=False
    )
    assert found.lost is not None
    scale, _ = object_map(found.image, found.noise, found.lost())
    assert 70 < float(scale) < 130
    assert float((found.image - truth).std()) < 0.7 * sigma


def test_an_empty_field_is_not_stretched() -> None:
    """What may hide in the noise lies inside the range, and the noise fills no more than it."""
    flat = torch.full((1, 1, SIDE, SIDE), 5.0, dtype=torch.float64)
    found, image = estimate(flat, BLUR, 3)
    assert found.lost is not None
    scale, background = object_map(image, found.noise, found.lost())
    assert 1.5 < float(scale) / 5.0**0.5 < 3.0
    assert abs(float(background) - 5.0) < 0.2


def test_sparse_spots_stay_in_the_range_that_priors_are_trained_on() -> None:
    image = torch.full((1, 1, SIDE, SIDE), 2.0, dtype=torch.float64)
    image[..., 20, 30] = 1002.0
    scale, background = object_map(image, torch.tensor([0.1], dtype=torch.float64))
    peak = 2 * (image.max() - background) / scale - 1
    assert float(peak) == pytest.approx(3.0)


def test_a_given_intensity_costs_no_bootstrap(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the contrast was estimated although it was given")

    monkeypatch.setattr("napari_dps.core.estimate.lost_contrast", refuse)
    y = np.random.default_rng(1).poisson(9.0, (16, 16))
    parts = {"prior": "gaussian", "sampler": {"kind": "mmps", "steps": 2}, "samples": 1}
    given = reconstruct(y, parts, intensity={"scale": 10.0, "background": 3.0})
    assert given.report["scale"] == [10.0]
    with pytest.raises(AssertionError, match="although it was given"):
        reconstruct(y, parts)
