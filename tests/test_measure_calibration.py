"""Calibrated error bars of measurements: order statistics, refusals, coverage on normal draws."""

import numpy as np
import pytest

from napari_dps.errors import InputError
from napari_dps.recipe import Recipe
from napari_dps.result import Result
from napari_dps.uncertainty.measure import from_draws, measure
from napari_dps.uncertainty.measure_calibration import (
    MeasureCalibration,
    calibrate_measurement,
    calibrate_what_fits,
    cases_needed,
)


def planted(rng, count, *, bias=0.0, shrink=1.0, samples=20):
    """Return truths and measurements whose draws are off by a bias and too narrow by a factor."""
    width = rng.uniform(0.5, 2.0, count)
    truth = rng.uniform(50, 100, count)
    centre = truth + width * (rng.normal(size=count) + bias)
    draws = centre[:, None] + shrink * width[:, None] * rng.normal(size=(count, samples))
    found = [from_draws(row[:, None], ["sum 1"], level=0.9, unit="photons") for row in draws]
    return truth, found


def exact(count):
    """Return cases with scores 1, 2, ..., n: draws 0 and 2 (mean 1, std sqrt 2), truth above."""
    draws = np.array([[0.0], [2.0]])
    found = [from_draws(draws, ["distance"], level=0.9, unit="px") for _ in range(count)]
    return [1 + 2**0.5 * (k + 1) for k in range(count)], found


def test_factors_are_the_order_statistics_of_the_formula():
    truths, found = exact(99)
    fitted = calibrate_measurement(truths, found, levels=(0.9, 0.5))
    # k = ceil(100 * 0.95) = 95, and n + 1 - k = 5.
    assert fitted.factor(0.9) == pytest.approx((5, 95))
    assert fitted.factor(0.5) == pytest.approx((25, 75))
    assert fitted.cases == 99 and fitted.absent == 0
    # Even cases (1, 3, ..., 99) have factors 3 and 97 (k = 49 of 50, 2 of 50); odd ones 48 of 49.
    odd, even = np.arange(1, 100, 2), np.arange(2, 100, 2)
    inside = ((odd >= 4) & (odd <= 96)).sum() + ((even >= 3) & (even <= 97)).sum()
    assert fitted.calibrated_coverage["0.9"] == pytest.approx(inside / 99)
    few = calibrate_measurement(truths[:37], found[:37], levels=(0.9,))
    assert few.calibrated_coverage["0.9"] is None


def test_number_of_cases_that_a_level_needs():
    assert [cases_needed(v) for v in (0.5, 0.8, 0.9, 0.95)] == [3, 9, 19, 39]
    truths, found = exact(18)
    assert calibrate_measurement(truths, found).levels == (0.5, 0.8)
    with pytest.raises(InputError, match="at least 19 planted cases with a value; there are 18"):
        calibrate_measurement(truths, found, levels=(0.9,))
    with pytest.raises(InputError, match="at least 3 planted cases"):
        calibrate_measurement(truths[:2], found[:2])
    with pytest.raises(InputError, match="between 0 and 1"):
        calibrate_measurement(truths, found, levels=(1.5,))


@pytest.mark.parametrize(("bias", "shrink"), [(0.0, 0.3), (2.0, 1.0)])
def test_narrow_or_biased_draws_are_made_to_cover(rng, bias, shrink):
    fitted = calibrate_measurement(*planted(rng, 200, bias=bias, shrink=shrink))
    assert fitted.nominal_coverage["0.9"] < 0.7
    assert fitted.calibrated_coverage["0.9"] == pytest.approx(0.9, abs=0.06)
    truths, found = planted(rng, 600, bias=bias, shrink=shrink)
    again = [m.calibrated(fitted) for m in found]
    inside = [m.low[0] <= t <= m.high[0] for m, t in zip(again, truths, strict=True)]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.06)
    assert again[0].note == "calibrated on 200 cases (recipe not compared)"
    assert again[0].draws is found[0].draws  # only the interval changes


def test_cases_without_a_value_are_left_out_and_get_no_interval(rng):
    truths, found = planted(rng, 40)
    nothing = from_draws(np.full((20, 1), np.nan), ["sum 1"], level=0.9, unit="photons")
    fitted = calibrate_measurement([*truths, 1.0], [*found, nothing])
    assert (fitted.cases, fitted.absent) == (40, 1)
    assert np.isnan(nothing.calibrated(fitted).low[0])
    # Twelve of twenty draws are too few for the draws' own 90 %, but not for the calibrated one.
    few = found[0].draws.copy()
    few[12:] = np.nan
    part = from_draws(few, ["sum 1"], level=0.9, unit="photons")
    assert np.isnan(part.low[0]) and np.isfinite(part.calibrated(fitted).low[0])


def test_counts_that_all_samples_agree_on_get_a_width():
    found = [from_draws(np.full((20, 1), 5.0), ["count"], level=0.9) for _ in range(40)]
    truths = [6.0 if k % 4 == 0 else 5.0 for k in range(40)]
    fitted = calibrate_measurement(truths, found, floor=0.5)
    wide = found[0].calibrated(fitted)
    assert (wide.low[0], wide.high[0]) == pytest.approx((5.0, 6.0))
    assert found[0].high[0] == 5.0


def test_a_calibration_is_of_one_quantity_unit_and_level(rng):
    truths, found = planted(rng, 40)
    fitted = calibrate_measurement(truths, found)
    regions = from_draws(rng.normal(size=(20, 2)), ["sum 1", "sum 7"], level=0.9, unit="photons")
    assert len(regions.calibrated(fitted)) == 2
    other = from_draws(rng.normal(size=(20, 2)), ["sum 1", "mean 1"], level=0.9, unit="photons")
    with pytest.raises(InputError, match=r"is of 'sum', but the measurement holds 'mean 1'"):
        other.calibrated(fitted)
    assert other.select("sum 1").calibrated(fitted).names == ("sum 1",)
    with pytest.raises(InputError, match="no value 'area'; there are sum 1, mean 1"):
        other.select("area")
    with pytest.raises(InputError, match="in 'photons', but the measurement in 'ADU'"):
        from_draws(found[0].draws, ["sum 1"], level=0.9, unit="ADU").calibrated(fitted)
    with pytest.raises(InputError, match=r"no level 0\.7; it was fitted at 0.5, 0.8, 0.9, 0.95"):
        found[0].at(0.7).calibrated(fitted)


def test_cases_must_fit_each_other(rng):
    truths, found = planted(rng, 20)
    with pytest.raises(InputError, match="19 truths came with 20 measurements"):
        calibrate_measurement(truths[:-1], found)
    with pytest.raises(InputError, match="finite numbers"):
        calibrate_measurement([*truths[:-1], np.nan], found)
    two = from_draws(rng.normal(size=(20, 2)), ["sum 1", "sum 2"], level=0.9, unit="photons")
    with pytest.raises(InputError, match="case 19 holds 2 values"):
        calibrate_measurement(truths, [*found[:-1], two])
    other = from_draws(rng.normal(size=(20, 1)), ["distance"], level=0.9, unit="px")
    with pytest.raises(InputError, match="case 19 is 'distance' in 'px'"):
        calibrate_measurement(truths, [*found[:-1], other])


def test_of_several_values_those_are_calibrated_that_it_is_of(rng):
    truths, found = planted(rng, 40)
    fitted = calibrate_measurement(truths, found)
    names = ["sum 1", "mean 1", "sum 7"]
    mixed = from_draws(rng.normal(size=(20, 3)), names, level=0.9, unit="photons")
    both = calibrate_what_fits(mixed, fitted)
    strict = mixed.select("sum 1", "sum 7").calibrated(fitted)
    assert (both.low[0], both.high[2]) == (strict.low[0], strict.high[1])
    assert (both.low[1], both.high[1]) == (mixed.low[1], mixed.high[1])
    told = "calibrated on 40 cases (recipe not compared)"
    assert both.notes == (told, "nominal", told)
    assert both.note == f"sum: {told}; the rest nominal"
    assert both.select("mean 1").note == "nominal" and both.select("sum 7").note == told
    whole = calibrate_what_fits(mixed.select("sum 1"), fitted)
    assert whole.note == told and whole.notes == ()
    with pytest.raises(InputError, match="is of 'sum', but the measurement holds 'mean 1'"):
        calibrate_what_fits(mixed.select("mean 1"), fitted)


def test_a_number_in_a_name_is_part_of_it(rng):
    """Manders' M1 and M2 are two quantities; regions 1 and 2 have one."""
    cases = [from_draws(rng.normal(size=(20, 1)), ["M1"], level=0.9) for _ in range(20)]
    fitted = calibrate_measurement([0.0] * 20, cases)
    assert fitted.quantity == "M1"
    with pytest.raises(InputError, match="is of 'M1', but the measurement holds 'M2'"):
        from_draws(rng.normal(size=(20, 1)), ["M2"], level=0.9).calibrated(fitted)
    frames = from_draws(rng.normal(size=(20, 1)), ["mean 12, frame 3"], level=0.9)
    assert calibrate_measurement([0.0] * 20, [frames] * 20).quantity == "mean"


def test_noise_unlike_that_of_the_cases_is_warned_of(rng):
    def case(sigma, error):
        recipe = Recipe(
            noise={"kind": "gaussian", "sigma": sigma}, prior="gaussian",
            sampler={"kind": "pigdm", "steps": 10}, samples=20,
        )  # fmt: skip
        report = {
            "prior": {"kind": "gaussian", "name": "g", "hash": "1"}, "scale": [2.0],
            "noise": {"sigma": sigma, "sigma_error": error},
        }  # fmt: skip
        result = Result(rng.normal(size=(20, 4, 4)), recipe=recipe, report=report)
        return measure(result, np.mean)

    fitted = calibrate_measurement([0.0] * 20, [case(0.05, 0.0) for _ in range(20)])
    assert case(0.06, 0.01).calibrated(fitted).note == "calibrated on 20 cases"
    other = case(1.07, 0.01)  # estimated: no other recipe, but another problem
    with pytest.warns(UserWarning, match=r"noise of 0\.025 of the contrast, this .* 0\.535"):
        assert other.calibrated(fitted).note == "calibrated on 20 cases at other noise"


def restored(rng, steps):
    """Return a result of a recipe, as a run would report it."""
    recipe = Recipe(prior="gaussian", sampler={"kind": "pigdm", "steps": steps}, samples=20)
    report = {"prior": {"kind": "gaussian", "name": "g", "hash": "1"}, "noise": {}}
    return Result(rng.normal(size=(20, 4, 4)), recipe=recipe, report=report)


def test_a_calibration_belongs_to_a_recipe(rng):
    cases = [measure(restored(rng, 10), np.mean) for _ in range(20)]
    fitted = calibrate_measurement([0.0] * 20, cases)
    assert cases[0].calibrated(fitted).note == "calibrated on 20 cases"
    other = measure(restored(rng, 20), np.mean)
    with pytest.raises(InputError, match=r"another recipe \(sampler.steps is 20 here and 10"):
        other.calibrated(fitted)
    assert "of another recipe: sampler.steps" in other.calibrated(fitted, flag=True).note
    with pytest.raises(InputError, match="case 20 was restored by another recipe"):
        calibrate_measurement([0.0] * 21, [*cases, other])


def test_file_there_and_back(rng, tmp_path):
    fitted = calibrate_measurement(*planted(rng, 40))
    path = fitted.save(tmp_path / "new" / "sums.json")
    assert MeasureCalibration.load(path) == fitted
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="it is no JSON"):
        MeasureCalibration.load(tmp_path / "bad.json")
    (tmp_path / "other.json").write_text('{"lambdas": {}}')
    with pytest.raises(InputError, match="no calibration of a measurement"):
        MeasureCalibration.load(tmp_path / "other.json")
    (tmp_path / "late.json").write_text('{"quantity": "sum", "format": 9}')
    with pytest.raises(InputError, match="format 9, this one reads up to 1"):
        MeasureCalibration.load(tmp_path / "late.json")
    with pytest.raises(InputError, match="cannot be read"):
        MeasureCalibration.load(tmp_path / "missing.json")
