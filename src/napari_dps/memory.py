"""How much fits: batches and tiles by free memory, and what to do when it runs out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_dps.errors import OutOfMemoryError

if TYPE_CHECKING:
    from napari_dps.core.problem import Problem
    from napari_dps.kinds import SamplerChoice

GIB = 2**30
CPU_BUDGET = 1.25 * GIB
"""More than this gains nothing on a CPU, where caches are small."""
CPU_BATCH = 4
SMALL_PIXELS = 4 * 64 * 64
"""Pixels that one call may hold anyhow: many small images cost little more than one."""
SMALLEST_TILE = 96
OVERLAP = 32


@dataclass(frozen=True)
class Layout:
    """Samples at once, the side of a tile (None: whole image), and planes at once (None: all)."""

    batch: int
    tile: int | None = None
    planes: int | None = None

    def images(self, problem: Problem, sampler: SamplerChoice) -> int:
        """Return how many images a network call may hold; more small ones of a whole cloud."""
        if not sampler.interacting:
            return self.batch
        return max(self.batch, SMALL_PIXELS // math.prod(problem.operator.x_shape))


def free_bytes(device: str) -> float:
    """Return free memory in bytes on a device."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info(device)[0])
    import psutil

    return float(psutil.virtual_memory().available)


def layout(
    items: int,
    shape: tuple[int, ...],
    bytes_per_pixel: float,
    device: str,
    trained_side: int | None = None,
    *,
    whole: bool = False,
) -> Layout:
    """Return what fits into half of the free memory.

    A prior that works on tiles of ``trained_side`` pixels by itself needs no more than one takes,
    and gets smaller ones only where that does not fit; one that knows images as a ``whole`` alone
    gets no tiles.
    """
    free = budget = 0.5 * free_bytes(device)
    most = items
    if trained_side is not None:
        shape = tuple(min(n, trained_side) for n in shape)
    if device == "cpu":
        budget, most = min(budget, CPU_BUDGET), min(items, CPU_BATCH)
    pixels = budget / bytes_per_pixel
    size = math.prod(shape)
    if whole:
        return Layout(max(1, min(most, int(pixels // size))))
    if len(shape) == 3 and size > pixels:
        plane = math.prod(shape[1:])
        if plane <= pixels:
            return Layout(1, None, int(pixels // plane))
        return replace(layout(1, shape[1:], bytes_per_pixel, device, trained_side), planes=1)
    if size <= pixels:
        return Layout(max(1, min(most, int(pixels // size))))
    if trained_side is not None and size * bytes_per_pixel <= free:
        return Layout(1)
    return Layout(1, max(SMALLEST_TILE, int(math.sqrt(pixels)) // 32 * 32))


def smaller(current: Layout, shape: tuple[int, ...], whole: bool = False) -> Layout:
    """Return the next smaller layout: half the batch, then half the tile.

    Raises
    ------
    OutOfMemoryError
        If nothing smaller is left.
    """
    if current.batch > 1:
        return replace(current, batch=current.batch // 2)
    if whole:
        raise OutOfMemoryError(
            f"memory ran out with one sample of {' x '.join(map(str, shape))} pixels, and this "
            "prior cannot work on tiles; free some memory, use another device or prior, or restore "
            "a smaller region"
        )
    if len(shape) == 3 and current.planes != 1:
        return replace(current, planes=(current.planes or shape[0]) // 2 or 1)
    side = current.tile or max(shape[-2:])
    if side // 2 < SMALLEST_TILE:
        raise OutOfMemoryError(
            f"memory ran out with one sample and a tile of {side} pixels; free some memory, use "
            "another device, or restore a smaller region"
        )
    return replace(current, tile=side // 2 // 32 * 32)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )
