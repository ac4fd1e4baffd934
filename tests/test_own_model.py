"""A forward model of one's own: a torch function, and an entry point."""

import importlib.metadata
import re
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from pydantic import Field

from napari_dps import Recipe, reconstruct, simulate
from napari_dps.components import registry
from napari_dps.core.operator import dot_test
from napari_dps.errors import InputError
from napari_dps.forward import FunctionModel
from napari_dps.grid import Grid

ROOT = Path(__file__).resolve().parent.parent
FAST = {"kind": "mmps", "steps": 10}
PRIOR = {"kind": "gaussian", "correlation_length": 3.0, "exponent": 2.0}


class Ghost(FunctionModel):
    """A reflection: the object once more, weaker and to the right."""

    kind: Literal["ghost"] = "ghost"
    affine: ClassVar[bool] = True
    shift: int = Field(5, ge=1, le=100, json_schema_extra={"unit": "px"})
    """How far the reflection lies."""

    def reach(self):
        return self.shift

    def measure(self, x):
        return 0.7 * x + 0.3 * torch.roll(x, self.shift, dims=-1)


class Squared(FunctionModel):
    """A detector that squares."""

    kind: Literal["squared"] = "squared"

    def measure(self, x):
        return x**2 / 50


class Wrong(Squared):
    affine: ClassVar[bool] = True


class Small(Squared):
    def measure(self, x):
        return x[..., 1:]


class Numpy(Squared):
    def measure(self, x):
        return torch.as_tensor(x.detach().numpy() ** 2)


class Rooted(Wrong):
    """Twice the object gives twice the signal, but of sums it is no sum."""

    def measure(self, x):
        return (x**2 + torch.roll(x, 1, -1) ** 2 + 1e-12).sqrt()


class Mixing(Squared):
    def measure(self, x):
        return x.mean() * torch.ones_like(x) + 0.1 * x


class Random(Squared):
    def measure(self, x):
        return x + 0.01 * torch.randn_like(x)


class Complex(Squared):
    def measure(self, x):
        return torch.fft.fft2(x)


class Logarithm(Squared):
    def measure(self, x):
        return torch.log(x)


class Root(Squared):
    def measure(self, x):
        return x.abs().sqrt()


class Raising(Squared):
    def measure(self, x):
        raise ValueError("the lens is missing")


class Negative(Squared):
    margin: ClassVar[int] = -3


class Empty(FunctionModel):
    kind: Literal["empty"] = "empty"


class Constants(FunctionModel):
    """Its kernel is of single precision, whatever the object is."""

    kind: Literal["constants"] = "constants"
    affine: ClassVar[bool] = True

    def measure(self, x):
        return torch.nn.functional.conv2d(x, torch.full((1, 1, 3, 3), 1 / 9), padding=1)


def spot():
    rows, cols = np.mgrid[:24, :24]
    return 20 + 60 * np.exp(-((rows - 11) ** 2 + (cols - 13) ** 2) / 10.0)


def test_products_are_exact():
    for model in (Ghost(), Squared()):
        operator = model.bind(Grid((12, 14), dtype="float64"))
        x = torch.rand((2, *operator.x_shape), dtype=torch.float64)
        a, b = dot_test(operator, x)
        assert a == pytest.approx(b, rel=1e-10)
    assert operator.y_shape == operator.x_shape
    assert Ghost().bind(Grid((12, 14))).x_shape == (1, 22, 24)


def test_an_affine_function_restores():
    noise = {"kind": "gaussian", "sigma": 0.3}
    y = simulate(spot(), forward=Ghost(), noise=noise)
    result = reconstruct(y, forward=Ghost(), noise=noise, prior=PRIOR, sampler=FAST, samples=2)
    assert Ghost().bind(Grid((24, 24))).is_affine
    assert np.abs(result.mean - spot()).mean() < 0.5 * np.abs(y - spot()).mean()


def test_a_function_that_is_not_affine_restores():
    noise = {"kind": "gaussian", "sigma": 0.3}
    y = simulate(spot(), forward=Squared(), noise=noise)
    sampler = {"kind": "daps", "steps": 10, "informed_start": False}
    parts = {"noise": noise, "prior": PRIOR, "sampler": sampler, "samples": 2}
    result = reconstruct(y, forward=Squared(), **parts)
    assert np.abs(result.mean - spot()).mean() < 2


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (Wrong(), "says that it is affine.*twice the signal"),
        (Small(), "is expected here"),
        (Numpy(), "torch"),
        (Rooted(), "says that it is affine.*sum of their signals"),
        (Mixing(), r"Mixing.measure gives another measurement of an object beside others"),
        (Random(), "must be deterministic"),
        (Complex(), "complex numbers.*give their magnitude"),
        (Logarithm(), "NaN or infinite values where the object is zero"),
        (Root(), "no finite derivative where the object is zero"),
        (Raising(), r"cannot take a batch of shape \(2, 1, 12, 14\) \(ValueError: the lens is"),
        (Negative(), "a margin of -3; give 0 or more"),
        (Empty(), "Empty has no method `measure`; write one"),
    ],
)
def test_functions_that_do_not_fit_are_one_sentence(model, word):
    for dtype in ("float32", "float64"):
        with pytest.raises(InputError, match=word) as caught:
            model.bind(Grid((12, 14), dtype=dtype))
        assert "\n" not in str(caught.value)


def test_constants_of_single_precision_are_enough():
    y = simulate(spot(), forward=Constants(), noise={"kind": "gaussian", "sigma": 1e-6})
    inner = np.lib.stride_tricks.sliding_window_view(spot(), (3, 3)).mean((2, 3))
    assert np.allclose(y[1:-1, 1:-1], inner, rtol=1e-5)
    operator = Constants().bind(Grid((12, 14), dtype="float64"))
    x = torch.rand((3, *operator.x_shape), dtype=torch.float64)
    z, jvp, vjp = operator.linearize(x)
    assert {t.dtype for t in (z, jvp(x), vjp(z))} == {torch.float64}
    assert operator.is_affine and torch.allclose(jvp(x), z, rtol=1e-5)


def test_an_entry_point_brings_it_into_recipes(monkeypatch):
    class Point:
        name = "ghost"

        def load(self):
            return Ghost

    real = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda **given: [Point()] if given.get("group") == "napari_dps.forward" else real(**given),
    )
    registry.cache_clear()
    try:
        recipe = Recipe(forward={"kind": "ghost", "shift": 3})
        assert recipe.forward == Ghost(shift=3)
        assert Recipe(**recipe.model_dump(mode="json")) == recipe
        steps = [{"kind": "ghost"}, {"kind": "downsample"}]
        assert Recipe(forward={"kind": "compose", "steps": steps}).forward.steps[0] == Ghost()
    finally:
        registry.cache_clear()


def test_the_documented_model_works():
    text = (ROOT / "docs" / "own-model.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    space = {"__name__": "documented"}
    exec(code, space)
    operator = space["Ghost"]().bind(Grid((40, 40)))
    assert operator.is_affine
