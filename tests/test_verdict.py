"""The verdict: silent where all is right, loud and right where the model is off."""

from __future__ import annotations

import numpy as np
import pytest
from verdict_cases import BLUR, blurred, judge, scene

import napari_dps
from napari_dps import Result, _resultfile, assess, reconstruct
from napari_dps.components import make
from napari_dps.errors import InputError
from napari_dps.uncertainty.verdict import assess as assessing
from napari_dps.uncertainty.verdict._residuals import DRAWS
from napari_dps.uncertainty.verdict.evidence import Evidence, Finding
from napari_dps.uncertainty.verdict.flux import flux

PRIOR = {"kind": "gaussian", "mean": -0.6, "std": 0.5, "correlation_length": 3}
FAST = {"kind": "mmps", "steps": 8}


@pytest.mark.parametrize("peak", [2.0, 200.0])
def test_the_truth_raises_no_alarm(peak):
    z = blurred(scene(peak=peak), 2.0)
    rng = np.random.default_rng(1)
    found = [judge(rng.poisson(z), z[None], seed=k) for k in range(12)]
    # One run in a hundred is off by chance, and the seeds are what they are.
    assert sum(f.alarm for f in found) <= 1
    assert "explains the data" in found[0].sentence
    scores = [f.numbers["chi2"]["z"] for f in found]
    assert abs(np.mean(scores)) < 1.2 and 0.3 < np.std(scores) < 2.5


def test_few_counts_have_their_own_expectation():
    z = np.full((48, 48), 0.02)
    found = judge(np.random.default_rng(0).poisson(z), z[None])
    # Below the floor of the variance chi-square is z / Z_MIN, not one.
    assert found.numbers["chi2"]["expected"] == pytest.approx(0.4, abs=0.15)
    assert not found.alarm


@pytest.mark.parametrize(("held", "way"), [(2.0, "too large"), (0.5, "too small")])
def test_a_wrong_gain_is_noticed_and_mended(held, way):
    z = blurred(scene(), 2.0)
    y = np.random.default_rng(2).poisson(z) / held
    found = judge(y, z[None] / held, noise={"kind": "poisson", "gain": held})
    assert found.alarm and found.numbers["suspects"][0] == "gain"
    assert way in found.sentence
    assert found.numbers["noise_variance"]["value"] * held == pytest.approx(1, abs=0.15)


def test_a_wrong_sigma_is_mended():
    z = blurred(scene(), 2.0)
    y = z + 10 * np.random.default_rng(3).standard_normal(z.shape)
    found = judge(y, z[None], noise={"kind": "gaussian", "sigma": 20.0})
    assert found.numbers["suspects"] == ["sigma"]
    told = float(found.sentence.split("sigma about ")[1].rstrip("."))
    assert told == pytest.approx(10, rel=0.08)


@pytest.mark.parametrize(
    ("forward", "suspect", "words"),
    [(BLUR, "psf", "too wide"), ("identity", "forward", "forward model is off")],
)
def test_structure_is_noticed_and_named(forward, suspect, words):
    object_ = scene()
    y = np.random.default_rng(4).poisson(blurred(object_, 1.0))
    found = judge(y, blurred(object_, 2.0)[None], forward=forward)
    assert found.alarm and suspect in found.numbers["suspects"]
    assert words in found.sentence
    assert abs(found.numbers["autocorrelation"]["value"][0]) > 0.1


def test_read_noise_that_is_missing_shows_where_it_is_dark():
    z = 5 + 400 * (scene(peak=1.0) > 10.4)
    rng = np.random.default_rng(6)
    y = np.maximum(rng.poisson(z) + 2.0 * rng.standard_normal(z.shape), 0)
    found = judge(y, z[None], forward="identity")
    assert found.alarm
    assert found.numbers["dark"]["value"] > 1.4 > found.numbers["bright"]["value"]


def test_what_a_psf_too_narrow_does_is_said():
    z = blurred(scene(), 2.0)
    y = np.random.default_rng(7).poisson(z)
    assert "too narrow cannot be seen" in judge(y, z[None]).sentence
    plain = judge(y, z[None], forward="identity")
    assert "too narrow" not in plain.sentence and plain.numbers["blind_to"] == []
    inside = {"kind": "compose", "steps": [BLUR, {"kind": "downsample"}]}
    assert judge(y, z[None], forward=inside).numbers["blind_to"]


def test_data_that_do_not_count_are_not_looked_at():
    z = blurred(scene(), 2.0)
    y = np.random.default_rng(8).poisson(z)
    valid = np.random.default_rng(9).random(z.shape) < 0.7
    spoiled = np.where(valid, y, 10 * y + 1000)
    found = judge(spoiled, z[None], valid=valid)
    assert not found.alarm and found.numbers["data"] == valid.sum()
    assert (found.maps["whitened_residual"][0][~valid] == 0).all()


def test_ranks_are_even_only_under_the_right_model():
    z = blurred(scene(), 2.0)
    y = np.random.default_rng(10).poisson(z)
    even = judge(y, z[None]).numbers["pit"]
    assert len(even["shares"]) == DRAWS + 1
    assert sum(even["shares"]) == pytest.approx(1) and even["value"] < 3
    assert judge(y, 1.3 * z[None]).numbers["pit"]["value"] > 20


def test_noise_that_neighbours_share_is_no_structure():
    z = np.full((48, 48), 100.0)
    white = np.random.default_rng(11).standard_normal(z.shape)
    noise = blurred(white, 1.0)
    y = z + 5 * noise / noise.std()
    given = {"kind": "gaussian", "sigma": 5.0, "pixels_per_value": 12.0}
    assert not judge(y, z[None], noise=given).alarm
    assert judge(y, z[None], noise={"kind": "gaussian", "sigma": 5.0}).alarm


def test_light_that_gets_lost_is_noticed():
    assert not flux(1000.0, 1010.0, 32.0, "electrons").alarm
    near = flux(1000.0, 970.0, 8.0, "electrons")
    assert not near.alarm and not near.told and near.sentence.startswith("Not clear")
    lost = flux(1e6, 0.9e6, 1e3, "electrons")
    assert lost.alarm and "10.0% less light" in lost.sentence


# In a run ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured():
    z = blurred(scene(32), 1.5)
    return np.random.default_rng(12).poisson(z).astype(np.float32)


@pytest.fixture(scope="module")
def result(measured):
    return reconstruct(measured, forward=BLUR, prior=PRIOR, sampler=FAST, samples=4, seed=1)


def test_every_run_carries_a_verdict(result, measured):
    told = result.report["verdict"]
    assert set(told["findings"]) == {"data_fit", "flux"}
    numbers = told["findings"]["data_fit"]["numbers"]
    assert np.allclose(numbers["chi2"]["samples"], result.report["chi2"], rtol=1e-5)
    assert told["sentence"] and told["error_bars"] and len(told["frames"]) == 1
    assert result.maps["whitened_residual"].shape == (32, 32)
    assert np.array_equal(result.maps["measurement"], measured)


@pytest.mark.parametrize("name", ["r.ome.tif", "r.tif", "r.ome.zarr"])
def test_maps_travel_with_the_file(result, name, tmp_path):
    extra = result.with_maps({**result.maps, "odd @ name / é": np.ones((3, 5, 7))})
    back = Result.load(extra.save(tmp_path / name))
    assert list(back.maps) == list(extra.maps)
    for key, array in extra.maps.items():
        assert back.maps[key].dtype == np.float32
        assert np.array_equal(back.maps[key], array)
    assert np.array_equal(back.samples, result.samples)
    assert back.report["verdict"] == result.report["verdict"]


def test_older_files_have_no_maps(result, tmp_path):
    path = result.save(tmp_path / "r.tif")
    _, meta = _resultfile.read(path)
    del meta["maps"]
    assert _resultfile.read_maps(path, meta) == {}


def test_maps_of_other_shapes_are_refused(result):
    with pytest.raises(InputError, match="two or three axes"):
        result.with_maps({"line": np.zeros(4)})


@pytest.mark.parametrize("far", [1e10, 1e20, 1e30])
def test_samples_far_off_the_data_are_judged(far):
    z = blurred(scene(), 2.0)
    y = np.random.default_rng(1).poisson(z)
    # Their figures overflow, and those drawn from the model have no spread left.
    found = judge(y, far * np.stack((z, 2 * z)))
    assert found.alarm and found.sentence.startswith(("The model does not explain", "Structure"))


def test_a_closer_look_adds_findings(result, measured, tmp_path, monkeypatch):
    seen: list[Evidence] = []

    def find(evidence: Evidence) -> Finding:
        seen.append(evidence)
        return Finding("closer", "Closer", "A look.", {"n": 1}, {"m": np.zeros((4, 4))}, True)

    monkeypatch.setattr(assessing, "COSTLY", ("x:find", "x:nothing"))
    monkeypatch.setattr(assessing, "load", lambda n: find if n == "x:find" else lambda e: None)
    saved = Result.load(result.save(tmp_path / "r.tif"))
    closer = assess(saved, measured)
    assert set(closer.report["verdict"]["findings"]) == {"data_fit", "flux", "closer"}
    assert closer.report["verdict"]["closer"] and "closer" not in saved.report["verdict"]
    assert closer.report["verdict"]["alarm"] and closer.maps["m"].shape == (4, 4)
    assert "closer" not in saved.report["verdict"]["findings"]
    evidence = seen[0]
    operator = evidence.problem.operator
    assert tuple(evidence.x.shape) == (4, *operator.x_shape)
    inside = operator.crop(operator.to_object(evidence.x))[:, 0].numpy()
    assert np.allclose(inside, result.samples, rtol=1e-4, atol=1e-3)
    assert np.array_equal(evidence.samples, result.samples)


def test_an_older_result_is_judged_without_its_border(result, measured):
    bare = result.with_maps({})
    bare.report = {k: v for k, v in result.report.items() if k != "verdict"}
    told = assess(bare, measured).report["verdict"]
    numbers = told["findings"]["data_fit"]["numbers"]
    assert 200 < numbers["data"] < measured.size
    assert numbers["chi2"]["value"] == pytest.approx(np.mean(result.report["chi2"]), abs=0.15)
    assert "border" in told["notes"][0]


def test_another_image_is_refused(result, measured):
    with pytest.raises(InputError, match="give the measurement itself"):
        assess(result, measured[:24])


def test_a_stranger_of_the_same_shape_is_refused(result, measured):
    with pytest.raises(InputError, match="its values differ"):
        assess(result, measured[::-1])
    older = result.with_maps({})
    with pytest.raises(InputError, match="its sum differs"):
        assess(older, measured + 1)


def test_a_result_whose_recipe_is_unknown_is_refused(result, measured):
    other = result.with_maps({})
    other.recipe = {"forward": {"kind": "elsewhere"}}
    with pytest.raises(InputError, match="install what its recipe names"):
        assess(other, measured)


def test_the_worst_frame_of_a_stack_is_told(measured):
    broken = measured.copy()
    broken[8:20, 8:20:2] *= 3
    stack = np.stack([measured, broken, measured[::-1]])
    found = reconstruct(
        stack, forward=BLUR, prior=PRIOR, sampler=FAST, samples=2, axes="TYX", seed=1
    )
    told = found.report["verdict"]
    assert told["frame"] == 1 and told["alarm"]
    assert [line["frame"] for line in told["frames"]] == [0, 1, 2]
    assert {"whitened_residual", "whitened_residual@0", "measurement@0"} <= set(found.maps)
    assert np.array_equal(found.maps["measurement"], broken)


def test_point_estimates_are_judged_by_their_data_alone(measured):
    found = reconstruct(measured, forward=BLUR, sampler="richardson-lucy")
    told = assess(found, measured).report["verdict"]
    assert not told["error_bars"] and "point estimate" in told["notes"][-1]
    assert set(told["findings"]) == {"data_fit", "flux"}


def test_volumes_and_complex_objects_are_judged():
    rng = np.random.default_rng(13)
    volume = rng.poisson(20 + 30 * rng.random((5, 16, 16)).round()).astype(np.float32)
    found = reconstruct(volume, forward=BLUR, sampler="richardson-lucy", axes="ZYX")
    assert found.maps["whitened_residual"].ndim == 2
    object_ = np.pad(rng.random((16, 16)), 0) * 20
    far = np.abs(np.fft.fftshift(np.fft.fft2(object_, (32, 32), norm="ortho"))) ** 2
    given = make("forward", {"kind": "phase-retrieval", "measured": "intensity"})
    phased = reconstruct(rng.poisson(far).astype(np.float32), forward=given, sampler="hio")
    assert phased.report["verdict"]["findings"]["data_fit"]["numbers"]["data"] == far.size


def test_the_verdict_is_public():
    assert napari_dps.assess is assess and "assess" in napari_dps.__all__
