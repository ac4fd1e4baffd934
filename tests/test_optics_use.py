"""Microscopes as a user meets them: pixel sizes, warnings, bad input, what is kept and cut."""

import numpy as np
import pytest
import torch

from napari_dps.components import make
from napari_dps.errors import InputError, RecipeError
from napari_dps.forward._kernel import make_kernel
from napari_dps.grid import Grid
from napari_dps.run import Run

GRID2 = Grid((48, 40), (0.06, 0.06), dtype="float64")


def model(kind="widefield", **fields):
    return make("forward", {"kind": kind, **fields})


def test_kernel_is_computed_once():
    make_kernel.cache_clear()
    choice = model(numerical_aperture=1.1)
    choice.bind(GRID2)
    choice.warnings(GRID2)
    assert make_kernel.cache_info().misses == 1
    psf = choice.psf(GRID2)
    psf[:] = 0  # a copy: the cache keeps its own
    assert choice.psf(GRID2).sum() == pytest.approx(1)


def test_stacks_are_volumes_only_along_z():
    wide = model()
    assert wide.dimensions("ZYX", (10, 64, 64)) == 3
    assert wide.dimensions("TYX", (10, 64, 64)) == 2
    assert wide.dimensions("ZYX", (1, 64, 64)) == 2


def test_pitch_comes_from_the_image_or_from_the_parameters():
    silent = Grid((8, 32, 32))
    given = model(pixel_size=0.1, z_step=0.3)
    assert given.pitch(silent) == (0.3, 0.1, 0.1)
    assert given.object_pixel_size(silent) == (0.3, 0.1, 0.1)
    assert model().object_pixel_size(silent) is None
    assert given.object_pixel_size(Grid((8, 32, 32), (1.0, 2.0, 2.0))) == (1.0, 2.0, 2.0)
    assert model(z_step=0.2).pitch(Grid((8, 32, 32), (0.07, 0.08))) == (0.2, 0.07, 0.08)
    told = given.warnings(Grid((8, 32, 32), (0.3, 0.06, 0.06)))
    assert any("pixel_size = 0.1 um was taken, though the image says 0.06" in w for w in told)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (Grid((32, 32)), "give pixel_size in um"),
        (Grid((8, 32, 32)), "give pixel_size and z_step in um"),
        (Grid((8, 32, 32), (0.1, 0.1)), "give z_step in um"),
    ],
)
@pytest.mark.parametrize("call", ["bind", "warnings", "psf"])
def test_unknown_pixel_size_is_refused(grid, words, call):
    with pytest.raises(InputError, match=words):
        getattr(model(), call)(grid)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((65.0, 65.0), "pixel_size = 65 um is 700 times Nyquist's 0.0929 um"),
        ((200.0, 0.06, 0.06), "z_step = 200 um is 720 times Nyquist's 0.278 um"),
    ],
)
def test_nanometres_taken_for_micrometres_are_refused(size, words):
    with pytest.raises(InputError, match=words):
        model().bind(Grid((16,) * len(size), size))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"numerical_aperture": 1.4, "immersion_index": 1.33}, "not below immersion_index = 1.33"),
        ({"immersion_index_design": 1.33}, "not below immersion_index_design = 1.33"),
        ({"cover_index": 1.35}, "not below cover_index = 1.35"),
        ({"cover_index_design": 1.4}, "not below cover_index_design = 1.4"),
    ],
)
@pytest.mark.parametrize("call", ["bind", "warnings"])
def test_aperture_above_an_index_is_refused(fields, words, call):
    with pytest.raises(InputError, match=words):
        getattr(model(**fields), call)(GRID2)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("widefield", {"numerical_aperture": 0}),
        ("widefield", {"wavelength": 0.52}),
        ("widefield", {"immersion_index": 0.9}),
        ("widefield", {"sample_index": 3.0}),
        ("widefield", {"depth": -1}),
        ("widefield", {"cover_thickness": 0.17e6}),
        ("widefield", {"model": "exact"}),
        ("widefield", {"crop": 1.0}),
        ("widefield", {"margin": 0}),
        ("widefield", {"pixel_size": 0}),
        ("widefield", {"z_step": -0.1}),
        ("widefield", {"pinhole": 1.0}),
        ("confocal", {"pinhole": -1}),
        ("confocal", {"excitation": 0.488}),
        ("lightsheet", {"sheet_thickness": 0}),
    ],
)
def test_bad_parameters_are_refused_in_one_sentence(kind, fields):
    with pytest.raises(RecipeError, match=next(iter(fields))) as caught:
        model(kind, **fields)
    assert "\n" not in str(caught.value)


def test_warnings_name_their_numbers():
    def told(choice, grid):
        return " ".join(choice.warnings(grid))

    fine = Grid((80, 80), (0.06, 0.06))
    assert told(model(crop=0.95), fine) == ""
    coarse = Grid((80, 80), (0.11, 0.11))
    assert "0.11 um are coarser than Nyquist's 0.0929 um" in told(model(), coarse)
    assert "0.06 um are coarser" not in told(model("confocal", pinhole=2.0), fine)
    assert "0.06 um are coarser than Nyquist's 0.045 um" in told(model("confocal", pinhole=0), fine)
    stack = Grid((6, 48, 48), (0.5, 0.06, 0.06))
    assert "planes 0.5 um apart are coarser than Nyquist's 0.278 um" in told(model(), stack)
    deep = told(model(sample_index=1.33, depth=20), Grid((64, 64), (0.06, 0.06)))
    assert "works at 1.33 in this depth" in deep
    assert "spherical aberration is large" in deep
    assert "depth of 20 um" in deep
    small = told(model(crop=0.99), Grid((24, 24), (0.06, 0.06)))
    assert "cut to 25 x 25 pixels, which hold 9" in small
    sheet = told(model("lightsheet", sheet_thickness=1.0), Grid((9, 64, 64), (2.0, 0.1, 0.1)))
    assert "2 um apart are wider than the sheet of 1 um" in sheet
    short = Grid((8, 48, 48), (0.2, 0.1, 0.1))
    assert "outermost planes of the PSF still hold 82%" in told(model("lightsheet"), short)
    tall = Grid((16, 24, 24), (0.2, 0.06, 0.06))
    assert "outermost planes" not in told(model("confocal", margin=1), tall)
    assert "outermost planes" not in told(model(), short)


def test_dense_structure_is_not_taken_for_noise():
    """Beyond the optics' cutoff there is noise alone, however dense the structure."""
    grid = Grid((96, 96), (0.06, 0.06), dtype="float64")
    wide = model(numerical_aperture=1.3)
    rng = np.random.default_rng(4)
    operator = wide.bind(grid)
    dense = torch.as_tensor(rng.exponential(3000.0, (1, *operator.x_shape)))
    image = operator(dense)[0, 0].numpy() + 5 * rng.standard_normal(grid.shape)
    sigma, error = wide.white_noise(image[None], grid)
    assert sigma == pytest.approx(5, rel=0.08)
    assert 0 < error < 0.5
    resolved = Run(
        image,
        {"forward": wide, "noise": {"kind": "gaussian"}, "sampler": "wiener"},
        pixel_size=0.06,
    ).recipe
    assert resolved.noise.sigma == pytest.approx(sigma, rel=1e-5)
    assert resolved.noise.redundancy() == 1
    # Where the spectrum cannot tell, the image is asked as before.
    assert wide.white_noise(image[None], Grid(grid.shape)) is None
    assert wide.white_noise(image[None], Grid(grid.shape, (0.2, 0.2))) is None
    assert wide.white_noise(image[None], grid, np.ones(grid.shape, bool)) is None
    smooth = (image + np.roll(image, 1, 1) + np.roll(image, 1, 0)) / 3
    assert wide.white_noise(smooth[None], grid) is None
