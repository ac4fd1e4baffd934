"""Light that is not the object's, and uneven illumination: numbers, images, and what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_dps
from napari_dps.errors import DPSError
from napari_dps.recipe import Recipe
from napari_dps.run import Run

pytest.importorskip("napari_dps.core.illumination")
SHAPE = (40, 48)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]
OBJECT = 20 + 200 * np.exp(-((ROWS - 20) ** 2 + (COLUMNS - 24) ** 2) / 60.0)
SLOPE = 100 + 5.0 * COLUMNS  # stray light, brighter on one side
# From 1.33 in the middle to half of that in the corners.
FALL = 1 / (1 + (ROWS - 20) ** 2 / 800 + (COLUMNS - 24) ** 2 / 1152)
VIGNETTE = FALL / FALL.mean()
GAIN, OFFSET = 2.0, 100.0
NOISE = {"kind": "poisson-gaussian", "gain": GAIN, "offset": OFFSET, "read_noise": 1.5}
PRIOR = {"kind": "gaussian", "mean": 0.0, "std": 0.6, "correlation_length": 5.0}
FAST = {"noise": NOISE, "prior": PRIOR, "sampler": {"kind": "pigdm", "steps": 40}, "samples": 6}
CASES = {
    "number": {"background": 300.0},
    "image": {"background": SLOPE},
    "flat": {"flat_field": VIGNETTE},
    "both": {"background": SLOPE, "flat_field": VIGNETTE},
}


def known() -> np.ndarray:
    """Return the object in the units of the measurement (ADU)."""
    return np.asarray(OFFSET + GAIN * OBJECT)


def model(case: str, kind: str = "gaussian-blur") -> dict[str, Any]:
    extra = {"sigma": 1.5} if kind == "gaussian-blur" else {}
    return {"kind": kind, **extra, **CASES[case]}


@pytest.mark.parametrize("case", list(CASES))
def test_simulate_adds_what_inference_takes_out(case: str) -> None:
    """The mean of many draws: flat field times the blurred object, plus the background."""
    frames = np.repeat(known()[None], 400, 0)
    drawn = napari_dps.simulate(frames, (model(case, "identity"), NOISE), seed=1, axes="TYX")
    fields = CASES[case]
    expected = OFFSET + fields.get("flat_field", 1.0) * GAIN * OBJECT + fields.get("background", 0)
    electrons = (expected - OFFSET) / GAIN
    error = GAIN * np.sqrt((electrons + 1.5**2) / 400)
    assert np.abs((drawn.mean(0) - expected) / error).max() < 5.5
    np.testing.assert_allclose(
        (drawn.var(0, ddof=1) / (400 * error**2)).mean(), 1, atol=0.02
    )  # the light of the background has its noise, too


@pytest.mark.parametrize("case", list(CASES))
def test_the_result_holds_the_object_alone(case: str) -> None:
    measured = napari_dps.simulate(known(), (model(case), NOISE), seed=2)
    result = napari_dps.reconstruct(measured, FAST, forward=model(case), device="cpu")
    error = result.mean - known()
    spread = result.std
    assert result.report["misfit"] == pytest.approx(1, abs=0.15)
    # Neither the level of the background nor the fall of the light is left in it.
    assert abs(error.mean()) < 0.1 * GAIN * OBJECT.mean()
    outside = OBJECT < 30
    corners = outside & (VIGNETTE < 0.8)
    assert abs(error[corners].mean()) < 0.15 * GAIN * OBJECT.mean()
    assert np.mean(np.abs(error) < 2.5 * spread) > 0.85
    if case != "both":
        return
    # Taken for the object's own, the same light is in it.
    naive = napari_dps.reconstruct(
        measured, FAST, forward={"kind": "gaussian-blur", "sigma": 1.5}, device="cpu"
    )
    assert np.sqrt(np.mean(error**2)) < 0.7 * np.sqrt(np.mean((naive.mean - known()) ** 2))


def test_a_number_is_an_image_of_it() -> None:
    even = {"kind": "identity", "background": np.full(SHAPE, 300.0)}
    one, other = (
        napari_dps.simulate(known(), (forward, NOISE), seed=3)
        for forward in (model("number", "identity"), even)
    )
    np.testing.assert_array_equal(one, other)


def test_a_background_of_pixels_with_gains_of_their_own() -> None:
    gains = GAIN * (1 + 0.3 * np.sin(ROWS + 2 * COLUMNS))
    camera = {**NOISE, "gain": gains}
    frames = np.repeat(np.full(SHAPE, OFFSET)[None], 400, 0)
    # An image of the background was taken by the very pixels; a number is even light.
    for background, seen in ((SLOPE, SLOPE), (300.0, 300.0 * gains / np.median(gains))):
        forward = {"kind": "identity", "background": background}
        drawn = napari_dps.simulate(frames, (forward, camera), seed=1, axes="TYX").mean(0)
        error = np.sqrt((seen * gains + (1.5 * gains) ** 2) / 400)
        assert np.abs((drawn - OFFSET - seen) / error).max() < 5.5
        job = Run(frames[0] + seen, {**FAST, "forward": forward, "noise": camera}, device="cpu")
        job._bind()
        light = job._problem.operator.operator.background
        each = np.broadcast_to(light.numpy().squeeze(), SHAPE)
        assert each == pytest.approx(seen / gains, rel=1e-5)


def test_a_stack_shares_its_background() -> None:
    frames = np.stack([known(), OFFSET + (known() - OFFSET) / 2])
    measured = napari_dps.simulate(frames, (model("both"), NOISE), seed=4, axes="TYX")
    result = napari_dps.reconstruct(measured, FAST, forward=model("both"), device="cpu", axes="TYX")
    assert result.report["chi2_per_frame"] == pytest.approx([1, 1], abs=0.2)
    assert np.sqrt(np.mean((result.mean - frames) ** 2)) < 0.25 * GAIN * OBJECT.std()


def test_arrays_are_kept_beside_the_recipe(tmp_path: Path) -> None:
    recipe = Recipe(forward=model("both"), noise=NOISE)
    recipe.save(tmp_path / "r.json")
    again = Recipe.load(tmp_path / "r.json").forward
    np.testing.assert_array_equal(again.background.load(), SLOPE)
    np.testing.assert_array_equal(again.flat_field.load(), VIGNETTE)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"background": SLOPE[:9]}, "background has shape"),
        ({"background": np.full(SHAPE, np.nan)}, "background"),
        ({"background": "nowhere.tif"}, "nowhere.tif"),
        ({"background": True}, "background"),
        ({"background": float("inf")}, "background"),
        ({"flat_field": VIGNETTE[:, :9]}, "flat"),
        ({"flat_field": np.zeros(SHAPE)}, "flat"),
        ({"flat_field": -VIGNETTE}, "flat"),
    ],
)
def test_bad_values_are_one_sentence(fields: dict[str, Any], words: str) -> None:
    measured = napari_dps.simulate(known(), ("identity", NOISE), seed=0)
    with pytest.raises(DPSError, match=words) as caught:
        napari_dps.reconstruct(measured, FAST, forward={"kind": "identity", **fields}, device="cpu")
    assert "\n" not in str(caught.value)


def darkness(counts: np.ndarray, background: Any, **parts: Any) -> list[str]:
    """Return what a run says of a background before it samples."""
    forward = {"kind": "gaussian-blur", "sigma": 1.5, "background": background}
    run = Run(counts, {"forward": forward, "noise": "poisson", "prior": PRIOR, **parts})
    run._bind()
    return [told for told in run.warnings if "background alone" in told]


def test_a_background_of_more_light_than_there_is_is_told() -> None:
    counts = np.random.default_rng(0).poisson(5.0 + 0.5 * OBJECT)
    assert not darkness(counts, 5.0) and not darkness(counts, 0.0)
    told = darkness(counts, 1000.0)
    assert told and "the image holds 2% of the light" in told[0] and "offset" in told[0]
    # One dark frame is enough; a field of background alone is none, and chance says nothing.
    stack = np.stack([counts, counts // 20])
    assert "a frame holds" in darkness(stack, 15.0, noise={"kind": "poisson"})[0]
    assert not darkness(np.random.default_rng(1).poisson(5.0, SHAPE), 5.0)
    assert not darkness(np.random.default_rng(2).poisson(5.0, SHAPE), 5.05)


def test_pixels_that_do_not_count_hold_no_light() -> None:
    counts = np.random.default_rng(0).poisson(5.0 + 0.5 * OBJECT)
    counts[:, :24] = 0
    valid = counts > 0
    assert darkness(counts, 25.0) and not darkness(counts, 25.0, valid=valid)
    assert darkness(counts, 200.0, valid=valid)


def test_a_slope_is_summed_where_it_lies() -> None:
    counts = np.random.default_rng(0).poisson(SLOPE)
    assert not darkness(counts, SLOPE)
    assert darkness(counts, 1.5 * SLOPE)
