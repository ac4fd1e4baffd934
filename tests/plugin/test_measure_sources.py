"""From layers to what is measured: samples, regions in any grid, lines."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugin.fake_result import PIXEL, SIDE, UM, add_result, physical

from napari_dps.errors import InputError
from napari_dps.plugin.layers import world_point
from napari_dps.plugin.measure_sources import (
    image_transform,
    is_samples,
    line_in_pixels,
    region_labels,
    result_of,
    shown_frame,
)
from napari_dps.result import Result


def test_samples_are_found_with_recipe_scale_and_report(viewer: Any) -> None:
    layer = add_result(viewer)
    assert [v.name for v in viewer.layers if is_samples(v)] == ["cells samples"]
    result = result_of(layer)
    assert result.axes == "YX" and result.scale == (PIXEL, PIXEL) and result.units == UM
    assert result.translate == pytest.approx((5, 6)) and result.name == "cells"
    assert result.recipe.noise.kind == "poisson" and len(result) == 20
    transform = image_transform(layer)
    like = viewer.layers["cells mean"]
    np.testing.assert_allclose(transform["scale"], like.scale)
    np.testing.assert_allclose(transform["affine"], like.affine.affine_matrix)
    assert transform["units"] == like.units and transform["axis_labels"] == like.axis_labels


def test_regions_in_any_grid_land_on_the_right_pixels(viewer: Any) -> None:
    samples = add_result(viewer)
    point = viewer.dims.point
    labels = np.zeros(SIDE, int)
    labels[2:6, 3:9], labels[15:20, 20:30] = 4, 9
    there = {"scale": (PIXEL, PIXEL), "translate": (5.0, 6.0), "units": UM}
    same = viewer.add_labels(labels, **there)
    rows, (found,) = region_labels(same, samples, point)
    assert list(rows) == [4, 9]
    np.testing.assert_array_equal(found, labels)
    # A wider image's labels, of which the result shows rows 3 and columns 2 onwards.
    wide = viewer.add_labels(
        np.pad(labels, ((3, 5), (2, 1))),
        **{**there, "translate": (5 - 3 * PIXEL, 6 - 2 * PIXEL)},
    )
    np.testing.assert_array_equal(region_labels(wide, samples, point)[1][0], labels)
    fine = viewer.add_labels(
        np.kron(labels, np.ones((2, 2), int)),
        scale=(PIXEL / 2, PIXEL / 2),
        translate=(5 - PIXEL / 4, 6 - PIXEL / 4),
        units=UM,
    )
    np.testing.assert_array_equal(region_labels(fine, samples, point)[1][0], labels)
    box = physical((1.6, 2.6), (1.6, 8.4), (5.4, 8.4), (5.4, 2.6))
    shapes = viewer.add_shapes([box, physical((0, 0), (9, 9))], shape_type=["polygon", "line"])
    rows, (found,) = region_labels(shapes, samples, point)
    assert list(rows) == [0]
    np.testing.assert_array_equal(found, labels == 4)
    shapes.add(box + 1.0, shape_type="polygon")
    shapes.add(box, shape_type="polygon")  # lies upon the first
    rows, found = region_labels(shapes, samples, point)
    assert list(rows) == [0, 2, 3] and len(found) == 2
    np.testing.assert_array_equal(found[1] == 4, labels == 4)
    assert set(np.unique(found[0])) == {0, 1, 3}


STACK: dict[str, Any] = {
    "scale": (0.3, PIXEL, PIXEL),
    "translate": (0.0, 5.0, 6.0),
    "units": ("micrometer",) * 3,
}


def test_labels_of_a_stack_are_taken_frame_by_frame(viewer: Any) -> None:
    samples = add_result(viewer, shape=(3, *SIDE), **STACK)
    labels = np.zeros((3, *SIDE), int)
    for k in range(3):
        labels[k, 2 + k : 6, 3:9] = k + 1
    own = viewer.add_labels(labels, **STACK)
    viewer.dims.set_current_step(1, 1)
    rows, (found,) = region_labels(own, samples, world_point(viewer))
    assert list(rows) == [1, 2, 3]
    np.testing.assert_array_equal(found, labels)
    same = viewer.add_labels(np.stack([labels[1]] * 3), **STACK)
    np.testing.assert_array_equal(region_labels(same, samples, (0.0,) * 4)[1][0], labels[1])


def test_layers_in_other_units_of_length_meet(viewer: Any) -> None:
    samples = add_result(viewer, shape=(5, *SIDE), **STACK)
    labels = np.zeros(SIDE, int)
    labels[2:6, 3:9] = 4
    nanometres = {"scale": (100.0, 100.0), "translate": (5000.0, 6000.0), "units": ("nm", "nm")}
    regions = viewer.add_labels(labels, **nanometres)
    viewer.dims.set_current_step(1, 1)
    point = world_point(viewer)
    assert shown_frame(samples, point, 2) == (1,)
    rows, (found,) = region_labels(regions, samples, point)
    assert list(rows) == [4]
    np.testing.assert_array_equal(found, labels)
    shapes = viewer.add_shapes(
        [np.array([[6.2, 6.2], [6.2, 9.0]]) * 1000], shape_type="line", units=("nm", "nm")
    )
    assert line_in_pixels(shapes, samples).start == pytest.approx((12, 2))


def test_an_ellipse_is_as_large_as_it_should_be(viewer: Any) -> None:
    samples = add_result(viewer)
    box = physical((2.4, 4.3), (2.4, 24.3), (18.4, 24.3), (18.4, 4.3))
    shapes = viewer.add_shapes([box], shape_type="ellipse")
    (found,) = region_labels(shapes, samples, viewer.dims.point)[1]
    mask = found == 1
    assert mask.sum() == pytest.approx(np.pi * 8 * 10, rel=0.04)
    assert mask[10, 14] and not mask[3, 5]


def test_lines_from_shapes_and_points(viewer: Any) -> None:
    samples = add_result(viewer)
    shapes = viewer.add_shapes(
        [physical((12, 2), (12, 30)), physical((3, 3), (20, 20))], shape_type="line"
    )
    assert line_in_pixels(shapes, samples).end == pytest.approx((20, 20))
    shapes.selected_data = {0}
    line = line_in_pixels(shapes, samples)
    assert (line.start, line.end) == (pytest.approx((12, 2)), pytest.approx((12, 30)))
    points = viewer.add_points(physical((12, 2), (12, 30)))
    assert line_in_pixels(points, samples).end == pytest.approx((12, 30))
    bent = viewer.add_shapes([physical((5, 5), (5, 25), (20, 25))], shape_type="path", name="bent")
    with pytest.raises(InputError, match="path in 'bent' has 3 points, and profiles run straight"):
        line_in_pixels(bent, samples)
    points.add(physical((1, 1)))
    with pytest.raises(InputError, match="holds 3 points; a line leads through two"):
        line_in_pixels(points, samples)
    outside = viewer.add_shapes([physical((12, 2), (12, 60))], shape_type="line", name="far")
    with pytest.raises(InputError, match="'far' leaves 'cells samples'"):
        line_in_pixels(outside, samples)


def test_the_example_adds_a_result_that_the_dock_knows(viewer: Any) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "measure_widget.py"
    draws = np.random.default_rng(0).normal(size=(20, *SIDE))
    draws[:, 12, 16] += 50
    result = Result(draws, scale=(PIXEL, PIXEL), units=UM, translate=(1.0, 2.0), name="cells")
    runpy.run_path(str(example))["show"](viewer, result)
    assert [layer.name for layer in viewer.layers] == [
        "cells samples", "cells std", "cells mean", "line",
    ]  # fmt: skip
    samples = viewer.layers["cells samples"]
    assert is_samples(samples)
    again = result_of(samples)
    assert (again.scale, again.units) == (result.scale, result.units)
    line = line_in_pixels(viewer.layers["line"], samples)
    assert (line.start, line.end) == (pytest.approx((12, 1)), pytest.approx((12, 31)))
