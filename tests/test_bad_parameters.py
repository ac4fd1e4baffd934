"""Bad values of every parameter of every forward model: one sentence that says what to give."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_dps.cli import main
from napari_dps.components import make, registry
from napari_dps.errors import InputError, RecipeError
from napari_dps.fields import FieldInfo, describe_fields
from napari_dps.run import Run

SIDE = 32
NEEDED: dict[str, dict[str, Any]] = {
    "psf": {"psf": np.ones((3, 3))},
    "inpaint": {"mask": np.eye(SIDE)},
    "nonlinear-blur": {"white": 50.0},
    "compose": {"steps": [{"kind": "identity"}]},
    "ptychography": {"probe": np.ones((2, 8, 8)), "positions": np.array([[0.0, 0], [4, 4]])},
}
"""What a kind cannot do without."""
MICROSCOPES = ("widefield", "confocal", "lightsheet")
PARAMETERS = [(k, f) for k, cls in registry("forward").items() for f in describe_fields(cls)]
ARRAYS = [(kind, info.name) for kind, info in PARAMETERS if info.annotation == "array"]


def bad_values(info: FieldInfo) -> Iterator[tuple[Any, str]]:
    """Yield values that a parameter cannot have, and what the sentence must offer instead."""
    if info.annotation in (int, float):
        below = [] if info.minimum is None else [info.minimum - 1]
        above = [] if info.maximum is None else [info.maximum + 1]
        fraction = [1.5] if info.annotation is int else []
        for value in (*below, *above, *fraction, float("nan"), "x", [1, 2], {"a": 1}):
            yield value, info.wanted
    elif info.annotation == "choice":
        for value in ("nonsense", 3):
            yield value, f"'{info.choices[0]}'"
    elif info.annotation is bool:
        yield from (("maybe", "boolean"), (7, "boolean"))
    elif info.annotation is str:
        yield from ((3, "string"), (["a"], "string"))
    elif info.annotation == "array":
        for value in ({"a": 1}, True, np.array(["a", "b"]), np.zeros((0, 3))):
            yield value, "give a"
    else:
        yield from (("nonsense", "give"), ({"a": 1}, "give"))


def told(error: Exception, name: str, offer: str) -> None:
    """Check that a sentence is one line, names the parameter, and says what to give."""
    text = str(error)
    assert "\n" not in text and len(text) < 400
    assert name in text and offer in text, text


@pytest.mark.parametrize("kind", registry("forward"))
def test_values_out_of_range_or_of_another_type(kind: str) -> None:
    for info in describe_fields(registry("forward")[kind]):
        for value, offer in bad_values(info):
            with pytest.raises((RecipeError, InputError)) as caught:
                make("forward", {"kind": kind, **NEEDED.get(kind, {}), info.name: value})
            told(caught.value, info.name, offer)


def measured(kind: str) -> tuple[np.ndarray, str]:
    """Return a measurement of a kind and its axes."""
    rng = np.random.default_rng(0)
    if kind == "ptychography":
        return rng.poisson(9.0, (2, 8, 8)), "TYX"
    if kind == "fourier-mask":
        return rng.standard_normal((2, SIDE, SIDE)), "CYX"
    return rng.poisson(9.0, (SIDE, SIDE)), "YX"


@pytest.mark.parametrize(("kind", "name"), ARRAYS)
def test_arrays_of_another_shape_with_nan_or_without_a_file(kind: str, name: str) -> None:
    image, axes = measured(kind)
    bad: dict[str, Any] = {"shape": np.ones((3, 3, 3, 3)), "file": "nowhere.npy"}
    given = NEEDED.get(kind, {}).get(name, np.ones(image.shape[-2:]))
    if name == "table":
        given = np.stack((np.arange(5.0), np.arange(5.0)), 1)
    elif name == "angles":
        given = np.arange(float(SIDE))
    elif name in ("background", "flat_field"):
        given = np.ones(image.shape)
    bad["nan"] = given.astype(float)
    bad["nan"].flat[1] = np.nan
    optics = {"pixel_size": 0.1, "numerical_aperture": 1.1} if kind in MICROSCOPES else {}
    for value in bad.values():
        forward = {"kind": kind, **NEEDED.get(kind, {}), **optics, name: value}
        parts = {"forward": forward, "noise": {"kind": "gaussian", "sigma": 1.0}}
        with pytest.raises(InputError) as caught:
            Run(image, {**parts, "prior": "gaussian"}, axes=axes)._bind()
        offer = "must" if "must be" in str(caught.value) else "give"
        offer = "replace" if "replace" in str(caught.value) else offer
        word = {"flat_field": "flat field"}.get(name, name)
        assert word in str(caught.value).lower() or name in str(caught.value)
        told(caught.value, "", offer)


@pytest.mark.parametrize("kind", registry("forward"))
def test_the_command_line_exits_with_two_and_one_line(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        tifffile.imwrite("a.tif", np.random.default_rng(0).poisson(9.0, (SIDE, SIDE)))
        for info in describe_fields(registry("forward")[kind]):
            if info.annotation is bool or info.annotation is str or info.name in COMMON[kind]:
                continue
            option = f"--forward.{info.name.replace('_', '-')}"
            value = "nowhere.npy" if info.annotation == "array" else "nonsense"
            line = "reconstruct a.tif -o o.tif --prior gaussian --noise gaussian".split()
            assert main([*line, "--forward", kind, option, value]) == 2
            out, err = capsys.readouterr()
            assert not out and err.count("\n") == 1, err
            assert info.name in err.replace("-", "_"), err
            assert "give" in err or "should be" in err or "choose from" in err, err
    finally:
        os.chdir(here)


COMMON = {
    kind: set() if kind == "identity" else {"background", "flat_field", "full_scale"}
    for kind in registry("forward")
}
"""Options that all kinds share are tried with one of them."""
