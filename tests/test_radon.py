"""Tomography: agreement with scikit-image, flux, layouts, the words for bad input."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import napari_dps
from napari_dps.components import make
from napari_dps.core.operator import dot_test
from napari_dps.demo import fit_one_gain
from napari_dps.demo._baselines import filtered_back_projection
from napari_dps.errors import InputError, RecipeError
from napari_dps.forward import _radon
from napari_dps.grid import Grid
from napari_dps.image import Image
from napari_dps.report import object_coordinates
from napari_dps.run import Run

skimage_transform = pytest.importorskip("skimage.transform")


def slice_of(side, seed=0):
    """Return a smooth slice that is zero outside the circle."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] - side // 2
    inside = rows**2 + columns**2 < (0.35 * side) ** 2
    return gaussian_filter(inside * (1 + rng.random((side, side))), 1.0)


def project(values, **fields):
    """Return the sinogram of a slice."""
    model = make("forward", {"kind": "radon", **fields})
    operator = model.bind(Grid(model.measurement_shape(values.shape), dtype="float64"))
    return operator(torch.as_tensor(values)[None, None])[0, 0].numpy()


@pytest.mark.parametrize("side", [64, 65])
def test_agrees_with_scikit_image(side):
    values, angles = slice_of(side), np.linspace(-20, 150, 23)
    theirs = skimage_transform.radon(values, angles, circle=True)
    ours = project(values, angles=angles, layout="detector-angles", centre=float(side // 2))
    assert np.abs(ours - theirs).max() < 0.01 * theirs.max()


def test_every_projection_holds_all_of_the_light():
    values = slice_of(40)
    sinogram = project(values, count=11)
    assert sinogram.shape == (11, 40)
    assert np.allclose(sinogram.sum(1), values.sum(), rtol=1e-9)
    assert np.allclose(sinogram[0], values.sum(0))


def test_products_without_a_matrix_are_the_same(monkeypatch):
    grid, model = Grid((9, 24), dtype="float64"), make("forward", "radon")
    kept = model.bind(grid)
    monkeypatch.setattr(_radon, "MOST", 0)
    computed = model.bind(grid)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((2, 1, 24, 24), generator=generator, dtype=torch.float64)
    assert computed._to_data is None and kept._to_data is not None
    assert torch.allclose(kept(x), computed(x))
    assert torch.allclose(kept.transpose(kept(x)), computed.transpose(computed(x)))
    a, b = dot_test(computed, x, generator)
    assert a == pytest.approx(b, rel=1e-10)


def test_layouts_are_transposes_of_each_other():
    values = slice_of(32)
    assert np.array_equal(
        project(values, count=7), project(values, count=7, layout="detector-angles").T
    )


def test_limited_angles_and_few_projections_are_told():
    model = make("forward", {"kind": "radon", "angular_range": 120})
    (told,) = model.warnings(Grid((60, 64)))
    assert "gap of 62 degrees" in told
    (told,) = make("forward", "radon").warnings(Grid((8, 64)))
    assert "8 projections" in told
    assert make("forward", "radon").warnings(Grid((90, 64))) == []


def test_the_slice_has_the_pitch_of_the_detector():
    model = make("forward", "radon")
    assert model.object_pixel_size(Grid((30, 32), (1.0, 0.2))) == (0.2, 0.2)
    assert model.object_pixel_size(Grid((30, 32))) is None


def test_filtered_back_projection_returns_the_slice():
    values = slice_of(64)
    sinogram = project(values)
    found = filtered_back_projection(sinogram, 180 * np.arange(len(sinogram)) / len(sinogram))
    assert fit_one_gain(found, values) == pytest.approx(1, abs=0.02)
    assert np.sqrt(((found - values) ** 2).mean()) < 0.06 * values.max()


def test_simulate_and_restore():
    truth = 40 * slice_of(32)
    forward, noise = {"kind": "radon", "count": 16}, {"kind": "gaussian", "sigma": 8.0}
    counts = napari_dps.simulate(truth, forward=forward, noise=noise)
    prior = {"kind": "gaussian", "mean": -0.3, "std": 0.6, "correlation_length": 2.0, "exponent": 2}
    sampler = {"kind": "pigdm", "steps": 20}
    result = napari_dps.reconstruct(
        counts, forward=forward, noise=noise, prior=prior, sampler=sampler, samples=2, device="cpu"
    )
    assert result.mean.shape == (32, 32)
    classical = filtered_back_projection(counts.astype(float), 180 * np.arange(16) / 16)
    ours = np.sqrt(((result.mean - truth) ** 2).mean())
    assert ours < 0.7 * np.sqrt(((classical - truth) ** 2).mean())
    assert 0.7 < result.report["misfit"] < 1.3


@pytest.mark.parametrize(
    ("fields", "shape", "word"),
    [
        ({"angles": [0.0, 10.0]}, (20, 24), "20 projections, but 2 angles"),
        ({"count": 30}, (20, 24), "detector-angles"),
        ({"angles": np.zeros((2, 2))}, (4, 24), "a list with one number"),
        ({"angles": [0.0, np.nan]}, (2, 24), "NaN"),
        ({"centre": 30.0}, (20, 24), "beyond the detector"),
        ({}, (20, 5), "at least 8"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(fields, shape, word):
    with pytest.raises(InputError, match=word):
        make("forward", {"kind": "radon", **fields}).bind(Grid(shape))


def test_bad_parameters_and_slices_are_refused():
    with pytest.raises(RecipeError, match="give a number"):
        make("forward", {"kind": "radon", "angular_range": 0})
    with pytest.raises(InputError, match="square"):
        make("forward", "radon").measurement_shape((20, 30))


@pytest.mark.parametrize("layout", ["angles-detector", "detector-angles"])
@pytest.mark.parametrize("chained", [False, True])
def test_a_slice_takes_the_detectors_pitch_alone(layout, chained):
    values = np.random.default_rng(0).poisson(50, (12, 16)).astype(np.float64)
    scale, units, begin = (15.0, 0.5), ("degree", "micrometer"), (30.0, 7.0)
    if layout == "detector-angles":
        values, scale, units, begin = values.T, scale[::-1], units[::-1], begin[::-1]
    turned = {"kind": "radon", "layout": layout}
    forward = turned
    if chained:
        steps = [{"kind": "gaussian-blur", "sigma": 0.5, "boundary": "periodic"}, turned]
        forward = {"kind": "compose", "steps": steps}
    job = Run(
        Image(values, "YX", scale, units, begin),
        {"forward": forward, "prior": "gaussian", "samples": 1},
    )
    job._bind()
    assert job.recipe.forward.object_pixel_size(job._grid) == (0.5, 0.5)
    found = object_coordinates(job.image, job, (16, 16))
    assert found.scale == (0.5, 0.5) and found.units == ("micrometer", "micrometer")
    assert found.translate == (7.0, 7.0)


def test_a_count_that_contradicts_the_angles_is_refused():
    with pytest.raises(InputError, match="count = 9, but 12 angles were given; leave `count` out"):
        make("forward", {"kind": "radon", "angles": np.arange(12.0), "count": 9}).bind(
            Grid((12, 16))
        )
    same = make("forward", {"kind": "radon", "angles": np.arange(12.0), "count": 12})
    assert same.bind(Grid((12, 16))).y_shape == (1, 12, 16)
