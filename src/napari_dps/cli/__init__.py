"""The command line ``napari-dps``; one file per verb."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see :func:`napari_dps.cli._app.main`."""
    try:
        from napari_dps.cli._app import main as run
    except KeyboardInterrupt:  # somebody who thinks better of it at once
        print("napari-dps: stopped; nothing was written", file=sys.stderr)
        return 130
    return run(argv)
