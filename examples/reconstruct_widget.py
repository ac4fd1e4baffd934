"""Open napari with the dock widget beside a sample and restore it by a press of the button.

Run it with ``python examples/reconstruct_widget.py``. The same from the menus: File > Open Sample
> DPS restoration, then Plugins > Reconstruct (DPS), then Run.
"""

from __future__ import annotations

import napari

from napari_dps.plugin.samples import load_sample
from napari_dps.plugin.widget import ReconstructWidget


def main() -> None:
    """Show the window until it is closed."""
    viewer = napari.Viewer()
    dock = ReconstructWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Reconstruct (DPS)")
    # The measurement brings its recipe along, which fills the forms.
    for data, arguments, _ in load_sample("nuclei_blur"):
        viewer.add_image(data, **arguments)
    # What the forms say is a recipe: change it here, or with the mouse.
    dock.set_recipe(dock.recipe.with_parts(samples=4))
    napari.run()


if __name__ == "__main__":
    main()
