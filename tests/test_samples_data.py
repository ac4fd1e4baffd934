"""The sample data: each is whole, small, consistent, and its recipe fits it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import napari_dps
from napari_dps.api import Run
from napari_dps.components import registry
from napari_dps.io import read_image
from napari_dps.recipe import Recipe

FOLDER = Path(napari_dps.__file__).parent / "sample_data"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def test_there_is_one_sample_per_kind_of_forward_model() -> None:
    kinds = {Recipe.load(FOLDER / f"{name}.json").forward.kind for name in NAMES}
    assert kinds == set(registry("forward")) - {"identity"}


@pytest.mark.parametrize("name", NAMES)
def test_sample_is_whole_and_its_recipe_fits(name: str) -> None:
    recipe = Recipe.load(FOLDER / f"{name}.json")
    measured = read_image(FOLDER / f"{name}.tif")
    truth = read_image(FOLDER / f"{name}_truth.tif")
    counted = recipe.noise.kind.startswith("poisson")
    assert measured.data.dtype == (np.uint16 if counted else np.float32)
    assert truth.data.dtype == np.float32
    channels = 1 if recipe.forward.object_channels() == 2 else 0
    assert recipe.forward.measurement_shape(truth.shape[channels:]) == measured.shape
    run = Run(measured, recipe.with_parts(prior="gaussian"))
    assert run.plan().network_calls > 0
    assert run.warnings == []


@pytest.mark.parametrize("name", NAMES)
def test_measurement_follows_from_the_truth(name: str) -> None:
    """Light of the field, seen without noise's help: the totals agree within a few sigma."""
    recipe = Recipe.load(FOLDER / f"{name}.json")
    measured = read_image(FOLDER / f"{name}.tif").data.astype(np.float64)
    truth = read_image(FOLDER / f"{name}_truth.tif")
    again = napari_dps.simulate(truth, recipe, 99).astype(np.float64)
    gain, offset = recipe.noise.camera()
    # Amplitudes have signs; their squares add up.
    power = 1 if recipe.noise.kind.startswith("poisson") else 2
    light, other = ((((y - offset) / gain) ** power).sum() for y in (measured, again))
    # The mirrored border of a blur's truth is not quite what lay outside the field.
    assert light == pytest.approx(other, rel=0.03)
    assert np.corrcoef(measured.ravel(), again.ravel())[0, 1] > 0.8


def test_sources_name_every_sample_and_the_licence() -> None:
    text = (FOLDER / "SOURCES.md").read_text(encoding="utf-8")
    assert "CC0" in text
    assert set(NAMES) <= set(re.findall(r"`(\w+)`", text))


def test_samples_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000
