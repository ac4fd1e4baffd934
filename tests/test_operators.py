"""Every forward model: exact adjoints and gradients, flux, borders."""

import numpy as np
import pytest
import torch

from napari_dps.components import make, registry
from napari_dps.core.operator import MappedOperator, dot_test
from napari_dps.errors import InputError
from napari_dps.grid import Grid

SHAPE = (24, 20)
GRID = Grid(SHAPE, dtype="float64")


def spec(kind):
    """Return parameters for kinds that cannot do without."""
    mask = np.ones(SHAPE)
    mask[5:9, 3:12] = 0
    rows, cols = np.mgrid[-4:5, -3:4]
    spot = np.exp(-(rows**2 / 6 + cols**2 / 3)) * (1 + 0.2 * rows)
    places = [[0, 0], [3.5, 1], [1, 4.25]]
    probe = np.exp(-(np.mgrid[-12:12, -10:10] ** 2).sum(0) / 40 * (1 - 0.3j))
    extra = {
        "inpaint": {"mask": mask},
        "psf": {"psf": np.clip(spot, 0, None)},
        "ptychography": {"probe": probe, "positions": places},
        "nonlinear-blur": {"white": 0.9},
        "compose": {
            "steps": [
                {"kind": "nonlinear-blur", "white": 2.0, "extent": 5.0},
                {"kind": "downsample", "factor": [2, 3], "method": "bicubic"},
                {"kind": "random-inpaint", "missing": 0.3},
            ]
        },
    }
    extra |= {key: {"pixel_size": 0.1} for key in ("widefield", "confocal", "lightsheet")}
    return {"kind": kind, **extra.get(kind, {})}


def grid_of(kind):
    """Return a grid that the kind can measure on: a stack where it needs one."""
    stacks = {"fourier-mask": 2, "ptychography": 3}
    return GRID.with_shape((stacks[kind], *SHAPE)) if kind in stacks else GRID


@pytest.fixture(params=list(registry("forward")))
def operator(request):
    return make("forward", spec(request.param)).bind(grid_of(request.param))


def draw(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((2, *shape), generator=generator, dtype=torch.float64) + 0.1


def test_dot_test(operator):
    a, b = dot_test(operator, draw(operator.x_shape))
    assert a == pytest.approx(b, rel=1e-10)


def test_jacobian_agrees_with_finite_differences(operator):
    x, v = draw(operator.x_shape), draw(operator.x_shape, 1)
    z, jvp, _ = operator.linearize(x)
    step = 1e-6
    numeric = (operator(x + step * v) - operator(x - step * v)) / (2 * step)
    assert torch.allclose(z, operator(x))
    assert torch.allclose(jvp(v), numeric, rtol=1e-5, atol=1e-7)


def test_autograd_agrees_with_linearize(operator):
    x = draw(operator.x_shape).requires_grad_(True)
    z = operator(x)
    w = torch.randn_like(z)
    (gradient,) = torch.autograd.grad(z, x, w)
    assert torch.isfinite(gradient).all()
    assert torch.allclose(gradient, operator.linearize(x.detach())[2](w), atol=1e-10)


def test_object_map_has_its_slope(operator):
    scale = torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64)
    mapped = MappedOperator(operator, scale, scale / 6)
    x = draw(operator.x_shape)
    assert torch.allclose(mapped.from_object(mapped.to_object(x)), x)
    a, b = dot_test(mapped, x)
    assert a == pytest.approx(b, rel=1e-10)


@pytest.mark.parametrize("kind", ["gaussian-blur", "psf", "identity"])
@pytest.mark.parametrize("boundary", ["extend", "periodic"])
def test_flux_of_a_flat_field_is_kept(kind, boundary):
    fields = spec(kind) if kind == "identity" else {**spec(kind), "boundary": boundary}
    operator = make("forward", fields).bind(GRID)
    flat = torch.full((1, *operator.x_shape), 7.0, dtype=torch.float64)
    assert torch.allclose(operator(flat), torch.full_like(operator(flat), 7.0))


def test_extended_blur_neither_wraps_nor_darkens():
    operator = make("forward", {"kind": "gaussian-blur", "sigma": 2.0}).bind(GRID)
    x = torch.zeros((1, *operator.x_shape), dtype=torch.float64)
    rows, cols = operator.field
    x[0, 0, rows.start - 1, cols.start + 5] = 100.0  # just outside the upper border
    z = operator(x)[0, 0]
    assert z[0].max() > 1
    assert z[-1].max() < 1e-9


def test_phase_of_a_known_object():
    operator = make("forward", {"kind": "phase-retrieval"}).bind(Grid((32, 32), dtype="float64"))
    assert operator.x_shape == (1, 16, 16)
    x = draw(operator.x_shape)
    z = operator(x)
    assert torch.allclose(z.sum((1, 2, 3)), (x**2).sum((1, 2, 3)))  # Parseval
    turned = operator(x.flip(-1, -2))
    assert torch.allclose(z, turned)
    assert z[0, 0].argmax() == 16 * 32 + 16  # zero frequency in the centre


def test_random_mask_loses_just_the_fraction():
    model = make("forward", {"kind": "random-inpaint", "missing": 0.92})
    assert model.mask((50, 50)).mean() == pytest.approx(0.08)
    assert (model.mask((50, 50)) == model.mask((50, 50))).all()


def test_psf_is_centred_and_normalised():
    spot = np.zeros((15, 15))
    spot[3:6, 9:12] = 1.0
    kernel = make("forward", {"kind": "psf", "psf": spot + 5, "crop": 1.0}).kernel()
    assert kernel.sum() == pytest.approx(1)
    assert all(n % 2 for n in kernel.shape)
    assert np.unravel_index(kernel.argmax(), kernel.shape)[0] in (
        kernel.shape[0] // 2 - 1,
        kernel.shape[0] // 2,
        kernel.shape[0] // 2 + 1,
    )


def test_psf_file_without_numbers_is_refused(tmp_path):
    np.save(tmp_path / "psf.npy", np.full((5, 5), "a"))
    with pytest.raises(InputError, match="real numbers are needed"):
        make("forward", {"kind": "psf", "psf": tmp_path / "psf.npy"}).kernel()


def test_psf_of_one_pixel_or_one_plane():
    assert make("forward", {"kind": "psf", "psf": np.ones((1, 1))}).kernel().shape == (1, 1)
    assert make("forward", {"kind": "psf", "psf": np.eye(3)[None]}).kernel().shape == (3, 3)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (np.zeros((9, 9)), "zero"),
        (-np.ones((9, 9)), "negative"),
        (np.ones((3, 3, 9, 9)), "2D"),
        (np.full((9, 9), np.nan), "NaN"),
        (np.ones((9, 9)), "nowhere brighter than its border"),
    ],
)
def test_bad_psf_is_refused_in_one_sentence(values, word):
    with pytest.raises(InputError, match=word):
        make("forward", {"kind": "psf", "psf": values}).bind(GRID)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (np.zeros(SHAPE), "zero everywhere"),
        (-np.ones(SHAPE), "negative"),
        (np.ones((5, 5)), "shape"),
        (np.ones(SHAPE), "nothing is missing"),
    ],
)
def test_bad_mask_is_refused_in_one_sentence(values, word):
    with pytest.raises(InputError, match=word):
        make("forward", {"kind": "inpaint", "mask": values}).bind(GRID)
