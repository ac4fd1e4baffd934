"""Singular value decompositions that cost a few transforms, against the operators."""

import numpy as np
import pytest
import torch

from napari_dps.components import make
from napari_dps.core.channelwise import ChannelwiseOperator
from napari_dps.core.svd import decompose
from napari_dps.grid import Grid
from napari_dps.light import illuminated

CORNER = np.zeros((6, 8))
CORNER[1:, :6] = 1
OBLIQUE = np.array([[0, 1, 2], [0, 3, 1], [1, 0.5, 0]], float)
BLUR = {"kind": "gaussian-blur", "sigma": 0.6}
CASES = {
    "identity": {"kind": "identity"},
    "mask": {"kind": "inpaint", "mask": CORNER},
    "sensitivity": {"kind": "inpaint", "mask": CORNER, "flat_field": 1 + np.eye(6, 8)},
    "light": {"kind": "identity", "background": 3.0},
    "random mask": {"kind": "random-inpaint", "missing": 0.5},
    "periodic blur": BLUR | {"boundary": "periodic"},
    "blur": BLUR,
    "oblique blur": {"kind": "psf", "psf": OBLIQUE, "boundary": "periodic"},
    "binning": {"kind": "downsample", "factor": [2, 3]},
    "bicubic": {"kind": "downsample", "method": "bicubic"},
    "blur, then binning": {"kind": "compose", "steps": [BLUR, {"kind": "downsample"}]},
    "identity, then blur": {"kind": "compose", "steps": [{"kind": "identity"}, BLUR]},
    "two masks": {
        "kind": "compose",
        "steps": [{"kind": "inpaint", "mask": CORNER}, {"kind": "identity"}],
    },
}
KSPACE = {
    "lines, complex": {"acceleration": 2},
    "points, real": {"acceleration": 3, "pattern": "random", "object": "real"},
    "corner, real": {"acceleration": 2, "object": "real", "origin": "corner"},
}


def dense(operator):
    """Return A of an affine operator, (data, object)."""
    n = int(np.prod(operator.x_shape))
    eye = torch.eye(n, dtype=torch.float64).reshape(n, *operator.x_shape)
    return (operator(eye) - operator(torch.zeros_like(eye[:1]))).reshape(n, -1).T


def check(operator):
    """Compare a decomposition with the operator and its transpose."""
    basis = decompose(operator)
    a = dense(operator)
    g = torch.Generator().manual_seed(0)
    x = torch.randn((2, *operator.x_shape), generator=g, dtype=torch.float64)
    c = basis.vt(x)
    torch.testing.assert_close(basis.v(c), x, rtol=0, atol=1e-12)
    linear = operator(x) - operator(torch.zeros_like(x))
    torch.testing.assert_close(basis.ut(linear), basis.singular * c, rtol=0, atol=1e-9)
    # U^H U S = S above, V V^H = 1 and A^T = V S U^H: nothing is left to be wrong.
    v = torch.randn((1, *operator.y_shape), generator=g, dtype=torch.float64)
    back = basis.v(basis.singular * basis.ut(v)).flatten()
    torch.testing.assert_close(back, a.T @ v.flatten(), rtol=0, atol=1e-9)
    return basis


@pytest.mark.parametrize("name", CASES)
def test_decompositions_are_those_of_the_operators(name):
    spec = CASES[name]
    operator = illuminated(make("forward", spec), Grid((6, 8), dtype="float64"))
    basis = check(operator)
    assert basis.pixelwise == (operator.y_shape == operator.x_shape and "blur" not in name)


@pytest.mark.parametrize("name", KSPACE)
def test_sampled_kspace_is_decomposed(name):
    model = make("forward", {"kind": "fourier-mask", **KSPACE[name]})
    operator = model.bind(Grid((2, 6, 5), dtype="float64"))
    basis = check(operator)
    known = operator.measured.clone()[None]
    lost = torch.nonzero(known[0, 1])[0]
    known[0, 1, lost[0], lost[1]] = False  # the imaginary part of one frequency
    less = basis.restricted(known)
    v = torch.randn((1, *operator.y_shape), dtype=torch.float64)
    both = known.all(1, keepdim=True)
    torch.testing.assert_close(less.v(less.singular * less.ut(v)), operator.transpose(v * both))


@pytest.mark.parametrize("boundary", ["extend", "periodic"])
def test_volumes_and_colours_are_decomposed(boundary):
    spec = BLUR | {"boundary": boundary}
    check(make("forward", spec).bind(Grid((3, 4, 5), dtype="float64")))
    plane = make("forward", spec).bind(Grid((4, 5), dtype="float64"))
    check(ChannelwiseOperator(plane, 3))


def test_a_blur_that_has_none_is_made_periodic_on_a_wider_grid():
    operator = make("forward", {"kind": "psf", "psf": OBLIQUE}).bind(Grid((6, 8), dtype="float64"))
    basis = decompose(operator)
    x = torch.randn((2, *operator.x_shape), dtype=torch.float64)
    wide = basis.u(basis.singular * basis.vt(x))
    torch.testing.assert_close(operator.crop(wide), operator(x))
    known = basis.place(torch.ones((1, 1, 6, 8), dtype=torch.bool))
    assert known.sum() == 48 and known.shape[1:] == operator.x_shape
    assert basis.restricted(known) is None


def test_none_is_claimed_where_pixels_mix_unevenly():
    grid = Grid((6, 8), dtype="float64")
    uneven = make("forward", BLUR | {"flat_field": 1 + np.eye(6, 8)})
    assert decompose(illuminated(uneven, grid)) is None
    first = {"kind": "compose", "steps": [{"kind": "random-inpaint"}, BLUR]}
    assert decompose(make("forward", first).bind(grid)) is None
    mixed = {"kind": "compose", "steps": [{"kind": "psf", "psf": OBLIQUE}, {"kind": "downsample"}]}
    assert decompose(make("forward", mixed).bind(grid)) is None
    assert decompose(make("forward", "radon").bind(Grid((4, 9), dtype="float64"))) is None
