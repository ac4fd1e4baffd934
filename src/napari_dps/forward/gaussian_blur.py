"""Gaussian blur: the plainest point spread function."""

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.components import ForwardModel
from napari_dps.forward._reach import cut_warnings, reach_warnings, within_reach
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class GaussianBlur(ForwardModel):
    """Blur by a Gaussian point spread function of sum one, sampled at pixel centres.

    Every plane of a stack by itself, within a composition of steps too: an optical model or a
    measured PSF blurs along Z.
    """

    kind: Literal["gaussian-blur"] = "gaussian-blur"
    title: ClassVar[str] = "Gaussian blur"

    sigma: float = Field(2.0, gt=0, le=200, json_schema_extra={"unit": "px"})
    """Standard deviation of the PSF."""
    boundary: Literal["extend", "periodic"] = "extend"
    """Whether the object continues beyond the field (extend) or repeats itself (periodic)."""

    def psf(self) -> np.ndarray:
        """Return the PSF, shape (2 r + 1, 2 r + 1) with r = 4 sigma, of sum one."""
        return np.asarray(np.multiply.outer(self._line(), self._line()))

    def _line(self) -> np.ndarray:
        """Return the PSF along one axis, of sum one."""
        reach = max(1, int(np.ceil(4 * self.sigma)))
        line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / self.sigma) ** 2)
        return np.asarray(line / line.sum())

    def _lines(self, grid: Grid) -> list[np.ndarray]:
        """Return the PSF along every axis of a grid, no longer than what can reach the image."""
        line, planes = self._line(), [np.ones(1)] * (len(grid.shape) - 2)
        return planes + [
            within_reach(line, replace(grid, shape=(n,)), self.boundary) for n in grid.shape[-2:]
        ]

    def warnings(self, grid: Grid) -> list[str]:
        """Warn where the blur is as wide as the image."""
        if self.boundary == "periodic":
            return []
        cut = self._lines(grid)
        sides = [len(line) for line in cut]
        return [
            *cut_warnings([self._line()] * 2, cut[-2:]),
            *reach_warnings(sides, grid, "a smaller `sigma`"),
        ]

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._convolution import Convolution

        psf = reduce(np.multiply.outer, self._lines(grid))
        return Convolution(psf, grid, self.boundary)
