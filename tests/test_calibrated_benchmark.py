"""The benchmark that compares samplers by intervals which are scaled to cover."""

from __future__ import annotations

import json
from typing import Any

import calibrated
import numpy as np
import pytest
import skimage.io


@pytest.fixture
def options(tmp_path) -> dict[str, Any]:
    folder = tmp_path / "eval" / "clean"
    folder.mkdir(parents=True)
    rows, columns = np.mgrid[:40, :40]
    for k in range(3):
        spots = np.exp(-((rows - 14 - 3 * k) ** 2 + (columns - 20) ** 2) / 30)
        skimage.io.imsave(folder / f"{k}.png", np.uint8(20 + 200 * spots), check_contrast=False)
    frontier = tmp_path / "frontier.json"
    row = {"task": "deblur-5", "kind": "dps", "budget": "4", "fields": {"scale": 0.2}}
    frontier.write_text(json.dumps({"rows": [row]}))
    return {
        "data": tmp_path, "work": tmp_path / "work", "frontier": frontier, "tasks": ("blur-5",),
        "kinds": ("dps", "mcg"), "budget": 4, "crops": 19, "samples": 4, "size": 16,
        "prior": "gaussian", "device": "cpu", "out": tmp_path / "found.json",
    }  # fmt: skip


def test_it_runs_goes_on_and_makes_its_table(options, tmp_path, monkeypatch, capsys) -> None:
    calibrated.main(**options)
    report = json.loads(options["out"].read_text())
    dps, mcg = report["rows"]
    assert dps["sampler"]["scale"] == 0.2 and dps["sampler"]["steps"] == 2
    assert "no step length" in mcg["left_out"]
    assert 0.85 < dps["coverage"] <= 1
    assert dps["lambda"] > 0 and dps["interval_score"] > 0
    lines = (options["work"] / "blur-5-dps-4.jsonl").read_text().splitlines()
    assert len(lines) == 1 + options["crops"]
    # What is there is not restored again.
    monkeypatch.setattr("napari_dps.run.Run.__init__", lambda *_, **__: pytest.fail("again"))
    calibrated.main(**options)
    again = json.loads(options["out"].read_text())
    assert again["rows"] == report["rows"]
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- calibrated -->\n<!-- end of calibrated -->\nb\n")
    calibrated.app(
        ["markdown", str(options["out"]), "--into", str(page)], result_action="return_value"
    )
    text = page.read_text()
    assert text.startswith("a\n<!-- calibrated -->") and text.endswith("end of calibrated -->\nb\n")
    assert f"| `dps` | {dps['seconds']:.1f} | {dps['share']:g}, {dps['lambda']:.2f} |" in text
    assert "- `mcg`: no step length was chosen" in text
    capsys.readouterr()


def test_all_that_draw_take_part() -> None:
    kinds = calibrated.compared_kinds()
    assert kinds[0] == "auto" and {"mmps", "daps", "dps", "ddrm"} < set(kinds)
    assert not {"smc", "pnp-admm", "wiener", "hio"} & set(kinds)


def test_a_task_that_there_is_not_is_named(options) -> None:
    with pytest.raises(SystemExit, match="there is no task 'phase'"):
        calibrated.main(**{**options, "tasks": ("phase",)})
