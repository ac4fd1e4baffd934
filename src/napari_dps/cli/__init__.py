"""The command line ``napari-dps``; one file per verb."""

from __future__ import annotations

from napari_dps.cli._app import main

__all__ = ["main"]
