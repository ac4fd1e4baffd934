"""The measured PSF: background, centre, pixel size, planes, size."""

import numpy as np
import pytest
import tifffile

from napari_dps.arrays import ArrayRef
from napari_dps.components import make
from napari_dps.core.operator import dot_test
from napari_dps.errors import InputError, RecipeError
from napari_dps.grid import Grid

SIGMAS = np.array([4.0, 2.0, 2.5])
GRID = Grid((30, 40, 40))


def gauss(shape=(40, 51, 60), centre=(19.3, 25.2, 31.4), sigmas=SIGMAS):
    axes = np.indices(shape)
    far = sum(((a - c) / s) ** 2 for a, c, s in zip(axes, centre, sigmas, strict=True))
    return np.exp(-0.5 * far)


def moments(kernel):
    """Return the centre, from the middle, and the standard deviation per axis."""
    axes = np.indices(kernel.shape)
    centre = np.array([(a * kernel).sum() for a in axes])
    spread = [np.sqrt((((a - c) ** 2) * kernel).sum()) for a, c in zip(axes, centre, strict=True)]
    return centre - [n // 2 for n in kernel.shape], np.array(spread)


def psf(values, **fields):
    return make("forward", {"kind": "psf", "psf": values, **fields})


def test_a_volume_is_centred_to_the_pixel_or_exactly():
    for centre, most in (("pixel", 0.5), ("subpixel", 0.03)):
        kernel = psf(gauss(), centre=centre).kernel(GRID)
        offset, spread = moments(kernel)
        assert kernel.sum() == pytest.approx(1)
        assert all(n % 2 for n in kernel.shape)
        assert np.abs(offset).max() < most
        assert spread == pytest.approx(SIGMAS, rel=0.01)


def test_a_psf_that_is_not_centred_keeps_the_middle_of_its_array():
    spot = np.zeros((15, 15))
    spot[3, 9] = 1
    kernel = psf(spot, centre="none", crop=1.0).kernel(Grid((32, 32)))
    assert kernel[kernel.shape[0] // 2 - 4, kernel.shape[1] // 2 + 2] == pytest.approx(1)


def test_noise_around_a_volume_is_not_taken_for_light():
    noise = np.random.default_rng(0).normal(0, 10.0, gauss().shape)
    kernel = psf(1000 * gauss() + 100 + noise, centre="subpixel").kernel(GRID)
    offset, spread = moments(kernel)
    # Clipping alone would give standard deviations of about a quarter of the whole array.
    assert spread == pytest.approx(SIGMAS, rel=0.1)
    assert np.abs(offset).max() < 0.1


@pytest.mark.parametrize("place", [(3, 3), (30, 44), (1, 20)])
def test_one_hot_pixel_is_no_light(place):
    rows, columns = np.mgrid[:41, :52]
    spot = 100 + 300 * np.exp(-((rows - 20) ** 2 / 18 + (columns - 26) ** 2 / 32))
    image = np.random.default_rng(0).poisson(spot).astype(np.float64)
    clean = psf(image).kernel(Grid((64, 80)))
    image[place] = 5000
    kernel = psf(image).kernel(Grid((64, 80)))
    offset, spread = moments(kernel)
    assert np.abs(offset).max() < 0.3 and np.abs(np.subtract(kernel.shape, clean.shape)).max() <= 4
    assert spread == pytest.approx(moments(clean)[1], rel=0.03)


def test_light_in_a_single_pixel_is_a_psf():
    image = np.random.default_rng(0).normal(100, 5, (31, 31))
    image[15, 15] = 3000
    assert psf(image).kernel(Grid((64, 64))).max() > 0.9


@pytest.mark.parametrize("factor", [0.5, 0.8, 2.0, 3.0])
def test_resampling_keeps_light_and_width(factor):
    size = (0.2 * factor, 0.1 * factor, 0.1 * factor)
    kernel = psf(gauss(), psf_pixel_size=[0.2, 0.1, 0.1]).kernel(Grid((60, 60, 60), size))
    offset, spread = moments(kernel)
    assert kernel.sum() == pytest.approx(1)
    # Each pixel integrates: its own width adds to the PSF's where the pixels grow.
    expected = np.sqrt((SIGMAS / factor) ** 2 + (max(0.0, 1 - factor**-2)) / 12)
    assert spread == pytest.approx(expected, rel=0.02)
    assert np.abs(offset).max() < 0.05


def test_a_file_knows_its_pixel_size(tmp_path):
    path = tmp_path / "psf.tif"
    extra = {"axes": "ZYX"}
    for letter, size in zip("ZYX", (200.0, 100.0, 100.0), strict=True):
        extra |= {f"PhysicalSize{letter}": size, f"PhysicalSize{letter}Unit": "nm"}
    tifffile.imwrite(path, gauss().astype(np.float32), ome=True, metadata=extra)
    assert ArrayRef(path).pixel_size() == pytest.approx({"Z": 0.2, "Y": 0.1, "X": 0.1})
    assert ArrayRef(path).shape() == gauss().shape
    grid = Grid((60, 60, 60), (0.4, 0.2, 0.2))
    _, spread = moments(psf(path).kernel(grid))
    assert spread == pytest.approx(np.sqrt((SIGMAS / 2) ** 2 + 1 / 16), rel=0.02)
    assert "0.2 to 0.4 µm" in " ".join(psf(path).warnings(grid))
    # What is typed goes before what the file says; the step in Z stays the file's.
    same = psf(path, psf_pixel_size=0.2).kernel(grid)
    assert moments(same)[1][1:] == pytest.approx(SIGMAS[1:], rel=0.01)
    assert moments(same)[1][0] == pytest.approx(SIGMAS[0] / 2, rel=0.03)


def test_values_with_a_pixel_size_keep_it_beside_a_recipe(tmp_path):
    ref = ArrayRef(np.eye(9), {"Y": 0.1, "X": 0.1})
    written = ref.write_beside(tmp_path).resolved_in(tmp_path)
    assert written.pixel_size() == pytest.approx(ref.pixel_size())
    assert (written.load() == ref.load()).all()
    assert ArrayRef(np.eye(9)).digest != ref.digest


def test_dimensions_follow_the_psf_and_the_stack():
    volume, plane = psf(gauss()), psf(gauss()[19])
    assert volume.dimensions("ZYX", (5, 40, 40)) == 3
    assert volume.dimensions("TZYX", (9, 1, 40, 40)) == 2
    assert volume.dimensions("TYX", (5, 40, 40)) == 2
    assert plane.dimensions("ZYX", (5, 40, 40)) == 2
    assert psf(gauss()[19][None]).dimensions("ZYX", (5, 40, 40)) == 2


def test_of_a_volume_a_plain_image_takes_the_plane_in_focus():
    model, grid = psf(gauss()), Grid((40, 40))
    assert np.allclose(model.kernel(grid), psf(gauss()[19]).kernel(grid), atol=1e-6)
    assert "only the plane in focus" in model.warnings(grid)[0]


def test_a_psf_larger_than_the_image_is_cropped_to_what_reaches_across():
    wide = gauss((200, 301), (100, 150), (60, 70))
    kernel = psf(wide, psf_background="none").kernel(Grid((16, 12)))
    assert kernel.shape == (31, 23)
    assert kernel.sum() == pytest.approx(1)


def test_the_operator_of_a_volume_has_an_exact_adjoint():
    import torch

    operator = psf(gauss()).bind(Grid((12, 14, 16), dtype="float64"))
    x = torch.rand((1, *operator.x_shape), dtype=torch.float64)
    a, b = dot_test(operator, x)
    assert a == pytest.approx(b, rel=1e-10)
    assert torch.allclose(operator(torch.ones_like(x)), torch.ones(1, 1, 12, 14, 16).double())


@pytest.mark.parametrize(
    ("fields", "grid", "word"),
    [
        ({"psf": np.ones((9, 9, 3))}, GRID, "one channel"),
        ({"psf": gauss() - 0.5}, GRID, "negative"),
        ({"psf": gauss(), "psf_pixel_size": [1, 1, 1, 1]}, Grid((9,) * 3, (1, 1, 1)), "4 numbers"),
        ({"psf": gauss(), "psf_pixel_size": 1e-6}, Grid((9, 9), (1, 1)), "one of the two is wrong"),
    ],
)
def test_a_bad_psf_is_one_sentence(fields, grid, word):
    with pytest.raises(InputError, match=word):
        make("forward", {"kind": "psf", **fields}).kernel(grid)


def test_a_pixel_size_of_nothing_is_refused():
    with pytest.raises(RecipeError, match="psf_pixel_size"):
        psf(gauss(), psf_pixel_size=0)
