"""A user's torch function as an operator (torch part)."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

from torch import Tensor

from napari_dps.core.linearised import NonlinearOperator, products
from napari_dps.core.operator import Linear, Operator
from napari_dps.errors import InputError
from napari_dps.forward._trial import trusted
from napari_dps.grid import Grid


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
    given: object = margin  # a user's method may return anything
    if not isinstance(given, Integral) or margin < 0:
        raise InputError(f"{name} has a margin of {margin!r}; give 0 or more whole pixels")
    lead = (0,) * (len(grid.shape) - 2)
    pads = (*lead, int(margin), int(margin))
    full = (1, *(n + 2 * p for n, p in zip(grid.shape, pads, strict=True)))
    field = tuple(slice(p, p + n) for n, p in zip(grid.shape, pads, strict=True))
    made = trusted(lambda dtype: function, f"{name}.measure", full, grid, affine=affine)
    base = Operator if affine else NonlinearOperator

    class FunctionOperator(base):  # type: ignore[valid-type,misc]
        """z = function(x), without the margin."""

        is_affine = affine

        def __call__(self, x: Tensor, theta: object = None) -> Tensor:
            z: Tensor = self.crop(made(x))
            return z

        def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
            return products(self, x)

    operator: Operator = FunctionOperator(full, (1, *grid.shape), field)
    return operator
