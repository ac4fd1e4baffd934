"""What a calibration has not seen is told: other noise and background, crops that are no images."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from calibration_cases import RECIPE, REPORT, SAMPLES, drawn, fitted

from napari_dps.image import Image
from napari_dps.result import Result
from napari_dps.uncertainty.calibration import parts_of
from napari_dps.uncertainty.scoring import image_of


def test_a_stack_is_one_image_and_a_phantom_is_its_own() -> None:
    names = ["a/s.tif plane 0", "a/s.tif plane 1", "a/t.tif"]
    records: list[dict[str, Any]] = [{"source": "images", "name": name} for name in names]
    records += [{"source": "phantoms", "name": "phantom"}] * 2
    assert len({image_of(r, k) for k, r in enumerate(records)}) == 4


@pytest.mark.parametrize(
    ("noise", "background", "words"),
    [
        ({"kind": "poisson"}, 1.4, None),
        ({"kind": "poisson"}, 1000.0, r"0\.0345 of the contrast where it is dark, .* has 1\.09"),
        ({"kind": "poisson-gaussian", "read_noise": 0.0}, 1.0, None),
        ({"kind": "poisson-gaussian", "read_noise": 9.0}, 1.0, "where it is dark"),
    ],
)
def test_background_and_read_noise_beyond_the_calibrations_are_warned_of(
    noise, background, words, recwarn
) -> None:
    base = fitted(100)
    report = dict(REPORT, scale=[29.0], background=[1.0], noise={"read_noise": 0.0})
    recipe = RECIPE.with_parts(noise={**noise, **({"read_noise": 0.0} if len(noise) > 1 else {})})
    parts = parts_of(recipe, report, SAMPLES)
    calibration = base.model_copy(update={"parts": parts, "scales": (29.0, 29.0)})
    recipe = RECIPE.with_parts(noise={"kind": noise["kind"]})
    found = dict(
        report,
        background=[background],
        noise={"read_noise": noise.get("read_noise", 0.0), "estimated": ["read_noise"]},
    )
    result = Result(np.ones((SAMPLES, 4, 4)), recipe=recipe, report=found)
    assert calibration.matches(result) == []
    told = result.calibrated(calibration).report["warnings"]
    if words is None:
        assert told == [] and not recwarn.list
    else:
        assert re.search(words, told[0]) and "may not cover" in str(recwarn.pop().message)


def test_a_volume_and_another_unit_of_length() -> None:
    found = fitted(19)
    result, _ = drawn(np.random.default_rng(4))
    volume = Result.from_image(
        result.samples,
        Image.from_array(result.mean),
        result.recipe,
        {**result.report, "object_axes": "ZYX"},
    )
    assert found.matches(volume) == ["the object's axes is 'ZYX' here and 'YX' in the calibration"]
    micrometres = found.model_copy(update={"parts": {**found.parts, "pixel_size": [0.1, 0.1]}})
    for unit, step, fits in (("nm", 100.0, True), ("um", 0.1, True), ("nm", 0.1, False)):
        plain = Image.from_array(result.mean)
        image = dataclasses.replace(plain, scale=(step, step), units=(unit, unit))
        same = Result.from_image(result.samples, image, result.recipe, dict(result.report))
        assert (micrometres.matches(same) == []) == fits
