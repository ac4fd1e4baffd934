"""Open napari with the dock widget "Reconstruct (DPS)" beside a sample.

``python tools/open_napari.py [SAMPLE]`` opens the sample with that key (``--list`` prints them);
without a key, the first one of the manifest.
"""

from __future__ import annotations

import argparse
import sys

PLUGIN = "napari-dps"
WIDGET = "Reconstruct (DPS)"


def sample_keys() -> dict[str, str]:
    """Return key and title of every sample in the installed manifest, in its order."""
    from npe2 import PluginManifest

    samples = PluginManifest.from_distribution(PLUGIN).contributions.sample_data or []
    return {sample.key: sample.display_name for sample in samples}


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, open the window, and stay until it is closed."""
    samples = sample_keys()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sample", nargs="?", choices=list(samples), help="key of the sample to open"
    )
    parser.add_argument("--list", action="store_true", help="print the samples and stop")
    arguments = parser.parse_args(argv)
    if arguments.list:
        for key, title in samples.items():
            print(f"{key:24} {title}")
        return 0

    import napari

    viewer = napari.Viewer()
    # The widget first: opening a sample then fills its form.
    viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    key = arguments.sample or next(iter(samples), None)
    if key is not None:
        viewer.open_sample(PLUGIN, key)
    napari.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
