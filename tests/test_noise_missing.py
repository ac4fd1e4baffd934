"""Noise estimated where pixels are missing here and there, and refused where too few are left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_dps.errors import InputError
from napari_dps.noise._camera import estimate, noise_sigma
from napari_dps.noise._estimate import Known
from napari_dps.noise._missing import Filling
from napari_dps.run import Run

SIDE = 128


def scene(kind: str) -> np.ndarray:
    """Return an object between 20 and about 120."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    if kind == "flat":
        return 20 + 3 * rows
    spots = np.zeros((SIDE, SIDE))
    spots[tuple(np.random.default_rng(1).integers(8, SIDE - 8, (2, 40)))] = 1
    blurred = gaussian_filter(spots, 3)
    discs = np.hypot(rows - 0.5, columns - 0.4) < 0.2
    return 20 + 60 * blurred / blurred.max() + 40 * gaussian_filter(discs.astype(float), 1.5)


def recorded(kind: str, share: float, seed: int) -> np.ndarray:
    """Return a scene with noise of deviation 3, in which a share of the pixels is NaN."""
    rng = np.random.default_rng(seed)
    image = scene(kind) + 3 * rng.standard_normal((SIDE, SIDE))
    image[rng.uniform(size=image.shape) < share] = np.nan
    return image


@pytest.mark.parametrize("kind", ["flat", "structured"])
@pytest.mark.parametrize("share", [0.002, 0.02, 0.2])
def test_sigma_in_spite_of_missing_pixels(kind: str, share: float) -> None:
    found = [noise_sigma(recorded(kind, share, seed))[0] for seed in range(3)]
    assert np.mean(found) == pytest.approx(3, rel=0.04)
    assert np.allclose(found, 3, rtol=0.1)


@pytest.mark.parametrize("stack", [False, True])
def test_a_camera_in_spite_of_missing_pixels(stack: bool) -> None:
    rng = np.random.default_rng(0)
    ramp = np.tile(np.linspace(2, 400, SIDE), (5 if stack else 1, SIDE, 1))
    image = np.round(100 + 2 * (rng.poisson(ramp) + 2 * rng.standard_normal(ramp.shape)))
    image[:, rng.uniform(size=(SIDE, SIDE)) < 0.2] = np.nan
    known = Known(offset=100.0, read_noise=2.0)
    assert estimate(image, known, stack=stack).gain == pytest.approx(2, rel=0.1)
    found = estimate(image, Known(), stack=stack)
    assert abs(found.gain - 2) < 3 * found.gain_error
    # What the restoration needs is the variance.
    adu = np.array([200.0, 500.0, 800.0])
    ours = found.gain * (adu - found.offset) + (found.gain * found.read_noise) ** 2
    assert ours == pytest.approx(2 * (adu - 100) + 16, rel=0.15)


def test_a_missing_area_is_left_out_and_too_few_pixels_are_refused() -> None:
    image = recorded("flat", 0.01, 0)
    image[30:80, 40:100] = np.nan
    assert noise_sigma(image)[0] == pytest.approx(3, rel=0.05)
    with pytest.raises(InputError, match="almost every part"):
        noise_sigma(recorded("flat", 0.7, 0))
    filling = Filling(np.isnan(image))
    assert filling.left[32:78, 42:98].all() and not filling.left[~np.isnan(image)].any()
    assert np.array_equal(filling.done | filling.left, np.isnan(image))


def test_a_parabola_is_filled_exactly(rng: Any) -> None:
    rows, columns = np.mgrid[:20, :30]
    image = 3 + rows - 0.5 * columns + 0.1 * rows * columns - 0.02 * columns**2
    missing = rng.uniform(size=image.shape) < 0.1
    filling = Filling(missing)
    inner = np.zeros_like(missing)
    inner[2:-2, 2:-2] = filling.done[2:-2, 2:-2]
    filled = filling(np.where(missing, np.nan, image))
    assert inner.any() and np.abs(filled - image)[inner].max() < 0.02
    assert np.array_equal(filled[~missing], image[~missing])


def test_pixels_that_were_full_do_not_make_the_noise_smaller() -> None:
    rng = np.random.default_rng(3)
    ramp = np.tile(np.linspace(2, 400, SIDE), (SIDE, 1))
    image = np.round(100 + 2 * (rng.poisson(ramp) + 2 * rng.standard_normal(ramp.shape)))
    image[image > 700] = np.nan
    assert estimate(image, Known(offset=100.0, read_noise=2.0)).gain == pytest.approx(2, rel=0.1)


def test_a_run_with_dead_pixels() -> None:
    parts = {"forward": "gaussian-blur", "noise": "gaussian", "prior": "gaussian"}
    valid = np.random.default_rng(0).uniform(size=(SIDE, SIDE)) > 0.02
    image = np.where(valid, recorded("structured", 0, 1), 1e4)
    job = Run(image, {**parts, "valid": valid})
    assert job.recipe.noise.sigma == pytest.approx(3, rel=0.1)
    lost = {"kind": "random-inpaint", "missing": 0.2}
    assert Run(recorded("flat", 0, 2), {**parts, "forward": lost}).recipe.noise.sigma == (
        pytest.approx(3, rel=0.1)
    )
