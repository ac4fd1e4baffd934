"""Pictures of certainty: colours, what the legend says, and what is refused."""

import numpy as np
import pytest

from napari_dps.errors import InputError
from napari_dps.result import Result
from napari_dps.uncertainty.looks import (
    COLOUR_MAPS,
    bivariate,
    interval_width,
    mix_with_gray,
    opacity_by_probability,
)

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def luminance(colours):
    colours = np.asarray(colours, float)
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return linear @ LUMINANCE


def colourful(picture):
    return np.ptp(picture, axis=-1)


@pytest.fixture
def result(rng):
    """Return a ramp of 0 to 10, sure on the upper rows and not on the lower ones."""
    mean = np.broadcast_to(np.linspace(0, 10, 16), (12, 16))
    spread = np.where(np.arange(12) < 6, 0.01, 3.0)[:, None]
    return Result(mean + spread * rng.normal(size=(39, 12, 16)))


def test_width_says_its_level_and_where_it_comes_from(result):
    width, what = interval_width(result, 0.9)
    low, high = result.interval(0.9)
    np.testing.assert_array_equal(width, high - low)
    assert what == "width of the 90 % interval (nominal)"
    result.report |= {
        "calibration": "calibrated on 100 images",
        "intervals": {"lambdas": {"0.9": 2.0}},
    }
    width, what = interval_width(result, 0.9)
    np.testing.assert_allclose(width, 4 * result.std, rtol=1e-4)
    assert what == "width of the 90 % interval (calibrated on 100 images)"


def test_too_few_samples_are_named(rng):
    few = Result(rng.normal(size=(10, 4, 4)))
    with pytest.raises(InputError, match="at least 19 samples; there are 10"):
        bivariate(few)
    assert bivariate(few, level=0.5).what.startswith("width of the 50 %")


def test_gray_keeps_the_lightness(rng):
    colours = rng.random((50, 3))
    half = mix_with_gray(colours, np.full(50, 0.5))
    np.testing.assert_allclose(luminance(half), luminance(colours), atol=1e-9)
    assert (colourful(half) < colourful(colours)).all()
    np.testing.assert_allclose(mix_with_gray(colours, np.ones(50)), colours, atol=1e-9)
    assert colourful(mix_with_gray(colours, np.zeros(50))).max() < 1e-12


def test_bivariate_takes_colour_from_what_is_uncertain(result):
    look = bivariate(result, limits=(0, 10), unit="photons")
    assert look.picture.shape == (12, 16, 3) and look.picture.dtype == np.float32
    assert look.picture.min() >= 0 and look.picture.max() <= 1
    sure, unsure = colourful(look.picture)[:6, :-1], colourful(look.picture)[6:, :-1]
    assert sure.min() > 0.1 and unsure.max() < 0.02  # width about 10, gray at 5
    # Brightness still tells the value: monotone along the ramp where it is sure.
    assert (np.diff(luminance(look.picture[0])) > 0).all()
    assert look.limits == (0, 10) and look.certainty_limits == (0, 5)
    wide = bivariate(result, limits=(0, 10), gray_at=100.0)
    assert colourful(wide.picture)[6:, 4].min() > 0.1


def test_legend_names_level_value_and_numbers(result):
    axes = bivariate(result, limits=(0, 10), unit="photons").legend()
    assert axes.get_xlabel() == "value (photons)"
    assert axes.get_ylabel() == "width of the 90 % interval\n(nominal), photons"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["5", "2.5", "0"]
    shown = np.asarray(axes.images[0].get_array())
    assert colourful(shown[0]).max() < 1e-6 < colourful(shown[-1]).min()
    axes.figure.canvas.draw()


def test_opacity_is_the_probability(result):
    look = opacity_by_probability(result, 5.0, unit="photons")
    share = (result.samples > 5).mean(0)
    np.testing.assert_allclose(look.picture[..., 3], share, atol=1e-6)
    assert look.what == "probability above 5 photons"
    axes = look.legend()
    assert axes.get_ylabel() == look.what
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0", "0.5", "1"]
    assert np.asarray(axes.images[0].get_array())[0].max() == 0


def test_arguments_that_cannot_be_used(result):
    with pytest.raises(InputError, match=r"'jet' is not offered.*viridis"):
        bivariate(result, colormap="jet")
    with pytest.raises(InputError, match="two ascending values"):
        bivariate(result, limits=(3, 3))
    with pytest.raises(InputError, match="gray_at must be above 0"):
        bivariate(result, gray_at=0)


@pytest.mark.parametrize("name", COLOUR_MAPS)
def test_colour_maps_have_monotone_lightness(name):
    ramp = np.broadcast_to(np.linspace(0, 1, 64), (2, 64))
    flat = Result(np.stack([ramp] * 19))
    assert (np.diff(luminance(bivariate(flat, limits=(0, 1), colormap=name).picture[0])) > 0).all()


def test_a_flat_image_is_no_error():
    look = bivariate(Result(np.ones((19, 4, 4))))
    assert np.isfinite(look.picture).all()
