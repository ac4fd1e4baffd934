"""What a function that is not ours must keep to, tried before a run rests on it (torch part)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from napari_dps.core.linearised import products
from napari_dps.errors import DPSError, InputError
from napari_dps.grid import Grid

Function = Callable[[Tensor], Tensor]

TOLERANCE = 1e-3
"""Share of the signal by which two ways to the same result may differ: single precision, and
convolutions that take another algorithm for another batch."""
ROUNDING = 1e-5
"""Share of the values themselves, a constant added to the signal included."""


def trusted(
    function_for: Callable[[torch.dtype], Function],
    name: str,
    shape: tuple[int, ...],
    grid: Grid,
    *,
    scale: float = 1.0,
    zero: float = 0.0,
    affine: bool = False,
) -> Function:
    """Return a function of objects (B, *shape) that was tried, and gives their own number type.

    It is run in single precision where it fails in double, as one with constants does.

    Parameters
    ----------
    function_for : callable
        From a number type to the function, which gives of objects what is measured of them, of the
        same shape.
    name : str
        What to call it in an error.
    shape : tuple of int
        Of one object, channels first.
    grid : Grid
        Whose device and number type count.
    scale, zero : float
        Objects of the trial lie between ``zero`` and ``zero + scale``.
    affine : bool
        Whether it is said to be affine; that is tried too.

    Raises
    ------
    InputError
        One sentence about the first thing that does not hold.
    """
    draw = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draw[1] *= 0.3  # items that differ in level, so that their means do too
    dtype = getattr(torch, grid.dtype)
    x = (zero + scale * draw).to(device=grid.device, dtype=dtype)
    try:
        made = _tried(function_for, dtype, name, x)
    except InputError:
        if dtype != torch.float64:
            raise
        made = _tried(function_for, torch.float32, name, x)
    _check_values(made, name, x, zero)
    _check_items(made, name, x, zero)
    _check_derivatives(made, name, x, zero)
    if affine:
        _check_affine(made, name, x)
    return made


def _tried(
    function_for: Callable[[torch.dtype], Function], dtype: torch.dtype, name: str, x: Tensor
) -> Function:
    """Return the function in a number type once it took a batch and an item of it."""
    function = function_for(dtype)

    def typed(x: Tensor) -> Tensor:
        z = function(x.to(dtype))
        real = isinstance(z, Tensor) and not z.is_complex()
        return z.to(x.dtype) if real else z

    for one in (x, x[:1]):
        _call(typed, name, one.clone().requires_grad_(True))
    return typed


def _call(function: Function, name: str, x: Tensor) -> Any:
    try:
        return function(x)
    except DPSError:
        raise
    except Exception as error:  # whatever a function does not like, it says in its own words
        text = " ".join(str(error).split())[-160:]
        raise InputError(
            f"{name} cannot take a batch of shape {tuple(x.shape)} ({type(error).__name__}: "
            f"{text}); it must map (batch, {', '.join(map(str, x.shape[1:]))}) of any batch to the "
            "same shape"
        ) from error


def _check_values(function: Function, name: str, x: Tensor, zero: float) -> None:
    """Refuse another shape, complex numbers, values that are not finite, and constants."""
    z = _call(function, name, x.clone().requires_grad_(True))
    if not isinstance(z, Tensor) or z.shape != x.shape:
        given = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise InputError(
            f"{name} turns objects of shape {tuple(x.shape)} into {given}; "
            f"{tuple(x.shape)} is expected here, the same shape"
        )
    if z.is_complex():
        raise InputError(
            f"{name} gives complex numbers, but measurements are real; give their magnitude, its "
            "square, or one part"
        )
    if not z.requires_grad:
        raise InputError(
            f"{name} gives nothing that depends on its input by torch operations; use torch "
            "functions of x only, which can be differentiated"
        )
    nothing = _call(function, name, torch.full_like(x, zero))
    if not bool(torch.isfinite(z).all() and torch.isfinite(nothing).all()):
        raise InputError(
            f"{name} gives NaN or infinite values where the object is zero or little above; keep "
            "roots, logarithms and quotients away from zero"
        )


@torch.no_grad()
def _check_items(function: Function, name: str, x: Tensor, zero: float) -> None:
    """Refuse randomness, and items of a batch that depend on each other."""
    once, again = (_call(function, name, x.clone()) for _ in range(2))
    rounding = ROUNDING * once.abs().max()
    if not bool((once - again).abs().max() <= rounding):
        raise InputError(
            f"{name} gives another measurement of the same object every time; it must be "
            "deterministic, noise comes from the noise model"
        )
    signal = (once - _call(function, name, torch.full_like(x, zero))).abs().max()
    alone = torch.cat([_call(function, name, x[k : k + 1].clone()) for k in range(2)])
    if not bool((once - alone).abs().max() <= TOLERANCE * signal + rounding):
        raise InputError(
            f"{name} gives another measurement of an object beside others than of it alone; every "
            "item of a batch is one object: take means and sums over its own axes only"
        )


def _check_derivatives(function: Function, name: str, x: Tensor, zero: float) -> None:
    """Refuse a function whose products with the Jacobian fail, or are not finite."""
    for one, where in (
        (x[:1], "above zero"),
        (torch.full_like(x[:1], zero), "zero"),
    ):
        try:
            z, jvp, vjp = products(function, one)
            found = (jvp(torch.ones_like(one)), vjp(torch.ones_like(z)))
        except Exception as error:  # torch raises many kinds; all mean the same to the user
            text = " ".join(str(error).split())[:160]
            raise InputError(
                f"{name} cannot be differentiated ({text}); use smooth torch functions of x only"
            ) from error
        if not all(bool(torch.isfinite(part).all()) for part in found):
            raise InputError(
                f"{name} has no finite derivative where the object is {where}; keep roots, "
                "logarithms and quotients away from zero, as in sqrt(x**2 + 1e-6)"
            )


@torch.no_grad()
def _check_affine(function: Function, name: str, x: Tensor) -> None:
    """Refuse a claim to be affine that does not hold of a multiple, or of a sum."""
    nothing = _call(function, name, torch.zeros_like(x))

    def signal(x: Tensor) -> Tensor:
        found: Tensor = _call(function, name, x) - nothing
        return found

    other = x.flip(0, -1) - x.mean()  # below zero too, where samples may be
    first = signal(x.clone())
    allowed = TOLERANCE * first.abs().max() + ROUNDING * nothing.abs().max()
    for error, what in (
        (signal(2 * x) - 2 * first, "twice the object does not give twice the signal"),
        (
            signal(x + other) - first - signal(other.clone()),
            "two objects together do not give the sum of their signals",
        ),
    ):
        if not bool(error.abs().max() <= allowed):
            raise InputError(
                f"{name} says that it is affine, but {what}; leave out `affine = True`"
            )
