"""The benchmark's judgement of the calibrations in the package."""

from __future__ import annotations

import json
from typing import Any

import intervals
import numpy as np
import pytest
import skimage.io

from napari_dps.uncertainty.shipped import nearest, shipped_calibrations


def test_a_shipped_calibration_is_judged_and_what_was_restored_is_kept(
    tmp_path, monkeypatch, capsys
) -> None:
    folder = tmp_path / "eval" / "clean"
    folder.mkdir(parents=True)
    rows, columns = np.mgrid[:40, :40]
    spots = np.exp(-((rows - 20) ** 2 + (columns - 20) ** 2) / 30)
    skimage.io.imsave(folder / "0.png", np.uint8(20 + 200 * spots), check_contrast=False)
    made = shipped_calibrations()[0]
    small = made.model_copy(update={"size": 16, "parts": {**made.parts, "samples": 4}})
    monkeypatch.setattr(intervals, "shipped_calibrations", lambda: (small,))
    recipe = intervals.Recipe
    monkeypatch.setattr(
        intervals, "Recipe", lambda **given: recipe(prior="gaussian", sampler="ddrm", **given)
    )
    options: dict[str, Any] = {
        "data": tmp_path, "tasks": ("blur-5",), "device": "cpu", "work": tmp_path / "work",
        "out": tmp_path / "found.json",
    }  # fmt: skip
    intervals.shipped(**options)
    found = json.loads(options["out"].read_text())["tasks"]["blur-5"]
    assert found["judged_crops"] == 19 and found["judged_images"] == 1
    assert found["by_calibration_of"] == {f"{small.photons:g} photons": 19}
    kept = (tmp_path / "work" / "blur-5-shipped.jsonl").read_text().splitlines()
    row = json.loads(kept[1])
    error, std, mean = (intervals.unpack(row[name]) for name in ("error", "std", "mean"))
    half = small.lambdas["0.9"] * intervals.widened(mean[None], std[None], small.share)[0]
    others = [json.loads(line) for line in kept[2:]]
    assert len(others) == 18
    alone = intervals.figures([row], [(small.lambdas["0.9"], small.share)], 1.0)
    assert alone["coverage"] == pytest.approx(np.mean(error <= half))
    assert 0 < found["coverage"] <= 1 and set(found["passed"]) == {
        "coverage", "bright", "tenths", "interval_score", "crps",
    }  # fmt: skip
    monkeypatch.setattr("napari_dps.run.Run.__init__", lambda *_, **__: pytest.fail("again"))
    intervals.shipped(**options)
    assert json.loads(options["out"].read_text())["tasks"]["blur-5"] == found
    capsys.readouterr()


def test_the_nearest_in_brightness_is_taken() -> None:
    blurs = [c for c in shipped_calibrations() if c.parts["forward"]["kind"] == "gaussian-blur"]
    for scales, photons in (((2.5, 5.0), 5.0), ((12.0, 26.0, 50.0), 30.0), ((150.0, 400.0), 300.0)):
        assert [nearest(blurs, [scale]).photons for scale in scales] == [photons] * len(scales)
    assert nearest(blurs, []) is blurs[0]
