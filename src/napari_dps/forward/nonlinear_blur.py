"""Nonlinear blur: motion seen through a camera's response, or a learned network as the blur."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.arrays import ArrayRef
from napari_dps.components import ForwardModel
from napari_dps.errors import InputError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class NonlinearBlur(ForwardModel):
    """The mean of sub-exposures along a path, through a camera's response; or a torch module."""

    kind: Literal["nonlinear-blur"] = "nonlinear-blur"
    title: ClassVar[str] = "Nonlinear blur"

    path: Literal["straight", "random"] = "random"
    """Shape of the path: a straight line, or a random walk with inertia."""
    length: float = Field(15.0, gt=0, le=500, json_schema_extra={"unit": "px"})
    """Length of a straight path."""
    angle: float = Field(0.0, ge=-360, le=360, json_schema_extra={"unit": "degrees"})
    """Direction of a straight path: from the X axis towards the top of the image."""
    extent: float = Field(15.0, ge=3, le=501, json_schema_extra={"unit": "px"})
    """Side of the square that a random path just fits, centred on its light."""
    intensity: float = Field(0.5, ge=0, le=1)
    """How tangled a random path is: 0 is straight, 1 the most."""
    path_seed: int = Field(0, ge=0, lt=2**31)
    """Seed of a random path."""
    exposures: int = Field(15, ge=1, le=1000)
    """Sub-exposures along the path, all equally long."""
    white: float | None = Field(
        None, gt=0, allow_inf_nan=False, json_schema_extra={"unit": "photoelectrons"}
    )
    """Light at which the camera saturates (in the image's own unit under Gaussian noise): needed
    unless a module or a table of two columns is given."""
    gamma: float = Field(2.2, ge=0.2, le=10)
    """Response of the camera: white * (light / white)^(1 / gamma), and white above."""
    table: ArrayRef | None = None
    """Response in place of gamma: values at light from 0 to white in equal steps, or two columns
    (light, value); linear in between, saturated at the end."""
    module: str | None = None
    """Path of a TorchScript or torch.export file: the whole blur, in place of all the above."""
    module_scale: float = Field(
        1.0, gt=0, allow_inf_nan=False, json_schema_extra={"unit": "photoelectrons"}
    )
    """Light that the module takes as one: it is given (object - module_zero) / module_scale."""
    module_zero: float = Field(
        0.0, allow_inf_nan=False, json_schema_extra={"unit": "photoelectrons"}
    )
    """Light that the module takes as zero; its output is in the same units as its input."""

    def psf(self) -> np.ndarray:
        """Return the PSF of the sub-exposures, of sum one."""
        from napari_dps.forward._motion import rasterised, straight, wandering

        if self.path == "straight":
            return rasterised(straight(self.length, self.angle, self.exposures))
        return rasterised(wandering(self.extent, self.intensity, self.path_seed, self.exposures))

    def _points(self, table: ArrayRef) -> tuple[np.ndarray, np.ndarray]:
        values = np.asarray(table.load(), dtype=np.float64)
        if values.ndim == 2 and values.shape[1] == 2:
            light, value = values.T
        elif values.ndim == 1 and self.white is not None:
            light, value = np.linspace(0, self.white, len(values)), values
        elif values.ndim == 1:
            raise InputError(
                "a table of one column needs `white`, the light of its last value; give it, or "
                "two columns (light, value)"
            )
        else:
            raise InputError(
                f"the table has shape {values.shape}; give one column of values, or two of light "
                "and value"
            )
        if len(light) < 2 or not np.isfinite(values).all():
            raise InputError(
                "the table has fewer than two rows, or NaN or infinite values; give finite ones"
            )
        if (np.diff(light) <= 0).any() or (np.diff(value) < 0).any() or value[-1] <= value[0]:
            raise InputError(
                "the table's light must rise from row to row and its value must not fall; sort "
                "it, or smooth what was measured"
            )
        return light, value

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        if self.module is not None:
            from napari_dps.forward._module import ModuleOperator

            return ModuleOperator(self.module, grid, self.module_scale, self.module_zero)
        from napari_dps.forward._convolution import Convolution
        from napari_dps.forward._response import Curve, Responding, TableCurve

        curve: Any
        if self.table is not None:
            curve = TableCurve(*self._points(self.table), grid)
        elif self.white is None:
            raise InputError(
                "nonlinear-blur needs `white`, the light at which the camera saturates, or a "
                "`module`; give one"
            )
        else:
            curve = Curve(self.white, self.gamma)
        psf = self.psf()
        psf = psf.reshape((1,) * (len(grid.shape) - 2) + psf.shape)
        return Responding(Convolution(psf, grid), curve)
