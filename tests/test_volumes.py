"""Objects that are more than a plane: volumes, complex ones, and objects on a grid of their own."""

from typing import ClassVar, Literal

import numpy as np
import pytest
import torch

from napari_dps import reconstruct, simulate
from napari_dps import run as bound_run
from napari_dps.components import ForwardModel
from napari_dps.core.operator import LinearOperator
from napari_dps.core.prior import Prior
from napari_dps.core.slicewise import ChannelwisePrior, SlicewisePrior
from napari_dps.errors import InputError
from napari_dps.grid import Grid
from napari_dps.memory import Layout, layout, smaller
from napari_dps.recipe import Recipe
from napari_dps.run import Run

QUICK = {"kind": "mmps", "steps": 8, "iterations": 6}


class AxialBlur(ForwardModel):
    """Blur along Z as well."""

    kind: Literal["test-axial"] = "test-axial"
    title: ClassVar[str] = "Test"

    def dimensions(self, axes, shape):
        return 3 if "Z" in axes and shape[axes.index("Z")] > 1 else 2

    def bind(self, grid):
        from napari_dps.forward._convolution import Convolution

        line = np.array([0.05, 0.25, 0.4, 0.25, 0.05])
        psf = np.multiply.outer(line, np.outer(line, line))
        return Convolution(psf if len(grid.shape) == 3 else psf.sum(0), grid)


class Halved(ForwardModel):
    """Bins of two by two."""

    kind: Literal["test-halved"] = "test-halved"
    title: ClassVar[str] = "Test"

    def measurement_shape(self, object_shape):
        return tuple(n // 2 for n in object_shape)

    def object_pixel_size(self, grid):
        return None if grid.pixel_size is None else tuple(p / 2 for p in grid.pixel_size)

    def object_offset(self, grid):
        return (-0.5,) * len(grid.shape)

    def bind(self, grid):
        return _Bins(grid)


class _Bins(LinearOperator):
    def __init__(self, grid):
        super().__init__((1, *(2 * n for n in grid.shape)), (1, *grid.shape))

    def __call__(self, x, theta=None):
        return torch.nn.functional.avg_pool2d(x, 2)

    def transpose(self, v):
        return v.repeat_interleave(2, -1).repeat_interleave(2, -2) / 4


class ComplexIdentity(ForwardModel):
    """Real and imaginary part, both recorded: a stack of two."""

    kind: Literal["test-complex"] = "test-complex"
    title: ClassVar[str] = "Test"

    def dimensions(self, axes, shape):
        return 3

    def object_dimensions(self, axes, shape):
        return 2

    def object_channels(self):
        return 2

    def measurement_shape(self, object_shape):
        return (2, *object_shape)

    def bind(self, grid):
        return _Both(grid)


class _Both(LinearOperator):
    def __init__(self, grid):
        super().__init__((2, *grid.shape[1:]), (1, *grid.shape))

    def __call__(self, x, theta=None):
        return x[:, None]

    def transpose(self, v):
        return v[:, 0]


class Wavy(Prior):
    """Nonlinear in every plane; knows its level."""

    def forward(self, x, sigma):
        level = sigma.reshape(-1, 1, 1, 1) if isinstance(sigma, torch.Tensor) else sigma
        return torch.sin(x).cumsum(-1) / (1 + level)


@pytest.mark.parametrize("level", [0.5, torch.tensor([0.2, 0.7], dtype=torch.float64)])
@pytest.mark.parametrize("at_once", [None, 3])
def test_planes_are_treated_one_by_one(level, at_once):
    x = torch.randn((2, 1, 4, 5, 6), dtype=torch.float64)
    prior = SlicewisePrior(Wavy(), at_once)
    x0, vjp = prior.linearize(x, level)
    assert torch.equal(x0, prior(x, level))
    for b in range(2):
        one = level if isinstance(level, float) else float(level[b])
        for z in range(4):
            assert torch.allclose(x0[b : b + 1, :, z], Wavy()(x[b : b + 1, :, z], one))
    leaf = x.clone().requires_grad_(True)
    v = torch.randn_like(x)
    (expected,) = torch.autograd.grad(SlicewisePrior(Wavy())(leaf, level), leaf, v)
    assert torch.allclose(vjp(v), expected)
    assert torch.allclose(vjp(v), expected)  # as often as a sampler likes


def test_channels_are_treated_one_by_one():
    x = torch.randn((3, 2, 5, 6), dtype=torch.float64)
    x0, vjp = ChannelwisePrior(Wavy()).linearize(x, 0.5)
    assert torch.allclose(x0[:, 1:], Wavy()(x[:, 1:], 0.5))
    v = torch.randn_like(x)
    assert torch.allclose(vjp(v)[:, :1], Wavy().linearize(x[:, :1], 0.5)[1](v[:, :1]))


def test_a_volume_too_large_is_cut_into_planes_before_tiles():
    assert layout(1, (10, 64, 64), 1e4, "cpu").planes is None
    cut = layout(1, (1000, 64, 64), 1e4, "cpu")
    assert cut.batch == 1 and cut.tile is None and 1 < cut.planes < 1000
    assert layout(1, (10, 2048, 2048), 1e5, "cpu").planes == 1
    assert smaller(Layout(1), (8, 64, 64)).planes == 4
    assert smaller(Layout(1, None, 1), (8, 256, 256)) == Layout(1, 128, 1)


@pytest.fixture(scope="module")
def ball():
    z, y, x = np.mgrid[:4, :20, :20]
    return 40.0 + 200 * ((z - 1.5) ** 2 * 4 + (y - 10) ** 2 + (x - 9) ** 2 < 36)


@pytest.mark.parametrize(
    ("prior", "gain"), [({"kind": "gaussian", "std": 0.6}, 0.97), ("fluorescence", 0.9)]
)
def test_a_volume_is_restored_as_one(ball, prior, gain):
    forward = AxialBlur()
    measured = simulate(ball, (forward, "poisson"), 3)
    assert measured.shape == ball.shape
    result = reconstruct(
        measured, forward=forward, prior=prior, sampler=QUICK, samples=2, pixel_size=0.1
    )
    assert result.axes == "ZYX" and result.mean.shape == ball.shape
    assert result.scale == (0.1, 0.1, 0.1)
    before, after = ((v - ball).std() for v in (measured, result.mean))
    assert after < gain * before
    assert 0.7 < result.report["misfit"] < 1.2
    flux = result.report["flux"]
    assert abs(flux["measured"][0] - flux["expected"][0]) < 4 * flux["error"][0]


def test_time_and_other_axes_are_frames_of_volumes(ball):
    measured = simulate(np.stack([ball, 2 * ball]), (AxialBlur(), "poisson"), 3)
    result = reconstruct(
        measured, forward=AxialBlur(), prior="gaussian", sampler=QUICK, samples=1, axes="TZYX"
    )
    assert result.axes == "TZYX" and result.mean.shape == (2, *ball.shape)
    turned = reconstruct(
        measured.transpose(1, 0, 2, 3),
        forward=AxialBlur(), prior="gaussian", sampler=QUICK, samples=1, axes="ZTYX",
    )  # fmt: skip
    assert np.array_equal(turned.mean, result.mean.transpose(1, 0, 2, 3))


@pytest.mark.parametrize(
    ("sampler", "relative", "absolute"),
    [({"kind": "pigdm", "steps": 8}, 1e-4, 0.01), ({"kind": "mmps"}, 1e-3, 0.05)],
)
def test_planes_in_chunks_give_the_same_volume(ball, monkeypatch, sampler, relative, absolute):
    measured = simulate(ball, (AxialBlur(), "poisson"), 3)

    def restore():
        return reconstruct(measured, forward=AxialBlur(), sampler=sampler, samples=1).mean

    whole = restore()
    original = bound_run.whole_prior

    def chunked(one):
        one._layout = Layout(1, None, 2)
        return original(one)

    monkeypatch.setattr(bound_run, "whole_prior", chunked)
    assert np.allclose(restore(), whole, rtol=relative, atol=absolute)


def test_one_plane_of_a_volume_model_is_an_image(ball):
    measured = simulate(ball[2], (AxialBlur(), "poisson"), 3)
    result = reconstruct(measured, forward=AxialBlur(), prior="gaussian", sampler=QUICK, samples=1)
    assert result.axes == "YX"


def test_plan_of_a_volume(ball):
    def plan(forward):
        recipe = Recipe.parse(None, prior="gaussian", samples=2, forward=forward)
        return Run(ball, recipe).plan()

    planes, volume = plan("identity"), plan(AxialBlur())
    assert planes.seconds > 0 and volume.seconds > 0
    assert volume.network_calls < planes.network_calls  # one network call holds all planes


def test_the_object_has_a_finer_grid_and_its_place():
    y, x = np.mgrid[:32, :32]
    truth = 30.0 + 100 * np.exp(-((y - 15) ** 2 + (x - 13) ** 2) / 30)
    measured = simulate(truth, (Halved(), "poisson"), 1)
    assert measured.shape == (16, 16)
    result = reconstruct(
        measured, forward=Halved(), prior="gaussian", sampler=QUICK, samples=2, pixel_size=0.2
    )
    assert result.mean.shape == (32, 32)
    assert result.scale == pytest.approx((0.1, 0.1))
    assert result.translate == pytest.approx((-0.05, -0.05))
    assert result.units == ("micrometer", "micrometer")
    plain = reconstruct(measured, forward=Halved(), prior="gaussian", sampler=QUICK, samples=1)
    assert plain.scale == (0.5, 0.5) and plain.units == ("pixel", "pixel")
    again = simulate(result.mean, (Halved(), {"kind": "gaussian", "sigma": 0.1}))
    assert np.corrcoef(again.ravel(), measured.ravel())[0, 1] > 0.9


def test_a_complex_object_comes_back_as_two_channels():
    y, x = np.mgrid[:16, :16]
    truth = np.stack([np.cos(x / 4), np.sin(y / 3)])
    noise = {"kind": "gaussian", "sigma": 0.05}
    measured = simulate(truth, (ComplexIdentity(), noise), 1, axes="CYX")
    assert measured.shape == (2, 16, 16)
    result = reconstruct(
        measured, forward=ComplexIdentity(), noise=noise, prior="gaussian", sampler=QUICK, samples=2
    )
    assert result.axes == "CYX" and result.mean.shape == truth.shape
    assert np.abs(result.mean - truth).max() < 0.3
    with pytest.raises(InputError, match="real and imaginary part"):
        simulate(truth[0], (ComplexIdentity(), noise))
    with pytest.raises(InputError, match="needs a stack"):
        reconstruct(truth[0], forward=ComplexIdentity(), noise=noise)
    with pytest.raises(InputError, match="already"):
        reconstruct(np.stack([truth] * 3), forward=ComplexIdentity(), noise=noise, axes="CTYX")


def test_masks_of_volumes(ball):
    measured = simulate(ball, (AxialBlur(), "poisson"), 3).astype(float)
    measured[1, 3, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        reconstruct(measured, forward=AxialBlur())
    for valid in (np.isfinite(measured), np.isfinite(measured[1])):
        run = Run(measured, {"valid": valid, "prior": "gaussian"})
        assert not run._prepared.valid[1, 3, 3]
    given = {"valid": np.isfinite(measured), "prior": "gaussian", "sampler": QUICK, "samples": 1}
    assert np.isfinite(reconstruct(measured, given, forward=AxialBlur()).mean).all()


def test_grid_of_a_scan_has_no_axial_pitch():
    from napari_dps.datum import Datum, grid_of
    from napari_dps.image import Image

    image = Image(np.ones((4, 9, 9)), "TYX").with_pixel_size(0.1)
    grid = grid_of(image, Datum("TYX", "YX"))
    assert np.isnan(grid.pixel_size[0]) and grid.pixel_size[1:] == (0.1, 0.1)
    assert grid_of(Image(np.ones((9, 9)), "YX"), Datum()) == Grid((9, 9))
