"""A calibration: it covers where the sampler does not, belongs to one recipe, and is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from calibration_cases import QUICK, RECIPE, REPORT, SAMPLES, SIDE, drawn, fitted

import napari_dps
from napari_dps.errors import InputError
from napari_dps.image import Image
from napari_dps.result import Result
from napari_dps.uncertainty.calibrate import calibrate
from napari_dps.uncertainty.calibration import Calibration, parts_of
from napari_dps.uncertainty.conformal import SHARES
from napari_dps.uncertainty.scenes import Bench
from napari_dps.uncertainty.scoring import score

# Few crops, for the sake of time; what they are warned of has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*bound loose")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On images this small threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_intervals_of_a_sampler_with_half_the_spread_cover_once_calibrated() -> None:
    found = fitted(60)
    assert found.nominal_coverage["0.9"] == pytest.approx(0.58, abs=0.05)
    assert found.calibrated_coverage["0.9"] == pytest.approx(0.9, abs=0.02)
    # All pixels are alike here, so that no part of them is covered less.
    assert found.bright_coverage == pytest.approx(0.9, abs=0.03)
    assert len(found.decile_coverage) == 10
    # Its own chance makes the smallest deviations too small.
    assert found.decile_coverage[0] < 0.9 < found.decile_coverage[-1]
    assert found.calibrated_score["0.9"] < found.nominal_score["0.9"]
    # The error of the mean of 20 samples of half the spread, of it: 1/0.514.
    assert found.spread_skill == pytest.approx(0.51, abs=0.02)
    rng = np.random.default_rng(1)
    shares: dict[float, list[float]] = {level: [] for level in found.levels}
    for _ in range(60):
        result, truth = drawn(rng)
        better = result.calibrated(found)
        for level in found.levels:
            low, high = better.interval(level)
            shares[level].append(float(np.mean((low <= truth) & (truth <= high))))
    for level, values in shares.items():
        # n = 60 images make it cover up to 1/61 more.
        assert level - 0.01 < np.mean(values) < level + 0.03
    assert 0.87 < np.mean(shares[0.9]) < 0.94


def test_ranks_are_flat_for_honest_samples_and_pile_up_at_the_ends_for_narrow_ones() -> None:
    honest, narrow = fitted(40, 1.0).ranks["pixel"], fitted(40, 0.4).ranks["pixel"]
    assert len(honest) == len(narrow) == SAMPLES + 1 and sum(narrow) == pytest.approx(1)
    assert narrow[0] > 2 * narrow[10] and narrow[-1] > 2 * narrow[10]
    # The mean is the closed form's own and the spread right: flat to chance.
    assert np.allclose(honest, 1 / 21, atol=0.009)


def test_of_antithetic_pairs_the_first_partners_are_ranked() -> None:
    result, truth = drawn(np.random.default_rng(0))
    result.report["antithetic"] = True
    found = score(result, truth, misfit=0.5, seed=0)["ranks"]
    assert len(found["pixel"]) == len(found["misfit"]) == SAMPLES // 2 + 1
    assert found["misfit"] == [1] + [0] * (SAMPLES // 2)
    below = (result.samples[::2] < truth).sum(0).ravel()
    assert found["pixel"] == np.bincount(below, minlength=11).tolist()


def test_a_real_sampler_on_draws_of_its_own_prior(monkeypatch) -> None:
    """Exact prior and guidance: nominal error bars are right already, and factors say so."""
    own = Bench._object
    monkeypatch.setattr(Bench, "_object", lambda self, k, a: own(self, 2 * k + 1, a))
    found = calibrate(RECIPE.with_parts(samples=10), crops=20, size=SIDE, device="cpu")
    assert found.sources == {"prior": 20}
    assert found.nominal_coverage["0.8"] == pytest.approx(0.8, abs=0.04)
    assert found.spread_skill == pytest.approx(1, abs=0.1)
    assert np.max(found.ranks["pixel"]) < 1.35 / len(found.ranks["pixel"])
    low, high = found.scales
    assert low == high == 2.0


def test_blur_draws_from_beyond_the_field_and_says_how_far_it_is(tmp_path) -> None:
    steps: list[Any] = []
    recipe = QUICK.with_parts(forward={"kind": "gaussian-blur", "sigma": 1.0})
    bench = Bench(
        recipe, None, size=SIDE, seed=0, photons=None, background=None, pixel_size=None,
        device="cpu",
    )  # fmt: skip
    scene = bench.scene(0)
    assert scene.truth.shape == scene.measured.shape == (SIDE, SIDE)
    assert scene.wide.shape[-1] > SIDE
    assert np.percentile(scene.truth, 99.8) == pytest.approx(1.0)  # background + scale
    keep = tmp_path / "crops.jsonl"
    found = calibrate(recipe, crops=19, size=SIDE, device="cpu", on_step=steps.append, keep=keep)
    assert (steps[-1].done, steps[-1].total) == (19, 19)
    assert found.sources == {"phantoms": 10, "prior": 9}
    # What was kept gives the same again at once, also where the last line was cut off.
    lines = keep.read_text().splitlines()
    keep.write_text("\n".join([*lines[:-1], lines[-1][:50]]))
    steps.clear()
    again = calibrate(recipe, crops=19, size=SIDE, device="cpu", on_step=steps.append, keep=keep)
    assert again.lambdas == found.lambdas and again.ranks == found.ranks
    assert min(step.done for step in steps) == 18
    with pytest.raises(InputError, match="crops of another calibration"):
        calibrate(recipe, crops=19, size=SIDE, seed=1, device="cpu", keep=keep)


def test_crops_with_noise_of_their_own_are_passed_over(tmp_path) -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    smooth = 100 * np.sin(rows / 9) * np.cos(columns / 7)
    images = [smooth, smooth + 10 * rng.standard_normal(smooth.shape)]
    for place, image in enumerate(images):
        tifffile.imwrite(tmp_path / f"{place}.tif", image.astype(np.float32))
    given: Any = {
        "size": SIDE, "seed": 0, "photons": 30.0, "background": None, "pixel_size": None,
        "device": "cpu",
    }  # fmt: skip
    recipe = QUICK.with_parts(noise="poisson", intensity="auto")
    paths = [tmp_path / "0.tif", tmp_path / "1.tif"]
    names = [
        {
            Bench(recipe, paths, **given, own_noise=limit).scene(k).name.split("/")[-1]
            for k in range(6)
        }
        for limit in (None, 0.5)
    ]
    assert names == [{"0.tif", "1.tif"}, {"0.tif"}]
    with pytest.raises(InputError, match=r"crops in a row have more noise .* 0\.5 photons; allow"):
        Bench(recipe, paths[1:], **given, own_noise=0.5).scene(0)
    with pytest.raises(InputError, match="give images, or leave it out"):
        calibrate(QUICK, own_noise=0.5)
    with pytest.raises(InputError, match="own_noise = -1 is no noise level"):
        calibrate(QUICK, [paths[0]], own_noise=-1)
    found = calibrate(QUICK, [paths[0]], crops=19, size=SIDE, own_noise=0.5, device="cpu")
    assert found.own_noise == 0.5 and found.distinct_images == 1


def test_clean_images_give_the_crops(tmp_path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.random((40, 50)) * 100, 7 + rng.random((32, 32))]
    bench = Bench(
        QUICK.with_parts(noise="poisson", intensity="auto"), images, size=SIDE, seed=0,
        photons=30.0, background=None, pixel_size=None, device="cpu",
    )  # fmt: skip
    scenes = [bench.scene(k) for k in range(4)]
    assert {s.source for s in scenes} == {"images"}
    for scene in scenes:
        assert np.percentile(scene.truth, 99.8) == pytest.approx(30)
        assert scene.truth.min() == pytest.approx(1)
    np.testing.assert_array_equal(bench.scene(2).measured, scenes[2].measured)
    assert not np.array_equal(scenes[0].truth, scenes[2].truth)
    with pytest.raises(InputError, match="does not exist"):
        calibrate(QUICK, [tmp_path / "no.tif"])
    # One size is named, not the one that training images need beside it.
    with pytest.raises(InputError, match=r"smaller than 16 x 16 .* at least 16 x 16") as told:
        calibrate(QUICK, [images[0][:10]], size=SIDE)
    assert "64 x 64" not in str(told.value)


def test_few_crops_are_warned_of(tmp_path) -> None:
    with pytest.warns(UserWarning, match="19 crops make .* bound loose: .* up to 5 %"):
        calibrate(QUICK, crops=19, size=SIDE, device="cpu")
    result, _ = drawn(np.random.default_rng(2))
    assert "bound loose" in result.calibrated(fitted(19)).report["warnings"][0]
    assert result.calibrated(fitted(100)).report["warnings"] == []


def test_crops_of_one_image_are_no_images() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((32, 32)) * 100
    found = calibrate(QUICK, [image], crops=19, size=SIDE, device="cpu")
    assert (found.images, found.distinct_images) == (19, 1)
    assert found.basis == "19 crops of 1 image" and found.basis in repr(found)
    # Without it there is nothing left to judge it by.
    assert set(found.calibrated_coverage.values()) == {None}
    assert found.bright_coverage is None and found.decile_coverage is None
    result, _ = drawn(rng)
    parts = found.model_copy(update={"parts": fitted(19).parts})
    told = result.calibrated(parts).report
    assert told["calibration"] == "calibrated on 19 crops of 1 image"
    assert told["intervals"]["distinct_images"] == 1
    # Of a file that does not say, as before.
    old = found.model_copy(update={"distinct_images": None})
    assert old.basis == "19 images"


@pytest.mark.parametrize(
    ("parts", "options", "words"),
    [
        ({"sampler": "wiener"}, {}, "point estimate"),
        ({"samples": 3}, {}, "at least 4"),
        ({"noise": "gaussian"}, {}, "numbers for sigma"),
        ({"noise": "poisson-gaussian"}, {}, "gain, offset, read_noise"),
        ({"forward": "phase-retrieval"}, {}, "up to shifts, flips or a phase"),
        ({"intensity": "auto"}, {}, "brightness"),
        ({}, {"crops": 18}, "whole number of 19 or more"),
        ({}, {"size": 8}, "size = 8"),
        ({}, {"images": []}, "no clean image"),
        ({}, {"images": 5}, "images = 5 is no image"),
        ({}, {"pixel_size": (1.0, 2.0, 3.0)}, "give one number above 0, or 2"),
        ({}, {"pixel_size": 0.0}, "pixel_size = 0.0"),
        ({}, {"photons": -2.0}, "not above the background"),
        ({"valid": np.ones((4, 4))}, {}, "`valid` mask"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(parts, options, words) -> None:
    with pytest.raises(InputError, match=words):
        calibrate(QUICK.with_parts(**parts), **options)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"sampler": {"kind": "pigdm", "steps": 13}}, "sampler.steps is 13 here and 12"),
        ({"sampler": "mmps"}, "sampler is 'mmps' here and 'pigdm'"),
        ({"forward": {"kind": "gaussian-blur", "sigma": 2.0}}, "forward is 'gaussian-blur'"),
        ({"noise": {"kind": "gaussian", "sigma": 0.8}}, "noise.sigma is 0.8"),
        ({"noise": "poisson"}, "noise is 'poisson'"),
        ({"prior": {"kind": "gaussian", "std": 0.4}}, "prior.hash"),
        ({}, "samples is 19"),
    ],
)
def test_another_recipe_is_refused_or_flagged(parts, words) -> None:
    found = fitted(19)
    result, _ = drawn(np.random.default_rng(2))
    assert found.matches(result) == []
    recipe = RECIPE.with_parts(**parts)
    report = dict(REPORT, prior=recipe.prior.identity())
    samples = result.samples if parts else result.samples[1:]
    other = Result.from_image(samples, Image.from_array(result.mean), recipe, report)
    assert words in found.matches(other)[0]
    with pytest.raises(InputError, match="belongs to another recipe"):
        other.calibrated(found)
    with pytest.warns(UserWarning, match="of another recipe"):
        flagged = other.calibrated(found, flag=True)
    assert flagged.report["calibration"].startswith("calibrated on 19 images of another recipe: ")
    assert words in flagged.report["warnings"][-1]
    # One that was applied after it leaves nothing of the first.
    parts = parts_of(recipe, report, len(samples))
    right = flagged.calibrated(found.model_copy(update={"parts": parts}))
    assert right.report["calibration"] == "calibrated on 19 images"
    assert not any("another recipe" in warning for warning in right.report["warnings"])
    assert sum("bound loose" in warning for warning in right.report["warnings"]) == 1


def test_what_is_read_from_the_image_need_not_agree() -> None:
    found = fitted(19)
    result, _ = drawn(np.random.default_rng(3))
    recipe = RECIPE.with_parts(
        seed=5, intensity={"scale": 3.0, "background": 0.2}, valid=np.ones((SIDE, SIDE)),
        noise={"kind": "gaussian", "sigma": 1.0},
    )  # fmt: skip
    report = dict(REPORT, noise={"sigma": 1.0, "sigma_error": 0.1}, scale=[3.0])
    other = Result.from_image(result.samples, Image.from_array(result.mean), recipe, report)
    assert found.matches(other) == []
    bright = Result.from_image(
        result.samples, Image.from_array(result.mean), recipe, dict(report, scale=[30.0])
    )
    with pytest.warns(UserWarning, match="contrast of 2 to 2, this result has 30"):
        bright.calibrated(found)
    noisy = dict(report, noise={"sigma": 5.0, "sigma_error": 0.1})
    other = Result.from_image(result.samples, Image.from_array(result.mean), recipe, noisy)
    assert found.matches(other) == []
    with pytest.warns(UserWarning, match=r"noise of 0\.2 of the contrast, this result has 1\.67"):
        assert "noise of 0.2" in other.calibrated(found).report["warnings"][-1]
    # Files that do not hold the ratio are judged by what they do hold.
    parts = {name: part for name, part in found.parts.items() if name != "noise_ratio"}
    with pytest.warns(UserWarning, match=r"noise of 0\.2 of the contrast"):
        other.calibrated(found.model_copy(update={"parts": parts}))
    nameless = Result.from_image(result.samples, Image.from_array(result.mean))
    assert "does not know" in found.matches(nameless)[0]


def test_the_result_says_what_its_intervals_rest_on_and_keeps_it(tmp_path: Path) -> None:
    found = fitted(19)
    result, _ = drawn(np.random.default_rng(4))
    before = result.interval(0.9)
    better = result.calibrated(found)
    assert better.report["calibration"] == "calibrated on 19 images"
    low, high = better.interval(0.95)  # 20 samples alone could not give it
    spread = np.hypot(better.std, found.share * np.sqrt(np.mean(better.std**2)))
    assert found.share in SHARES
    np.testing.assert_allclose(
        (high - low) / 2, found.lambdas["0.95"] * spread, rtol=1e-4, atol=1e-6
    )
    # A file from before has none.
    plain = result.calibrated(found.model_copy(update={"share": 0.0})).interval(0.95)
    np.testing.assert_allclose(
        (plain[1] - plain[0]) / 2, found.lambdas["0.95"] * better.std, rtol=1e-4, atol=1e-6
    )
    with pytest.raises(InputError, match=r"no level 0.99; it was fitted at 0.5, 0.8, 0.9, 0.95"):
        better.interval(0.99)
    with pytest.raises(InputError, match="no level"):
        found.factor(0.7)
    np.testing.assert_array_equal(result.interval(0.9), before)
    assert "intervals" not in result.report
    np.testing.assert_array_equal(better.quantile(0.3), result.quantile(0.3))
    # Its factors are of pixels; other numbers stay nominal.
    assert napari_dps.measure(better, np.mean).note == "nominal"
    for write in (("mean", "std", "samples"), ("mean", "std")):
        loaded = Result.load(better.save(tmp_path / "r.tif", write=write))
        assert loaded.report["calibration"] == "calibrated on 19 images"
        np.testing.assert_array_equal(loaded.interval(0.95), (low, high))


def test_saved_and_loaded(tmp_path: Path) -> None:
    found = fitted(19)
    path = found.save(tmp_path / "deep" / "c.json")
    assert Calibration.load(path) == found
    assert "19 images" in repr(found)
    fields = json.loads(path.read_text())
    for change, words in (
        ({"format": 99}, "later napari-dps"),
        ({"images": "many"}, "images = 'many'"),
        ({"lambdas": None}, "lambdas"),
    ):
        path.write_text(json.dumps(fields | change))
        with pytest.raises(InputError, match=words):
            Calibration.load(path)
    for text, words in (("{", "no JSON"), ("{}", "is no calibration"), ("[]", "no calibration")):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            Calibration.load(path)
    with pytest.raises(InputError, match="cannot be read"):
        Calibration.load(tmp_path / "none.json")


def test_arrays_of_a_recipe_count_by_what_is_in_them(tmp_path: Path) -> None:
    psf = np.outer([1, 2, 1], [1, 2, 1]) / 16
    np.save(tmp_path / "psf.npy", psf)

    def parts(source: Any) -> Any:
        forward = {"kind": "psf", "psf": source}
        return parts_of(RECIPE.with_parts(forward=forward), REPORT, SAMPLES)["forward"]

    assert parts(psf) == parts(str(tmp_path / "psf.npy"))
    assert parts(psf) != parts(psf.T + np.eye(3))


def test_of_the_calibrations_that_are_shipped_the_one_of_like_brightness_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_dps.uncertainty import shipped

    near, far = fitted(20), fitted(30)
    # One dim crop among bright ones says little of what it was fitted to.
    far = far.model_copy(update={"scales": (1.0, 40.0), "photons": far.background + 30})
    near.save(tmp_path / "near.json")
    far.save(tmp_path / "far.json")
    fitted(25, samples=SAMPLES + 1).save(tmp_path / "other.json")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    shipped.shipped_calibrations.cache_clear()
    try:
        result, _ = drawn(np.random.default_rng(3))
        assert result.calibrated().report["calibration"] == "calibrated on 20 images"
        result.report["scale"] = [25.0]
        assert result.calibrated().report["calibration"] == "calibrated on 30 images"
        result.report["scale"] = [2.0]
        found = result.calibrated(tmp_path / "near.json").interval(0.9)
        np.testing.assert_array_equal(found, result.calibrated(near).interval(0.9))
        other = Result.from_image(
            result.samples[:8], Image.from_array(result.mean), RECIPE, result.report
        )
        with pytest.raises(InputError, match=r"no calibration that comes .*`napari-dps calibrate"):
            other.calibrated()
    finally:
        shipped.shipped_calibrations.cache_clear()


def test_what_is_shipped_is_of_the_shipped_prior_and_the_default_sampler() -> None:
    from napari_dps.components import make
    from napari_dps.uncertainty.shipped import shipped_calibrations

    prior = make("prior", "fluorescence").identity()
    default = make("sampler", "auto").choose(affine=True)
    for calibration in shipped_calibrations():
        assert calibration.images >= 100 and calibration.size >= 64
        assert calibration.parts["prior"]["hash"] == prior["hash"]
        assert calibration.parts["sampler"] == default.model_dump(mode="json")
        assert 0.87 < (calibration.calibrated_coverage["0.9"] or 0) < 0.94
