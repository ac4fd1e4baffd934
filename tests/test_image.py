"""Image: axes, pixel size, frames."""

from __future__ import annotations

import numpy as np
import pytest

from napari_dps.errors import InputError
from napari_dps.image import Image, to_micrometer


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5, 6), "YX"),
        ((2, 5, 6), "ZYX"),
        ((2, 2, 5, 6), "TZYX"),
        ((2, 1, 2, 5, 6), "TCZYX"),
        ((8, 9, 3), "YXS"),
    ],
)
def test_axes_of_a_bare_array(shape: tuple[int, ...], axes: str) -> None:
    image = Image.from_array(np.zeros(shape))
    assert image.axes == axes
    assert image.units == ("pixel",) * len(shape)
    assert image.calibration == "none"
    assert image.pixel_size_yx is None


def test_frames_go_through_every_leading_axis_wherever_it_is() -> None:
    data = np.arange(2 * 4 * 5 * 3, dtype=np.uint16).reshape(2, 4, 5, 3)
    image = Image.from_array(data, axes="tyxc")
    assert image.spatial_shape == (4, 5)
    assert image.frame_count == 6
    frames = dict(image.frames())
    assert list(frames) == [(t, c) for t in range(2) for c in range(3)]
    assert frames[1, 2].dtype == np.float64
    np.testing.assert_array_equal(frames[1, 2], data[1, :, :, 2])


@pytest.mark.parametrize(
    ("pixel_size", "scale"),
    [(0.1, (0.1, 0.1, 0.1)), ((0.2, 0.1), (0.2, 0.2, 0.1)), ((0.3, 0.2, 0.1), (0.3, 0.2, 0.1))],
)
def test_pixel_size_of_a_volume(pixel_size: float, scale: tuple[float, ...]) -> None:
    image = Image.from_array(np.zeros((2, 5, 6)), pixel_size=pixel_size)
    assert image.scale == scale
    assert image.units == ("micrometer",) * 3
    assert image.calibration == "given"
    assert image.pixel_size_yx == scale[1:]


def test_one_number_keeps_the_step_in_z_that_the_file_names() -> None:
    units = ("micrometer",) * 3
    image = Image(np.zeros((2, 5, 6)), "ZYX", (0.3, 0.1, 0.1), units).with_pixel_size(0.2)
    assert image.scale == (0.3, 0.2, 0.2)


def test_positions_follow_the_unit() -> None:
    image = Image(np.zeros((5, 6)), "YX", translate=(10, 20)).with_pixel_size(0.5)
    assert image.translate == (5.0, 10.0)


def test_time_is_not_touched_by_the_pixel_size() -> None:
    image = Image(np.zeros((2, 5, 6)), "TYX", (3, 1, 1), ("second", "pixel", "pixel"))
    image = image.with_pixel_size(0.5)
    assert image.scale == (3, 0.5, 0.5)
    assert image.units == ("second", "micrometer", "micrometer")


def test_other_units_are_understood() -> None:
    image = Image(np.zeros((5, 6)), "YX", (100, 200), ("nanometer", "nm"))
    assert image.pixel_size_yx == pytest.approx((0.1, 0.2))
    for unit in ("um", "µm", "\u03bcm", "\\u00B5m", "Âµm", "micron", "Microns", "micrometre"):
        assert to_micrometer(unit) == 1.0
    assert to_micrometer("inch") == 25400.0
    assert to_micrometer("pixel") is None


def test_with_data_keeps_the_rest() -> None:
    image = Image.from_array(np.zeros((5, 6), np.uint8), pixel_size=0.1, name="cells")
    other = image.with_data(np.ones((10, 12), np.float32))
    assert (other.shape, other.name, other.scale) == ((10, 12), "cells", (0.1, 0.1))


def test_foreign_byte_order_becomes_native() -> None:
    image = Image.from_array(np.arange(6, dtype=">u2").reshape(2, 3))
    assert image.data.dtype.isnative
    assert image.data[1, 2] == 5


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (np.zeros((5, 6), complex), {}, "complex"),
        (np.array([["a"]]), {}, "needs integer or real"),
        ([[1, 2], [3]], {}, "different lengths"),
        (np.ma.masked_less(np.eye(6), 1), {}, "30 masked pixels"),
        (np.array([[None]]), {}, "object"),
        (np.zeros((0, 6)), {}, "empty"),
        (np.zeros(6), {}, "1 axes"),
        (np.zeros((1,) * 6), {}, "2 to 5"),
        (np.zeros((5, 6)), {"axes": "ZYX"}, "one letter per axis"),
        (np.zeros((5, 6)), {"axes": "YY"}, "each axis once"),
        (np.zeros((5, 6)), {"axes": "ZX"}, "each axis once"),
        (np.zeros((5, 6)), {"axes": "QX"}, "each axis once"),
        (np.zeros((5, 6)), {"pixel_size": 0}, "above zero"),
        (np.zeros((5, 6)), {"pixel_size": -1.0}, "above zero"),
        (np.zeros((5, 6)), {"pixel_size": float("nan")}, "above zero"),
        (np.zeros((5, 6)), {"pixel_size": "fine"}, "above zero"),
        (np.zeros((5, 6)), {"pixel_size": (1, 1, 1)}, "3 numbers"),
    ],
)
def test_bad_input_is_one_sentence(array: np.ndarray, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Image.from_array(array, **options)
    assert "\n" not in str(caught.value)


def test_axes_change_their_order_with_all_that_belongs_to_them() -> None:
    data = np.arange(24.0).reshape(2, 3, 4)
    image = Image(data, "XTY", (0.1, 5, 0.2), ("micrometer", "second", "micrometer"), (1, 2, 3))
    last = image.picture_last()
    assert (last.axes, last.shape) == ("TYX", (3, 4, 2))
    assert last.scale == (5, 0.2, 0.1) and last.translate == (2, 3, 1)
    assert last.units == ("second", "micrometer", "micrometer")
    assert last.data[2, 1, 0] == data[0, 2, 1]
    back = last.with_axes("XTY")
    np.testing.assert_array_equal(back.data, data)
    assert (back.scale, back.units) == (image.scale, image.units)


def test_colour_has_no_frames() -> None:
    with pytest.raises(InputError, match="RGB"):
        next(Image.from_array(np.zeros((8, 9, 3))).frames())


def test_parts_must_fit() -> None:
    with pytest.raises(InputError, match="one entry per axis"):
        Image(np.zeros((5, 6)), "YX", scale=(1, 1, 1))
    with pytest.raises(InputError, match="positive"):
        Image(np.zeros((5, 6)), "YX", scale=(1, 0))
