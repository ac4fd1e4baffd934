"""Sample data: the manifest, the files, and that opening one fills the dock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import napari_dps
from napari_dps.arrays import ArrayRef
from napari_dps.errors import InputError
from napari_dps.plugin import samples
from napari_dps.recipe import Recipe

MANIFEST = Path(napari_dps.__file__).parent / "napari.yaml"


def entries() -> list[dict[str, str]]:
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["contributions"]
    commands = {command["id"]: command["python_name"] for command in manifest["commands"]}
    return [
        {**entry, "python_name": commands[entry["command"]]} for entry in manifest["sample_data"]
    ]


def test_manifest_and_files_agree() -> None:
    openers = {entry["python_name"].rsplit(":open_", 1)[1] for entry in entries()}
    assert openers == set(samples.sample_names())
    assert len(openers) >= 4
    assert all(entry["display_name"] for entry in entries())


def test_one_sample_for_each_forward_model() -> None:
    kinds = {
        Recipe.load(samples.sample_folder() / f"{n}.json").forward.kind_name()
        for n in samples.sample_names()
    }
    assert {"gaussian-blur", "psf", "inpaint", "random-inpaint", "phase-retrieval"} <= kinds


@pytest.mark.parametrize("name", samples.sample_names())
def test_a_sample_brings_truth_and_recipe(name: str) -> None:
    opener = getattr(samples, f"open_{name}")
    truth, measured = opener()
    assert truth[1]["name"] == f"{measured[1]['name']} truth"
    assert truth[1]["visible"] is False
    assert np.isfinite(measured[0]).all() or "missing" in name
    recipe = Recipe(**measured[1]["metadata"]["napari_dps"]["recipe"])
    for field in type(recipe.forward).model_fields:
        ref = getattr(recipe.forward, field)
        if isinstance(ref, ArrayRef):
            assert ref.load().size


def test_unknown_samples_are_named() -> None:
    with pytest.raises(InputError, match="nuclei"):
        samples.load_sample("nothing")
    with pytest.raises(AttributeError, match="nothing"):
        _ = samples.nothing


def test_opening_a_sample_fills_the_dock(qtbot: Any) -> None:
    from napari.components import ViewerModel

    from napari_dps.plugin.widget import ReconstructWidget

    viewer = ViewerModel()
    dock = ReconstructWidget(viewer)
    qtbot.addWidget(dock)
    for name in samples.sample_names():
        for data, arguments, _ in samples.load_sample(name):
            viewer.add_image(data, **arguments)
        assert dock.input.layer is viewer.layers[-1]
        assert dock.recipe == Recipe(**arguments["metadata"]["napari_dps"]["recipe"])
    dock.shut_down()
