"""Noise models as components, and the camera that one image tells of."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from napari_dps.components import make, registry
from napari_dps.errors import InputError, RecipeError
from napari_dps.grid import Grid
from napari_dps.noise._camera import estimate, noise_sigma
from napari_dps.noise._estimate import Known, grey_step, measure
from napari_dps.noise.gaussian import Gaussian
from napari_dps.noise.poisson import Poisson
from napari_dps.noise.poisson_gaussian import PoissonGaussian

GRID = Grid((8, 8))


def scene(seed: int = 0, side: int = 256) -> np.ndarray:
    """Return blurred blobs over a dark ground, from 0 to 1."""
    rng = np.random.default_rng(seed)
    seeds = np.zeros((side, side))
    seeds[rng.integers(0, side, side // 6), rng.integers(0, side, side // 6)] = 1
    blobs = np.tanh(400 * gaussian_filter(seeds, 7)) + 20 * gaussian_filter(seeds, 2)
    return np.clip(blobs / np.quantile(blobs, 0.999), 0, 1)


def camera_image(
    electrons: np.ndarray, gain: float, offset: float, read: float, seed: int = 1
) -> np.ndarray:
    """Return what a camera records, 16 bit, shape (1, Y, X)."""
    rng = np.random.default_rng(seed)
    adu = gain * (rng.poisson(electrons) + read * rng.standard_normal(electrons.shape)) + offset
    return np.clip(np.round(adu), 0, 65535).astype(np.uint16)[None]


# -- components --------------------------------------------------------------------------------


def test_kinds() -> None:
    assert set(registry("noise")) == {"gaussian", "poisson", "poisson-gaussian"}


@pytest.mark.parametrize("kind", ["gaussian", "poisson", "poisson-gaussian"])
def test_every_field_is_documented_and_has_a_unit(kind: str) -> None:
    cls = registry("noise")[kind]
    assert cls.title and cls.summary()
    for name, field in cls.model_fields.items():
        if name != "kind":
            assert field.description, name
            extra: Any = field.json_schema_extra
            assert name == "estimate_from" or extra["unit"], name


@pytest.mark.parametrize(
    "noise",
    [
        Gaussian(),
        Gaussian(sigma=3.0),
        Poisson(gain=2.0, offset=100),
        PoissonGaussian(),
        PoissonGaussian(gain=0.5, read_noise=0),
    ],
)
def test_json_round_trip(noise: Any) -> None:
    assert make("noise", noise.model_dump(mode="json")) == noise


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "gaussian", "sigma": 0},
        {"kind": "gaussian", "sigma": "big"},
        {"kind": "poisson", "gain": -1},
        {"kind": "poisson", "offset": float("nan")},
        {"kind": "poisson-gaussian", "read_noise": -1},
        {"kind": "poisson-gaussian", "gain": 0},
        {"kind": "poisson-gaussian", "read_niose": 1},
        {"kind": "gaussian", "sigma": 1e-300},
        {"kind": "gaussian", "sigma": 1e300},
        {"kind": "poisson", "gain": 1e-300},
        {"kind": "poisson-gaussian", "gain": 1e300},
        {"kind": "poisson-gaussian", "read_noise": 1e300},
    ],
)
def test_values_out_of_range_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as caught:
        make("noise", spec)
    assert "\n" not in str(caught.value)


def test_importing_loads_no_torch() -> None:
    code = (
        "import sys, napari_dps.noise.gaussian, napari_dps.noise.poisson, "
        "napari_dps.noise.poisson_gaussian; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bind_builds_likelihoods() -> None:
    from napari_dps.core.likelihood import (
        GaussianLikelihood,
        PoissonGaussianLikelihood,
        PoissonLikelihood,
    )

    assert isinstance(Gaussian(sigma=2.0).bind(GRID), GaussianLikelihood)
    assert isinstance(Poisson().bind(GRID), PoissonLikelihood)
    bound = PoissonGaussian(gain=2, offset=100, read_noise=1.5).bind(GRID)
    assert isinstance(bound, PoissonGaussianLikelihood)
    assert bound.read_variance == pytest.approx(2.25)


@pytest.mark.parametrize("noise", [Gaussian(), PoissonGaussian(), PoissonGaussian(gain=1)])
def test_auto_cannot_be_bound(noise: Any) -> None:
    with pytest.raises(InputError, match="auto"):
        noise.bind(GRID)


def test_camera_is_gain_and_offset() -> None:
    assert Gaussian().camera() == (1.0, 0.0)
    assert Poisson(gain=2, offset=100).camera() == (2.0, 100.0)
    assert PoissonGaussian(gain=2, offset=100, read_noise=1).camera() == (2.0, 100.0)


# -- what poisson refuses and warns of ---------------------------------------------------------


def test_negative_values_are_refused_under_poisson() -> None:
    image = np.random.default_rng(0).poisson(9.0, (1, 40, 40)).astype(np.float64)
    image[0, :3, 0] = -1
    with pytest.raises(InputError, match=r"3 pixels are negative.*poisson-gaussian.*offset"):
        Poisson().check(image)
    assert PoissonGaussian().check(image) == []


def test_values_below_the_offset() -> None:
    rng = np.random.default_rng(0)
    image = np.round(100 + rng.poisson(0.5, (1, 64, 64)) + rng.standard_normal((1, 64, 64)))
    assert any("below the offset" in w for w in Poisson(offset=100).check(image))
    with pytest.raises(InputError, match="below the offset 200"):
        Poisson(offset=200).check(image)


def test_counts_raise_no_warning() -> None:
    rng = np.random.default_rng(0)
    for level in (0.3, 5.0, 300.0):
        counts = rng.poisson(level, (1, 64, 64))
        assert Poisson().check(counts.astype(np.uint16)) == []
        assert Poisson().check(counts.astype(np.float32)) == []
        assert Poisson(gain=3.0, offset=100).check(3.0 * counts + 100) == []


def test_eight_bits_floats_and_stretched_images_are_warned_of() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(60.0, (1, 128, 128))
    said = [
        Poisson().check(counts.astype(np.uint8)),
        Poisson().check(counts * 0.731 + rng.random(counts.shape)),
        Poisson().check((4 * counts).astype(np.uint16)),
        Poisson().check(np.round(1.6 * counts).astype(np.uint16)),
    ]
    for warnings in said:
        assert any("error bars assume counts" in w for w in warnings), warnings


def test_saturated_pixels_are_warned_of() -> None:
    image = np.full((1, 50, 50), 1000, dtype=np.uint16)
    image[0, :5] = 65535
    for noise in (Poisson(), PoissonGaussian(), Gaussian()):
        assert any("10.0% of the pixels are saturated" in w for w in noise.check(image))


# -- estimation --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain", "offset", "read", "peak", "seed"),
    [(2.0, 100.0, 2.0, 150.0, 0), (0.5, 200.0, 3.0, 1500.0, 1), (4.0, 50.0, 4.0, 300.0, 2)],
)
def test_camera_is_found(gain: float, offset: float, read: float, peak: float, seed: int) -> None:
    electrons = peak * scene(seed) + 1
    report: dict[str, Any] = {}
    found = PoissonGaussian().resolve(camera_image(electrons, gain, offset, read, seed), report)
    assert isinstance(found, PoissonGaussian)
    assert found.gain == pytest.approx(gain, rel=0.1)
    assert found.read_noise == pytest.approx(read, rel=0.2)
    assert found.offset == pytest.approx(offset, abs=max(3 * report["offset_error"], gain))
    assert 0 < report["gain_error"] < 0.15 * gain
    assert report["estimated"] == ["gain", "offset", "read_noise"]
    # what matters most: the variance at every level of brightness
    levels = np.quantile(electrons, [0.05, 0.5, 0.95])
    true = gain**2 * (levels + read**2) + 1 / 12
    ours = found.gain * (gain * levels + offset - found.offset)
    ours = ours + (found.gain * found.read_noise) ** 2
    np.testing.assert_allclose(ours, true, rtol=0.1)


def test_pure_counts_have_little_read_noise() -> None:
    image = np.random.default_rng(0).poisson(40 * scene() + 0.3)[None].astype(np.uint16)
    found = estimate(image, Known())
    assert found.gain == pytest.approx(1, rel=0.1)
    assert found.read_noise < 0.3
    assert abs(found.offset) < 0.2


@pytest.mark.parametrize("given", [{"gain": 2.0}, {"offset": 100.0}, {"read_noise": 3.0}])
def test_what_is_given_is_held_fixed(given: dict[str, float]) -> None:
    image = camera_image(200 * scene() + 1, 2.0, 100.0, 3.0)
    report: dict[str, Any] = {}
    found = PoissonGaussian(**given).resolve(image, report)
    truth = {"gain": 2.0, "offset": 100.0, "read_noise": 3.0}
    for name, value in truth.items():
        got = getattr(found, name)
        if name in given:
            assert got == value and report[f"{name}_error"] == 0
        else:
            assert got == pytest.approx(value, rel=0.15)


def test_two_given_leave_one() -> None:
    image = camera_image(200 * scene() + 1, 2.0, 100.0, 3.0)
    assert estimate(image, Known(None, 100.0, 3.0)).gain == pytest.approx(2, rel=0.1)
    assert estimate(image, Known(2.0, None, 3.0)).offset == pytest.approx(100, abs=3)
    assert estimate(image, Known(2.0, 100.0, None)).read_noise == pytest.approx(3, rel=0.1)


def test_all_given_needs_no_image() -> None:
    report: dict[str, Any] = {}
    noise = PoissonGaussian(gain=1, offset=0, read_noise=0)
    found = noise.resolve(np.zeros((1, 2, 2)), report)
    assert found == noise.model_copy(update={"pixels_per_value": 1.0})
    assert report["estimated"] == []


def test_missing_and_clipped_pixels_are_left_out() -> None:
    image = camera_image(200 * scene() + 1, 2.0, 100.0, 3.0).astype(np.float64)
    image[:, 40:60] = np.nan
    image = np.minimum(image, np.nanquantile(image, 0.95))
    assert estimate(image, Known()).gain == pytest.approx(2, rel=0.12)


def test_frames_are_pooled() -> None:
    stack = np.concatenate([camera_image(90 * scene(s) + 1, 2, 100, 2, s) for s in range(3)])
    alone, pooled = estimate(stack[:1], Known()), estimate(stack, Known())
    assert pooled.offset_error < alone.offset_error
    assert pooled.gain == pytest.approx(2, rel=0.1)


def test_correlated_noise_is_seen_and_its_variance_found() -> None:
    """An interpolated image has less noise in its finest detail than in all."""
    electrons = gaussian_filter(300 * scene(side=512), 3) + 20
    image = camera_image(electrons, 4.0, 100.0, 2.0).astype(np.float64)
    smoothed = (image + np.roll(image, 1, -1)) / 2
    smoothed = (smoothed + np.roll(smoothed, 1, -2)) / 2
    report: dict[str, Any] = {}
    found = PoissonGaussian().resolve(smoothed, report)
    assert isinstance(found, PoissonGaussian) and found.gain != "auto"
    assert found.gain == pytest.approx(1.0, rel=0.2)
    assert report["correlation"][0] == pytest.approx(0.5, abs=0.1)
    assert "correlated" in report["warnings"][0]
    # Averaging 2 x 2 pixels leaves a fourth of the values.
    assert found.pixels_per_value == pytest.approx(4, rel=0.25)
    assert found.bind(Grid((8, 8))).redundancy == found.pixels_per_value
    assert abs(found.offset - 100) < 3 * report["offset_error"]


FLAT = np.full((1, 64, 64), 7, dtype=np.uint16)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (FLAT, "constant"),
        (FLAT[:, :20], "too small"),
        (np.full((1, 64, 64), np.nan), "constant"),
        (100 * scene()[None], "structure"),
        (gaussian_filter(camera_image(50 * scene() + 1, 2, 100, 2)[0] * 1.0, 4)[None], "structure"),
        (np.round(camera_image(50 * scene() + 1, 2, 100, 2) / 64) * 64, "apart|without noise"),
    ],
)
def test_refusals(image: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        PoissonGaussian().resolve(image, {})
    assert "give" in str(caught.value) and "\n" not in str(caught.value)


def test_no_range_of_means_is_refused_unless_the_gain_is_given() -> None:
    image = camera_image(np.full((256, 256), 50.0), 2.0, 100.0, 3.0)
    with pytest.raises(InputError, match="cannot tell the camera's gain"):
        estimate(image, Known())
    found = estimate(image, Known(gain=2.0, offset=100.0))
    assert found.read_noise == pytest.approx(3, rel=0.25)


def test_a_gain_that_the_image_hardly_tells_is_refused() -> None:
    """Interpolated, and with little range: it was accepted with an error of two thirds."""
    light = np.broadcast_to(np.linspace(300, 400, 160), (160, 160))
    image = zoom(camera_image(light, 2.0, 100.0, 2.0, 3)[0].astype(np.float64), 2, order=1)
    with pytest.raises(InputError, match=r"no better than ± .*; give gain, offset"):
        estimate(image, Known())
    assert estimate(image, Known(gain=2.0, offset=100.0)).gain == 2.0


@pytest.mark.parametrize("seed", range(4))
def test_a_gain_that_is_called_sure_is_within_a_tenth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gain, read = float(np.exp(rng.uniform(-1, 1.6))), float(rng.uniform(1, 5))
    light = 2 + float(np.exp(rng.uniform(3.5, 7))) * scene(seed, 192)
    report: dict[str, Any] = {}
    PoissonGaussian().resolve(camera_image(light, gain, 100.0, read, seed), report)
    for name, true, goal in (("gain", gain, 0.1), ("read_noise", read, 0.2)):
        assert (name in report["unsure"]) or report[name] == pytest.approx(true, rel=goal)
        assert (name in report["unsure"]) == (
            report[f"{name}_error"] > {"gain": 0.06, "read_noise": 0.2}[name] * report[name]
        )
    warned = any("tells the camera's gain" in w for w in report.get("warnings", []))
    assert warned == ("gain" in report["unsure"])


def test_sigma_is_found() -> None:
    rng = np.random.default_rng(0)
    clean = 100 * scene()
    for sigma in (2.0, 20.0):
        report: dict[str, Any] = {}
        image = (clean + sigma * rng.standard_normal(clean.shape))[None]
        found = Gaussian().resolve(image, report)
        assert isinstance(found, Gaussian)
        assert found.sigma == pytest.approx(sigma, rel=0.07)
        assert 0 < report["sigma_error"] < 0.05 * sigma
    given = Gaussian(sigma=3.0).resolve(clean[None], {})
    assert given == Gaussian(sigma=3.0, pixels_per_value=1.0)


def test_sigma_of_correlated_noise_is_that_of_a_pixel() -> None:
    white = 20 * np.random.default_rng(0).standard_normal((1, 256, 256))
    shared = sum(np.roll(white, (i, j), (1, 2)) for i in (0, 1) for j in (0, 1)) / 2
    report: dict[str, Any] = {}
    found = Gaussian().resolve(100 * gaussian_filter(scene(side=256), 3) + shared, report)
    assert isinstance(found, Gaussian)
    assert found.sigma == pytest.approx(20, rel=0.1)
    assert found.pixels_per_value == pytest.approx(4, rel=0.25)
    assert "correlated" in report["warnings"][0]
    assert found.bind(Grid((8, 8))).redundancy == found.pixels_per_value


@pytest.mark.parametrize("image", [FLAT, 100 * scene()[None]])
def test_sigma_of_an_image_without_noise_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="give the noise"):
        noise_sigma(image)


def test_grey_step() -> None:
    rng = np.random.default_rng(0)
    assert grey_step(rng.poisson(50, 10000)) == 1
    assert grey_step(4 * rng.poisson(50, 10000) + 3) == 4
    assert grey_step((0.25 * rng.poisson(50, 10000)).astype(np.float32)) == 0.25
    assert grey_step(rng.random(1000)) == 0
    bright = rng.poisson(3, 1000) + rng.choice([0, 400_000], 1000)  # a pattern's centre
    assert grey_step(bright.astype(np.float32)) == 1


def test_equal_pixels_of_a_small_image_are_no_saturation() -> None:
    small = np.arange(64.0).reshape(1, 8, 8)
    small[0, 0, :2] = 71
    assert Poisson().check(small) == []
    assert grey_step(FLAT) == 0


def test_white_noise_has_the_same_variance_in_all_bands() -> None:
    noise = 3 * np.random.default_rng(0).standard_normal((512, 512))
    patches = measure(noise)
    assert patches.fine.mean() == pytest.approx(9, rel=0.03)
    assert patches.side.mean() == pytest.approx(9, rel=0.03)
    assert abs(np.corrcoef(patches.fine, patches.side)[0, 1]) < 0.12
