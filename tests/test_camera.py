"""A camera measured from calibration frames, and told from a stack of one scene."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter, shift

import napari_dps
from napari_dps.camera import CameraCalibration, measure_camera
from napari_dps.cli import main
from napari_dps.errors import InputError, RecipeError
from napari_dps.noise.poisson_gaussian import PoissonGaussian
from napari_dps.recipe import Recipe

SIDE = 96
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
VIGNETTE = 1 - 0.8 * (ROWS**2 + COLUMNS**2)


def frames(
    electrons: Any, count: int, gain: Any, offset: Any, read: Any, seed: int = 0
) -> np.ndarray:
    """Return 16-bit frames (count, Y, X) of a camera."""
    rng = np.random.default_rng(seed)
    shape = (count, SIDE, SIDE)
    counts = rng.poisson(np.broadcast_to(electrons, shape))
    adu = gain * (counts + read * rng.standard_normal(shape)) + offset
    return np.clip(np.round(adu), 0, 65535).astype(np.uint16)


def true_read(gain: Any, read: Any) -> Any:
    """Return the read noise with that of rounding to whole grey values."""
    return np.sqrt(np.asarray(read) ** 2 + 1 / (12 * np.asarray(gain) ** 2))


CAMERAS = [(2.0, 100.0, 2.0), (0.5, 200.0, 3.0), (0.8, 400.0, 1.2), (8.0, 500.0, 6.0)]


@pytest.mark.parametrize(("gain", "offset", "read"), CAMERAS)
def test_photon_transfer(gain: float, offset: float, read: float) -> None:
    dark = frames(0, 12, gain, offset, read, 1)
    flats = [frames(e * VIGNETTE, 12, gain, offset, read, e) for e in (40, 400, 4000)]
    found = measure_camera(dark, flats)
    assert found.gain == pytest.approx(gain, rel=0.02)
    assert abs(found.gain - gain) < 4 * found.gain_error
    assert found.read_noise == pytest.approx(true_read(gain, read), rel=0.03)
    assert found.read_noise_error < 0.03 * read
    assert found.offset == pytest.approx(offset, abs=0.5)
    assert found.valid.all() and found.maps == {}
    assert [point["used"] for point in found.curve] == [True, True, True]
    np.testing.assert_allclose(found.flat_field, VIGNETTE / VIGNETTE.mean(), rtol=0.05)
    assert found.noise() == PoissonGaussian(
        gain=found.gain, offset=found.offset, read_noise=found.read_noise
    )


@pytest.mark.parametrize(("gain", "offset", "read"), [(0.3, 100.5, 2.0), (0.5, 100.2, 1.2)])
def test_read_noise_with_rounding_and_without(gain: float, offset: float, read: float) -> None:
    dark, flat = frames(0, 20, gain, offset, read, 1), frames(900, 20, gain, offset, read, 2)
    found = measure_camera(dark, flat)
    # A data sheet has the camera's own; the likelihood describes the frames as they are.
    assert found.own_read_noise == pytest.approx(read, rel=0.03)
    assert found.noise().read_noise == found.read_noise
    assert found.read_noise == pytest.approx(true_read(gain, read), rel=0.03)
    assert found.report()["own_read_noise"] == found.own_read_noise and found.grey_step == 1
    assert not any("grey values" in w for w in found.warnings)
    scaled = measure_camera(dark * 16, flat * 16)
    assert scaled.grey_step == 16
    assert scaled.own_read_noise == pytest.approx(found.own_read_noise)
    fine = np.random.default_rng(0).normal(0, 1e-3, dark.shape)
    unrounded = measure_camera(dark + fine, flat)
    assert unrounded.grey_step == 0 and unrounded.own_read_noise == unrounded.read_noise


@pytest.mark.parametrize("offset", [100.0, 100.25, 100.5])
def test_noise_finer_than_the_grey_values_is_warned_of(offset: float) -> None:
    dark, flat = frames(0, 20, 0.3, offset, 1, 1), frames(900, 20, 0.3, offset, 1, 2)
    found = measure_camera(dark, flat)
    assert any("the read noise is mostly rounding" in w for w in found.warnings)
    assert found.own_read_noise_error > 0.05 > 5 * found.read_noise_error


def test_one_flat_of_two_frames_is_enough() -> None:
    dark, flat = frames(0, 2, 2, 100, 3, 1), frames(500, 2, 2, 100, 3, 2)
    found = measure_camera(dark, flat)
    assert found.gain == pytest.approx(2, rel=0.05) and found.gain_error < 0.1
    assert found.maps == {} and "20 or more" in found.warnings[0]


@pytest.fixture(scope="module")
def scmos() -> tuple[dict[str, np.ndarray], CameraCalibration]:
    """Return the true maps of a camera whose pixels differ, and what 80 frames say of it."""
    rng = np.random.default_rng(3)
    shape = (SIDE, SIDE)
    true = {
        "gain": 2.0 * (1 + 0.08 * rng.standard_normal(shape)),
        "offset": 100 + 4 * rng.standard_normal(shape),
        "read_noise": 1.6 * np.exp(0.2 * rng.standard_normal(shape)),
    }
    true["read_noise"][rng.random(shape) < 0.02] *= 5
    camera = (true["gain"], true["offset"], true["read_noise"])
    dark = frames(0, 80, *camera, 1)
    dead = np.zeros(shape, dtype=bool)
    dead[3, 4] = dead[50, 60] = True
    flats = [frames(np.where(dead, 0, e), 80, *camera, e) for e in (300, 3000)]
    return true, measure_camera(dark, flats)


def test_maps_of_every_pixel(scmos: Any) -> None:
    true, found = scmos
    assert set(found.maps) == {"gain", "offset", "read_noise"}
    assert not found.valid[3, 4] and not found.valid[50, 60] and (~found.valid).sum() == 2
    valid = found.valid
    true = {**true, "read_noise": true_read(true["gain"], true["read_noise"])}
    # As good as that many frames can be: far closer than one number for all pixels.
    for name, part in (("offset", 0.15), ("read_noise", 0.3), ("gain", 0.85)):
        error = (found.maps[name] - true[name])[valid].std()
        assert error < part * true[name][valid].std(), name
    assert found.gain == pytest.approx(2.0, rel=0.02)
    assert found.read_noise == pytest.approx(np.sqrt((true["read_noise"] ** 2).mean()), rel=0.03)


def test_pixels_that_do_not_differ_get_no_gain_map() -> None:
    dark, flat = frames(0, 30, 2, 100, 2, 1), frames(500, 30, 2, 100, 2, 2)
    found = measure_camera(dark, flat)
    assert set(found.maps) == {"offset", "read_noise"}
    assert np.ptp(found.maps["read_noise"]) == 0  # all alike: the scatter is chance


def test_saved_as_a_recipe_beside_its_maps(scmos: Any, tmp_path: Path) -> None:
    _, found = scmos
    plain = Recipe.load(found.save(tmp_path / "plain.json")[0])
    assert plain.noise == found.noise() and plain.valid is None
    written = found.save(tmp_path / "camera.json", tmp_path / "maps")
    assert {path.name for path in written[1:]} == {
        "gain.npy", "offset.npy", "read_noise.npy", "flat_field.npy", "valid.npy"
    }  # fmt: skip
    recipe = Recipe.load(tmp_path / "camera.json")
    for name, values in found.maps.items():
        np.testing.assert_array_equal(getattr(recipe.noise, name).load(), values)
    assert recipe.valid is not None and not recipe.valid.load()[3, 4]
    (tmp_path / "elsewhere").mkdir()
    apart = found.save(tmp_path / "elsewhere" / "camera.json", tmp_path / "maps")[0]
    np.testing.assert_array_equal(Recipe.load(apart).noise.gain.load(), found.maps["gain"])
    with pytest.raises(RecipeError, match="cannot be written"):
        found.save(tmp_path / "plain.json" / "no.json")


DARK, FLAT = frames(0, 4, 2, 100, 2, 1), frames(400, 4, 2, 100, 2, 2)
CLIPPED = np.minimum(frames(400, 4, 2, 100, 2, 2), 850)


def flicker(share: float) -> np.ndarray:
    lamp = np.array([1, 1 + share, 1, 1 - share]).reshape(-1, 1, 1)
    return frames(400 * lamp, 4, 2, 100, 2, 2)


@pytest.mark.parametrize(
    ("dark", "flats", "words"),
    [
        (DARK[:1], FLAT, "the dark has one frame"),
        (DARK, FLAT[:1], "the flat has one frame"),
        (DARK, [FLAT, FLAT[:1]], "the flat 2 has one frame"),
        (DARK, [], "no flat was given"),
        ([], FLAT, "no dark frames"),
        (DARK, FLAT[:, 8:], r"frames of \(88, 96\) pixels"),
        ([DARK, DARK[:, 8:]], FLAT, "different shapes"),
        (DARK, DARK[::-1], "not brighter than the dark"),
        (np.full_like(DARK, 100), FLAT, "all alike"),
        (np.maximum(DARK, 100) - 100, FLAT, "of the dark is 0"),
        (np.where(DARK > 105, np.nan, DARK), FLAT, "NaN"),
        (DARK, CLIPPED, "every flat is clipped|clipped nor stuck"),
        (DARK, flicker(0.3), "changes by .*steady light"),
        (np.zeros((4, SIDE, SIDE, 3), np.uint8), FLAT, "colour"),
    ],
)  # fmt: skip
def test_frames_that_cannot_tell_are_refused(dark: Any, flats: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        measure_camera(dark, flats)
    assert "\n" not in str(caught.value)


def test_a_lamp_that_wavers_is_allowed_for() -> None:
    assert measure_camera(DARK, flicker(0.03)).gain == pytest.approx(2, rel=0.02)


def test_clipped_and_nonlinear_flats_are_told_of() -> None:
    found = measure_camera(DARK, [FLAT, CLIPPED])
    assert [point["used"] for point in found.curve] == [True, False]
    assert any("flat 2 is clipped" in w for w in found.warnings)
    compressed = (8 * np.sqrt(frames(9000, 4, 2, 100, 2, 5).astype(float))).astype(np.uint16)
    bent = measure_camera(DARK, [FLAT, compressed])
    assert any("not linear" in w for w in bent.warnings)


def test_command_line(tmp_path: Path, capsys: Any) -> None:
    names = [str(tmp_path / name) for name in ("dark.tif", "low.tif", "high.tif")]
    for name, stack in zip(names, (DARK, FLAT, frames(4000, 4, 2, 100, 2, 3)), strict=True):
        tifffile.imwrite(name, stack, photometric="minisblack")
    out, plot = str(tmp_path / "camera.json"), tmp_path / "curve.png"
    words = ["camera", "--dark", names[0], "--flat", *names[1:], "-o", out]
    assert main([*words, "--plot", str(plot), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["gain"] == pytest.approx(2, rel=0.02) and len(told["curve"]) == 2
    assert told["written"] == [out, str(plot)] and plot.stat().st_size > 5000
    assert Recipe.load(out).noise.gain == told["gain"]
    assert main(words) == 0
    assert "photon transfer" in capsys.readouterr().out
    for wrong, said in (
        (["-o", str(tmp_path / "camera.tif")], "no recipe file"),
        (["-o", out, "--plot", "curve.txt"], "no picture"),
        (["-o", out, "--maps", names[0]], "is a file"),
    ):
        assert main([*words[:-2], *wrong]) == 2
        assert said in capsys.readouterr().err
    assert main(["camera", "--dark", names[0], "-o", out]) == 2
    assert "--flat" in capsys.readouterr().err


def test_the_public_name_is_lazy() -> None:
    code = "import sys, napari_dps.camera; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert napari_dps.measure_camera is measure_camera


# -- from a stack of one scene -----------------------------------------------------------------


def scene() -> np.ndarray:
    """Return fine structure everywhere, at which a single image fails, from 0 to 1."""
    rng = np.random.default_rng(0)
    rough = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 1.0)
    smooth = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 10)
    rough, smooth = ((v - v.min()) / np.ptp(v) for v in (rough, smooth))
    return rough * smooth**2 * 1.5


def film(fade: float, drift: float, count: int = 12) -> np.ndarray:
    shown = [
        np.clip(shift(scene(), (drift * t, -drift * t / 2), order=3, mode="reflect"), 0, None)
        * fade**t
        for t in range(count)
    ]
    return frames(1500 * np.stack(shown) + 3, count, 2.0, 100.0, 2.5, 7)


@pytest.mark.parametrize(("fade", "drift"), [(1.0, 0.0), (0.93, 0.0), (0.95, 0.05)])
def test_a_stack_tells_what_an_image_of_it_cannot(fade: float, drift: float) -> None:
    stack = film(fade, drift)
    report: dict[str, Any] = {}
    found = PoissonGaussian(estimate_from="stack").resolve(stack, report)
    assert isinstance(found, PoissonGaussian)
    assert found.gain == pytest.approx(2, rel=0.1)
    assert abs(found.offset - 100) < 3 * report["offset_error"]
    assert report["estimated"] == ["gain", "offset", "read_noise"]
    assert found.pixels_per_value == 1
    square = report["read_noise"] ** 2 - 1 / 12 / found.gain**2
    assert report["own_read_noise"] == pytest.approx(np.sqrt(max(square, 0)))


def test_stacks_that_are_none() -> None:
    ask = PoissonGaussian(estimate_from="stack")
    stack = film(1.0, 0.0, 3)
    for wrong, words in (
        (stack[:1], "1 frame;.*estimate_from to 'image'"),
        (stack[:2], "2 frames"),
        (stack[:, :20], "too small"),
        (np.full((4, 64, 64), 7), "constant"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            ask.resolve(wrong, {})
        assert "\n" not in str(caught.value)
    unrelated = 100 + 1000 * np.stack([np.roll(scene(), 9 * t, 0) for t in range(6)])
    with pytest.raises(InputError, match="structure"):
        ask.resolve(unrelated, {})
    with pytest.raises(RecipeError, match="estimate_from"):
        Recipe(noise={"kind": "poisson-gaussian", "estimate_from": "film"})
