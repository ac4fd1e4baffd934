"""Ready measurements where they are easily wrong: at borders, on plateaus, in stacks, misused."""

import math

import numpy as np
import pytest

import napari_dps
from napari_dps.errors import InputError
from napari_dps.result import Result
from napari_dps.uncertainty.colocalisation import Colocalisation, colocalise
from napari_dps.uncertainty.probability import probability_apart
from napari_dps.uncertainty.profiles import FWHM, LineProfile
from napari_dps.uncertainty.regions import Objects
from napari_dps.uncertainty.resolution import fourier_ring_correlation


def disc(row, column, radius=3, shape=(64, 64)):
    y, x = np.indices(shape)
    return (np.hypot(y - row, x - column) < radius) * 10.0


def test_masked_values_are_no_number():
    samples = np.random.default_rng(0).normal(5.0, 1.0, (20, 8, 8))
    result = Result(samples, "YX")
    found = napari_dps.measure(result, lambda image: np.ma.masked_less(image, 100).mean())
    assert np.isnan(found.value).all()
    found = napari_dps.measure(result, lambda image: np.ma.masked_less(image, 0).mean())
    assert found.value[0] == pytest.approx(5.0, abs=0.2)


def test_objects_at_the_border_are_split_and_not_lost():
    places = [(5, 20), (32, 32), (58, 40), (32, 5), (63, 63)]
    image = np.maximum.reduce([disc(*place) for place in places])
    assert Objects(5.0)(image)["count"] == Objects(5.0, split=8)(image)["count"] == 5
    assert Objects(5.0, split=8)(image)["area"] == (image > 5).sum()
    volume = np.zeros((6, 48, 48))
    volume[2:5, 10:15, 10:15] = volume[0, 30, 30] = volume[5, 40:43, 0:2] = 10
    assert Objects(5.0, split=3)(volume)["count"] == 3


def test_objects_of_a_stack_are_counted_frame_by_frame_and_those_of_a_volume_at_once():
    samples = np.zeros((20, 3, 24, 24))
    samples[:, :, 3:6, 3:6] = 10
    samples[:, 1, 13:16, 3:6] = 10
    found = napari_dps.measure(Result(samples, "TYX"), Objects(5.0))
    assert found.select(*(f"count, frame {k}" for k in range(3))).value.tolist() == [1, 2, 1]
    assert found.select("area, frame 1").value[0] == 18
    moved = napari_dps.measure(Result(np.moveaxis(samples, 1, 3), "YXT"), Objects(5.0))
    assert moved.names == found.names and (moved.value == found.value).all()
    whole = napari_dps.measure(Result(samples, "ZYX"), Objects(5.0))
    assert whole.select("count").value[0] == 2
    one = napari_dps.measure(Result(samples[:, :1], "TYX"), Objects(5.0))
    assert one.select("count").value[0] == 1


def test_width_of_what_has_no_single_highest_pixel():
    x = np.arange(41)
    clipped = np.minimum(np.exp(-4 * np.log(2) * ((x - 20) / 10) ** 2), 0.6)
    line = LineProfile((2, 0), (2, 40))
    # Of height 0.6, half is 0.3: exp(-4 ln 2 (w/2)^2/100) = 0.3.
    true = 2 * math.sqrt(-math.log(0.3) / (4 * math.log(2))) * 10
    assert FWHM(line)(np.tile(clipped, (5, 1))) == pytest.approx(true, rel=0.01)
    x = np.arange(61)
    rng = np.random.default_rng(0)
    flat = ((x >= 20) & (x < 40)) * 1.0
    widths = [
        FWHM(LineProfile((2, 0), (2, 60)))(np.tile(flat + 0.05 * rng.normal(size=61), (5, 1)))
        for _ in range(50)
    ]
    assert np.isfinite(widths).all() and np.mean(widths) == pytest.approx(20, abs=0.3)


def test_two_results_of_one_seed_do_not_correlate_by_their_random_numbers():
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(20, 32, 32))
    first, second = Result(draws + 5), Result(draws + 7)
    found = colocalise(first, second)
    assert found.names == ("pearson", "M1", "M2") and len(found.draws) == 20
    assert found.low[0] < 0 < found.high[0] and abs(found.value[0]) < 0.02
    mask = np.zeros((32, 32), bool)
    mask[:8] = True
    assert len(colocalise(draws, draws[:19], Colocalisation(mask=mask)).draws) == 19
    for bad, words in (
        (draws[:, :16], "give two of one shape"),
        (draws[:3], "at least 4 samples of each; there are 20 and 3"),
    ):
        with pytest.raises(InputError, match=words):
            colocalise(draws, bad)
    with pytest.raises(InputError, match="without `other`"):
        colocalise(draws, draws, Colocalisation(other=draws[0]))


def test_partners_stay_together_beside_another_result():
    half = np.random.default_rng(2).normal(size=(10, 16, 16))
    pairs = np.stack([half, -half], axis=1).reshape(20, 16, 16)
    report = {"antithetic": True, "complete": True}
    found = colocalise(Result(pairs, report=report), Result(pairs, report=report))
    # Both channels of a partner are mirrored, so that its Pearson coefficient is the same.
    assert found.pairs and "partners are alike" in found.notes[0]


def test_ring_correlation_names_samples_and_not_pairs():
    with pytest.raises(InputError, match=r"0\.9 interval needs at least 38 samples; there are 20"):
        fourier_ring_correlation(np.random.default_rng(3).normal(size=(20, 16, 16)), level=0.9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: LineProfile((0, np.nan), (5, 5)), "cannot end at .* a row and a column"),
        (lambda: LineProfile((0, 0, 0), (5, 5, 5)), "a row and a column"),
        (lambda: LineProfile((0, 0), (5, 5), pixel_size=0.0), "pixel_size = 0.0 is no length"),
        (lambda: Objects(split=math.nan), "split = nan is no distance"),
        (lambda: Objects(split=0), "split = 0 is no distance"),
        (lambda: Objects(pixel=-1.0), "pixel = -1.0 is not allowed"),
        (
            lambda: probability_apart(np.ones((4, 8, 8)), (math.nan, 1), (4, 4)),
            r"the point \(nan, 1\) is no place",
        ),
        (lambda: probability_apart(np.ones((4, 8, 8)), (1, 1), (4, 4), dip=2), "dip = 2"),
        (
            lambda: fourier_ring_correlation(np.ones((40, 8, 8)), pixel_size=-1.0),
            "pixel_size = -1.0 is no length",
        ),
        (
            lambda: napari_dps.measure(np.ones((20, 8, 8)), np.mean).calibrated("x.json"),
            "'x.json' is no calibration of a measurement",
        ),
    ],
)
def test_what_is_refused_in_a_sentence(call, words):
    with pytest.raises(InputError, match=words):
        call()
