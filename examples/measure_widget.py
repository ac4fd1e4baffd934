"""Open napari with the dock "Measure (DPS)" beside a result, and measure along a line.

Run it with ``python examples/measure_widget.py [RESULT.ome.tif]``; without a file a small sample is
restored first. The same from the menus: Reconstruct (DPS), then Layers > Measure > Measure (DPS).
"""

from __future__ import annotations

import sys

import napari
import numpy as np

import napari_dps
from napari_dps.plugin.layers import Region
from napari_dps.plugin.measure_widget import MeasureWidget
from napari_dps.plugin.result_layers import Frame, result_layers
from napari_dps.plugin.samples import sample_folder


def main() -> None:
    """Show the window until it is closed."""
    if len(sys.argv) > 1:
        result = napari_dps.Result.load(sys.argv[1])
    else:
        folder = sample_folder()
        result = napari_dps.reconstruct(
            folder / "nuclei_blur.tif", folder / "nuclei_blur.json", samples=20
        )
    viewer = napari.Viewer()
    dock = MeasureWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Measure (DPS)")
    show(viewer, result)
    dock.choose("profile")
    dock.measure()
    napari.run()


def show(viewer: napari.Viewer, result: napari_dps.Result) -> None:
    """Add the layers that a run leaves behind, and a line through the brightest pixel."""
    # Layers of a result carry recipe and report: that is how the dock knows them.
    like = napari.layers.Image(
        result.mean,
        name=result.name,
        scale=result.scale,
        translate=result.translate,
        units=result.units,
        axis_labels=tuple(result.axes.lower()),
    )
    everything = Region(tuple(slice(0, n) for n in result.shape))
    for data, arguments, _ in result_layers(result, Frame.of(like, everything)):
        viewer.add_image(data, **arguments)
    row, column = np.unravel_index(int(result.mean.argmax()), result.shape)
    ends = np.clip([[row, column - 15], [row, column + 15]], 0, np.array(result.shape) - 1)
    viewer.add_shapes(
        [ends],
        shape_type="line",
        name="line",
        edge_color="orange",
        scale=like.scale,
        translate=like.translate,
        units=like.units,
        axis_labels=like.axis_labels,
    )


if __name__ == "__main__":
    main()
