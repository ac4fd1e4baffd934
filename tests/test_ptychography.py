"""Ptychography: geometry, ePIE with known and refined probe, the words for bad input."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_dps.components import make
from napari_dps.core.likelihood import PoissonLikelihood
from napari_dps.core.streams import Streams
from napari_dps.errors import InputError, RecipeError
from napari_dps.grid import Grid
from napari_dps.recipe import Recipe
from napari_dps.uncertainty.registration import register

SIDE = 16
ROWS, COLUMNS = np.mgrid[-8:8, -8:8]
PROBE = 60 * np.exp(-(ROWS**2 + COLUMNS**2) / 24 * (1 - 0.3j))
PLACES = np.array([[4 * r + 0.3 * c, 4 * c - 0.2 * r] for r in range(5) for c in range(5)])
GRID = Grid((25, SIDE, SIDE), dtype="float64")


def model(**fields):
    """Return a scan of 25 positions."""
    return make("forward", {"kind": "ptychography", "probe": PROBE, "positions": PLACES, **fields})


def truth(shape):
    """Return a phase object (1, 2, Y, X)."""
    rng = np.random.default_rng(1)
    values = np.exp(4j * gaussian_filter(rng.standard_normal(shape), 2))
    return torch.as_tensor(np.stack((values.real, values.imag)))[None]


def error(found, x):
    """Return the relative error within the scanned part, after the phases are matched."""
    inner = np.s_[:, 10:-12, 10:-12]
    want = x[0].numpy()[inner]
    got = register(found[inner], want, phase_only=True)
    return np.linalg.norm(got - want) / np.linalg.norm(want)


def test_the_grid_holds_scan_and_probe():
    operator = model().bind(GRID)
    assert operator.x_shape == (2, 40, 40)
    assert operator.y_shape == (1, 25, 16, 16)
    assert model().measurement_shape((2, 40, 40)) == (25, 16, 16)


def test_a_shifted_position_is_a_shifted_object():
    x = truth((40, 40))
    at = make("forward", {"kind": "ptychography", "probe": PROBE, "positions": [[0, 0], [3, 5]]})
    grid = Grid((2, SIDE, SIDE), dtype="float64")
    shape = at.object_shape()
    x = x[..., : shape[0], : shape[1]]
    z = at.bind(grid)(x)[0, 0]
    patch = (x[0, 0] + 1j * x[0, 1]).numpy()[3:19, 5:21]
    want = np.abs(np.fft.fftshift(np.fft.fft2(PROBE * patch, norm="ortho"))) ** 2
    assert np.allclose(z[1], want)
    assert float(z[1].sum()) == pytest.approx(float((np.abs(PROBE * patch) ** 2).sum()))


def test_metres_follow_the_geometry():
    geometry = {"wavelength": 0.5, "distance": 2.0, "detector_pixel": 100.0}
    pitch = 0.5e-9 * 2.0 / (SIDE * 100e-6)
    metres = model(positions=PLACES * pitch, position_unit="m", **geometry)
    assert np.allclose(metres.places(), model().places())
    assert metres.object_pixel_size(GRID) == pytest.approx((pitch * 1e6,) * 2)
    assert model().object_pixel_size(GRID) is None


@pytest.mark.parametrize("origin", ["centre", "corner"])
def test_epie_gives_the_object_back(origin):
    operator = model(origin=origin).bind(GRID)
    x = truth((40, 40))
    y = torch.poisson(operator(x), generator=torch.Generator().manual_seed(0))
    streams = Streams(0, [0], dtype=torch.float64)
    found = operator.classical_estimate(y, PoissonLikelihood(), None, streams)
    assert error(found.image[0].numpy(), x) < 0.1


def test_a_wrong_probe_is_refined():
    operator = model().bind(GRID)
    x = truth((40, 40))
    y = operator(x)[:, 0].numpy()
    wrong = model(probe=PROBE * np.exp(0.02j * (ROWS**2 + COLUMNS**2)), refine_probe=True)
    report = {}
    found = wrong.resolved(y, GRID, report)
    assert not found.refine_probe
    assert report["probe"]["misfit_after"] < 0.2 * report["probe"]["misfit_before"]
    power = (np.abs(found.complex_probe()) ** 2).sum()
    assert power == pytest.approx(y.sum((2, 3)).mean(), rel=1e-3)
    assert model().resolved(y, GRID, report) == model()


def test_little_overlap_is_told():
    (told,) = model(positions=PLACES * 4).warnings(GRID)
    assert "overlap little" in told
    assert model().warnings(GRID) == []


def test_the_mask_holds_for_every_pattern():
    mask = np.ones((SIDE, SIDE))
    mask[8, 8] = 0
    seen = model(mask=mask).measured_pixels(np.zeros((1, *GRID.shape)))
    assert seen.shape == GRID.shape and (~seen).sum() == 25
    assert model(mask=mask).bind(GRID).measured.shape == (1, *GRID.shape)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"probe": None}, "needs the probe"),
        ({"positions": None}, "needs the positions"),
        ({"probe": np.ones((4, 4))}, "real and imaginary part"),
        ({"probe": np.zeros((4, 4)) * 1j}, "zero everywhere"),
        ({"positions": PLACES[:, :1]}, "finite numbers"),
        ({"positions": PLACES[:9]}, "one position each"),
        ({"positions": PLACES * 1e6}, "check the unit"),
        ({"position_unit": "m"}, "detector_pixel; give all three"),
        ({"mask": np.ones((3, 3))}, "the mask has shape"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(fields, word):
    with pytest.raises(InputError, match=word):
        model(**fields).bind(GRID)


def test_bad_parameters_and_objects_are_refused():
    with pytest.raises(RecipeError, match="wavelength"):
        model(wavelength=-1.0)
    with pytest.raises(InputError, match="scan and probe span"):
        model().measurement_shape((2, 64, 64))


def test_magnitudes_are_no_counts():
    with pytest.raises(RecipeError, match="magnitudes are roots of counts"):
        Recipe(forward=model(measured="magnitude"), noise="poisson")
    assert Recipe(forward=model(measured="magnitude"), noise="gaussian").noise.kind == "gaussian"
    assert Recipe(forward=model(), noise="poisson").noise.kind == "poisson"
