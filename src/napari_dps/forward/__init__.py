"""Forward models: one file each. What happens to light between the object and the detector."""

from napari_dps.forward.function import FunctionModel

__all__ = ["FunctionModel"]
