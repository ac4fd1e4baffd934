"""The dock "Measure (DPS)": pictures of certainty, opening, closing, and saved results."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugin.fake_result import PIXEL, SIDE, add_result, physical
from plugin.measuring import WAIT, finish, measured, open_dock

from napari_dps.plugin.measure_sources import result_of


@pytest.fixture
def dock(qtbot: Any, viewer: Any) -> Iterator[Any]:
    yield from open_dock(qtbot, viewer)


# ---------------------------------------------------------------- section "Show"


def test_mean_and_std_side_by_side(qtbot: Any, dock: Any, viewer: Any) -> None:
    viewer.layers.remove("cells std")
    dock.show_panel.pair.click()
    finish(qtbot, dock)
    canvas = getattr(viewer, "canvas", None)
    assert (viewer if canvas is None else canvas).grid.enabled
    shown = {layer.name for layer in viewer.layers if layer.visible}
    assert shown == {"cells mean", "cells std"}


def test_interval_width_and_colour_pictures(qtbot: Any, dock: Any, viewer: Any) -> None:
    show = dock.show_panel
    show.width.click()
    finish(qtbot, dock)
    width = viewer.layers["cells interval width"]
    low, high = result_of(viewer.layers["cells samples"]).interval(0.9)
    np.testing.assert_array_equal(width.data, high - low)
    assert dock.plot.axes.get_xlabel() == "width of the 90 % interval (nominal), counts"
    assert not viewer.layers["cells mean"].visible
    show.width.click()  # again: in place of the last one
    finish(qtbot, dock)
    assert [v.name for v in viewer.layers].count("cells interval width") == 1
    assert width not in viewer.layers
    show.maps.setCurrentText("cividis")
    show.bivariate.click()
    finish(qtbot, dock)
    picture = viewer.layers["cells value and certainty"]
    assert picture.rgb and picture.data.shape == (*SIDE, 3)
    np.testing.assert_allclose(picture.scale, (PIXEL, PIXEL))
    assert dock.plot.axes.get_ylabel() == "width of the 90 % interval\n(nominal), counts"
    dock.above.set_value(12.0)
    show.opacity.click()
    finish(qtbot, dock)
    assert viewer.layers["cells opacity by probability"].data.shape == (*SIDE, 4)
    assert "probability above 12 counts" in dock.status.text()


def test_too_few_samples_for_a_width_are_named(qtbot: Any, dock: Any, notes: list[Any]) -> None:
    dock.level.set_value(0.99)
    dock.show_panel.width.click()
    finish(qtbot, dock)
    assert "needs at least 199 samples; there are 20" in notes.pop().message


def test_flicker_plays_the_samples_and_puts_things_back(qtbot: Any, dock: Any, viewer: Any) -> None:
    show = dock.show_panel
    viewer.dims.set_current_step(0, 19)
    show.flicker.click()
    assert viewer.layers["cells samples"].visible and not viewer.layers["cells mean"].visible
    qtbot.waitUntil(lambda: viewer.dims.current_step[0] in (0, 1, 2), timeout=WAIT)
    assert show.flicker.isChecked()
    show.flicker.click()
    assert not show.flicker.isChecked() and not show._timer.isActive()
    assert viewer.layers["cells mean"].visible
    show.flicker.click()
    viewer.layers.remove("cells samples")
    qtbot.waitUntil(lambda: not show._timer.isActive(), timeout=WAIT)


# ---------------------------------------------------------------- opening and closing


def test_opening_the_dock_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "from napari.components import ViewerModel\n"
        "from napari_dps.plugin.measure_widget import MeasureWidget\n"
        "widget = MeasureWidget(ViewerModel())\n"
        "widget.show()\n"
        "print([m for m in ('torch', 'matplotlib.figure', 'scipy.signal') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_a_dock_that_is_thrown_away_stops(make_napari_viewer: Any, qtbot: Any) -> None:
    from napari_dps.plugin.measure_widget import MeasureWidget

    viewer = make_napari_viewer()
    add_result(viewer)
    dock = MeasureWidget(viewer)
    docked = viewer.window.add_dock_widget(dock, name="Measure (DPS)")
    dock.show_panel.flicker.click()
    assert dock.show_panel._timer.isActive()
    found = measured(qtbot, dock, "objects")
    assert found.select("count").value[0] >= 2
    viewer.window.remove_dock_widget(docked)
    assert not dock.show_panel._timer.isActive()
    dock.shut_down()
    dock.deleteLater()


# ---------------------------------------------------------------- saved results


@pytest.mark.parametrize("name", ["kept.ome.tif", "kept.ome.zarr"])
def test_a_saved_result_comes_back_as_layers(
    qtbot: Any, viewer: Any, tmp_path: Path, name: str
) -> None:
    from napari_dps.plugin.measure_widget import MeasureWidget

    if name.endswith("zarr"):
        pytest.importorskip("zarr")
    before = result_of(add_result(viewer))
    path = before.save(tmp_path / name)
    viewer.layers.clear()
    dock = MeasureWidget(viewer)
    qtbot.addWidget(dock)
    inside = path / "zarr.json" if path.is_dir() else path
    dock.open_button.open(inside)
    qtbot.waitUntil(lambda: not dock.busy, timeout=WAIT)
    assert [layer.name for layer in viewer.layers] == ["cells samples", "cells std", "cells mean"]
    back = result_of(viewer.layers["cells samples"])
    np.testing.assert_array_equal(back.samples, before.samples)
    assert (back.axes, back.scale, back.units) == (before.axes, before.scale, before.units)
    assert back.translate == pytest.approx(before.translate) and back.recipe == before.recipe
    viewer.add_points(physical((12, 2), (12, 30)))
    assert measured(qtbot, dock, "distance").value[0] == pytest.approx(1.2, abs=0.03)
    dock.shut_down()


def test_what_a_saved_result_lacks_is_told(
    qtbot: Any, dock: Any, viewer: Any, tmp_path: Path, notes: list[Any]
) -> None:
    path = result_of(viewer.layers["cells samples"]).save(tmp_path / "m.tif", write=("mean",))
    viewer.layers.clear()
    dock.open_button.open(path)
    finish(qtbot, dock)
    assert [layer.name for layer in viewer.layers] == ["cells mean"]
    assert dock.status.text() == "opened 'cells'; its file holds no samples and no std"
    dock.open_button.open(tmp_path / "none.tif")
    finish(qtbot, dock)
    assert "none.tif" in notes.pop().message
