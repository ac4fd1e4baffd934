"""A prior on tiles: images of any size in bounded memory, values and gradients as if whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_dps.core.prior import Prior, Vjp, WrappedPrior

MARGIN = 3 / 8
"""Share of an overlap, at either end, where only the tile counts that lies farther inside."""


@dataclass(frozen=True)
class Tile:
    """One tile: where it is read and the weight of each of its pixels."""

    part: tuple[slice, ...]
    weight: Tensor


def positions(
    size: int, tile: int, overlap: int, shift: int, *, full: bool = False
) -> list[tuple[int, int]]:
    """Return (start, stop) of tiles of at most ``tile`` pixels that cover ``size`` pixels.

    Tiles begin ``shift`` pixels before the image, are cut at its borders, and overlap by
    ``overlap`` pixels; a sliver that its neighbour covers already is left out. With ``full`` they
    are pushed inside instead of cut, and overlap more there.
    """
    if size <= tile:
        return [(0, size)]
    step = tile - overlap
    starts = range(-shift, size - overlap, step)
    if full:
        inside = sorted({min(max(s, 0), size - tile) for s in starts})
        return [(s, s + tile) for s in inside]
    spans = [(max(s, 0), min(s + tile, size)) for s in starts]
    return [(a, b) for a, b in spans if b - a > overlap or (a == 0 and b == size)]


def ramp(spans: list[tuple[int, int]], size: int, overlap: int) -> list[Tensor]:
    """Return raised-cosine weights along one axis that sum to one everywhere.

    The outer :data:`MARGIN` of an overlap weighs nothing: what a network says there is of a border
    that the image does not have.
    """
    weights = []
    for start, stop in spans:
        n = stop - start
        w = torch.ones(n, dtype=torch.float64)
        m = min(overlap, n)
        if m:
            margin = int(MARGIN * m)
            place = torch.arange(m, dtype=torch.float64) + 0.5 - margin
            edge = torch.sin(torch.pi / 2 * (place / (m - 2 * margin)).clamp(0, 1)) ** 2
            if start > 0:
                w[:m] *= edge
            if stop < size:
                w[n - m :] *= edge.flip(0)
        weights.append(w)
    total = torch.zeros(size, dtype=torch.float64)
    for (start, stop), w in zip(spans, weights, strict=True):
        total[start:stop] += w
    return [w / total[a:b] for (a, b), w in zip(spans, weights, strict=True)]


class TiledPrior(WrappedPrior):
    """A prior that sees the image tile by tile, blended; samplers do not notice.

    ``linearize`` is the exact two-pass product: all tiles without gradient, then tile by tile
    recomputed with the incoming vector. Memory is that of one tile. The grid of tiles moves with
    the noise level, so that no seam stays in place.

    Parameters
    ----------
    prior : Prior
        The prior to call on each tile.
    tile : int
        Side of a tile in pixels, at most.
    overlap : int
        Overlap of neighbouring tiles in pixels, at least. Values and products are exact where
        3/8 of it are as far as the prior sees; a network that normalises by the whole of what it
        is given, as the shipped one, sees a tile and is not exact at any overlap. Rounded up to
        the prior's ``multiple`` where the tile is one too.
    seed : int
        Moves the grid.
    full : bool
        Whether no tile may be smaller than ``tile``, for networks that know one size only.
    """

    def __init__(
        self, prior: Prior, tile: int, overlap: int = 32, seed: int = 0, *, full: bool = False
    ) -> None:
        super().__init__(prior)
        if tile <= 2 * overlap:
            raise ValueError(f"a tile of {tile} pixels must be above twice the overlap {overlap}")
        # A network that works on coarser grids inside sees a tile as it sees the whole image only
        # where the tile begins on those grids.
        wide = -(-overlap // prior.multiple) * prior.multiple
        self._unit = prior.multiple if tile % prior.multiple == 0 and tile > 2 * wide else 1
        self.tile, self.overlap = tile, overlap if self._unit == 1 else wide
        self.seed, self.full = seed, full

    def tiles(self, shape: tuple[int, ...], sigma: Tensor | float) -> list[Tile]:
        """Return the tiles of an image of spatial ``shape`` at one noise level."""
        level = float(sigma.flatten()[0]) if isinstance(sigma, Tensor) else float(sigma)
        # Keyed by the level and not by a count, so that the grid of a step does not depend on
        # how samples were batched.
        digest = hashlib.sha256(f"{self.seed}:{level!r}".encode()).digest()
        step = self.tile - self.overlap
        grids: list[list[tuple[tuple[int, int], Tensor]]] = []
        for axis, n in enumerate(shape):
            shift = int.from_bytes(digest[4 * axis : 4 * axis + 4], "little") % step
            shift -= shift % self._unit
            spans = positions(n, self.tile, self.overlap, shift, full=self.full)
            grids.append(list(zip(spans, ramp(spans, n, self.overlap), strict=True)))
        found = [Tile((), torch.ones((), dtype=torch.float64))]
        for grid in grids:
            found = [
                Tile((*t.part, slice(a, b)), t.weight.unsqueeze(-1) * w)
                for t in found
                for (a, b), w in grid
            ]
        return found

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the blended denoised image."""
        out = torch.zeros_like(x)
        for tile in self.tiles(tuple(x.shape[2:]), sigma):
            index: tuple[Any, ...] = (..., *tile.part)
            out[index] += self.prior(x[index], sigma) * tile.weight.to(x)
        return out

    def moments(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor | None]:
        """Return the blended denoised image and the blended variance fraction."""
        if not self.learned_variance:
            return self(x, sigma), None
        out, fraction = torch.zeros_like(x), torch.zeros_like(x)
        for tile in self.tiles(tuple(x.shape[2:]), sigma):
            index: tuple[Any, ...] = (..., *tile.part)
            x0, part = self.prior.moments(x[index], sigma)
            assert part is not None
            out[index] += x0 * tile.weight.to(x)
            fraction[index] += part * tile.weight.to(x)
        return out, fraction

    def linearize(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Vjp]:
        """Return the blended denoised image and its exact two-pass product."""
        return self.linearize_moments(x, sigma)[:2]

    def linearize_moments(
        self, x: Tensor, sigma: Tensor | float
    ) -> tuple[Tensor, Vjp, Tensor | None]:
        """Return the blended denoised image, its product, and the blended variance fraction."""
        tiles = self.tiles(tuple(x.shape[2:]), sigma)
        if len(tiles) == 1:
            return self.prior.linearize_moments(x, sigma)
        with torch.no_grad():
            x0, fraction = self.moments(x, sigma)

        def vjp(v: Tensor) -> Tensor:
            out = torch.zeros_like(x)
            for tile in tiles:
                index: tuple[Any, ...] = (..., *tile.part)
                _, local = self.prior.linearize(x[index], sigma)
                out[index] += local(v[index] * tile.weight.to(x))
            return out

        return x0, vjp, fraction
