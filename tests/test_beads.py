"""A PSF from an image of beads: found, sorted, registered, averaged, freed of the beads' width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import napari_dps
from napari_dps._beadwidth import sphere_spectrum
from napari_dps.beads import BeadPSF, measure_psf
from napari_dps.cli import main
from napari_dps.errors import InputError
from napari_dps.grid import Grid

FWHM = 2 * np.sqrt(2 * np.log(2))
FLAT, DEEP = (1.8, 2.4), (3.0, 1.7, 2.3)
PIXEL = {2: (0.1, 0.1), 3: (0.2, 0.1, 0.1)}


def gauss(shape: tuple[int, ...], centre: Any, sigmas: Any) -> np.ndarray:
    far = np.zeros(shape)
    for axis, (n, c, s) in enumerate(zip(shape, centre, sigmas, strict=True)):
        part = ((np.arange(n) - c) / s) ** 2
        far = far + part.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.exp(-0.5 * far)


def places(shape: tuple[int, ...], sigmas: Any, seed: int = 0) -> np.ndarray:
    """Return sub-pixel positions on a jittered lattice in Y and X, near the middle in Z."""
    rng = np.random.default_rng(seed)
    pitch = 24
    rows = np.arange(pitch, shape[-2] - pitch + 1, pitch)
    columns = np.arange(pitch, shape[-1] - pitch + 1, pitch)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    spots = grid + rng.uniform(-0.5, 0.5, grid.shape)
    if len(shape) == 3:
        spots = np.column_stack([shape[0] / 2 + rng.uniform(-1, 1, len(spots)), spots])
    return spots


def scene(
    sigmas: Any, shape: tuple[int, ...], peak: float = 2000, extra: Any = (), seed: int = 0
) -> np.ndarray:
    """Return a 16-bit image of beads, with shot and read noise on a background of 100."""
    rng = np.random.default_rng(seed)
    light = np.full(shape, 20.0)
    for spot in places(shape, sigmas, seed):
        light += peak * rng.uniform(0.85, 1.15) * gauss(shape, spot, sigmas)
    for height, spot, widths in extra:
        light += height * gauss(shape, spot, widths)
    counts = rng.poisson(light) + 100 + 2 * rng.standard_normal(shape)
    return np.clip(np.round(counts), 0, 65535).astype(np.uint16)


def likeness(found: BeadPSF, sigmas: Any) -> float:
    truth = gauss(found.psf.shape, [n // 2 for n in found.psf.shape], sigmas)
    return float(np.corrcoef(found.psf.ravel(), truth.ravel())[0, 1])


@pytest.mark.parametrize(
    ("sigmas", "shape"), [(FLAT, (160, 170)), (DEEP, (40, 90, 100))], ids=["2D", "3D"]
)
@pytest.mark.parametrize("peak", [3000, 150])
def test_the_width_and_the_shape_come_out(sigmas, shape, peak) -> None:
    found = measure_psf(scene(sigmas, shape, peak), pixel_size=PIXEL[len(shape)])
    assert found.axes == "ZYX"[-len(shape) :]
    assert found.used == found.found == len(places(shape, sigmas))
    assert found.warnings == [] and found.rejected == {}
    truth = FWHM * np.array(sigmas) * PIXEL[len(shape)]
    assert list(found.fwhm.values()) == pytest.approx(truth, rel=0.03)
    assert np.all(np.array(list(found.fwhm_spread.values())) < 0.1 * truth)
    assert likeness(found, sigmas) > (0.999 if peak > 1000 else 0.99)
    assert found.psf.sum() == pytest.approx(1) and found.psf.min() >= 0
    assert all(n % 2 for n in found.psf.shape)


def test_registration_is_below_the_pixel() -> None:
    """An average of unregistered beads would be wider by the pixel's own variance."""
    sharp = (1.1, 1.1)
    found = measure_psf(scene(sharp, (200, 200), 20000))
    assert list(found.fwhm.values()) == pytest.approx([FWHM * 1.1] * 2, rel=0.01)
    assert found.units == {"Y": "px", "X": "px"}


def test_noise_averages_out() -> None:
    few = measure_psf(scene(FLAT, (60, 60), 100), size=21)
    many = measure_psf(scene(FLAT, (200, 200), 100), size=21)
    assert many.signal_to_noise > 4 * few.signal_to_noise
    assert likeness(many, FLAT) > likeness(few, FLAT)


def test_outliers_are_counted_and_left_out() -> None:
    shape = (220, 220)
    extra = [
        (1500, (54, 50), FLAT),  # beside the one at (48, 48)
        (2000, (4, 110), FLAT),  # at the border
        (4500, (108, 108), FLAT),
        (400, (132, 84), FLAT),
        (800, (84, 156), (1.8 * 1.7, 2.4 * 1.7)),
    ]
    free = [(108, 108), (132, 84), (84, 156)]
    rng = np.random.default_rng(0)
    light = np.full(shape, 20.0)
    kept = 0
    for spot in places(shape, FLAT):
        if min(np.hypot(*(spot - np.array(f))) for f in free) < 20:
            continue
        kept += 1
        light += 2000 * gauss(shape, spot, FLAT)
    for height, spot, widths in extra:
        light += height * gauss(shape, spot, widths)
    image = (rng.poisson(light) + 100).astype(np.uint16)
    near = places(shape, FLAT)
    burnt = tuple(round(v) for v in near[-1])
    image[burnt[0] - 1 : burnt[0] + 2, burnt[1] - 1 : burnt[1] + 2] = 65535
    image[30, 60] = 60000
    found = measure_psf(image)
    assert found.rejected == {
        "at the border": 1, "odd shape": 1, "saturated": 1, "too bright (aggregate)": 1,
        "too faint": 1, "too near another": 2,
    }  # fmt: skip
    assert found.used == kept - 2
    assert found.found == found.used + sum(found.rejected.values())
    assert any("1 hot pixel" in w for w in found.warnings)
    assert list(found.fwhm.values()) == pytest.approx(FWHM * np.array(FLAT), rel=0.02)
    verdicts = {tuple(b["position"]): b["verdict"] for b in found.beads}
    assert verdicts[(108, 108)] == "too bright (aggregate)"


def spheres(diameter: float, sigmas: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return beads of a diameter in micrometres, made by counting points inside them."""
    steps = np.array(PIXEL[len(shape)])
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (6000, 3))
    points = points[(points**2).sum(1) < 1] * diameter / 2
    points = points[:, -len(shape) :] / steps
    light = np.zeros(shape)
    for spot in places(shape, sigmas):
        ends = [np.arange(n + 1) - 0.5 for n in shape]
        counts, _ = np.histogramdd(spot + points, ends)
        light += counts
    for axis, (n, s) in enumerate(zip(shape, sigmas, strict=True)):
        k = np.fft.fftfreq(n)
        turn = np.exp(-2 * (np.pi * k * s) ** 2)
        turn = turn.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        light = np.fft.ifft(np.fft.fft(light, axis=axis) * turn, axis=axis).real
    light *= 3000 / light.max()
    return (rng.poisson(light.clip(0) + 20) + 100).astype(np.uint16)


@pytest.mark.parametrize(
    ("sigmas", "shape"), [((2.4, 2.4), (160, 160)), ((3.0, 2.4, 2.8), (40, 80, 80))]
)
def test_the_width_of_the_beads_is_taken_out(sigmas, shape) -> None:
    image, steps = spheres(0.5, sigmas, shape), PIXEL[len(shape)]
    truth = FWHM * np.array(sigmas) * steps
    raw = measure_psf(image, pixel_size=steps)
    found = measure_psf(image, pixel_size=steps, bead_diameter=0.5)
    assert raw.fwhm["X"] > 1.06 * truth[-1]
    assert list(found.fwhm.values()) == pytest.approx(truth, rel=0.04)
    assert likeness(found, sigmas) > 0.99 and likeness(found, sigmas) > likeness(raw, sigmas)
    assert found.bead_diameter == 0.5 and found.psf.min() >= 0


def test_the_spectrum_of_a_sphere() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (40000, 3))
    points = points[(points**2).sum(1) < 1] * 0.3  # micrometres
    spectrum = sphere_spectrum((16, 20, 20), (0.2, 0.1, 0.1), 0.6)
    for index in [(0, 0, 0), (1, 2, 0), (0, 0, 3), (3, 1, 4)]:
        k = [
            np.fft.fftfreq(n, d)[i]
            for n, d, i in zip((16, 20, 20), (0.2, 0.1, 0.1), index, strict=True)
        ]
        assert spectrum[index] == pytest.approx(np.cos(2 * np.pi * points @ k).mean(), abs=0.015)
    flat = sphere_spectrum((20, 20), (0.1, 0.1), 0.6)
    np.testing.assert_allclose(flat, spectrum[0])


def test_one_or_two_beads_are_told_of() -> None:
    for extra, word in ((((30, 30),), "one bead"), (((22, 22), (60, 60)), "two beads")):
        shape = (24 * len(extra) + 40, 24 * len(extra) + 40)
        image = np.full(shape, 20.0)
        for spot in extra:
            image += 2000 * gauss(shape, spot, FLAT)
        found = measure_psf(np.random.default_rng(0).poisson(image), size=19)
        assert found.used == len(extra)
        assert any(word in w for w in found.warnings)
        assert np.isnan(found.fwhm_spread["X"]) == (len(extra) == 1)
        assert found.psf.shape == (19, 19)


BEADS = scene(FLAT, (80, 80))
STACK = scene(DEEP, (24, 60, 60))
NAN = np.where(BEADS > 500, np.nan, BEADS)
NOISE = np.random.default_rng(0).poisson(100, (64, 64))
CROWD = scene(
    FLAT,
    (80, 80),
    extra=[
        (2000, (40 + 9 * i, 40 + 9 * j), FLAT) for i in (-2, -1, 0, 1, 2) for j in (-2, -1, 0, 1, 2)
    ],
)


@pytest.mark.parametrize(
    ("image", "fields", "words"),
    [
        (NOISE, {}, "no bead stands out .* give an image"),
        (np.full((64, 64), 7), {}, "no bead stands out"),
        (BEADS[:12], {}, "at least 16 x 16"),
        (BEADS[None, None], {"axes": "TCYX"}, None),
        (STACK, {"axes": "TYX"}, "axes TYX; give beads in one plane"),
        (NAN, {}, "NaN or infinite pixels"),
        (BEADS, {"bead_diameter": 0.2}, "pixel size along Y, X is not known"),
        (BEADS, {"bead_diameter": -1, "pixel_size": 0.1}, "above zero"),
        (BEADS, {"bead_diameter": 200.0, "pixel_size": 0.1}, "both in micrometres"),
        (BEADS, {"size": 200}, "from 3 to the image's 80"),
        (BEADS, {"size": 2.5}, "whole number"),
        (BEADS, {"size": (9, 9, 9)}, "one for each of Y, X"),
        (CROWD, {"size": 41}, "none that can be used .*(too near another|border)"),
    ],
)
def test_what_cannot_be_measured_gets_one_sentence(image, fields, words) -> None:
    if words is None:
        assert measure_psf(image, **fields).axes == "YX"
        return
    with pytest.raises(InputError, match=words) as caught:
        measure_psf(image, **fields)
    assert "\n" not in str(caught.value)


def test_coarse_and_cut_psfs_are_told_of() -> None:
    coarse = measure_psf(scene((0.72, 0.72), (120, 120), 20000))
    assert any("too coarsely sampled" in w for w in coarse.warnings)
    small = measure_psf(BEADS, size=7)
    assert any("flanks are cut" in w for w in small.warnings)


def test_the_model_takes_what_was_measured(tmp_path: Path) -> None:
    found = napari_dps.measure_psf(STACK, pixel_size=PIXEL[3])
    path = found.save(tmp_path / "psf.tif")
    grid = Grid((24, 60, 60), PIXEL[3])
    model = napari_dps.Recipe(forward={"kind": "psf", "psf": str(path)}).forward
    kernel = model.kernel(grid)
    assert model.warnings(grid) == []
    np.testing.assert_allclose(kernel, found.forward().kernel(grid), rtol=1e-4, atol=1e-9)
    spread = [
        np.sqrt(((np.arange(n) - n // 2) ** 2 * kernel.sum(tuple({0, 1, 2} - {a}))).sum())
        for a, n in enumerate(kernel.shape)
    ]
    assert spread == pytest.approx(DEEP, rel=0.1)
    with pytest.raises(InputError, match=r"name it PSF\.tif"):
        found.save(tmp_path / "psf.png")
    assert found.plot(tmp_path / "psf.png").stat().st_size > 5000


def test_the_command(tmp_path: Path, capsys) -> None:
    source, out = tmp_path / "beads.tif", tmp_path / "new" / "psf.tif"
    tifffile.imwrite(source, BEADS)
    words = ["psf", str(source), "-o", str(out), "--pixel-size", "0.1", "--size", "17,19"]
    plot = tmp_path / "psf.png"
    more = ["--bead-diameter", "0.1", "--plot", str(plot), "--json"]
    assert main([*words, *more]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["used"] == report["found"] == 4 and report["shape"] == [17, 19]
    assert report["written"] == [str(out), str(plot)]
    assert tifffile.imread(out).shape == (17, 19) and plot.exists()
    assert main(words) == 0
    told = capsys.readouterr()
    assert "4 of 4 beads" in told.out and f"--forward.psf {out}" in told.err
    for wrong, sentence in (
        (["psf", str(source), "-o", str(source)], "would overwrite"),
        (["psf", str(source), "-o", "psf.png"], "name it PSF.tif"),
        (["psf", str(tmp_path / "none.tif"), "-o", str(out)], "no file"),
        ([*words[:-1], "7.5"], "whole number"),
        ([*words, "--plot", "a.txt"], "name it .png"),
    ):
        assert main(wrong) == 2
        assert sentence in capsys.readouterr().err
    assert main(["psf", "--help"]) == 0
    assert "--bead-diameter" in capsys.readouterr().out
