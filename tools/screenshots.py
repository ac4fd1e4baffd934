"""Take the pictures of the manual: the dock before, during and after a run, and others.

    xvfb-run -a -s "-screen 0 1400x900x24" python tools/screenshots.py --out docs/images

Needs the shipped prior, and a screen (Xvfb will do).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import napari
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_dps.plugin.samples import load_sample
from napari_dps.plugin.widget import ReconstructWidget

SIZE = (1280, 860)


def wait(until: Any, seconds: float) -> None:
    """Let the window live until something holds."""
    for _ in range(int(seconds * 20)):
        QTest.qWait(50)
        if until():
            return
    raise SystemExit(f"nothing happened in {seconds:.0f} s; see the window's notifications")


def shoot(viewer: Any, path: Path) -> None:
    """Save the whole window as a small PNG."""
    QTest.qWait(400)
    QApplication.processEvents()
    viewer.window.screenshot(path=str(path), canvas_only=False, flash=False)
    print(path, f"{path.stat().st_size / 1000:.0f} kB")


def main() -> int:
    """Run one sample from the menu to the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--sample", default="nuclei_blur")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--limit", type=float, default=900, help="seconds before giving up")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    viewer = napari.Viewer()
    viewer.window._qt_window.resize(*SIZE)
    dock = ReconstructWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Reconstruct (DPS)")
    for data, arguments, _ in load_sample(options.sample):
        viewer.add_image(data, **arguments)
    canvas = getattr(viewer, "canvas", None)  # napari 0.9 moved these
    (viewer if canvas is None else canvas.overlays).scale_bar.visible = True
    dock.set_recipe(dock.recipe.with_parts(samples=options.samples))
    dock.estimate()
    wait(lambda: not dock.busy, options.limit)
    viewer.reset_view()
    shoot(viewer, options.out / "dock-before.png")

    updates: list[Any] = []
    dock.computation.updated.connect(updates.append)
    dock.run()
    wait(
        lambda: (
            any(u.preview is not None and u.done > 0.4 * u.total for u in updates) or not dock.busy
        ),
        options.limit,
    )
    shoot(viewer, options.out / "dock-during.png")
    wait(lambda: not dock.busy, options.limit)
    for layer in viewer.layers:
        layer.visible = not layer.name.endswith("samples")
    (viewer if canvas is None else canvas).grid.enabled = True
    viewer.reset_view()
    shoot(viewer, options.out / "dock-after.png")
    dock.shut_down()
    viewer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
