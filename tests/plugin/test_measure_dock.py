"""The dock "Measure (DPS)": from layers to a table, a plot, features and new layers."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugin.fake_result import PIXEL, SIDE, UM, add_result, physical, scene
from plugin.measuring import finish, measured, open_dock

from napari_dps.plugin.measure_choices import CHOICES
from napari_dps.plugin.measure_sources import result_of
from napari_dps.uncertainty.measure_calibration import calibrate_measurement
from napari_dps.uncertainty.regions import RegionMean


@pytest.fixture
def dock(qtbot: Any, viewer: Any) -> Iterator[Any]:
    yield from open_dock(qtbot, viewer)


# ---------------------------------------------------------------- the dock


def test_opened_dock_offers_what_there_is(dock: Any, viewer: Any) -> None:
    assert dock.results.currentText() == "cells samples"
    assert dock.choices.count() == len(CHOICES) == 9
    assert dock.places.count() == 0
    viewer.add_labels(np.ones(SIDE, int), name="cell")
    assert dock.places.currentText() == "cell"
    dock.choose("profile")
    assert dock.places.count() == 0  # labels hold no line
    viewer.add_points(physical((12, 2), (12, 30)), name="ends")
    assert dock.places.currentText() == "ends"
    viewer.layers.remove("cells samples")
    assert dock.results.count() == 0
    assert dock.minimumSizeHint().width() < 450, "the dock leaves no room for the picture"


def test_region_means_go_to_table_plot_features_and_csv(
    qtbot: Any, dock: Any, viewer: Any, tmp_path: Path
) -> None:
    labels = np.zeros(SIDE, int)
    labels[:4], labels[10:15, 8:13] = 2, 5
    regions = viewer.add_labels(
        labels, name="cell", scale=(PIXEL, PIXEL), translate=(5, 6), units=UM
    )
    regions.features = {"index": [2, 7], "kind": ["edge", "other"]}
    found = measured(qtbot, dock, "mean")
    assert found.names == ("mean 2", "mean 5") and found.unit == "counts"
    truth = [scene()[labels == k].mean() for k in (2, 5)]
    assert found.value == pytest.approx(truth, abs=0.05)
    assert (found.low < truth).all() and (truth < found.high).all()
    assert [dock.table.item(r, 0).text() for r in (0, 1)] == ["mean 2", "mean 5"]
    heads = [dock.table.horizontalHeaderItem(c).text() for c in range(dock.table.columnCount())]
    assert heads == ["name", "value", "low 90 %", "high 90 %", "std", "found", "unit", "interval"]
    assert dock.plot.axes.get_ylabel() == "counts"
    assert "nominal" in dock.status.text() and "features of 'cell'" in dock.status.text()
    table = regions.features.set_index("index")
    assert table.loc[5, "mean"] == found.value[1]
    assert table.loc[2, "mean low 90 %"] == found.low[0]
    assert table.loc[2, "kind"] == "edge" and np.isnan(table.loc[7, "mean"])
    dock.save_csv(str(tmp_path / "t.csv"))
    rows = list(csv.reader((tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == heads and float(rows[2][1]) == found.value[1]
    assert rows[1][-2:] == ["counts", "nominal"]


def test_sums_of_shapes_that_overlap(qtbot: Any, dock: Any, viewer: Any) -> None:
    boxes = [
        physical((7.6, 5.6), (7.6, 14.4), (16.4, 14.4), (16.4, 5.6)),
        physical((7.6, 5.6), (7.6, 26.4), (16.4, 26.4), (16.4, 5.6)),
    ]
    shapes = viewer.add_shapes(boxes, shape_type="polygon", name="boxes")
    dock.choose("sum")
    dock.settings["background"].set_value(2.0)
    found = measured(qtbot, dock, "sum")
    truth = [(scene() - 2)[8:17, a:b].sum() for a, b in ((6, 15), (6, 27))]
    assert found.value == pytest.approx(truth, rel=0.02)
    np.testing.assert_array_equal(shapes.features["sum"], found.value)


@pytest.mark.parametrize(
    ("key", "value", "unit"),
    [("distance", 1.2, "µm"), ("fwhm", 0.47, "µm"), ("separation", 1.2, "µm")],
)
def test_lengths_are_in_micrometres(
    qtbot: Any, dock: Any, viewer: Any, key: str, value: float, unit: str
) -> None:
    viewer.add_shapes([physical((12, 2), (12, 30))], shape_type="line")
    found = measured(qtbot, dock, key)
    assert found.value[0] == pytest.approx(value, abs=0.03) and found.unit == unit
    assert dock.table.item(0, 6).text() == unit


def test_profile_has_a_band(qtbot: Any, dock: Any, viewer: Any) -> None:
    viewer.add_points(physical((12, 2), (12, 30)))
    found = measured(qtbot, dock, "profile")
    assert found.position[-1] == pytest.approx(2.8) and found.position_unit == "µm"
    assert dock.plot.axes.get_xlabel() == "position (µm)"
    assert len(dock.plot.axes.collections) == 1
    assert dock.table.horizontalHeaderItem(1).text() == "position (µm)"


def test_objects_and_rings(qtbot: Any, dock: Any) -> None:
    dock.choose("objects")
    dock.settings["threshold"].set_value(12.0)
    found = measured(qtbot, dock, "objects")
    assert found.select("count").value[0] == 2
    area = (scene() > 12).sum() * PIXEL**2
    assert found.select("area (µm²)").value[0] == pytest.approx(area, rel=0.1)
    axes = dock.plot.axes  # values of unlike units have no common axis: how often which count
    assert [(bar.get_center()[0], bar.get_height()) for bar in axes.patches[:1]] == [(2, 1)]
    dock.level.set_value(0.8)
    rings = measured(qtbot, dock, "frc")
    assert rings.position_unit == "cycles/µm" and rings.value[1] > 0.9


def test_two_results_are_correlated(qtbot: Any, dock: Any, viewer: Any) -> None:
    add_result(viewer, "other", samples=30)
    found = measured(qtbot, dock, "colocalisation")
    assert found.names == ("pearson", "M1", "M2") and len(found.draws) == 20
    # Spots agree; the noise of one sample must not meet that of the same number.
    assert 0.9 < found.value[0] < 0.9999
    same = result_of(viewer.layers["other samples"]).samples[:20]
    np.testing.assert_array_equal(same, result_of(viewer.layers["cells samples"]).samples)


def test_labels_that_change_with_time_are_those_of_their_frame() -> None:
    from napari_dps.plugin.measure_choices import _by_frame

    labels = np.zeros((3, 4, 4), int)
    labels[0, 0], labels[1, 1], labels[2, 1:3] = 1, 1, 2
    image = np.arange(48.0).reshape(3, 4, 4)
    found = _by_frame(RegionMean, labels, "TYX")(image)
    assert found == {
        "mean 1, frame 0": 1.5, "mean 1, frame 1": 21.5, "mean 2, frame 2": image[2, 1:3].mean(),
    }  # fmt: skip
    turned = _by_frame(RegionMean, np.moveaxis(labels, 0, 2), "YXT")(np.moveaxis(image, 0, 2))
    assert turned == found
    assert set(_by_frame(RegionMean, labels, "ZYX")(image)) == {"mean 1", "mean 2"}


def test_planes_of_a_stack(qtbot: Any, viewer: Any) -> None:
    from napari_dps.plugin.measure_widget import MeasureWidget

    add_result(
        viewer, shape=(3, *SIDE), scale=(0.3, PIXEL, PIXEL), units=("micrometer",) * 3,
        translate=(0.0, 5.0, 6.0),
    )  # fmt: skip
    viewer.add_labels(np.ones(SIDE, int), scale=(PIXEL, PIXEL), translate=(5, 6), units=UM)
    dock = MeasureWidget(viewer)
    qtbot.addWidget(dock)
    found = measured(qtbot, dock, "mean")
    assert found.names == ("mean 1, frame 0", "mean 1, frame 1", "mean 1, frame 2")
    volume = np.zeros((3, *SIDE), int)
    volume[1, 10:15, 8:13], volume[2, 10:15, 20:25] = 7, 8
    viewer.add_labels(
        volume, name="cells in 3D", scale=(0.3, PIXEL, PIXEL), translate=(0, 5, 6),
        units=("micrometer",) * 3,
    )  # fmt: skip
    dock.places.setCurrentIndex(dock.places.findText("cells in 3D"))
    assert measured(qtbot, dock, "mean").names == ("mean 7", "mean 8")
    viewer.dims.set_current_step(1, 2)
    viewer.add_shapes([physical((12, 2), (12, 30))], shape_type="line")
    assert measured(qtbot, dock, "distance").value[0] == pytest.approx(1.2, abs=0.03)
    dock.settings["threshold"].set_value(12.0)
    assert "area (µm³)" in measured(qtbot, dock, "objects").names
    dock.shut_down()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("mean", "There is no layer with regions"),
        ("fwhm", "There is no layer with a line"),
        ("colocalisation", "needs a second result"),
        ("frc", "needs at least 38 samples; there are 20"),
    ],
)
def test_one_sentence_for_what_is_missing(
    qtbot: Any, dock: Any, notes: list[Any], key: str, said: str
) -> None:
    measured(qtbot, dock, key)
    (note,) = notes
    assert said in note.message and "\n" not in note.message


def test_one_sentence_for_bad_choices(qtbot: Any, dock: Any, viewer: Any, notes: list[Any]) -> None:
    dock.level.set_value(0.95)
    measured(qtbot, dock, "objects")
    assert "0.95 interval needs at least 39 samples; there are 20" in notes.pop().message
    viewer.add_shapes([physical((12, 2), (12, 2.2))], shape_type="line")
    dock.level.set_value(0.9)
    measured(qtbot, dock, "profile")
    assert "shorter than a pixel" in notes.pop().message
    viewer.layers.remove("cells samples")
    measured(qtbot, dock, "profile")
    assert "There is no result with samples" in notes.pop().message
    dock.above_button.click()
    assert "There is no result with samples" in notes.pop().message
    assert dock.measurement is None


def test_what_fails_in_the_thread_is_one_sentence(
    qtbot: Any, dock: Any, notes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("napari_dps.plugin.measure_choices.measure", fail)
    measured(qtbot, dock, "objects")
    (note,) = notes
    assert note.message == "The measurement failed (RuntimeError: out of luck)"
    assert dock.status.text() == "failed"


def test_probability_layer_lies_where_the_source_lies(qtbot: Any, dock: Any, viewer: Any) -> None:
    dock.above.set_value(12.0)
    dock.above_button.click()
    finish(qtbot, dock)
    layer = viewer.layers["cells probability above 12"]
    like = viewer.layers["cells mean"]
    samples = viewer.layers["cells samples"].data
    np.testing.assert_allclose(layer.data, (samples > 12).mean(0), atol=1e-6)
    np.testing.assert_allclose(layer.scale, like.scale)
    np.testing.assert_allclose(layer.translate, like.translate)
    assert layer.units == like.units and layer.axis_labels == like.axis_labels


def test_a_calibration_takes_over_the_interval(
    qtbot: Any, dock: Any, viewer: Any, notes: list[Any], tmp_path: Path
) -> None:
    viewer.add_shapes([physical((12, 2), (12, 30))], shape_type="line")
    found = measured(qtbot, dock, "distance")
    fitted = calibrate_measurement([1.2] * 19, [found] * 19)
    dock.load_calibration(str(fitted.save(tmp_path / "c.json")))
    assert dock.calibrate_button.text() == "Calibration: distance, 19 cases"
    found = measured(qtbot, dock, "distance")
    told = "calibrated on 19 cases (recipe not compared)"
    assert found.note == told in dock.status.text()
    assert dock.table.item(0, 7).text() == told
    assert measured(qtbot, dock, "fwhm").note == "nominal"
    assert "is of 'distance', but the measurement holds 'FWHM'" in notes.pop().message
    dock.load_calibration("")
    assert dock.calibrate_button.text() == "Calibration…"
    assert measured(qtbot, dock, "distance").note == "nominal"


def test_of_objects_the_value_is_calibrated_that_the_calibration_is_of(
    qtbot: Any, dock: Any, tmp_path: Path
) -> None:
    dock.choose("objects")
    dock.settings["threshold"].set_value(12.0)
    plain = measured(qtbot, dock, "objects")
    fitted = calibrate_measurement([3.0] * 19, [plain.select("count")] * 19, floor=0.5)
    dock.load_calibration(str(fitted.save(tmp_path / "c.json")))
    found = measured(qtbot, dock, "objects")
    assert found.low[0] == found.high[0] == pytest.approx(3)
    np.testing.assert_array_equal(found.low[1:], plain.low[1:])
    notes = [dock.table.item(r, 7).text() for r in range(5)]
    assert notes[0].startswith("calibrated on 19 cases") and set(notes[1:]) == {"nominal"}
    assert "count: calibrated on 19 cases" in dock.status.text()
    assert "the rest nominal" in dock.status.text()


def test_a_level_is_told_with_all_its_digits(qtbot: Any, dock: Any) -> None:
    dock.level.set_value(0.875)
    found = measured(qtbot, dock, "objects")
    assert "87.5 % interval" in dock.status.text()
    legend = found.select("count").plot().get_legend()
    assert legend.get_texts()[0].get_text() == "87.5 % interval (nominal)"


@pytest.mark.parametrize("change", [{"scale": (0.2, 0.2)}, {"translate": (5.0, 6.1)}])
def test_results_that_lie_apart_are_not_correlated(
    qtbot: Any, dock: Any, viewer: Any, notes: list[Any], change: dict[str, Any]
) -> None:
    add_result(viewer, "other", **change)
    measured(qtbot, dock, "colocalisation")
    assert "do not lie on each other" in notes.pop().message and dock.measurement is None


def test_rings_need_square_pixels(qtbot: Any, viewer: Any, notes: list[Any]) -> None:
    from napari_dps.plugin.measure_widget import MeasureWidget

    add_result(viewer, scale=(0.5, 0.1))
    dock = MeasureWidget(viewer)
    qtbot.addWidget(dock)
    dock.level.set_value(0.8)
    measured(qtbot, dock, "frc")
    assert "rings of spatial frequency need square ones" in notes.pop().message
    dock.shut_down()
