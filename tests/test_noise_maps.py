"""Maps of gain, offset and read noise, one value per pixel, and what is drawn from every noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

import napari_dps
from napari_dps.arrays import ArrayRef, PixelMap
from napari_dps.cli import main
from napari_dps.components import make
from napari_dps.core.streams import Streams
from napari_dps.errors import DPSError, InputError
from napari_dps.grid import Grid
from napari_dps.noise.gaussian import Gaussian
from napari_dps.noise.poisson import Poisson
from napari_dps.noise.poisson_gaussian import PoissonGaussian
from napari_dps.recipe import Recipe

SHAPE = (24, 32)
RNG = np.random.default_rng(0)
MAPS = {
    "gain": 2.0 * np.exp(0.2 * RNG.standard_normal(SHAPE)),
    "offset": 100 + 5 * RNG.standard_normal(SHAPE),
    "read_noise": 1.5 * np.exp(0.5 * RNG.standard_normal(SHAPE)),
}
SCMOS = PoissonGaussian(**MAPS)
EVEN = PoissonGaussian(**{name: float(np.median(values)) for name, values in MAPS.items()})
FAST = {
    "prior": {"kind": "gaussian", "mean": 0.0, "std": 0.5, "correlation_length": 4.0},
    "sampler": {"kind": "pigdm", "steps": 10},
    "samples": 2,
}


def test_numbers_stay_numbers_and_maps_maps() -> None:
    noise = PoissonGaussian(gain="2.5", offset=np.float32(7), read_noise=MAPS["read_noise"])
    assert noise.gain == 2.5 and noise.offset == 7 and isinstance(noise.read_noise, PixelMap)
    assert PoissonGaussian(gain=MAPS["gain"].tolist()) == PoissonGaussian(gain=MAPS["gain"])
    assert PoissonGaussian(gain=ArrayRef("g.npy")).gain == PixelMap("g.npy")
    assert make("noise", noise) == noise


@pytest.mark.parametrize("name", list(MAPS))
def test_json_round_trip_beside_the_recipe(name: str, tmp_path: Path) -> None:
    recipe = Recipe(noise={"kind": "poisson-gaussian", "gain": 2.0, name: MAPS[name]})
    text = json.loads(recipe.save(tmp_path / "r.json").read_text())
    assert text["noise"][name].startswith("array-")
    again = getattr(Recipe.load(tmp_path / "r.json").noise, name)
    np.testing.assert_array_equal(again.load(), MAPS[name])


def test_each_pixel_has_its_own_camera() -> None:
    values = RNG.uniform(100, 900, (3, *SHAPE))
    electrons = SCMOS.electrons(values)
    np.testing.assert_allclose(electrons, (values - MAPS["offset"]) / MAPS["gain"])
    np.testing.assert_allclose(SCMOS.recorded(electrons), values)
    assert SCMOS.camera() == (np.median(MAPS["gain"]), np.median(MAPS["offset"]))
    volume = RNG.uniform(100, 900, (1, 5, *SHAPE))  # plane after plane on the same pixels
    np.testing.assert_allclose(SCMOS.electrons(volume)[0, 3], SCMOS.electrons(volume[0, 3]))
    assert tuple(SCMOS.bind(Grid((5, *SHAPE))).read_variance.shape) == SHAPE


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_likelihood_has_each_pixels_read_noise(dtype: str) -> None:
    likelihood = SCMOS.bind(Grid(SHAPE, dtype=dtype))
    z = torch.full((2, 1, *SHAPE), 3.0, dtype=getattr(torch, dtype))
    variance = likelihood.variance(z)
    assert variance.shape == z.shape and variance.dtype == z.dtype
    np.testing.assert_allclose(variance[1, 0], 3 + MAPS["read_noise"] ** 2, rtol=1e-5)
    y = z + 1
    single = PoissonGaussian(gain=1, offset=0, read_noise=float(MAPS["read_noise"][2, 3]))
    alone = single.bind(Grid(SHAPE, dtype=dtype))
    for name in ("log_density", "score", "curvature"):
        ours, theirs = (getattr(one, name)(y, z)[0, 0, 2, 3] for one in (likelihood, alone))
        assert float(ours) == pytest.approx(float(theirs), rel=1e-5), name
    assert float(likelihood.dps_weight(y)[0, 0, 2, 3]) == pytest.approx(
        float(alone.dps_weight(y)[0, 0, 2, 3]), rel=1e-5
    )


# -- what is drawn is what is inferred ---------------------------------------------------------

KINDS: list[Any] = [
    Gaussian(sigma=3.0),
    Poisson(gain=2.0, offset=100.0),
    PoissonGaussian(gain=2.0, offset=100.0, read_noise=2.5),
    PoissonGaussian(gain=0.5, offset=100.0, read_noise=0.0),
    SCMOS,
]
LEVELS = (0.5, 4.0, 60.0)


@pytest.mark.parametrize("noise", KINDS, ids=lambda n: n.kind)
@pytest.mark.parametrize("level", LEVELS)
def test_simulate_has_the_likelihoods_mean_and_variance(noise: Any, level: float) -> None:
    gain, offset = noise.camera()
    count = 600
    frames = np.full((count, *SHAPE), offset + gain * level)
    drawn = napari_dps.simulate(frames, (None, noise), seed=3, axes="TYX").astype(np.float64)
    electrons = noise.electrons(drawn)
    z = torch.full((1, 1, *SHAPE), level, dtype=torch.float64)
    variance = noise.bind(Grid(SHAPE, dtype="float64")).variance(z)[0, 0].numpy()
    error = np.sqrt(variance / count)
    assert np.abs((electrons.mean(0) - level) / error).max() < 5.5
    ratio = electrons.var(0, ddof=1) / variance
    # Of 600 draws; few counts have a kurtosis of 1 / level more.
    spread = np.sqrt((2 + 1 / level) / count)
    assert abs(ratio.mean() - 1) < 5 * spread / np.sqrt(ratio.size)
    assert np.abs(ratio - 1).max() < 7 * spread


@pytest.mark.parametrize("noise", KINDS, ids=lambda n: n.kind)
@pytest.mark.parametrize("level", LEVELS)
def test_log_prob_is_largest_at_the_truth(noise: Any, level: float) -> None:
    likelihood = noise.bind(Grid(SHAPE, dtype="float64"))
    truth = torch.full((400, 1, *SHAPE), level, dtype=torch.float64)
    y = likelihood.sample(truth, Streams(0, list(range(400)), dtype=torch.float64))
    off = 0.03 * float(likelihood.variance(truth).mean() ** 0.5)
    at, less, more = (float(likelihood.log_prob(y, truth + d).sum()) for d in (0, -off, off))
    assert at > less and at > more
    score = likelihood.score(y, truth)
    assert abs(float(score.mean())) < 5 * float(score.std()) / score.numel() ** 0.5


# -- end to end --------------------------------------------------------------------------------


def truth() -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    spot = np.exp(-((rows - 12) ** 2 + (columns - 16) ** 2) / 40)
    gain, offset = SCMOS.camera()
    return np.asarray(offset + gain * (5 + 80 * spot))


def test_maps_are_taken_out_of_the_result() -> None:
    known = truth()
    measured = napari_dps.simulate(np.stack([known, known]), (None, SCMOS), seed=1, axes="TYX")
    result = napari_dps.reconstruct(measured, FAST, noise=SCMOS, device="cpu", axes="TYX")
    # The pattern of the offsets alone scatters by 5.
    assert np.sqrt(np.mean((result.mean - known) ** 2)) < np.std(MAPS["offset"]) * 1.5
    assert result.report["chi2_per_frame"] == pytest.approx([1, 1], abs=0.2)
    assert result.report["noise"]["maps"] == ["gain", "offset", "read_noise"]
    naive = napari_dps.reconstruct(measured[0], FAST, noise=EVEN, device="cpu")
    error, worse = (np.sqrt(np.mean((m - known) ** 2)) for m in (result.mean[0], naive.mean))
    assert error < 0.7 * worse


def test_a_fourier_model_takes_maps() -> None:
    rng = np.random.default_rng(0)
    shape = (32, 32)
    noise = PoissonGaussian(gain=2.0 * np.exp(0.1 * rng.standard_normal(shape)),
                            offset=100.0, read_noise=np.full(shape, 2.0))  # fmt: skip
    amplitude = np.zeros((16, 16))
    amplitude[5:11, 6:10] = 20 * noise.camera()[0] ** 0.5
    model = {"kind": "phase-retrieval"}
    measured = napari_dps.simulate(amplitude, (model, noise), seed=0)
    assert measured.shape == shape
    power = noise.electrons(measured.astype(np.float64)).sum()
    assert power == pytest.approx((amplitude**2).sum() / noise.camera()[0], rel=0.02)


def test_what_is_left_auto_is_estimated_beside_a_map() -> None:
    rng = np.random.default_rng(1)
    side = (160, 160)
    offsets = 100 + 20 * rng.standard_normal(side)
    ramp = np.broadcast_to(np.linspace(5, 300, side[1]), side)
    image = np.round(2 * (rng.poisson(ramp) + 2 * rng.standard_normal(side)) + offsets)
    report: dict[str, Any] = {}
    found: Any = PoissonGaussian(offset=offsets).resolve(image[None], report)
    assert found.gain == pytest.approx(2, rel=0.1) and isinstance(found.offset, PixelMap)
    assert report["maps"] == ["offset"] and report["estimated"] == ["gain", "read_noise"]
    with pytest.raises(InputError, match="gain is a map, which needs it"):
        PoissonGaussian(gain=np.full(side, 2.0)).resolve(image[None], {})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"gain": np.zeros(SHAPE)}, "gain map is 0 in 768 pixels"),
        ({"gain": -MAPS["gain"]}, "must be at least 0"),
        ({"gain": MAPS["gain"][:9]}, r"shape \(9, 32\).*\(24, 32\)"),
        ({"gain": MAPS["gain"][0]}, "has 1 axis"),
        ({"offset": np.full(SHAPE, np.nan)}, "NaN"),
        ({"offset": "nowhere.npy"}, "'nowhere.npy' is not allowed, there is no such file"),
        ({"read_noise": np.full(SHAPE, -1.0)}, "must be at least 0"),
        ({"gain": -1}, "gain = -1 .*>= 1e-12"),
        ({"gain": "-1"}, "gain = '-1' .*>= 1e-12"),
        ({"gain": float("nan")}, ">= 1e-12"),
        ({"gain": MAPS["gain"] * 1e20}, r"gain map goes .*1e-12 to 1e\+12 is allowed"),
        ({"read_noise": np.full(SHAPE, 1e20)}, "read noise map goes"),
        ({"gain": [[1.0, 2.0], [3.0]]}, "gain"),
        ({"read_noise": True}, "read_noise"),
        ({"offset": ""}, "offset"),
        ({"offset": {"a": 1}}, "offset"),
        ({"estimate_from": "film"}, "estimate_from"),
    ],
)
def test_bad_parameters_are_one_sentence(fields: dict[str, Any], words: str) -> None:
    values = {"gain": 2.0, "offset": 100.0, "read_noise": 1.0, **fields}
    with pytest.raises(DPSError, match=words) as caught:
        napari_dps.simulate(truth(), ("identity", {"kind": "poisson-gaussian", **values}))
    assert "\n" not in str(caught.value)


def test_command_line_takes_maps(tmp_path: Path, capsys: Any) -> None:
    tifffile.imwrite(tmp_path / "object.tif", truth().astype(np.float32))
    np.save(tmp_path / "gain.npy", MAPS["gain"])
    words = ["simulate", str(tmp_path / "object.tif"), "-o", str(tmp_path / "y.npy"),
             "--noise", "poisson-gaussian", "--noise.offset", "100", "--noise.read-noise", "1.5",
             "--noise.gain"]  # fmt: skip
    assert main([*words, str(tmp_path / "gain.npy")]) == 0
    noise = PoissonGaussian(gain=MAPS["gain"], offset=100.0, read_noise=1.5)
    expected = napari_dps.simulate(truth().astype(np.float32), (None, noise))
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    assert main([*words, "-2"]) == 2
    assert ">= 1e-12" in capsys.readouterr().err


def test_the_form_gives_numbers_maps_and_the_reciprocal(qtbot: Any, qapp: Any) -> None:
    from napari_dps.plugin.forms import ComponentForm

    class Layer:
        data = MAPS["gain"]

    form = ComponentForm(PoissonGaussian, layers=lambda: {"gain": Layer()})
    qtbot.addWidget(form)
    assert form.value() == PoissonGaussian()
    given = PoissonGaussian(gain=0.5, offset=MAPS["offset"], read_noise=1.25)
    form.set_value(given)
    assert form.value() == given
    number = form.editors["gain"].inner.number
    number.units.setCurrentIndex(1)  # electrons per ADU, as data sheets have it
    assert number.box.value() == pytest.approx(2.0)
    number.box.lineEdit().selectAll()
    qtbot.keyClicks(number.box.lineEdit(), "4")
    assert form.value().gain == pytest.approx(0.25)
    source = form.editors["gain"].inner.source
    form.editors["gain"].inner.refill()
    source.setCurrentIndex(source.findText("layer: gain"))
    np.testing.assert_array_equal(form.value().gain.load(), MAPS["gain"])
