"""Parallel projections: exact areas of pixels on the detector, and their exact transpose."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_dps.core.operator import LinearOperator
from napari_dps.grid import Grid

MOST = 100_000_000
"""Weights that are kept as a matrix and its transpose (1.6 gigabytes); more are computed anew
at every product, which is several times slower."""
TAPS = 3
"""Detector pixels that one object pixel can fall on: it is at most 1.42 pixels wide."""


def area_below(u: NDArray[Any], cos: float, sin: float) -> NDArray[Any]:
    """Return the share of a unit square seen at an angle that lies below ``u``.

    The square's profile is the convolution of two boxes, |cos| and |sin| wide: a trapezoid.
    """
    wide, narrow = max(abs(cos), abs(sin)), min(abs(cos), abs(sin))
    if narrow < 1e-5:
        return np.asarray(np.clip(u / wide + 0.5, 0.0, 1.0))

    def half_square(v: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.maximum(v, 0.0) ** 2 / 2)

    outer, inner = (wide + narrow) / 2, (wide - narrow) / 2
    rise = half_square(u + outer) - half_square(u + inner)
    fall = half_square(u - inner) - half_square(u - outer)
    return np.asarray(np.clip((rise - fall) / (wide * narrow), 0.0, 1.0))


class _Project(torch.autograd.Function):
    """A linear map whose gradient is its own transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: ParallelBeam) -> Tensor:
        ctx.operator = operator
        return operator.project(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.operator.transpose(grads[0]), None


class ParallelBeam(LinearOperator):
    """z[a, t] = integral of the object over the strip that detector pixel t sees at angle a.

    Parameters
    ----------
    grid : Grid
        Of the sinogram.
    angles : ndarray, shape (A,)
        In radians. At zero the projection is the sum along Y.
    centre : float
        Detector pixel that the rotation axis falls on.
    angles_first : bool
        Whether rows of the sinogram are angles.
    """

    def __init__(
        self, grid: Grid, angles: NDArray[np.float64], centre: float, *, angles_first: bool
    ) -> None:
        count = len(angles)
        side = grid.shape[1] if angles_first else grid.shape[0]
        super().__init__((1, side, side), (1, *grid.shape))
        # Strips are long: structure of a few pixels adds up in them by about this much.
        self.response = 3.0 * side**0.5
        self.side, self.angles, self.centre = side, angles, centre
        self.angles_first = angles_first
        self._dtype, self._device = getattr(torch, grid.dtype), grid.device
        self._to_data: Tensor | None = None
        self._to_object: Tensor | None = None
        # Apple's GPU has no sparse products.
        if TAPS * side**2 * count <= MOST and grid.device != "mps":
            back = self._matrix()
            self._to_object = self._tensor(back)
            self._to_data = self._tensor(back.T.tocsr())

    def taps(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the detector pixels of every object pixel at angle ``k``, and their weights."""
        cos, sin = float(np.cos(self.angles[k])), float(np.sin(self.angles[k]))
        offset = np.arange(self.side) - self.centre
        place = self.centre + cos * offset[None, :] - sin * offset[:, None]
        nearest = np.rint(place.ravel()).astype(np.int64)
        edges = nearest[:, None] + np.arange(TAPS + 1) - 0.5 * TAPS - place.reshape(-1, 1)
        weights = np.diff(area_below(edges, cos, sin), axis=1)
        index = nearest[:, None] + np.arange(TAPS) - TAPS // 2
        inside = (index >= 0) & (index < self.side)
        return np.where(inside, index, 0), np.where(inside, weights, 0.0)

    def _matrix(self) -> Any:
        """Return the transpose (pixels x data) in rows: every row has as many places."""
        pixels, count = self.side**2, len(self.angles)
        index = np.empty((pixels, count, TAPS), dtype=np.int32)
        weights = np.empty((pixels, count, TAPS), dtype=np.float64 if self._double else np.float32)
        for k in range(count):
            place, weights[:, k] = self.taps(k)
            index[:, k] = place + k * self.side
        rows = np.arange(0, pixels * count * TAPS + 1, count * TAPS, dtype=np.int32)
        shape = (pixels, count * self.side)
        found = scipy.sparse.csr_matrix((weights.ravel(), index.ravel(), rows), shape=shape)
        found.eliminate_zeros()
        return found

    @property
    def _double(self) -> bool:
        return bool(self._dtype == torch.float64)

    def _tensor(self, matrix: Any) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that sparse tensors are new to torch
            return torch.sparse_csr_tensor(
                torch.from_numpy(matrix.indptr),
                torch.from_numpy(matrix.indices),
                torch.from_numpy(matrix.data).to(self._dtype),
                size=matrix.shape,
                device=self._device,
            )

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the sinogram."""
        z: Tensor = _Project.apply(x, self)  # type: ignore[no-untyped-call]
        return z

    def project(self, x: Tensor) -> Tensor:
        """Return the sinogram; no gradient of its own."""
        flat = x.reshape(x.shape[0], -1)
        if self._to_data is not None:
            lines = (self._to_data @ flat.T.contiguous()).T
        else:
            columns = []
            for k in range(len(self.angles)):
                index, weights = self._on_device(k)
                line = flat.new_zeros((flat.shape[0], self.side))
                for tap in range(TAPS):
                    line.index_add_(1, index[:, tap], flat * weights[:, tap])
                columns.append(line)
            lines = torch.cat(columns, 1)
        z = lines.reshape(-1, 1, len(self.angles), self.side)
        return z if self.angles_first else z.transpose(-1, -2)

    def transpose(self, v: Tensor) -> Tensor:
        """Return A^T v: every strip's value smeared back over its area."""
        v = v if self.angles_first else v.transpose(-1, -2)
        flat = v.reshape(v.shape[0], -1)
        if self._to_object is not None:
            x = (self._to_object @ flat.T.contiguous()).T
        else:
            x = flat.new_zeros((flat.shape[0], self.side**2))
            for k, line in enumerate(torch.split(flat, self.side, 1)):
                index, weights = self._on_device(k)
                for tap in range(TAPS):
                    x = x + line[:, index[:, tap]] * weights[:, tap]
        return x.reshape(-1, *self.x_shape)

    def _on_device(self, k: int) -> tuple[Tensor, Tensor]:
        index, weights = self.taps(k)
        return (
            torch.from_numpy(index).to(self._device),
            torch.from_numpy(weights).to(self._device, self._dtype),
        )
