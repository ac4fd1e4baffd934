"""What a finished run offers beside its layers: the report, intervals that were calibrated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugin.driving import LONG, finish, start

CALIBRATION: dict[str, Any] = {
    "parts": {}, "images": 120, "size": 64, "sources": {"phantoms": 120}, "seed": 0,
    "photons": 100.0, "background": 1.0, "scales": (0.1, 1e6), "lambdas": {"0.9": 2.0},
    "nominal_coverage": {"0.9": 0.85}, "calibrated_coverage": {"0.9": 0.9}, "bright_coverage": 0.9,
    "decile_coverage": (0.9,) * 10, "nominal_score": {"0.9": 1.0}, "calibrated_score": {"0.9": 1.0},
    "crps": 0.1, "rmse": 0.1, "spread_skill": 1.0, "ranks": {},
}  # fmt: skip
"""Of a calibration; no figure of it was measured."""


def test_the_report_of_a_run(
    dock: Any, qtbot: Any, tmp_path: Path, notes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QFileDialog

    button = dock.report_button
    assert button.isHidden()
    start(dock)
    finish(qtbot, dock)
    assert not button.isHidden()
    for name, words in (("page.html", "The report is in"), ("page.txt", "html")):
        path = tmp_path / name
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, p=path: (str(p), ""))
        button.plain.trigger()
        assert not button.isEnabled()
        qtbot.waitUntil(button.isEnabled, timeout=LONG)
        assert words in notes[-1].message
        assert path.exists() == (name == "page.html")
    told = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<html" in told


def test_the_report_after_a_closer_look(qtbot: Any, tmp_path: Path, notes: list[Any]) -> None:
    import napari_dps
    from napari_dps.image import Image
    from napari_dps.plugin.report_button import ReportButton

    recipe = napari_dps.Recipe(
        prior={"kind": "gaussian"}, sampler={"kind": "mmps", "steps": 4}, samples=2
    )
    image = Image.from_array(np.random.default_rng(0).poisson(20.0, (16, 16)))
    result = napari_dps.reconstruct(image, recipe, device="cpu")
    button = ReportButton()
    qtbot.addWidget(button)
    button.set_result(result, None)
    assert not button.closer.isEnabled()  # nothing to hold the result against
    button.set_result(result, image)
    button.write(str(tmp_path / "page.html"), closer=True)
    assert "click to stop" in button.text() and button.menu() is None
    qtbot.waitUntil(lambda: (tmp_path / "page.html").exists(), timeout=2 * LONG)
    qtbot.waitUntil(lambda: button.menu() is not None, timeout=LONG)
    assert "The report is in" in notes[-1].message
    assert "Not asked" not in (tmp_path / "page.html").read_text(encoding="utf-8")

    button.write(str(tmp_path / "other.html"), closer=True)
    button.click()
    qtbot.waitUntil(lambda: button.menu() is not None, timeout=LONG)
    assert "stopped" in notes[-1].message and not (tmp_path / "other.html").exists()

    other = Image.from_array(np.random.default_rng(1).poisson(50.0, (16, 16)))
    button.set_result(result, other)
    button.write(str(tmp_path / "other.html"), closer=True)
    qtbot.waitUntil(lambda: button.menu() is not None, timeout=2 * LONG)
    assert "restored from" in notes[-1].message and not (tmp_path / "other.html").exists()


def test_no_report_when_the_look_is_over_before_it_hears_of_the_click(
    qtbot: Any, tmp_path: Path, notes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_dps
    from napari_dps.image import Image
    from napari_dps.plugin.report_button import ReportButton

    recipe = napari_dps.Recipe(
        prior={"kind": "gaussian"}, sampler={"kind": "mmps", "steps": 4}, samples=2
    )
    image = Image.from_array(np.random.default_rng(0).poisson(20.0, (16, 16)))
    button = ReportButton()
    qtbot.addWidget(button)
    button.set_result(napari_dps.reconstruct(image, recipe, device="cpu"), image)
    monkeypatch.setattr(button.look, "cancel", lambda: None)  # the word comes too late
    button.write(str(tmp_path / "page.html"), closer=True)
    button.click()
    assert button.text() == "Stopping…"
    qtbot.waitUntil(lambda: button.menu() is not None, timeout=2 * LONG)
    assert "stopped" in notes[-1].message and not (tmp_path / "page.html").exists()
    button.write(str(tmp_path / "page.html"))  # what was found is kept
    qtbot.waitUntil(lambda: button.menu() is not None and bool(notes[1:]), timeout=LONG)
    assert "Not asked" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_intervals_of_a_calibration(
    dock: Any, viewer: Any, qtbot: Any, tmp_path: Path, notes: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from qtpy.QtWidgets import QFileDialog

    from napari_dps.uncertainty.calibration import Calibration

    class Asked:
        path = ""

    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (Asked.path, ""))
    button = dock.run_panel.calibration
    button.from_file.trigger()
    assert button.text() == "nominal" and not notes
    Asked.path = str(tmp_path / "none.json")
    button.from_file.trigger()
    assert "none.json" in notes[-1].message and button.calibration is None

    Asked.path = str(Calibration(**CALIBRATION).save(tmp_path / "calibration.json"))
    button.from_file.trigger()
    assert button.text() == "calibrated on 120 images"
    Asked.path = ""  # a dialog that is closed changes nothing
    button.from_file.trigger()
    assert button.text() == "calibrated on 120 images"
    for differences, words in ([], "calibrated on 120 images"), (["the noise differs"], "nominal"):
        monkeypatch.setattr(Calibration, "matches", lambda *_, d=differences: list(d))
        start(dock)
        finish(qtbot, dock)
        held = viewer.layers[-1].metadata["napari_dps"]["report"]
        assert (held.get("calibration") == "calibrated on 120 images") == (not differences)
        assert words in (notes[-1].message if differences else dock.status.text())


def test_intervals_of_a_calibration_that_comes_along(
    dock: Any, viewer: Any, qtbot: Any, notes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_dps.uncertainty import shipped
    from napari_dps.uncertainty.calibration import Calibration

    button = dock.run_panel.calibration
    button.shipped.trigger()
    start(dock)
    finish(qtbot, dock)
    assert "Intervals are nominal: no calibration" in notes[-1].message  # none is of this recipe
    own = Calibration(**CALIBRATION)
    monkeypatch.setattr(shipped, "shipped_calibrations", lambda: (own,))
    monkeypatch.setattr(Calibration, "matches", lambda *_: [])
    start(dock)
    finish(qtbot, dock)
    held = viewer.layers[-1].metadata["napari_dps"]["report"]
    assert held["calibration"] == "calibrated on 120 images"
    button.nominal.trigger()
    assert button.calibration is None and button.text() == "nominal"
