"""Missing and saturated pixels: boxes, NaN, full detectors."""

import numpy as np
import pytest

from napari_dps.components import make
from napari_dps.errors import InputError, RecipeError
from napari_dps.grid import Grid
from napari_dps.image import Image
from napari_dps.prepare import prepare
from napari_dps.recipe import Recipe
from napari_dps.saturation import full_scale


def counts(rng, level=60000.0, dtype=np.uint16):
    return rng.poisson(level * rng.uniform(0, 1, (40, 40))).astype(dtype)


def test_boxes_are_lost():
    for box in ([2, 3, 5, 9], [[2, 3, 5, 9]], np.array([2, 3, 5, 9])):
        model = make("forward", {"kind": "inpaint", "box": box})
        known = model.known((12, 10))
        assert not known[2:5, 3:9].any() and known.sum() == 120 - 18
    model = make("forward", {"kind": "inpaint", "box": [[0, 0, 2, 2], [4, 4, 6, 6]]})
    assert model.bind(Grid((12, 10))).measured.sum() == 112
    assert Recipe(**Recipe(forward=model).model_dump(mode="json")).forward == model


@pytest.mark.parametrize(
    ("box", "word"),
    [
        ([1, 2, 3], "y0, x0, y1, x1"),
        ([5, 0, 2, 4], "y0 below y1"),
        ([0, 0, 2.5, 4], "whole pixels"),
        ("all", "whole pixels"),
        ([-1, 0, 2, 4], "none negative"),
    ],
)
def test_bad_boxes_are_one_sentence(box, word):
    with pytest.raises(RecipeError, match=word):
        make("forward", {"kind": "inpaint", "box": box})


def test_boxes_beyond_the_image_are_refused():
    with pytest.raises(InputError, match="leaves the image of 12 x 10"):
        make("forward", {"kind": "inpaint", "box": [0, 0, 13, 4]}).bind(Grid((12, 10)))
    with pytest.raises(InputError, match="leave no pixel"):
        make("forward", {"kind": "inpaint", "box": [0, 0, 12, 10]}).bind(Grid((12, 10)))


def test_mask_boxes_nan_and_saturation_add_up(rng):
    frames = rng.uniform(10, 50, (1, 12, 10))
    frames[0, 0, 0], frames[0, 1, 1:6] = np.nan, 255
    mask = np.ones((12, 10))
    mask[11] = 0
    model = make(
        "forward", {"kind": "inpaint", "mask": mask, "box": [4, 4, 6, 6], "saturated": True}
    )
    measured = model.measured_pixels(frames)[0]
    assert not measured[0, 0] and not measured[11].any() and not measured[4:6, 4:6].any()
    assert not measured[1, 1:6].any() and measured.sum() == 120 - 1 - 10 - 4 - 5


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_plateau_at_the_end_of_the_scale_is_found(rng, bits):
    top = 2**bits - 1
    image = np.minimum(counts(rng, 1.3 * top, np.int64), top).astype(np.uint16)
    assert full_scale(image) == top
    assert full_scale(image.astype(np.float32)) == top


def test_no_plateau_no_saturation(rng):
    image = np.minimum(counts(rng, 3000.0), 4094)
    assert full_scale(image) is None
    image[3, 3] = 4095  # the largest by chance
    assert full_scale(image) is None
    assert full_scale(np.zeros((9, 9), bool)) is None
    assert full_scale(np.full((9, 9), np.nan)) is None
    assert full_scale(np.array([[1, 255]], np.uint8)) == 255


def test_saturated_pixels_do_not_count_where_counts_are_expected(rng):
    data = np.minimum(counts(rng, 5500.0), 4095)
    full = data == 4095
    image = Image.from_array(data)
    prepared = prepare(image, Recipe())
    assert np.array_equal(prepared.valid[0], ~full)
    assert prepared.saturated == {"pixels": full.sum(), "value": 4095, "left_out": True}
    assert "4095" in prepared.warnings[0] and "left out" in prepared.warnings[0]
    kept = prepare(image, Recipe(noise={"kind": "gaussian", "sigma": 1.0}))
    assert kept.valid is None and not kept.saturated["left_out"]
    assert "count as measured" in kept.warnings[0]
    told = prepare(image, Recipe(forward={"kind": "identity", "full_scale": 4000}))
    assert told.saturated["value"] == 4000 and told.saturated["pixels"] > full.sum()
    off = prepare(image, Recipe(forward={"kind": "identity", "full_scale": 1e6}))
    assert off.valid is None and off.saturated["pixels"] == 0


def test_a_frame_that_is_all_full_is_refused():
    data = np.full((2, 16, 16), 255, np.uint8)
    data[0, :8] = 3
    with pytest.raises(InputError, match="every pixel of a frame is saturated"):
        prepare(Image.from_array(data, axes="TYX"), Recipe())
