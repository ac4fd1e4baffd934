"""Chains of forward models: grids, masks, recipes, form and command line."""

import json

import numpy as np
import pytest
import torch

from napari_dps import Recipe, reconstruct, simulate
from napari_dps.components import make
from napari_dps.errors import InputError, RecipeError
from napari_dps.grid import Grid
from napari_dps.run import Run

FAST = {"kind": "mmps", "steps": 10}
GRID = Grid((12, 10), pixel_size=(0.4, 0.6), dtype="float64")
STEPS = [
    {"kind": "gaussian-blur", "sigma": 1.5},
    {"kind": "downsample", "factor": [2, 3]},
    {"kind": "random-inpaint", "missing": 0.3},
]


def chain(*steps):
    return make("forward", {"kind": "compose", "steps": list(steps)})


def test_a_gaussian_blur_of_a_chain_keeps_the_planes_of_a_volume_apart():
    point = np.full((6, 16, 16), 1e-6)
    point[2, 8, 8] = 1000.0
    steps = [STEPS[0], {"kind": "downsample", "factor": [1, 2, 2]}]
    silent = {"kind": "gaussian", "sigma": 1e-9}
    seen = simulate(point, forward={"kind": "compose", "steps": steps}, noise=silent)
    np.testing.assert_allclose(seen.sum((1, 2)), [0, 0, 250, 0, 0, 0], atol=1)
    with_z = {"kind": "psf", "psf": np.ones((3, 1, 1)) / 3}
    chained = chain(with_z, *steps).bind(Grid((6, 8, 8), dtype="float64"))
    x = torch.zeros((1, *chained.x_shape), dtype=torch.float64)
    x[..., chained.x_shape[1] // 2, 8, 8] = 1.0
    assert int((chained(x).sum((-1, -2)) > 1e-6).sum()) == 3


def test_steps_are_applied_in_their_order():
    operator = chain(*STEPS).bind(GRID)
    fine = make("forward", STEPS[0]).bind(Grid((24, 30), dtype="float64"))
    coarse = make("forward", STEPS[1]).bind(GRID)
    lost = make("forward", STEPS[2]).bind(GRID)
    assert operator.x_shape == fine.x_shape and operator.field == fine.field
    x = torch.rand((2, *operator.x_shape), dtype=torch.float64)
    assert torch.allclose(operator(x), lost(coarse(fine(x))))
    v = torch.rand((2, *operator.y_shape), dtype=torch.float64)
    known = fine.transpose(coarse.transpose(lost.transpose(v)))
    assert torch.allclose(operator.adjoint(v), known)
    assert operator.is_affine and torch.equal(operator.measured, lost.measured[None])


def test_the_field_is_found_behind_wide_borders():
    """A point in the field is seen where a point in the object's field is."""
    steps = [{"kind": "downsample", "factor": 2, "method": "bicubic"}, {"kind": "gaussian-blur"}]
    operator = chain(*steps).bind(GRID)
    assert [s.stop - s.start for s in operator.field] == [24, 20]
    x = torch.zeros((1, *operator.x_shape), dtype=torch.float64)
    rows, cols = operator.field
    x[0, 0, rows.start + 8 : rows.start + 10, cols.start + 6 : cols.start + 8] = 1.0
    z = operator(x)[0, 0]
    assert np.unravel_index(int(z.argmax()), z.shape) == (4, 3)


def test_pixel_size_shape_and_offset_are_chained():
    model = chain({"kind": "downsample", "factor": 2}, {"kind": "downsample", "factor": [3, 2]})
    once = make("forward", {"kind": "downsample", "factor": [6, 4]})
    assert model.object_pixel_size(GRID) == pytest.approx(once.object_pixel_size(GRID))
    assert model.object_offset(GRID) == pytest.approx(once.object_offset(GRID))
    assert model.measurement_shape((72, 40)) == (12, 10)
    x = torch.rand((1, 1, 72, 40), dtype=torch.float64)
    assert torch.allclose(model.bind(GRID)(x), once.bind(GRID)(x))


def test_masks_at_the_end_are_all_to_be_fulfilled():
    box = {"kind": "inpaint", "box": [2, 2, 6, 6]}
    model = chain({"kind": "gaussian-blur"}, box, STEPS[2])
    measured = model.measured_pixels(np.ones((1, *GRID.shape)))
    assert not measured[..., 2:6, 2:6].any() and 0 < measured.mean() < 0.7
    assert torch.equal(model.bind(GRID).measured[0], torch.as_tensor(measured[0]))
    # A mask before a blur leaves light out, and no datum.
    before = chain(STEPS[2], {"kind": "gaussian-blur"})
    assert before.measured_pixels(np.ones((1, *GRID.shape))) is None
    assert before.bind(GRID).measured is None


def test_magnitudes_come_last_only():
    far = {"kind": "phase-retrieval"}
    operator = chain({"kind": "gaussian-blur"}, far).bind(Grid((32, 32), dtype="float64"))
    assert operator.symmetric and not operator.is_affine
    with pytest.raises(InputError, match=r"step 1 .*magnitudes only.*put it last"):
        chain(far, {"kind": "gaussian-blur"}).bind(Grid((32, 32)))


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        ("blur", "give a list of forward models"),
        ([{"kind": "gaussian-blurr"}], "step 1 of compose.*gaussian-blur"),
        ([{"kind": "identity"}, {"kind": "gaussian-blur", "sigma": -1}], "step 2.*> 0"),
        ([{"kind": "identity", "background": 5}], "belong to the detector"),
    ],
)
def test_bad_steps_are_one_sentence(steps, word):
    with pytest.raises(RecipeError, match=word):
        make("forward", {"kind": "compose", "steps": steps})


def test_no_steps_and_steps_that_do_not_bind_are_one_sentence():
    with pytest.raises(InputError, match="no steps"):
        chain().bind(GRID)
    with pytest.raises(InputError, match=r"step 1 of compose \('psf'\): no PSF"):
        chain({"kind": "psf"}, {"kind": "downsample"}).bind(GRID)


def test_arrays_inside_are_written_beside_the_recipe_and_found(tmp_path):
    mask = np.ones((12, 10))
    mask[3:5] = 0
    recipe = Recipe(forward=chain({"kind": "gaussian-blur"}, {"kind": "inpaint", "mask": mask}))
    path = recipe.save(tmp_path / "folder" / "recipe.json")
    written = json.loads(path.read_text())["forward"]["steps"][1]["mask"]
    assert (path.parent / written).is_file()
    back = Recipe.load(path)
    assert np.array_equal(back.forward.steps[1].mask.load(), mask)
    assert Recipe.load(path) == back
    assert Recipe(**json.loads(Recipe(forward=chain(*STEPS)).to_json())).forward == chain(*STEPS)


def test_steps_on_the_command_line():
    from napari_dps.cli import _options

    given = {"forward": "compose", "forward__steps": json.dumps(STEPS)}
    assert _options.component_from("forward", given, None) == chain(*STEPS)


def test_steps_in_the_form(qtbot):
    from napari_dps.plugin.forms import ComponentChooser

    mask = np.eye(12)
    model = chain({"kind": "psf", "psf": np.ones((3, 3))}, {"kind": "inpaint", "mask": mask})
    chooser = ComponentChooser("forward")
    qtbot.addWidget(chooser)
    chooser.set_value(model)
    assert chooser.value() == model
    line = chooser.form.editors["steps"]._line
    line.setText(line.text().replace('"psf"', '"psf", "crop": 0.9', 1))
    edited = chooser.value()
    assert edited.steps[0].crop == 0.9
    assert np.array_equal(edited.steps[1].mask.load(), mask)


def test_a_chain_simulates_and_restores():
    rows, cols = np.mgrid[:32, :30]
    truth = 20 + 60 * np.exp(-((rows - 15) ** 2 + (cols - 13) ** 2) / 12.0)
    noise = {"kind": "gaussian", "sigma": 0.5}
    model = chain(*STEPS)
    y = simulate(truth, forward=model, noise=noise)
    assert y.shape == (16, 10)
    prior = {"kind": "gaussian", "correlation_length": 3.0, "exponent": 2.0}
    result = reconstruct(y, forward=model, noise=noise, prior=prior, sampler=FAST, samples=2)
    assert result.mean.shape == truth.shape
    assert np.abs(result.mean - truth).mean() < 3


KSPACE = {"kind": "fourier-mask", "object": "real", "acceleration": 2}


def test_what_the_measuring_step_knows_holds_for_the_chain():
    blurred = [{"kind": "gaussian-blur", "sigma": 1.0}, KSPACE]
    with pytest.raises(RecipeError, match="give the noise 'gaussian'"):
        Recipe(forward=chain(*blurred), noise="poisson")
    assert Recipe(forward="compose", noise="poisson").forward.steps == ()
    rows, columns = np.mgrid[:64, :64]
    image = 20 * np.exp(-((rows - 30) ** 2 + (columns - 25) ** 2) / 60)
    noise = {"kind": "gaussian", "sigma": 0.3}
    y = simulate(image, forward=chain(*blurred), noise=noise)
    parts = {"forward": chain(*blurred), "noise": "gaussian", "prior": "gaussian"}
    for given in (y, y[0] + 1j * y[1]):
        job = Run(given, parts)
        assert job._datum.axes[-2:] == "YX" and job._prepared.frames.shape[1:] == (2, 64, 64)
        assert job.recipe.noise.sigma == pytest.approx(0.3, rel=0.1)
    stack = Run(np.stack([y[0] + 1j * y[1]] * 3), parts)
    assert stack._datum.axes == "CYX" and stack._prepared.frames.shape == (3, 2, 64, 64)


def test_complex_objects_enter_by_the_first_step():
    steps = [{**KSPACE, "object": "complex"}]
    noise = {"kind": "gaussian", "sigma": 0.01}
    x = np.random.default_rng(0).random((16, 16)) * np.exp(0.5j)
    seen = simulate(x, forward=chain(*steps), noise=noise)
    assert np.array_equal(seen, simulate(x, forward=steps[0], noise=noise))


def test_saturation_is_told_to_the_masks_of_a_chain():
    frames = np.array([[[1.0, 600.0], [700.0, 2.0]]])
    steps = [{"kind": "gaussian-blur"}, {"kind": "inpaint", "saturated": True}]
    model = make("forward", {"kind": "compose", "full_scale": 600.0, "steps": steps})
    assert model.measured_pixels(frames).tolist() == [[[True, False], [False, True]]]


def test_findings_of_the_measuring_step_are_kept():
    rows, columns = np.mgrid[:8, :8]
    probe = 9 * np.exp(-((rows - 4) ** 2 + (columns - 3) ** 2) / 8) * np.exp(0.2j * rows)
    scan = {"probe": probe, "positions": [[0, 0], [3, 4]], "refine_probe": True}
    model = chain({"kind": "ptychography", **scan, "refinement_passes": 2}, STEPS[2])
    grid = Grid((2, 8, 8), dtype="float64")
    x = torch.rand((1, 2, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    report = {}
    found = model.resolved(model.steps[0].bind(grid)(x)[0].numpy(), grid, report)
    assert "probe" in report and not found.steps[0].refine_probe
    assert found.steps[1] == model.steps[1] and model.steps[0].refine_probe
    assert found.bind(grid).phase_free and not chain(*STEPS).bind(GRID).phase_free
    assert chain(*STEPS).resolved(np.ones((1, 12, 10)), GRID, {}).steps == chain(*STEPS).steps


def test_the_response_of_a_sinogram_is_kept():
    grid = Grid((10, 16), dtype="float64")
    alone = make("forward", "radon").bind(grid)
    assert chain({"kind": "gaussian-blur"}, {"kind": "radon"}).bind(grid).response == alone.response
