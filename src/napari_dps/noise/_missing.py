"""Scattered missing pixels: filled from their neighbours, and what that takes from the noise.

Almost no filter of the noise's finest band misses all dead pixels where a fifth are dead. So each
is replaced by what a parabola through the pixels around it says. The filled image has less noise
than the camera's, by a share that depends on how many pixels of a patch were filled; white noise of
known strength, filled at the same places, tells how much less.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

REACH = 2
"""A missing pixel is filled from pixels up to so many rows and columns away."""
FEWEST = 12
"""Of the 24 pixels around a missing one so many must be there; beside areas they are not."""
MOST = 0.5
"""Largest share of a patch's noise that may be lost to filling."""
TRUNCATED = 2.5
"""A missing pixel may have been full: patches whose noise, times this, reaches the image's maximum
do not count."""
_TRIALS = 3000
"""Patches of known noise that are looked at."""
_CHUNK = 2**15


class Filling:
    """Fills the scattered ones among missing pixels.

    Parameters
    ----------
    missing : ndarray of bool, shape (Y, X)
        Pixels without a value.

    Attributes
    ----------
    done, left : ndarray of bool, shape (Y, X)
        Missing pixels that are filled, and those with too few others around them.
    """

    def __init__(self, missing: NDArray[np.bool_]) -> None:
        self.missing = missing
        here = np.pad(~missing, REACH)
        places = np.argwhere(missing)
        steps = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1].reshape(2, -1).T
        steps = steps[np.abs(steps).any(1)]
        width = here.shape[1]
        around = steps @ np.array([width, 1])
        index = (places + REACH) @ np.array([width, 1])
        there = here.ravel()[index[:, None] + around]
        enough = there.sum(1) >= FEWEST
        index, there = index[enough], there[enough]
        self._index, self._around = index, around
        self._weights = np.concatenate(
            [_weights(there[i : i + _CHUNK], steps) for i in range(0, len(index), _CHUNK)]
            or [np.zeros((0, len(steps)))]
        )
        self.done = np.zeros_like(missing)
        self.done[tuple(places[enough].T)] = True
        self.left = missing & ~self.done
        self._loss: tuple[Array, Array] | None = None

    def __call__(self, frame: Array) -> Array:
        """Return a frame with its scattered missing pixels filled, the others zero."""
        wide = np.pad(np.where(self.missing, 0.0, frame), REACH)
        values = wide.ravel()
        for i in range(0, len(self._index), _CHUNK):
            part = slice(i, i + _CHUNK)
            near = values[self._index[part, None] + self._around]
            values[self._index[part]] = (self._weights[part] * near).sum(1)
        return values.reshape(wide.shape)[REACH:-REACH, REACH:-REACH]

    def kept(self, share: Array, look: Callable[[Array], tuple[Array, Array]]) -> list[Array]:
        """Return which part of the noise is left in every patch, in two kinds of bands.

        Parameters
        ----------
        share : ndarray
            Share of the patch that was filled.
        look : callable
            Returns the noise variance of an image's patches in both.
        """
        if self._loss is None:
            rng = np.random.default_rng(0)
            trials = int(np.clip(_TRIALS // max(share.size, 1), 1, 24))
            noise = [look(self(rng.standard_normal(self.missing.shape))) for _ in range(trials)]
            seen = (share > 0) & (share <= MOST)
            powers = np.stack((share[seen], share[seen] ** 2), axis=1)
            both = (np.mean([pair[k][seen] for pair in noise], axis=0) - 1 for k in (0, 1))
            first, second = (np.linalg.lstsq(powers, lost, rcond=None)[0] for lost in both)
            self._loss = first, second
        return [np.maximum(1 + share * (a + share * b), 0.1) for a, b in self._loss]


def _weights(there: NDArray[np.bool_], steps: NDArray[np.int_]) -> Array:
    """Return weights of the pixels around each missing one, (N, K): a parabola at its centre."""
    y, x = steps.T.astype(np.float64)
    basis = np.stack((np.ones_like(y), y, x, y * y, y * x, x * x), axis=1)
    near = np.exp(-(y * y + x * x) / 4)
    weighted = there * near
    # What few pixels cannot tell of slope and curvature is taken for flat.
    ridge = 1e-3 * np.diag([0.0, 1, 1, 1, 1, 1])
    normal = np.einsum("nk,ki,kj->nij", weighted, basis, basis, optimize=True) + ridge
    first = np.zeros((len(there), 6, 1))
    first[:, 0] = 1
    solved = np.linalg.solve(normal, first)[..., 0]
    weights: Array = weighted * (solved @ basis.T)
    return weights
