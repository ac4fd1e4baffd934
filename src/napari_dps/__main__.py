"""``python -m napari_dps``: the same as the command ``napari-dps``."""

from __future__ import annotations

import sys

from napari_dps.cli import main

if __name__ == "__main__":
    sys.exit(main())
