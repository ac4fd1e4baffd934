"""Take the pictures of docs/measuring.md: the dock "Measure (DPS)" and the view of certainty.

    xvfb-run -a -s "-screen 0 1400x900x24" python tools/measure_screenshots.py RESULT.ome.tif
        [--out docs/images]

RESULT is what ``napari-dps reconstruct`` wrote, with its samples. Needs a screen (Xvfb will do).
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

import napari
from screenshots import SIZE, shoot, wait

import napari_dps
from napari_dps.plugin.measure_widget import MeasureWidget
from napari_dps.plugin.scroll import ScrollColumn

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "measure_widget.py"


def main() -> int:
    """Measure a profile, then look at value and certainty."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(*SIZE)
    dock = MeasureWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Measure (DPS)")
    runpy.run_path(str(EXAMPLE))["show"](viewer, napari_dps.Result.load(options.result))
    canvas = getattr(viewer, "canvas", None)  # napari 0.9 moved these
    (viewer if canvas is None else canvas.overlays).scale_bar.visible = True
    dock.choose("profile")
    dock.measure()
    wait(lambda: not dock.busy, 60)
    viewer.reset_view()
    shoot(viewer, options.out / "measure-dock.png")
    dock.show_panel.bivariate.click()
    wait(lambda: not dock.busy, 60)
    scroll = dock.findChild(ScrollColumn)
    scroll.verticalScrollBar().setValue(scroll.verticalScrollBar().maximum())
    shoot(viewer, options.out / "measure-certainty.png")
    dock.shut_down()
    viewer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
