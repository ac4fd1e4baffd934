"""The dock widget, driven as a user drives it, with a stand-in for the computation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from plugin import fake_run
from plugin.driving import LONG, finish, names, start

from napari_dps.components import registry
from napari_dps.errors import RecipeError
from napari_dps.recipe import Recipe

# ---------------------------------------------------------------- forms and recipes


def test_untouched_dock_is_the_default_recipe(dock: Any) -> None:
    assert dock.recipe == Recipe()


def test_recipe_there_and_back(dock: Any) -> None:
    recipe = Recipe(
        forward={"kind": "gaussian-blur", "sigma": 1 / 3},
        noise={"kind": "poisson", "gain": 0.123456789, "offset": 100},
        prior={"kind": "gaussian"},
        sampler={"kind": "dps"},
        intensity={"scale": 12.5, "background": 0.1},
        valid=np.ones((24, 32)),
        samples=7,
        seed=2**60 + 1,
    )
    dock.set_recipe(recipe)
    assert dock.recipe == recipe
    dock.set_recipe(Recipe())
    assert dock.recipe == Recipe()


def test_recipe_files(dock: Any, tmp_path: Path, notes: list[Any]) -> None:
    recipe = Recipe(forward={"kind": "inpaint", "mask": np.eye(24, 32)}, samples=4)
    dock.set_recipe(recipe)
    dock.save_recipe(str(tmp_path / "r.json"))
    dock.set_recipe(Recipe())
    dock.load_recipe(str(tmp_path / "r.json"))
    np.testing.assert_array_equal(dock.recipe.forward.mask.load(), np.eye(24, 32))
    (tmp_path / "bad.json").write_text('{"forward": {"kind": "blurr"}}')
    with pytest.raises(RecipeError, match="blurr"):
        dock.load_recipe(str(tmp_path / "bad.json"))
    dock._guard(lambda: dock.load_recipe(str(tmp_path / "bad.json")))
    assert len(notes) == 1


def test_an_array_from_a_layer(dock: Any, viewer: Any, notes: list[Any]) -> None:
    viewer.add_labels(np.eye(24, 32, dtype=int), name="hole")
    chooser = dock.choosers["forward"]
    chooser.kinds.setCurrentIndex(chooser.kinds.findData("inpaint"))
    editor = chooser.form.editors["mask"]
    editor.refill()
    editor.source.setCurrentIndex(editor.source.findText("layer: hole"))
    np.testing.assert_array_equal(dock.recipe.forward.mask.load(), np.eye(24, 32))
    viewer.layers.remove("hole")
    dock.run_button.click()
    assert not dock.computation.busy
    assert ["'hole'" in note.message for note in notes] == [True]


def test_every_kind_can_be_shown(dock: Any) -> None:
    width = 0
    for group, chooser in dock.choosers.items():
        assert {chooser.kinds.itemData(i) for i in range(chooser.kinds.count())} == set(
            registry(group)
        )
        for i in range(chooser.kinds.count()):
            chooser.kinds.setCurrentIndex(i)
            width = max(width, dock.minimumSizeHint().width())
    assert width < 450, "the dock leaves no room for the picture"


# ---------------------------------------------------------------- layers


def test_layer_list_follows_the_viewer(dock: Any, viewer: Any) -> None:
    assert dock.input.layer.name == "cells"
    assert dock.input.pixel_size.yx == (0.1, 0.1)
    assert "layer" in dock.input.origin.text()
    other = viewer.add_image(np.zeros((8, 8)), name="other")
    assert dock.input.layer is other
    other.name = "renamed"
    assert dock.input.layers.currentText() == "renamed"
    viewer.layers.remove(other)
    assert dock.input.layer.name == "cells"
    viewer.layers.clear()
    assert dock.input.layer is None
    assert not dock.run_button.isEnabled()


def test_pixel_size_of_a_dropped_file(make_napari_viewer: Any, qtbot: Any, tmp_path: Path) -> None:
    from napari_dps.plugin.input_panel import InputPanel

    viewer = make_napari_viewer()
    panel = InputPanel(viewer)
    qtbot.addWidget(panel)
    path = tmp_path / "imagej.tif"
    data = np.zeros((16, 16), np.uint16)
    tifffile.imwrite(path, data, imagej=True, resolution=(8, 8), metadata={"unit": "um"})
    (layer,) = viewer.open(path, plugin="napari")
    qtbot.waitUntil(lambda: panel.pixel_size.origin == "file", timeout=LONG)
    assert panel.pixel_size.yx == (0.125, 0.125)
    assert panel.size_box.value() == 0.125
    panel.size_box.inner.set_value(0.2)
    assert panel.pixel_size.yx == (0.2, 0.2)
    assert "typed" in panel.origin.text()
    panel.apply_button.click()
    np.testing.assert_allclose(layer.scale, (0.2, 0.2))
    assert str(layer.units[0]) == "micrometer"
    assert "layer" in panel.origin.text()


def test_a_recipe_brought_by_a_layer_fills_the_forms_once(dock: Any, viewer: Any) -> None:
    recipe = Recipe(forward={"kind": "gaussian-blur", "sigma": 1.75}, samples=5)
    about = {"napari_dps": {"recipe": recipe.model_dump(mode="json")}}
    sample = viewer.add_image(np.zeros((8, 8)), name="sample", metadata=about)
    assert dock.input.layer is sample
    assert dock.recipe == recipe
    dock.run_panel.samples.set_value(9)
    viewer.layers.selection.active = None
    viewer.layers.selection.active = sample
    assert dock.recipe.samples == 9
    # Truth and results are not what one restores: choosing them in the list changes nothing.
    viewer.add_image(np.zeros((8, 8)), name="truth", metadata={"napari_dps": {}})
    assert dock.input.layer is sample


# ---------------------------------------------------------------- runs


def test_a_run_gives_layers(dock: Any, viewer: Any, qtbot: Any, notes: list[Any]) -> None:
    start(dock)
    assert dock.run_button.text() == "Cancel"
    assert not dock.input.isEnabled()
    finish(qtbot, dock)
    assert names(viewer) == ["cells", "cells samples", "cells std", "cells mean"]
    mean = viewer.layers["cells mean"]
    np.testing.assert_allclose(mean.scale, (0.1, 0.1))
    np.testing.assert_allclose(mean.translate, (5, 6))
    np.testing.assert_array_equal(mean.data, viewer.layers["cells"].data + 1)
    assert dock.run_button.text() == "Run"
    assert dock.run_button.isEnabled()
    assert dock.input.isEnabled()
    assert dock.bar.isHidden()
    assert not notes
    assert dock.input.layer.name == "cells"
    start(dock)
    finish(qtbot, dock)
    assert len(set(names(viewer))) == 7


def test_preview_comes_and_goes(dock: Any, viewer: Any, qtbot: Any) -> None:
    from napari.utils import progress

    start(dock, fake_run.SLOW, samples=4)
    qtbot.waitUntil(lambda: "cells preview" in names(viewer), timeout=LONG)
    assert viewer.layers["cells preview"].data.shape == (24, 32)
    assert "left" in dock.status.text()
    assert any("cells" in str(bar) for bar in progress._all_instances)
    finish(qtbot, dock)
    assert "cells preview" not in names(viewer)
    assert not progress._all_instances


def test_a_preview_thrown_away_does_not_stop_the_run(dock: Any, viewer: Any, qtbot: Any) -> None:
    start(dock, fake_run.SLOW, samples=4)
    qtbot.waitUntil(lambda: "cells preview" in names(viewer), timeout=LONG)
    viewer.layers.remove("cells preview")
    finish(qtbot, dock)
    assert "cells mean" in names(viewer)


def test_visible_region_is_run_in_place(dock: Any, viewer: Any, qtbot: Any) -> None:
    dock.input.regions.setCurrentIndex(1)
    viewer.layers["cells"].corner_pixels = np.array([(4, 8), (11, 23)])
    start(dock)
    finish(qtbot, dock)
    mean = viewer.layers["cells mean"]
    assert mean.data.shape == (8, 16)
    np.testing.assert_allclose(mean.translate, (5.4, 6.8))


def test_cancel_keeps_finished_samples(dock: Any, viewer: Any, qtbot: Any) -> None:
    start(dock, fake_run.SLOW, samples=100)
    qtbot.waitUntil(lambda: dock.status.text().startswith(("1 of", "2 of")), timeout=LONG)
    dock.run_button.click()
    assert dock.run_button.text() == "Cancelling…"
    assert not dock.run_button.isEnabled()
    finish(qtbot, dock)
    assert 1 <= len(viewer.layers["cells samples"].data) < 100
    assert viewer.layers["cells mean"].metadata["napari_dps"]["report"]["complete"] is False
    assert "kept" in dock.status.text()
    assert dock.run_button.text() == "Run"
    assert dock.run_button.isEnabled()


def test_cancel_before_the_first_sample_says_so(
    dock: Any, viewer: Any, qtbot: Any, notes: list[Any]
) -> None:
    start(dock, fake_run.SLOW, samples=100)
    dock.cancel()
    finish(qtbot, dock)
    assert names(viewer) == ["cells"]
    assert len(notes) == 1
    assert "nothing to show" in notes[0].message


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (fake_run.REFUSE, "NaN"),
        (fake_run.RUNTIME, "RuntimeError"),
        (fake_run.CRASH, "exit code 3"),
    ],
)
def test_an_error_is_one_notification(
    dock: Any, viewer: Any, qtbot: Any, notes: list[Any], mode: int, words: str
) -> None:
    start(dock, mode)
    finish(qtbot, dock)
    assert [words in note.message for note in notes] == [True]
    assert dock.run_button.text() == "Run"
    assert dock.input.isEnabled()
    start(dock)
    finish(qtbot, dock)
    assert "cells mean" in names(viewer)


def test_a_process_that_dies_leaves_its_samples(
    dock: Any, viewer: Any, qtbot: Any, notes: list[Any]
) -> None:
    start(dock, fake_run.KILLED_LATE)
    finish(qtbot, dock)
    assert len(viewer.layers["cells samples"].data) == 1
    assert ["memory ran out" in note.message for note in notes] == [True]


def test_warnings_are_shown_once(dock: Any, qtbot: Any, notes: list[Any]) -> None:
    start(dock, fake_run.WARN)
    finish(qtbot, dock)
    assert [note.message for note in notes] == ["8-bit images may not be counts"]


def test_colour_is_refused(dock: Any, viewer: Any, qtbot: Any, notes: list[Any]) -> None:
    viewer.add_image(np.zeros((8, 8, 3), np.uint8), name="rgb", rgb=True)
    dock.run_button.click()
    assert len(notes) == 1
    assert "colour" in notes[0].message


def test_estimate(dock: Any, qtbot: Any) -> None:
    dock.estimate_button.click()
    qtbot.waitUntil(lambda: "about 12 s" in dock.estimate_label.text(), timeout=LONG)
    assert "300 MB" in dock.estimate_label.text()
    finish(qtbot, dock)
    dock.run_panel.samples.set_value(4)
    assert dock.estimate_label.text() == "not estimated yet"


def test_removing_the_source_during_a_run(dock: Any, viewer: Any, qtbot: Any) -> None:
    start(dock, fake_run.SLOW, samples=3)
    qtbot.waitUntil(lambda: "cells preview" in names(viewer), timeout=LONG)
    viewer.layers.remove("cells")
    finish(qtbot, dock)
    assert "cells mean" in names(viewer)


@pytest.fixture
def window(make_napari_viewer: Any) -> Any:
    from napari_dps.plugin.widget import ReconstructWidget

    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((24, 32)), name="cells")
    dock = ReconstructWidget(viewer, command=fake_run.COMMAND)
    viewer.window.add_dock_widget(dock, name="Reconstruct (DPS)")
    start(dock, fake_run.SLOW, samples=500)
    return viewer, dock


def test_closing_the_dock_stops_the_run(window: Any, qtbot: Any) -> None:
    viewer, dock = window
    qtbot.waitUntil(lambda: "cells preview" in names(viewer), timeout=LONG)
    computer = dock.computation._computer
    viewer.window.remove_dock_widget(dock)
    assert not computer.alive
    assert names(viewer) == ["cells"]
    viewer.add_image(np.zeros((4, 4)), name="later")


def test_closing_the_viewer_stops_the_run(window: Any, qtbot: Any) -> None:
    viewer, dock = window
    with qtbot.waitSignal(dock.computation.updated, timeout=LONG):
        pass
    computer = dock.computation._computer
    viewer.close()
    qtbot.waitUntil(lambda: not computer.alive, timeout=LONG)


def test_opening_the_dock_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "from napari.components import ViewerModel\n"
        "from napari_dps.plugin.widget import ReconstructWidget\n"
        "widget = ReconstructWidget(ViewerModel())\n"
        "widget.show()\n"
        "print([m for m in ('torch', 'diffusers', 'scipy.signal') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_a_point_estimate_has_a_sentence_and_no_samples(qtbot: Any, dock: Any, viewer: Any) -> None:
    dock.set_recipe(dock.recipe.with_parts(sampler="wiener", samples=1))
    assert not dock.run_panel.samples.isEnabled()
    assert "without samples or error bars" in dock.run_panel.samples.toolTip()
    dock.run_button.click()
    qtbot.waitUntil(lambda: not dock.busy, timeout=LONG)
    assert names(viewer) == ["cells", "cells mean"]
    assert dock.status.text() == "done: a point estimate, without error bars or samples"
    dock.set_recipe(dock.recipe.with_parts(sampler="mmps"))
    assert dock.run_panel.samples.isEnabled()
    assert "intervals" in dock.run_panel.samples.toolTip().lower()
