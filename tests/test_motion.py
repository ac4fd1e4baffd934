"""Motion blur: paths, their rasterised kernels, and a restoration."""

import numpy as np
import pytest
import torch

from napari_dps import reconstruct, simulate
from napari_dps.components import make
from napari_dps.errors import InputError, RecipeError
from napari_dps.forward._motion import rasterised, straight, wandering
from napari_dps.forward._reach import within_reach
from napari_dps.grid import Grid

FAST = {"kind": "mmps", "steps": 10}


def centre(psf):
    rows, cols = np.indices(psf.shape)
    return float((rows * psf).sum() - psf.shape[0] // 2), float(
        (cols * psf).sum() - psf.shape[1] // 2
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"length": 9.0},
        {"length": 0.3, "angle": 45.0},
        {"length": 20.5, "angle": -33.0},
        {"path": "random"},
        {"path": "random", "extent": 12.5, "intensity": 1.0, "path_seed": 3},
    ],
)
def test_kernels_have_odd_sides_sum_one_and_centred_light(fields):
    psf = make("forward", {"kind": "motion-blur", **fields}).psf()
    assert all(n % 2 for n in psf.shape) and (psf >= 0).all()
    assert psf.sum() == pytest.approx(1, abs=1e-12)
    assert centre(psf) == pytest.approx((0, 0), abs=1e-9)


def test_a_straight_path_has_its_length_and_direction():
    psf = make("forward", {"kind": "motion-blur", "length": 9.0}).psf()
    assert psf.shape[0] == 1 and np.allclose(psf[0, 2:-2], 1 / 9, atol=3e-3)
    rising = make("forward", {"kind": "motion-blur", "length": 9.0, "angle": 45.0}).psf()
    middle = rising.shape[0] // 2
    assert rising[middle - 2, middle + 2] > 0.05 and rising[middle + 2, middle + 2] == 0
    points = straight(10.0, 30.0)
    assert np.ptp(points[:, 1]) == pytest.approx(10 * np.cos(np.pi / 6), rel=0.02)


def test_a_random_path_fits_its_square_and_bends_with_its_intensity():
    points = wandering(61.0, 0.5, 0)
    assert np.abs(points).max() == pytest.approx(30)
    assert make("forward", {"kind": "motion-blur", "path": "random"}).psf().shape <= (61, 61)
    assert np.array_equal(points, wandering(61.0, 0.5, 0))
    assert not np.array_equal(points, wandering(61.0, 0.5, 1))

    def thickness(intensity):
        shares = []
        for seed in range(20):
            values = np.linalg.svd(wandering(61.0, intensity, seed), compute_uv=False)
            shares.append(values[1] / values[0])
        return np.mean(shares)

    assert thickness(0.0) < 1e-6 < 0.05 < thickness(0.5)


def test_one_point_is_no_blur():
    assert np.array_equal(rasterised(np.zeros((1, 2))), np.ones((1, 1)))
    psf = rasterised(np.array([[0.0, 0.25]]))
    assert psf == pytest.approx(np.array([[0, 0.75, 0.25]]))


def test_light_from_outside_comes_in():
    operator = make("forward", {"kind": "motion-blur", "length": 9.0}).bind(Grid((16, 16)))
    x = torch.zeros((1, *operator.x_shape))
    rows, cols = operator.field
    x[0, 0, rows.start + 3, cols.start - 2] = 90.0
    z = operator(x)[0, 0]
    assert z[3, 0] > 5 and z[:, -1].abs().max() < 1e-4


def test_bad_fields_are_one_sentence():
    for fields, word in (
        ({"length": 0}, "> 0 and <= 500 px"),
        ({"intensity": 1.5}, ">= 0 and <= 1"),
        ({"path": "curved"}, "straight"),
    ):
        with pytest.raises(RecipeError, match=word):
            make("forward", {"kind": "motion-blur", **fields})


def test_a_moved_image_is_restored():
    rows, cols = np.mgrid[:24, :24]
    truth = 20 + 60 * np.exp(-((rows - 11) ** 2 + (cols - 13) ** 2) / 8.0)
    forward = {"kind": "motion-blur", "length": 9.0, "angle": 20.0}
    noise = {"kind": "gaussian", "sigma": 0.3}
    y = simulate(truth, forward=forward, noise=noise)
    prior = {"kind": "gaussian", "correlation_length": 3.0, "exponent": 2.0}
    result = reconstruct(y, forward=forward, noise=noise, prior=prior, sampler=FAST, samples=2)
    assert abs(result.mean.max() - 80) < 0.5 * abs(y.max() - 80)
    assert result.report["misfit"] == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    ("blur", "remedy", "side"),
    [
        ({"kind": "gaussian-blur", "sigma": 200.0}, "sigma", 96),
        ({"kind": "motion-blur", "length": 400.0, "angle": 45.0}, "length", 96),
        ({"kind": "motion-blur", "path": "random", "extent": 401.0, "intensity": 0.0}, "extent", 0),
    ],
)
def test_a_blur_wider_than_the_image_reaches_over_the_image_only(blur, remedy, side):
    grid = Grid((32, 32), dtype="float64")
    model = make("forward", blur)
    operator = model.bind(grid)
    assert max(operator.x_shape) <= 96 and (not side or operator.x_shape == (1, side, side))
    flat = torch.ones((1, *operator.x_shape), dtype=torch.float64)
    assert torch.allclose(operator(flat), torch.ones((1, 1, 32, 32), dtype=torch.float64))
    told = " ".join(model.warnings(grid))
    assert "wider than the image" in told and "of its light" in told
    if side:
        assert "times the image's" in told and f"a smaller `{remedy}` makes" in told
    wrapped = make("forward", {**blur, "boundary": "periodic"})
    assert wrapped.warnings(grid) == [] and wrapped.bind(grid).x_shape == (1, 32, 32)
    for small in ({"kind": "gaussian-blur"}, {"kind": "motion-blur"}):
        assert make("forward", small).warnings(grid) == []


def test_a_path_that_keeps_away_from_its_centre_is_refused():
    psf = np.zeros((41, 41))
    psf[0, 0] = psf[-1, -1] = 0.5
    with pytest.raises(InputError, match=r"an image of \(8, 8\) pixels reaches; give a larger"):
        within_reach(psf, Grid((8, 8)), "extend")
