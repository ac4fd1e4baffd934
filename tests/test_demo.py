"""The demo's parts: baselines, clock, files. The whole, with its verdicts, is `make demo`."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tifffile

import napari_dps
from napari_dps.demo import _Clock, fit_one_gain, run_demo
from napari_dps.demo._baselines import Blur, best_by, far_field_intensity, hio, richardson_lucy
from napari_dps.errors import InputError
from napari_dps.evaluate import psnr
from napari_dps.forward.gaussian_blur import GaussianBlur
from napari_dps.result import Result
from napari_dps.run import Plan, Progress
from napari_dps.uncertainty.registration import register


def blobs(side: int, level: float) -> np.ndarray:
    rows, columns = np.indices((side, side))
    image = np.zeros((side, side))
    for y, x, r in ((0.3, 0.35, 0.1), (0.6, 0.7, 0.07), (0.75, 0.3, 0.05)):
        image += np.exp(-((rows - y * side) ** 2 + (columns - x * side) ** 2) / (r * side) ** 2)
    return level * image


def test_blur_is_that_of_the_forward_model_and_has_its_transpose() -> None:
    rng = np.random.default_rng(0)
    blur = Blur(GaussianBlur(sigma=1.5).psf(), (24, 20))
    x, y = rng.random(blur.wide), rng.random((24, 20))
    assert (blur.forward(x) * y).sum() == pytest.approx((x * blur.transpose(y)).sum())
    image = blobs(64, 1e7)[20:44, 20:40]
    expected = napari_dps.simulate(image, forward={"kind": "gaussian-blur", "sigma": 1.5})
    inner = (slice(6, -6), slice(6, -6))  # the border depends on how the mirror is laid
    np.testing.assert_allclose(
        blur.forward(blur.embed(image))[inner], expected[inner], rtol=0.01, atol=1e4
    )


def test_richardson_lucy_sharpens_and_keeps_flux() -> None:
    blur = Blur(GaussianBlur(sigma=2).psf(), (48, 48))
    truth = 1 + blobs(48, 100.0)
    counts = np.random.default_rng(0).poisson(blur.forward(blur.embed(truth))).astype(float)
    estimate, expected = next(islice(richardson_lucy(counts, blur), 20, None))
    assert expected.sum() == pytest.approx(counts.sum(), rel=1e-3)
    assert estimate.min() >= 0
    best, number = best_by(counts, blur, truth, 50)
    assert number >= 1
    assert psnr(best, truth) > psnr(counts, truth) + 3


def test_hio_finds_an_object_up_to_flip_and_shift() -> None:
    truth = blobs(24, 30.0)
    truth[truth < 3] = 0
    counts = far_field_intensity(truth, (48, 48))
    found, misfits = hio(counts, (24, 24), restarts=4, iterations=400)
    assert (np.diff(misfits) >= 0).all()
    best = register(found[0], truth)
    assert psnr(fit_one_gain(best, truth) * best, truth) > 25


def test_clock_joins_runs_into_one_progress() -> None:
    seen: list[Progress] = []
    clock = _Clock([Plan(1.0, 0, 1, None, 1), Plan(3.0, 0, 1, None, 1)], seen.append)
    clock.show(0, Progress("sample", 5, 10, 2.0, 2.0, 0, 1))
    clock.show(1, Progress("sample", 10, 10, 6.0, 0.0, 1, 1))
    assert [(step.done, step.total) for step in seen] == [(125, 1000), (1000, 1000)]
    # Four seconds for one planned: the other's three will be twelve.
    assert seen[0].seconds_left == pytest.approx(14.0)
    assert seen[1].seconds_left == 0.0


def test_a_folder_that_cannot_be_made_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"cannot be made .*; name another one"):
            run_demo(out)


@pytest.mark.slow
def test_demo_writes_images_figure_and_report(tmp_path: Path) -> None:
    steps: list[Progress] = []
    report = run_demo(tmp_path / "out", steps.append, prior="gaussian", samples=2)
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert done[-1] == 1000
    assert all(Path(name).is_file() for name in report["files"])
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert report["passed"] == all(report[name]["passed"] for name in report["cases"])
    result = Result.load(tmp_path / "out" / "nuclei_blur.ome.tif")
    assert result.samples.shape == (2, 128, 128)
    measured = tifffile.imread(tmp_path / "out" / "nuclei_blur_measured.ome.tif")
    assert measured.shape == (128, 128)
