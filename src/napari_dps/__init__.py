"""Restore photon-starved microscopy images by diffusion posterior sampling, with error bars.

Everything here is loaded when first used: ``import napari_dps`` alone brings neither torch, napari
nor Qt, so that help texts and opened docks stay instant.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_dps.api import reconstruct, sample_prior, simulate
    from napari_dps.beads import measure_psf
    from napari_dps.camera import measure_camera
    from napari_dps.io import read_image
    from napari_dps.recipe import Recipe
    from napari_dps.result import Result
    from napari_dps.training.train import train
    from napari_dps.uncertainty.calibrate import calibrate
    from napari_dps.uncertainty.calibration import Calibration
    from napari_dps.uncertainty.measure import measure
    from napari_dps.uncertainty.verdict.assess import assess

    __version__: str

__all__ = [
    "Calibration",
    "Recipe",
    "Result",
    "__version__",
    "assess",
    "calibrate",
    "measure",
    "measure_camera",
    "measure_psf",
    "read_image",
    "reconstruct",
    "sample_prior",
    "simulate",
    "train",
]

_HOMES = {
    "Calibration": "napari_dps.uncertainty.calibration",
    "Recipe": "napari_dps.recipe",
    "Result": "napari_dps.result",
    "assess": "napari_dps.uncertainty.verdict.assess",
    "calibrate": "napari_dps.uncertainty.calibrate",
    "measure": "napari_dps.uncertainty.measure",
    "measure_camera": "napari_dps.camera",
    "measure_psf": "napari_dps.beads",
    "read_image": "napari_dps.io",
    "reconstruct": "napari_dps.api",
    "sample_prior": "napari_dps.api",
    "simulate": "napari_dps.api",
    "train": "napari_dps.training.train",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home module (PEP 562) and keep it."""
    value: Any
    if name == "__version__":
        value = _version("napari-dps")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(set(globals()) | set(__all__))
