"""Phase retrieval: complex objects, supports from the pattern, registration of its solutions."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import napari_dps
from napari_dps.components import make
from napari_dps.core.operator import dot_test
from napari_dps.core.phasing import phase_by_projections
from napari_dps.core.streams import Streams
from napari_dps.errors import InputError, RecipeError
from napari_dps.grid import Grid
from napari_dps.recipe import Recipe
from napari_dps.uncertainty.registration import register

SIDE = 24


def model(**fields):
    """Return a model of phase retrieval."""
    return make("forward", {"kind": "phase-retrieval", **fields})


def asymmetric_support():
    """Return a support that is not its own mirror image."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    disk = (rows - 10) ** 2 / 49 + (columns - 12) ** 2 / 25 < 1
    return disk & ((rows - 15) ** 2 + (columns - 14) ** 2 >= 6)


def complex_object():
    """Return an object within the support, real and imaginary part."""
    rng = np.random.default_rng(0)
    size = 1 + gaussian_filter(rng.standard_normal((SIDE, SIDE)), 1.5)
    phase = 3 * gaussian_filter(rng.standard_normal((SIDE, SIDE)), 2)
    values = asymmetric_support() * size * np.exp(1j * phase)
    return np.stack((values.real, values.imag))


def test_complex_objects_and_one_factor_per_axis():
    operator = model(object="complex", oversampling=(2, 3)).bind(Grid((48, 60), dtype="float64"))
    assert operator.x_shape == (2, 24, 20)
    x = torch.rand((2, 2, 24, 20), dtype=torch.float64)
    a, b = dot_test(operator, x, torch.Generator().manual_seed(0))
    assert a == pytest.approx(b, rel=1e-10)
    turned = torch.stack((0.6 * x[:, 0] - 0.8 * x[:, 1], 0.8 * x[:, 0] + 0.6 * x[:, 1]), 1)
    assert torch.allclose(operator(x), operator(turned))
    twin = torch.stack((x[:, 0].flip(-1, -2), -x[:, 1].flip(-1, -2)), 1)
    assert torch.allclose(operator(x), operator(twin))
    assert model(oversampling=(2, 3)).measurement_shape((24, 20)) == (48, 60)


def test_a_tight_support_gives_the_complex_object_back():
    truth = complex_object()
    support = asymmetric_support()
    grid = Grid((2 * SIDE, 2 * SIDE), dtype="float64")
    operator = model(object="complex", support=support, measured="magnitude").bind(grid)
    y = operator(torch.as_tensor(truth)[None])
    streams = Streams(0, [0], dtype=torch.float64)
    parts = (operator.far_field, operator.back, y, None, streams, operator.x_shape)
    found = phase_by_projections(*parts, rounds=((4, 150),), positive=False)
    got = register(found.image[0].numpy(), truth)
    assert np.linalg.norm(got - truth) < 0.05 * np.linalg.norm(truth)
    assert abs(float(found.image[0, 1].sum())) < 1e-6 * float(found.image[0, 0].sum())


@pytest.mark.parametrize("origin", ["centre", "corner"])
def test_support_by_autocorrelation_holds_the_object(origin):
    truth = np.zeros((SIDE, SIDE))
    truth[9:15, 8:15] = 5.0
    grid = Grid((2 * SIDE, 2 * SIDE), dtype="float64")
    chosen = model(support="autocorrelation", origin=origin)
    y = chosen.bind(grid)(torch.as_tensor(truth)[None, None])[0].numpy()
    report = {}
    found = chosen.resolved(y, grid, report)
    support = found.support.load()
    assert 0.1 < support.mean() < 0.5
    assert report["support"]["share"] == pytest.approx(support.mean())
    assert support[8:17, 8:17].all()  # shifts at which the square meets a good part of itself
    assert found.bind(grid).support is not None
    assert model().resolved(y, grid, {}) == model()


def test_registration_undoes_flip_shift_and_phase():
    truth = complex_object()
    twin = truth[:, ::-1, ::-1] * np.array([1, -1])[:, None, None]
    z = np.roll(twin[0] + 1j * twin[1], (3, -5), (0, 1)) * np.exp(1.1j)
    assert np.allclose(register(np.stack((z.real, z.imag)), truth), truth)


def test_registration_by_phase_alone_leaves_places():
    truth = complex_object()
    z = np.roll(truth[0] + 1j * truth[1], 3, 0) * np.exp(0.4j)
    moved = np.roll(truth, 3, 1)
    got = register(np.stack((z.real, z.imag)), moved, phase_only=True)
    assert np.allclose(got, moved)
    assert np.array_equal(register(moved[0], truth[0], phase_only=True), moved[0])


def test_a_loose_complex_object_is_told():
    grid = Grid((48, 48))
    (told,) = model(object="complex").warnings(grid)
    assert "give a support" in told
    assert model(object="complex", oversampling=3).warnings(grid) == []
    assert model().warnings(grid) == []


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"oversampling": (4, 2)}, "at least 8 pixels"),
        ({"support": np.ones((5, 5))}, "the support has shape"),
        ({"mask": np.zeros((24, 24))}, "zero everywhere"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(fields, word):
    with pytest.raises(InputError, match=word):
        model(**fields).bind(Grid((24, 24)))


@pytest.mark.parametrize("value", [0.5, 20, (2, 0.5)])
def test_bad_oversampling_is_refused(value):
    with pytest.raises(RecipeError, match="oversampling"):
        model(oversampling=value)


def test_a_number_of_bright_pixels_picks_the_sparse_solution():
    rng = np.random.default_rng(3)
    truth = np.zeros((32, 32))
    truth[tuple(rng.integers(0, 32, (2, 24)))] = 1 + rng.random(24)
    grid = Grid((32, 32), dtype="float64")
    chosen = model(oversampling=1.0, support_pixels=24, measured="magnitude").bind(grid)
    y = chosen(torch.as_tensor(truth)[None, None])
    parts = (chosen.far_field, chosen.back, y, None, Streams(0, [0], dtype=torch.float64))
    found = phase_by_projections(*parts, chosen.x_shape, rounds=((4, 120),), pixels=24, polish=30)
    got = register(found.image[0, 0].numpy(), truth)
    assert int((found.image > 0).sum()) <= 24
    assert np.linalg.norm(got - truth) < 0.05 * np.linalg.norm(truth)
    assert not chosen.multimodal


@pytest.mark.parametrize("chained", [False, True])
def test_the_word_autocorrelation_is_no_path(chained):
    x = np.zeros((16, 16))
    x[5:9, 4:10] = 30.0
    far = {"kind": "phase-retrieval", "support": "autocorrelation"}
    y = napari_dps.simulate(x, forward={"kind": "phase-retrieval"}, noise="poisson")
    forward = {"kind": "compose", "steps": [far]} if chained else far
    found = napari_dps.reconstruct(
        y, forward=forward, prior="gaussian", sampler={"kind": "dps", "steps": 2}, samples=1
    )
    assert 0 < found.report["forward"]["support"]["share"] < 1
    used = found.recipe.forward.steps[0] if chained else found.recipe.forward
    assert used.support.load().shape == (16, 16)
    with pytest.raises(InputError, match="there is no such file"):
        napari_dps.reconstruct(y, forward={"kind": "phase-retrieval", "support": "nowhere.npy"})


@pytest.mark.parametrize("noise", ["poisson", "poisson-gaussian"])
def test_magnitudes_are_no_counts(noise):
    far = {"kind": "phase-retrieval", "measured": "magnitude"}
    with pytest.raises(RecipeError, match=r"'intensity' with the counts.*'gaussian', with sigma 0"):
        Recipe(forward=far, noise=noise)
    with pytest.raises(RecipeError, match="magnitudes are roots of counts"):
        Recipe(forward={"kind": "compose", "steps": ["gaussian-blur", far]}, noise=noise)
    assert Recipe(forward=far, noise="gaussian").forward.measured == "magnitude"
    assert Recipe(forward="phase-retrieval", noise=noise).noise.kind == noise


def test_a_support_of_another_shape_is_told_the_objects():
    with pytest.raises(InputError, match=r"the object has \(16, 16\): give a support of the obj"):
        model(support=np.ones((32, 32))).bind(Grid((32, 32)))
