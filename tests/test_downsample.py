"""Downsampling: weights against torch's own, grids, and a finer result."""

import numpy as np
import pytest
import torch

from napari_dps import reconstruct
from napari_dps.api import simulate_image
from napari_dps.components import make
from napari_dps.core.operator import dot_test
from napari_dps.errors import InputError, RecipeError
from napari_dps.forward._resample import bicubic
from napari_dps.grid import Grid
from napari_dps.report import object_coordinates
from napari_dps.run import Run

GRID = Grid((12, 10), pixel_size=(0.4, 0.6), dtype="float64")


def bound(**fields):
    return make("forward", {"kind": "downsample", **fields}).bind(GRID)


def test_binning_is_the_mean_of_blocks():
    operator = bound(factor=[2, 3])
    assert operator.x_shape == (1, 24, 30) and operator.y_shape == (1, 12, 10)
    x = torch.rand((2, 1, 24, 30), dtype=torch.float64)
    assert torch.allclose(operator(x), x.reshape(2, 1, 12, 2, 10, 3).mean((3, 5)))
    assert operator.field == (slice(0, 24), slice(0, 30))


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_bicubic_agrees_with_torch_inside(factor):
    operator = bound(factor=factor, method="bicubic")
    x = torch.rand((1, *operator.x_shape), dtype=torch.float64)
    seen = operator.crop(x)
    known = torch.nn.functional.interpolate(
        seen, size=GRID.shape, mode="bicubic", antialias=True, align_corners=False
    )
    assert torch.allclose(operator(x)[..., 2:-2, 2:-2], known[..., 2:-2, 2:-2], atol=1e-9)
    first, weights = bicubic(factor)
    assert weights.sum() == pytest.approx(1)
    assert first + (len(weights) - 1) / 2 == pytest.approx((factor - 1) / 2)


@pytest.mark.parametrize("method", ["binning", "bicubic"])
def test_a_flat_object_keeps_its_value_to_the_border(method):
    operator = bound(factor=4, method=method)
    flat = torch.full((1, *operator.x_shape), 7.0, dtype=torch.float64)
    assert torch.allclose(operator(flat), torch.full_like(operator(flat), 7.0))
    assert operator.crop(flat).shape[-2:] == (48, 40)


def test_the_object_lies_on_the_finer_grid():
    model = make("forward", {"kind": "downsample", "factor": [2, 4]})
    assert model.object_pixel_size(GRID) == pytest.approx((0.2, 0.15))
    assert model.object_pixel_size(Grid((12, 10))) is None
    assert model.object_offset(GRID) == (-0.5, -1.5)
    assert model.measurement_shape((24, 40)) == (12, 10)
    assert model.factors(3) == (1, 2, 4)


@pytest.mark.parametrize(
    ("factor", "word"),
    [
        (1, "leaves the pixels"),
        (0, "whole number from 2 to 32"),
        (1.5, "whole number from 2 to 32"),
        ([2, 3, 4, 5], "one for Y and one for X"),
        ([1, 1, 1], "leaves the pixels"),
        ("x", "whole number"),
        (True, "whole number"),
    ],
)
def test_bad_factors_are_one_sentence(factor, word):
    with pytest.raises(RecipeError, match=word):
        make("forward", {"kind": "downsample", "factor": factor})


def test_objects_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="crop it to multiples"):
        make("forward", "downsample").measurement_shape((25, 24))


@pytest.mark.parametrize("method", ["binning", "bicubic"])
def test_planes_may_be_coarse_too(method):
    grid = Grid((4, 6, 5), pixel_size=(1.0, 0.4, 0.6), dtype="float64")
    model = make("forward", {"kind": "downsample", "factor": [2, 3, 2], "method": method})
    assert model.object_pixel_size(grid) == pytest.approx((0.5, 0.4 / 3, 0.3))
    operator = model.bind(grid)
    a, b = dot_test(operator, torch.rand((2, *operator.x_shape), dtype=torch.float64))
    assert a == pytest.approx(b)
    x = torch.rand((1, 1, 8, 18, 10), dtype=torch.float64)
    if method == "binning":
        known = x.reshape(1, 1, 4, 2, 6, 3, 5, 2).mean((3, 5, 7))
        assert torch.allclose(operator(x), known)
    flat = torch.ones((1, *operator.x_shape), dtype=torch.float64)
    assert torch.allclose(operator(flat), torch.ones((1, 1, 4, 6, 5), dtype=torch.float64))


def test_a_volume_is_seen_and_restored_on_finer_planes():
    coarse = {"kind": "downsample", "factor": [2, 1, 2]}
    truth = np.random.default_rng(0).poisson(50, (4, 8, 16)).astype(np.float64)
    noise = {"kind": "gaussian", "sigma": 1.0}
    seen = simulate_image(truth, forward=coarse, noise=noise)
    assert (seen.axes, seen.shape) == ("ZYX", (2, 8, 8))
    seen = seen.with_pixel_size((1.0, 0.2, 0.4))
    parts = {"noise": noise, "prior": "gaussian", "samples": 1}
    sampler = {"kind": "dps", "steps": 2}
    found = reconstruct(seen, forward=coarse, sampler=sampler, **parts)
    assert found.mean.shape == truth.shape
    assert found.scale == pytest.approx((0.5, 0.2, 0.2))
    # In a chain what comes before is on the fine planes too.
    steps = [
        {"kind": "gaussian-blur", "sigma": 0.5},
        coarse,
        {"kind": "inpaint", "box": [0, 0, 2, 2]},
    ]
    job = Run(seen, {"forward": {"kind": "compose", "steps": steps}, **parts})
    job._bind()
    operator = job._problem.operator
    assert tuple(s.stop - s.start for s in operator.field) == truth.shape
    assert operator.y_shape == (1, 2, 8, 8)
    assert object_coordinates(job.image, job, truth.shape).scale == pytest.approx((0.5, 0.2, 0.2))


def test_a_factor_for_planes_needs_planes():
    with pytest.raises(InputError, match=r"of a volume.*give \[3, 2\], along Y and X"):
        bound(factor=[2, 3, 2])
    with pytest.raises(InputError, match=r"axes TYX, none of them Z; give \[1, 2\]"):
        reconstruct(np.ones((3, 8, 8)), forward={"kind": "downsample", "factor": [2, 1, 2]},
                    axes="TYX")  # fmt: skip
