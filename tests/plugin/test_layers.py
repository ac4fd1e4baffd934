"""Layers to images and back: axes, pixel size, crops, and coordinates that survive."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers._source import layer_source

from napari_dps.errors import InputError
from napari_dps.plugin import layers as lay
from napari_dps.plugin import result_layers as res
from napari_dps.recipe import Recipe
from napari_dps.result import Result

UM = ("micrometer", "micrometer")


def blank(*shape: int, **more: Any) -> ImageLayer:
    return ImageLayer(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), **more)


def result_for(layer: ImageLayer, region: lay.Region, samples: int = 2, **report: Any) -> Result:
    image = lay.make_image(layer, region, lay.layer_pixel_size(layer))
    stack = np.stack([image.data.astype(np.float32) + k for k in range(samples)])
    return Result.from_image(stack, image, Recipe(samples=samples), report)


def added(result: Result, layer: ImageLayer, region: lay.Region) -> dict[str, ImageLayer]:
    viewer = ViewerModel()
    viewer.add_layer(layer)
    for data, arguments, _ in res.result_layers(result, res.Frame.of(layer, region)):
        viewer.add_image(data, **arguments)
    return {one.name: one for one in viewer.layers}


def test_axes_come_from_labels() -> None:
    assert lay.layer_axes(blank(4, 5, 6, axis_labels=("t", "y", "x"))) == "TYX"
    assert lay.layer_axes(blank(4, 5, 6)) == "ZYX"
    assert lay.layer_axes(blank(5, 6)) == "YX"
    assert lay.layer_axes(blank(50, 4)) == "YX"


def test_pixel_size_of_a_layer_in_any_unit() -> None:
    size = lay.layer_pixel_size(blank(5, 6, scale=(65, 66), units=("nm", "nm")))
    assert size.yx == pytest.approx((0.065, 0.066))
    assert size.origin == "layer"
    assert lay.layer_pixel_size(blank(5, 6)).yx is None
    assert lay.layer_pixel_size(blank(5, 6, scale=(2, 2))).yx is None


def test_pixel_size_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cells.ome.tif"
    meta = {
        "axes": "ZYX",
        "PhysicalSizeX": 0.1,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.1,
        "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": 0.3,
        "PhysicalSizeZUnit": "µm",
    }
    tifffile.imwrite(path, np.ones((3, 8, 9), np.uint16), metadata=meta)
    with layer_source(path=str(path)):
        layer = blank(3, 8, 9)
    assert lay.layer_pixel_size(layer).yx is None
    size = lay.file_pixel_size(layer)
    assert size == lay.PixelSize((0.1, 0.1), "file", 0.3)
    image = lay.make_image(layer, lay.whole(layer), size)
    assert image.axes == "ZYX"
    assert image.scale == pytest.approx((0.3, 0.1, 0.1))
    assert image.calibration == "file"
    # Another shape than the file's: then it says nothing about this layer.
    layer.data = np.ones((3, 4, 4))
    assert lay.file_pixel_size(layer).yx is None


def test_typed_pixel_size_reaches_the_image() -> None:
    layer = blank(5, 6)
    image = lay.make_image(layer, lay.whole(layer), lay.PixelSize((0.2, 0.2), "typed"))
    assert image.pixel_size_yx == (0.2, 0.2)
    assert image.calibration == "given"


def test_lazy_and_multiscale_data() -> None:
    dask = pytest.importorskip("dask.array")
    layer = ImageLayer([dask.ones((64, 64)), dask.ones((32, 32))], multiscale=True)
    image = lay.make_image(layer, lay.whole(layer), lay.PixelSize())
    assert image.shape == (64, 64)
    assert isinstance(image.data, np.ndarray)


def test_results_lie_on_their_source() -> None:
    layer = blank(
        4, 8, 9,
        name="cells",
        scale=(0.3, 0.1, 0.1),
        translate=(1, 2, 3),
        units=("um", "um", "um"),
        axis_labels=("z", "y", "x"),
    )  # fmt: skip
    found = added(result_for(layer, lay.whole(layer)), layer, lay.whole(layer))
    assert list(found) == ["cells", "cells samples", "cells std", "cells mean"]
    for what in ("mean", "std"):
        one = found[f"cells {what}"]
        np.testing.assert_allclose(one.scale, layer.scale)
        np.testing.assert_allclose(one.translate, layer.translate)
        assert one.units == layer.units
        assert one.axis_labels == layer.axis_labels
        np.testing.assert_allclose(one.extent.world, layer.extent.world)
    samples = found["cells samples"]
    assert samples.data.shape == (2, 4, 8, 9)
    assert str(samples.units[0]) == "pixel"
    assert samples.units[1:] == layer.units
    assert samples.axis_labels == ("sample", "z", "y", "x")
    np.testing.assert_allclose(samples.extent.world[:, 1:], layer.extent.world)
    held = found["cells mean"].metadata["napari_dps"]
    assert held["recipe"]["samples"] == 2
    assert held["report"]["complete"] is True


def test_viewer_keeps_units() -> None:
    layer = blank(8, 9, name="cells", scale=(0.1, 0.1), units=UM)
    viewer = ViewerModel()
    viewer.add_layer(layer)
    for data, arguments, _ in res.result_layers(
        result_for(layer, lay.whole(layer)), res.Frame.of(layer, lay.whole(layer))
    ):
        viewer.add_image(data, **arguments)
    assert [str(u) for u in viewer.layers.extent.units][-2:] == list(UM)


def test_turned_sheared_layers_keep_their_place() -> None:
    affine = np.array([[0.9, 0.1, 5], [0, 1.1, -2], [0, 0, 1]])
    layer = blank(
        8, 9, name="cells", scale=(2, 3), translate=(4, 5), rotate=30, shear=[0.2], affine=affine
    )
    region = lay.Region((slice(2, 6), slice(3, 9)))
    found = added(result_for(layer, region), layer, region)
    for name in ("cells mean", "cells std"):
        np.testing.assert_allclose(
            found[name].data_to_world((0, 0)), layer.data_to_world((2, 3)), atol=1e-9
        )
        np.testing.assert_allclose(
            found[name].data_to_world((3, 5)), layer.data_to_world((5, 8)), atol=1e-9
        )
    samples = found["cells samples"]
    world = samples.data_to_world((1, 3, 5))
    np.testing.assert_allclose(world, (1, *layer.data_to_world((5, 8))), atol=1e-9)


def test_nothing_is_overwritten() -> None:
    layer = blank(8, 9, name="cells")
    viewer = ViewerModel()
    viewer.add_layer(layer)
    for _ in range(2):
        result = result_for(layer, lay.whole(layer))
        for data, arguments, _ in res.result_layers(result, res.Frame.of(layer, lay.whole(layer))):
            viewer.add_image(data, **arguments)
    assert len({one.name for one in viewer.layers}) == 7


def test_what_has_no_spread_gets_no_std() -> None:
    layer = blank(8, 9, name="cells")
    one = added(result_for(layer, lay.whole(layer), samples=1), layer, lay.whole(layer))
    assert list(one) == ["cells", "cells samples", "cells mean"]
    layer = blank(8, 9, name="cells")
    point = result_for(layer, lay.whole(layer), samples=1, point_estimate=True)
    assert list(added(point, layer, lay.whole(layer))) == ["cells", "cells mean"]


def test_an_object_on_its_own_grid() -> None:
    layer = blank(16, 16, name="speckle", scale=(0.1, 0.1), units=UM)
    result = Result(np.ones((2, 8, 8)), "YX", (0.2, 0.2), UM, name="speckle")
    mean = added(result, layer, lay.whole(layer))["speckle mean"]
    np.testing.assert_allclose(mean.scale, (0.2, 0.2))
    assert mean.units == layer.units


def canvas(layer: ImageLayer, low: tuple[int, ...], high: tuple[int, ...]) -> Any:
    viewer = ViewerModel()
    viewer.add_layer(layer)
    layer.corner_pixels = np.array([low, high])
    return viewer


def test_visible_region_is_a_crop_of_the_frame_at_hand() -> None:
    layer = blank(4, 20, 30, scale=(1, 0.5, 0.5), translate=(0, 10, 10))
    viewer = canvas(layer, (0, 5, 6), (0, 14, 25))
    viewer.dims.set_point(0, 2)
    region = lay.visible_region(layer, viewer)
    assert region.slices == (slice(2, 3), slice(5, 15), slice(6, 26))
    image = lay.make_image(layer, region, lay.PixelSize())
    np.testing.assert_array_equal(image.data, layer.data[2:3, 5:15, 6:26])
    np.testing.assert_allclose(res.Frame.of(layer, region).transform["translate"], (2, 12.5, 13))
    assert image.translate == pytest.approx((2, 12.5, 13))


def test_visible_region_refuses_what_it_cannot_see() -> None:
    layer = blank(4, 20, 30)
    viewer = canvas(layer, (0, 5, 6), (0, 5, 6))
    with pytest.raises(InputError, match="in view"):
        lay.visible_region(layer, viewer)
    viewer.dims.ndisplay = 3
    with pytest.raises(InputError, match="2D display"):
        lay.visible_region(layer, viewer)
    viewer.dims.ndisplay = 2
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(InputError, match="last two axes"):
        lay.visible_region(layer, viewer)


def test_masks_are_cropped_with_the_image() -> None:
    mask = np.zeros((20, 30))
    mask[5:15, 6:26] = 1
    recipe = Recipe(forward={"kind": "inpaint", "mask": mask}, valid=mask)
    region = lay.Region((slice(5, 15), slice(6, 26)))
    cropped = lay.crop_recipe(recipe, (20, 30), region)
    assert cropped.forward.mask.load().shape == (10, 20)
    assert cropped.valid is not None
    assert cropped.valid.load().all()
    assert lay.crop_recipe(recipe, (20, 30), lay.Region((slice(0, 20), slice(0, 30)))) is recipe
    # A PSF is no picture of the field: it stays whole.
    blurred = Recipe(forward={"kind": "psf", "psf": np.ones((20, 30))})
    assert lay.crop_recipe(blurred, (20, 30), region) is blurred


def test_recipes_that_layers_bring() -> None:
    recipe = lay.recipe_dict(Recipe())
    layer = blank(5, 6, metadata={"napari_dps": {"recipe": recipe}})
    assert Recipe(**lay.recipe_of(layer)) == Recipe()
    assert lay.recipe_of(blank(5, 6)) is None
    assert lay.recipe_of(blank(5, 6, metadata={"napari_dps": "?"})) is None


def test_preview_fits_the_plane() -> None:
    layer = blank(4, 8, 9, name="cells", scale=(0.3, 0.1, 0.1), translate=(1, 2, 3))
    frame = res.Frame.of(layer, lay.whole(layer))
    data, arguments, _ = res.preview_layer(frame, np.ones((8, 9)))
    preview = ImageLayer(data, **arguments)
    np.testing.assert_allclose(preview.extent.world, layer.extent.world[:, 1:])
    assert preview.name == "cells preview"


def test_source_data_is_full_resolution() -> None:
    assert lay.source_data(SimpleNamespace(multiscale=True, data=[1, 2])) == 1
