"""A user's torch function as an operator (torch part)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_dps.core.linearised import NonlinearOperator, products
from napari_dps.core.operator import Linear, Operator
from napari_dps.errors import InputError
from napari_dps.grid import Grid


def _check(
    function: Callable[[Tensor], Tensor],
    name: str,
    shape: tuple[int, ...],
    full: tuple[int, ...],
    grid: Grid,
    affine: bool,
) -> None:
    """Refuse a function whose output does not fit what the model says of it."""
    dtype = getattr(torch, grid.dtype)
    draw = torch.rand((2, *full), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a = draw.to(dtype).to(grid.device).requires_grad_(True)
    z = function(a)
    if not isinstance(z, Tensor) or z.shape != (2, *shape):
        given = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise InputError(
            f"{name}.measure turns an object of shape {(2, *full)} into {given}; "
            f"{(2, *shape)} is expected here"
        )
    if not z.requires_grad:
        raise InputError(
            f"{name}.measure gives nothing that depends on its input by torch operations; use "
            "torch functions of x only"
        )
    with torch.no_grad():
        nothing = function(torch.zeros_like(a))
        straight = nothing + 2 * (z - nothing)
        error = (function(2 * a) - straight).abs().max() / (straight.abs().max() + 1e-12)
    if affine and float(error) > 1e-3:
        raise InputError(
            f"{name} says that it is affine, but twice the object does not give twice the signal; "
            "leave out `affine = True`"
        )


def function_operator(
    function: Callable[[Tensor], Tensor], name: str, grid: Grid, margin: int, affine: bool
) -> Operator:
    """Return the operator of a function of objects (B, 1, *spatial).

    Parameters
    ----------
    function : callable
        From an object on the image's grid, with the margin around, to the measurement on the same
        pixels; the margin is cut off.
    name : str
        For errors.
    grid : Grid
        The measurement's grid.
    margin : int
        Pixels around the image in Y and X whose light reaches it.
    affine : bool
        Whether the function is affine.
    """
    lead = (0,) * (len(grid.shape) - 2)
    pads = (*lead, margin, margin)
    full = (1, *(n + 2 * p for n, p in zip(grid.shape, pads, strict=True)))
    field = tuple(slice(p, p + n) for n, p in zip(grid.shape, pads, strict=True))
    _check(function, name, full, full, grid, affine)
    base = Operator if affine else NonlinearOperator

    class FunctionOperator(base):  # type: ignore[valid-type,misc]
        """z = function(x), without the margin."""

        is_affine = affine

        def __call__(self, x: Tensor, theta: object = None) -> Tensor:
            z: Tensor = self.crop(function(x))
            return z

        def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
            return products(self, x)

    made: Operator = FunctionOperator(full, (1, *grid.shape), field)
    return made
