"""Undersampled k-space: masks, the closed-form estimate, complex arrays, words for bad input."""

import numpy as np
import pytest
import torch

import napari_dps
from napari_dps.api import simulate_image
from napari_dps.components import make
from napari_dps.core.likelihood import GaussianLikelihood
from napari_dps.core.streams import Streams
from napari_dps.errors import InputError, RecipeError
from napari_dps.grid import Grid
from napari_dps.recipe import Recipe
from napari_dps.run import Run

SHAPE = (32, 24)
GRID = Grid((2, *SHAPE), dtype="float64")


def model(**fields):
    """Return a model of k-space."""
    return make("forward", {"kind": "fourier-mask", **fields})


def truth(channels):
    """Return a smooth object (1, C, Y, X)."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    values = [np.exp(-((rows - 12) ** 2 + (columns - 10 - 3 * k) ** 2) / 30) for k in range(2)]
    return torch.as_tensor(np.stack(values[:channels]))[None]


@pytest.mark.parametrize("pattern", ["lines", "random"])
def test_masks_hold_the_share_and_the_centre(pattern):
    mask = model(pattern=pattern, acceleration=4, centre=0.1).sampling((64, 64))
    assert mask.mean() == pytest.approx(0.25, abs=0.01)
    assert mask[30:35, 30:35].all()
    assert (mask == model(pattern=pattern, acceleration=4, centre=0.1).sampling((64, 64))).all()
    other = model(pattern=pattern, acceleration=4, centre=0.1, mask_seed=1).sampling((64, 64))
    assert (mask != other).any()
    corner = model(pattern=pattern, acceleration=4, centre=0.1, origin="corner").sampling((64, 64))
    assert (np.fft.fftshift(corner) == mask).all()


def test_full_sampling_is_the_orthonormal_transform():
    x = truth(2)
    z = model(acceleration=1).bind(GRID)(x)[0]
    image = x[0, 0].numpy() + 1j * x[0, 1].numpy()
    assert np.allclose(z[0] + 1j * z[1], np.fft.fftshift(np.fft.fft2(image, norm="ortho")))
    operator = model(acceleration=1, origin="corner").bind(GRID)
    assert torch.allclose(operator.transpose(operator(x)), x)


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_estimate_is_better_than_zero_filling(kind):
    operator = model(object=kind, acceleration=3).bind(GRID)
    x = truth(operator.x_shape[0])
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn((1, *operator.y_shape), generator=generator, dtype=torch.float64)
    y = operator(x) + torch.where(operator.sampled, noise, 0)
    streams = Streams(0, [0], dtype=torch.float64)
    found = operator.classical_estimate(y, GaussianLikelihood(0.1), None, streams)
    rms = (found.image - x).pow(2).mean().sqrt()
    assert rms < 0.9 * (operator.transpose(y) - x).pow(2).mean().sqrt()
    assert 0.3 * rms < float(found.noise) < 3 * rms
    assert float(found.error) >= float(found.noise)


def test_complex_arrays_are_taken_apart():
    values = np.arange(12).reshape(3, 4) * (1 + 2j)
    array, axes = model().real_array(values, None)
    assert axes == "CYX" and np.array_equal(array, [values.real, values.imag])
    array, axes = model().real_array(values[None], "TYX")
    assert axes == "TCYX" and array.shape == (1, 2, 3, 4)
    assert model().real_array(values.real, None)[1] is None
    with pytest.raises(InputError, match="no axis C"):
        model().real_array(values[None], "CYX")


def test_counts_are_refused():
    with pytest.raises(RecipeError, match="give the noise 'gaussian'"):
        Recipe(forward="fourier-mask", noise="poisson")
    assert Recipe(forward="fourier-mask", noise="gaussian").noise.kind == "gaussian"


def test_missing_mean_level_is_told():
    mask = np.ones(SHAPE)
    mask[SHAPE[0] // 2] = 0
    (told,) = model(mask=mask).warnings(GRID)
    assert "zero frequency" in told
    assert model().warnings(GRID) == []


@pytest.mark.parametrize(
    ("fields", "shape", "word"),
    [
        ({}, (3, 32, 24), "real and imaginary part as an axis of length 2"),
        ({}, (32, 24), "real and imaginary part as an axis of length 2"),
        ({"mask": np.ones((4, 4))}, (2, 32, 24), "the mask has shape"),
        ({"mask": np.zeros(SHAPE)}, (2, 32, 24), "zero everywhere"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(fields, shape, word):
    with pytest.raises(InputError, match=word):
        model(**fields).bind(Grid(shape))


def test_bad_parameters_are_refused():
    with pytest.raises(RecipeError, match=r"acceleration = 0\.5"):
        model(acceleration=0.5)
    with pytest.raises(RecipeError, match="pattern"):
        model(pattern="spiral")


@pytest.mark.parametrize("origin", ["centre", "corner"])
def test_noise_from_the_outermost_frequencies(origin):
    rows, columns = np.mgrid[:64, :64]
    image = 20 * np.exp(-((rows - 30) ** 2 + (columns - 25) ** 2) / 60)
    forward = {"kind": "fourier-mask", "object": "real", "acceleration": 3, "origin": origin}
    kspace = napari_dps.simulate(image, forward=forward, noise={"kind": "gaussian", "sigma": 0.3})
    sigma, error = make("forward", forward).white_noise(kspace[None])
    assert sigma == pytest.approx(0.3, rel=0.1)
    assert 0 < error < 0.06
    job = Run(kspace, {"forward": forward, "noise": "gaussian"}, axes="CYX")
    assert job.recipe.noise.sigma == sigma
    assert job.warnings == []


def test_noise_that_k_space_does_not_show():
    forward = {"kind": "fourier-mask", "object": "real", "acceleration": 2}
    image = np.zeros((64, 64))
    image[31:33, 31:33] = 100.0  # falls off as slowly as its two pixels
    sharp = napari_dps.simulate(image, forward=forward, noise={"kind": "gaussian", "sigma": 1e-3})
    for kspace, words in ((sharp, "still hold the object"), (sharp[:, 26:38, 26:38], "too few")):
        with pytest.raises(InputError, match=words):
            make("forward", forward).white_noise(kspace[None])


SLICES = np.stack([truth(1)[0, 0].numpy(), truth(1)[0, 0].numpy()[::-1]])


@pytest.mark.parametrize("axes", [None, "TYX", "ZYX"])
def test_every_slice_of_a_stack_has_both_parts(axes):
    kspace = np.fft.fftshift(np.fft.fft2(SLICES, norm="ortho"), (-2, -1))
    forward = {"kind": "fourier-mask", "object": "real", "acceleration": 1}
    noise = {"kind": "gaussian", "sigma": 0.01}
    job = Run(kspace, {"forward": forward, "noise": noise, "prior": "gaussian"}, axes=axes)
    job._bind()
    assert job._datum.axes == "CYX"
    y = job._problem.y[:, 0] + 1j * job._problem.y[:, 1]
    assert np.allclose(y, kspace, atol=1e-6)


@pytest.mark.parametrize("object", ["real", "complex"])
def test_a_simulated_stack_is_taken_back(object):
    forward = {"kind": "fourier-mask", "object": object}
    parts = {"forward": forward, "noise": {"kind": "gaussian", "sigma": 0.01}}
    stack = SLICES[[0, 1, 0]]
    seen = simulate_image(stack * np.exp(0.3j) if object == "complex" else stack, parts)
    assert (seen.axes, seen.shape) == ("ZCYX", (3, 2, *SHAPE))
    job = Run(seen, {**parts, "prior": "gaussian"})
    job._bind()
    assert np.allclose(job._problem.y.reshape(seen.shape), seen.data)


def test_noise_is_told_from_the_frequencies_that_count():
    noise = np.random.default_rng(0).normal(0, 0.5, (1, 2, 64, 64))
    chosen = model(acceleration=1)
    lost = np.hypot(*np.meshgrid(*[np.arange(64) - 32] * 2)) > 34
    valid = np.broadcast_to(~lost, noise.shape)
    found = chosen.white_noise(np.where(valid, noise, 0), valid=valid)
    assert found[0] == pytest.approx(0.5, rel=0.1)
