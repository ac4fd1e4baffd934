"""Numbers with error bars: values against closed forms, intervals against order statistics."""

import math

import numpy as np
import pytest

import napari_dps
from napari_dps.errors import InputError
from napari_dps.result import Result
from napari_dps.uncertainty.colocalisation import Colocalisation
from napari_dps.uncertainty.measure import Measurement
from napari_dps.uncertainty.probability import probability_above, probability_apart
from napari_dps.uncertainty.profiles import FWHM, LineProfile, PairSeparation, PeakDistance
from napari_dps.uncertainty.regions import Objects, RegionMean, RegionSum
from napari_dps.uncertainty.resolution import (
    fourier_ring_correlation,
    resolution,
    ring_correlation,
)

Y, X = np.mgrid[:40, :48].astype(float)


def spot(y, x, width, height=1.0):
    """Return a Gaussian spot of full width ``width`` at half maximum."""
    sigma = width / (2 * math.sqrt(2 * math.log(2)))
    return height * np.exp(-((Y - y) ** 2 + (X - x) ** 2) / (2 * sigma**2))


def test_any_function_gets_a_value_an_interval_and_its_draws(rng):
    samples = rng.normal(5, 2, size=(39, 8, 9)).astype(np.float32)
    found = napari_dps.measure(Result(samples), lambda image: image.mean(), level=0.9)
    means = np.sort(samples.astype(float).mean((1, 2)))
    assert isinstance(found, Measurement) and len(found) == 1
    assert found.value[0] == pytest.approx(means.mean(), rel=1e-6)
    # Ranks 0.05 * 40 = 2 and 38 of 39 order statistics.
    assert (found.low[0], found.high[0]) == pytest.approx((means[1], means[37]), rel=1e-6)
    assert found.draws.shape == (39, 1) and found.found[0] == 1


def test_names_table_and_plot(rng):
    samples = rng.normal(size=(19, 4, 4))
    found = napari_dps.measure(
        samples, lambda image: {"low": image.min(), "high": image.max()}, unit="ADU"
    )
    assert found.names == ("low", "high")
    table = found.table()
    assert list(table["name"]) == ["low", "high"]
    columns = found.columns()
    assert set(columns) == {"name", "value", "low", "high", "std", "found"}
    axes = found.plot()
    many = napari_dps.measure(rng.normal(size=(399, 2, 2)), np.mean, level=0.995)
    assert many.plot().get_legend().get_texts()[0].get_text() == "99.5 % interval (nominal)"
    assert axes.get_ylabel() == "ADU"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["low", "high"]


def test_what_some_samples_lack_is_told_and_kept_out():
    samples = np.arange(40, dtype=float).reshape(40, 1, 1)
    found = napari_dps.measure(samples, lambda image: image[0, 0] if image[0, 0] >= 20 else np.nan)
    assert found.found[0] == 0.5
    assert found.value[0] == np.arange(20, 40).mean()
    assert found.low[0] >= 20
    few = napari_dps.measure(samples, lambda image: image[0, 0] if image[0, 0] >= 30 else np.nan)
    assert np.isnan(few.low[0]) and few.found[0] == 0.25


def test_a_function_may_change_its_copy(rng):
    result = Result(rng.normal(size=(19, 4, 4)))
    before = result.samples.copy()

    def above_least(image):
        image -= image.min()
        return image.mean()

    found = napari_dps.measure(result, above_least)
    np.testing.assert_array_equal(result.samples, before)
    assert found.draws[0, 0] == pytest.approx(before[0].mean() - before[0].min(), rel=1e-5)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "returned None; it must return a number"),
        ("3", "returned str; it must return a number"),
        ([1.0, None], "returned list; it must return a number"),
        ({"a": None}, "returned None for 'a'"),
        ({"a": "x"}, "returned str for 'a'"),
        ({"a": np.ones(4)}, r"array of shape \(4,\) for 'a'; a name must stand for one number"),
        (1j, "complex value; .* real"),
        ({"a": np.complex64(2)}, "complex value for 'a'"),
        ([1.0, 2j], "complex value"),
        ([[1.0], [1.0, 2.0]], "returned list; it must return a number"),
    ],
)
def test_what_is_no_number_is_one_sentence(value, words):
    with pytest.raises(InputError, match=words):
        napari_dps.measure(np.ones((19, 4, 4)), lambda image: value)


def test_numbers_come_in_many_forms():
    forms = {"a": np.ones(1), "b": True, "c": np.float32(2)}
    assert napari_dps.measure(np.ones((19, 4, 4)), lambda image: forms).value.tolist() == [1, 1, 2]
    assert len(napari_dps.measure(np.ones((19, 4, 4)), lambda image: [])) == 0


def test_refusals(rng):
    samples = rng.normal(size=(18, 4, 4))
    with pytest.raises(InputError, match="at least 19 samples"):
        napari_dps.measure(samples, np.mean)
    with pytest.raises(InputError, match="same ones for every sample"):
        calls = iter(range(1, 99))
        napari_dps.measure(np.ones((19, 4, 4)), lambda image: [0.0] * next(calls))
    with pytest.raises(InputError, match="must return a number"):
        napari_dps.measure(np.ones((19, 4, 4)), lambda image: object())
    point = Result(samples[:1], report={"point_estimate": True, "sampler": "wiener"})
    with pytest.raises(InputError, match="'wiener' gives a point estimate"):
        napari_dps.measure(point, np.mean)


def test_regions_of_an_image_and_of_frames():
    labels = np.zeros((40, 48), int)
    labels[2:6, 3:9] = 1
    labels[20:25, 20:30] = 3
    image = np.where(labels == 1, 7.0, np.where(labels == 3, 2.0, 1.0))
    assert RegionMean(labels)(image) == {"mean 1": 7.0, "mean 3": 2.0}
    assert RegionSum(labels, background=1.0)(image) == {"sum 1": 6.0 * 24, "sum 3": 50.0}
    stack = np.stack([image, 2 * image])
    assert RegionMean(labels)(stack)["mean 3, frame 1"] == 4.0
    with pytest.raises(InputError, match="labels have shape"):
        RegionMean(labels)(image[:-1])
    with pytest.raises(InputError, match="one region at least"):
        RegionMean(np.zeros((4, 4), int))


def test_labels_may_be_large_and_may_be_a_file(tmp_path):
    labels = np.zeros((40, 48), np.int64)
    labels[2:6, 3:9], labels[20:25, 20:30] = 2_000_000_000, 7
    image = np.where(labels == 7, 2.0, 5.0)
    large = RegionMean(labels)(image)
    assert large == {"mean 7": 2.0, "mean 2000000000": 5.0}
    np.save(tmp_path / "labels.npy", labels)
    assert RegionMean(str(tmp_path / "labels.npy"))(image) == large
    with pytest.raises(InputError, match=r"none\.tif"):
        RegionMean(tmp_path / "none.tif")
    with pytest.raises(InputError, match="labels must be whole numbers"):
        RegionMean([["a"]])


def test_thresholds_that_are_none(rng):
    for threshold in ("li", None, float("nan")):
        with pytest.raises(InputError, match='give a number, or "otsu"'):
            Objects(threshold=threshold)
    image = rng.normal(size=(8, 8))
    image[0, 0] = np.nan
    with pytest.raises(InputError, match="finite values, but 1 of 64 are not"):
        Objects()(image)
    with pytest.raises(InputError, match="finite values"):
        Colocalisation(other=np.ones((8, 8)) + np.arange(8))(image)
    for threshold in (None, "1", float("inf")):
        with pytest.raises(InputError, match="finite number"):
            probability_above(np.ones((4, 8, 8)), threshold)


def test_objects_are_counted_and_weighed():
    image = np.zeros((40, 48))
    image[2:6, 3:9] = 10
    image[20:25, 20:30] = 20
    image[35, 35] = 50
    found = Objects(threshold=5.0, smallest=2, pixel=0.25)(image)
    assert found["count"] == 2
    assert found["area"] == pytest.approx(0.25 * (24 + 50))
    assert found["intensity"] == pytest.approx(240 + 1000)
    assert found["mean area"] == pytest.approx(0.25 * 37)
    nothing = Objects(threshold=100.0)(image)
    assert nothing["count"] == 0 and math.isnan(nothing["mean area"])
    assert Objects(smallest=2)(image)["count"] >= 1  # Otsu


def test_touching_discs_are_split():
    image = ((Y - 20) ** 2 + (X - 15) ** 2 < 81) | ((Y - 20) ** 2 + (X - 30) ** 2 < 81)
    assert Objects(threshold=0.5)(image.astype(float))["count"] == 1
    assert Objects(threshold=0.5, split=5)(image.astype(float))["count"] == 2


@pytest.mark.parametrize("width", [4.0, 9.0])
def test_width_of_a_spot_in_micrometres(width):
    line = LineProfile((20, 2), (20, 45), width=3, pixel_size=0.1, position_unit="um")
    found = FWHM(line)
    assert found(spot(20, 24, width)) == pytest.approx(0.1 * width, rel=0.03)
    assert found.unit == "um"
    assert math.isnan(found(np.ones((40, 48))))
    oblique = FWHM(LineProfile((4, 8), (36, 40)))
    assert oblique(spot(20, 24, width)) == pytest.approx(width, rel=0.03)


@pytest.mark.parametrize("reach", [3, 4, 5, 6, 10])
def test_a_line_that_ends_on_the_flank_has_no_width(reach):
    image = 100 * spot(20, 24, 10)
    assert math.isnan(FWHM(LineProfile((20, 24 - reach), (20, 24 + reach)))(image))
    one_side = FWHM(LineProfile((20, 4), (20, 24 + reach)))
    assert math.isnan(one_side(image))


def test_width_needs_a_line_of_three_widths_and_no_more():
    image = 100 * spot(20, 24, 10)
    assert FWHM(LineProfile((20, 12), (20, 36)))(image) == pytest.approx(10, rel=0.03)
    assert FWHM(LineProfile((20, 9), (20, 39)))(image) == pytest.approx(10, rel=0.01)


def test_one_dark_pixel_makes_no_spot_wider():
    image = 5 + 100 * spot(20, 24, 10)
    line = LineProfile((20, 2), (20, 46))
    clean = FWHM(line)(image)
    for column in (3, 40, 45):
        dark = image.copy()
        dark[20, column] = -50
        assert FWHM(line)(dark) == pytest.approx(clean, rel=0.01)


def test_level_of_each_side_is_its_own_and_its_share_is_checked():
    image = 100 * spot(20, 24, 6) + np.where(X > 24, 20.0, 0.0)
    line = LineProfile((20, 4), (20, 44))
    # Half maximum at 50 on the left, at (100 + 20)/2 of a spot that begins at 120 on the right.
    assert 5.5 < FWHM(line)(image) < 6.5
    assert FWHM(line, ends=0.2)(image) == pytest.approx(FWHM(line)(image), rel=0.01)
    for ends in (0, 0.5, -1):
        with pytest.raises(InputError, match=r"above 0 and below 0\.5"):
            FWHM(line, ends=ends)


def test_lines_outside_the_image_and_without_a_band_are_refused():
    image = spot(20, 24, 5)
    for start, end in (((-100, -100), (200, 200)), ((20, 4), (20, 48)), ((-1, 3), (9, 9))):
        with pytest.raises(InputError, match=r"leaves the image of shape \(40, 48\)"):
            LineProfile(start, end)(image)
    assert len(LineProfile((-0.5, -0.5), (39.4, 47.4))(image)) > 60
    for width in (0, -2, 1.5):
        with pytest.raises(InputError, match="is no band"):
            LineProfile((20, 2), (20, 45), width=width)


def test_distance_of_two_spots_and_of_none():
    line = LineProfile((20, 2), (20, 45), pixel_size=2.0)
    two = spot(20, 15, 5) + 0.8 * spot(20, 27.5, 5)
    assert PeakDistance(line)(two) == pytest.approx(25.0, abs=0.3)
    assert math.isnan(PeakDistance(line)(spot(20, 15, 5)))
    ripple = spot(20, 15, 5) + 0.2 * spot(20, 40, 5)
    assert math.isnan(PeakDistance(line)(ripple))  # not a second object at the default
    assert PeakDistance(line, least=0.1)(ripple) == pytest.approx(50.0, abs=0.3)
    merged = spot(20, 20, 8) + spot(20, 23, 8)
    assert math.isnan(PeakDistance(line)(merged))


@pytest.mark.parametrize("distance", [2.0, 4.0, 8.0])
def test_separation_of_points_that_are_one_spot(distance):
    """Half a width apart there is one maximum; the spot's length still tells the distance."""
    along = np.array([0.6, 0.8])
    ends = [np.array([20, 24]) + sign * distance / 2 * along for sign in (-1, 1)]
    image = 3 + sum(spot(*end, 4) for end in ends)
    line = LineProfile(
        tuple(np.array([20.4, 23.7]) - 12 * along),
        tuple(np.array([20.4, 23.7]) + 12 * along),
        pixel_size=0.1,
        position_unit="um",
    )
    found = PairSeparation(line)
    assert found(image) == pytest.approx(0.1 * distance, rel=0.01) and found.unit == "um"
    assert found(3 + spot(20, 24, 4)) < 0.02
    assert math.isnan(found(np.ones((40, 48))))
    assert PairSeparation(line, background=3.0)(image) == pytest.approx(0.1 * distance, rel=0.01)
    with pytest.raises(InputError, match="lie in a plane"):
        found(np.ones((2, 40, 48)))


def test_profile_has_a_band_over_positions(rng):
    samples = spot(20, 24, 8) + rng.normal(0, 0.1, size=(39, 40, 48))
    line = LineProfile((20, 4), (20, 44), width=5, pixel_size=0.2, position_unit="um")
    found = napari_dps.measure(samples, line)
    assert found.position[-1] == pytest.approx(8.0)
    truth = spot(20, 24, 8)[18:23, 4:45].mean(0)
    inside = (found.low <= truth) & (truth <= found.high)
    assert inside.mean() > 0.8
    assert (found.high - found.low).mean() == pytest.approx(3.3 * 0.1 / 5**0.5, rel=0.15)
    assert found.plot().get_xlabel() == "position (um)"


def test_colocalisation(rng):
    first = rng.random((20, 20))
    assert Colocalisation(other=2 * first + 1)(first)["pearson"] == pytest.approx(1)
    assert Colocalisation(other=-first)(first)["pearson"] == pytest.approx(-1)
    a, b = np.zeros((2, 10, 10))
    a[:4], b[2:6] = 1.0, 3.0
    found = Colocalisation(thresholds=(0.5, 0.5))(np.stack([a, b]))
    assert (found["M1"], found["M2"]) == (0.5, 0.5)
    half = np.zeros((10, 10), bool)
    half[2:4] = True
    inside = Colocalisation(thresholds=(0.5, 0.5), mask=half)(np.stack([a, b]))
    assert math.isnan(inside["pearson"]) and inside["M1"] == 1.0
    with pytest.raises(InputError, match="two channels along axis 0"):
        Colocalisation()(np.zeros((3, 10, 10)))
    # A channel without contrast has no threshold of its own.
    flat = Colocalisation()(np.stack([a, np.ones((10, 10))]))
    assert all(math.isnan(value) for value in flat.values())
    planes = Colocalisation(other=np.stack([first] * 3), mask=np.ones((20, 20)))
    assert planes(np.stack([first] * 3))["pearson"] == pytest.approx(1)
    with pytest.raises(InputError, match=r"the mask has shape \(3, 10\), but a channel has"):
        Colocalisation(mask=np.ones((3, 10)))(np.stack([a, b]))
    with pytest.raises(InputError, match="holds no pixel"):
        Colocalisation(mask=np.zeros((10, 10)))(np.stack([a, b]))
    for thresholds in ("li", 0.5, (0.5,), (0.5, None)):
        with pytest.raises(InputError, match='give two numbers, or "otsu"'):
            Colocalisation(thresholds=thresholds)


def test_ring_correlation_of_equal_and_of_unlike_images(rng):
    image = rng.normal(size=(64, 64))
    frequency, same = ring_correlation(image, image)
    np.testing.assert_allclose(same, 1)
    assert frequency[0] == pytest.approx(0.5 / 64) and frequency[-1] < 0.5
    _, other = ring_correlation(image, rng.normal(size=(64, 64)))
    assert np.abs(other[4:]).mean() < 0.15


def test_rings_need_square_pixels_and_a_number_of_rings(rng):
    samples = rng.normal(size=(20, 16, 16))
    oblong = Result(samples, scale=(0.5, 0.1), units=("micrometer", "micrometer"))
    for pixel in (None, 0.1):
        with pytest.raises(InputError, match=r"0.5 by 0.1 micrometer: .* need square ones"):
            fourier_ring_correlation(oblong, pixel_size=pixel)
    even = Result(samples, scale=(0.1, 0.1), units=("micrometer", "micrometer"))
    assert fourier_ring_correlation(even).position_unit == "cycles/micrometer"
    for rings in (-1, 0, 2.5):
        with pytest.raises(InputError, match="whole number of 1 or more"):
            fourier_ring_correlation(samples, rings=rings)


def test_resolution_is_where_samples_part(rng):
    """Samples share frequencies below 0.2 cycles per pixel and nothing above."""
    radius = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    low = radius < 0.2

    def part(keep):
        return np.fft.ifft2(np.fft.fft2(rng.normal(size=(64, 64))) * keep).real

    common = part(low)
    samples = np.stack([common + part(~low) for _ in range(20)])
    rings = fourier_ring_correlation(samples, pixel_size=0.1, length_unit="um")
    assert rings.position_unit == "cycles/um"
    assert rings.value[rings.position < 1.8].min() > 0.9
    found = resolution(rings)
    assert found.value[0] == pytest.approx(0.5, rel=0.08)
    assert found.unit == "um" and found.low[0] <= found.value[0] <= found.high[0]


def test_partners_of_a_pair_are_never_correlated_with_each_other():
    """Ten samples, of which 2k and 2k + 1 are equal: any pair of partners would correlate fully."""
    rng = np.random.default_rng(4)
    base = rng.normal(size=(5, 32, 32))
    for count in (10, 8):
        rings = fourier_ring_correlation(np.repeat(base, 2, 0)[:count], level=0.5)
        assert rings.draws[:, 4:].max() < 0.95


def test_probability_maps(rng):
    samples = np.zeros((20, 40, 48))
    samples[:5] += spot(10, 10, 5)
    chance = probability_above(samples, 0.5)
    assert chance[10, 10] == 0.25 and chance[30, 30] == 0 and chance.dtype == np.float32
    apart = spot(20, 15, 5) + spot(20, 27, 5)
    merged = spot(20, 20, 12)
    mixed = np.stack([apart] * 15 + [merged] * 5)
    assert probability_apart(mixed, (20, 15), (20, 27)) == 0.75
    with pytest.raises(InputError, match="outside the image"):
        probability_apart(mixed, (20, 15), (20, 99))
