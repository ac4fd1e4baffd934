"""Gaussian blur: the plainest point spread function."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.components import ForwardModel
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class GaussianBlur(ForwardModel):
    """Blur by a Gaussian point spread function of sum one, sampled at pixel centres."""

    kind: Literal["gaussian-blur"] = "gaussian-blur"
    title: ClassVar[str] = "Gaussian blur"

    sigma: float = Field(2.0, gt=0, le=200, json_schema_extra={"unit": "px"})
    """Standard deviation of the PSF."""
    boundary: Literal["extend", "periodic"] = "extend"
    """Whether the object continues beyond the field (extend) or repeats itself (periodic)."""

    def psf(self, ndim: int = 2) -> np.ndarray:
        """Return the PSF, shape (2 r + 1,) * ndim with r = 4 sigma, of sum one."""
        reach = max(1, int(np.ceil(4 * self.sigma)))
        line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / self.sigma) ** 2)
        line /= line.sum()
        out = line
        for _ in range(ndim - 1):
            out = np.multiply.outer(out, line)
        return out

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._convolution import Convolution

        return Convolution(self.psf(len(grid.shape)), grid, self.boundary)
