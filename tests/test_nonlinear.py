"""Nonlinear blur: the response, modules from files, and what is refused."""

import os
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import torch

from napari_dps import reconstruct, simulate
from napari_dps.components import make
from napari_dps.core.estimate import object_map
from napari_dps.core.operator import dot_test
from napari_dps.core.streams import Streams
from napari_dps.errors import InputError
from napari_dps.grid import Grid
from napari_dps.training.phantoms import STRUCTURES

GRID = Grid((16, 18), dtype="float64")


def bound(**fields):
    return make("forward", {"kind": "nonlinear-blur", **fields}).bind(GRID)


def test_response_saturates_and_keeps_its_ends():
    operator = bound(white=100.0, gamma=2.0)
    flat = torch.ones((1, *operator.x_shape), dtype=torch.float64)
    for light, seen in ((25.0, 50.0), (100.0, 100.0), (500.0, 100.0), (0.0, 0.0)):
        assert operator(light * flat).mean().item() == pytest.approx(seen, abs=1e-9)


def test_response_from_a_table():
    operator = bound(table=np.array([[0.0, 10.0], [10.0, 60.0], [50.0, 80.0]]))
    flat = torch.ones((1, *operator.x_shape), dtype=torch.float64)
    for light, seen in ((0.0, 10.0), (5.0, 35.0), (30.0, 70.0), (99.0, 80.0)):
        assert operator(light * flat).mean().item() == pytest.approx(seen)
    x = 40 * torch.rand((2, *operator.x_shape), dtype=torch.float64)
    a, b = dot_test(operator, x)
    assert a == pytest.approx(b, rel=1e-9)
    same = bound(white=50.0, table=np.array([0.0, 20.0, 40.0]))
    assert same(25 * flat).mean().item() == pytest.approx(20.0)


def test_sub_exposures_are_as_many_as_asked():
    model = make(
        "forward",
        {"kind": "nonlinear-blur", "path": "straight", "length": 9.0, "exposures": 3},
    )
    assert model.psf()[0] == pytest.approx([1 / 3, 0, 0, 1 / 3, 0, 0, 1 / 3])


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "needs `white`"),
        ({"table": np.array([0.0, 1.0])}, "needs `white`, the light of its last value"),
        ({"table": np.array([[0.0, 1.0], [0.0, 2.0]])}, "must rise"),
        ({"table": np.array([[0.0, 1.0], [1.0, 0.5]])}, "must not fall"),
        ({"table": np.array([[0.0, np.nan], [1.0, 0.5]])}, "NaN"),
        ({"table": np.ones((3, 3))}, "shape"),
        ({"module": "nowhere.pt"}, "no file"),
    ],
)
def test_bad_parameters_are_one_sentence(fields, word):
    with pytest.raises(InputError, match=word):
        bound(**fields)


class Soft(torch.nn.Module):
    """A blur that saturates softly."""

    def __init__(self):
        super().__init__()
        self.blur = torch.nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate", bias=False)
        torch.nn.init.constant_(self.blur.weight, 1 / 9)

    def forward(self, x):
        return torch.tanh(self.blur(x))


class Half(torch.nn.Module):
    def forward(self, x):
        return x[..., ::2, ::2]


def scripted(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        torch.jit.trace(module, torch.zeros((2, 1, 16, 18))).save(str(path))
    return str(path)


def exported(module, path):
    dim = torch.export.Dim
    shapes = {0: dim("b", min=1, max=4096), 2: dim("h", min=8), 3: dim("w", min=8)}
    program = torch.export.export(module, (torch.zeros((2, 1, 16, 18)),), dynamic_shapes=(shapes,))
    torch.export.save(program, str(path))
    return str(path)


@pytest.mark.parametrize("write", [scripted, exported])
def test_a_module_from_a_file_is_the_operator(write, tmp_path):
    path = write(Soft(), tmp_path / "soft.pt2")
    operator = bound(module=path, module_scale=50.0, module_zero=10.0)
    x = 10 + 60 * torch.rand((3, 1, *GRID.shape), dtype=torch.float64)
    with torch.no_grad():
        known = 50 * Soft().double()((x - 10) / 50) + 10
    assert torch.allclose(operator(x), known)
    a, b = dot_test(operator, x)
    assert a == pytest.approx(b, rel=1e-9)
    v = torch.rand_like(x)
    z, jvp, _ = operator.linearize(x)
    numeric = (operator(x + 1e-5 * v) - operator(x - 1e-5 * v)) / 2e-5
    assert torch.allclose(jvp(v), numeric, atol=1e-6) and torch.allclose(z, known)


class Marks:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickles_are_refused_without_being_run(tmp_path):
    marker = tmp_path / "it-ran"
    plain, saved = tmp_path / "plain.pt", tmp_path / "saved.pt"
    plain.write_bytes(pickle.dumps(Marks(str(marker))))
    torch.save(Marks(str(marker)), saved)
    for path in (plain, saved):
        with pytest.raises(InputError, match=f"{path.name}.*pickles can run any code"):
            bound(module=str(path))
    good = exported(Soft(), tmp_path / "soft.pt2")
    attacks = {
        "sample_inputs/model.pt": lambda _: saved.read_bytes(),
        "models/model.json": lambda old: old.replace(
            b'"torch.ops.aten.tanh.default"', b'"torch.os.getcwd"'
        ),
        "model_weights_config.json": lambda old: old.replace(
            b'"use_pickle": false', b'"use_pickle": true'
        ),
        "model_constants_config.json": None,
    }
    for part, change in attacks.items():
        bad = tmp_path / "bad.pt2"
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
            for name in source.namelist():
                data = source.read(name)
                if name.endswith(part) and change is not None:
                    assert change(data) != data
                    data = change(data)
                target.writestr(name.replace("soft/", "bad/"), data)
            if change is None:
                target.writestr("bad/data/constants/opaque_obj_0", plain.read_bytes())
        with pytest.raises(InputError, match="pickles can run any code"):
            bound(module=str(bad))
    assert not marker.exists()


def test_expressions_that_torch_would_evaluate_are_looked_through():
    from napari_dps.forward._module import _harmless

    fine = "Mul(Symbol('s0', positive=True, integer=True), Integer(2))"
    assert _harmless("expr_str", fine)
    for text in ("__import__('os').getcwd()", "open('x')", "exec(chr(120))"):
        assert not _harmless("expr_str", text)
    assert not _harmless("target", "torch.ops.aten.from_file.default")


def test_a_module_of_another_shape_is_refused(tmp_path):
    with pytest.raises(InputError, match="same shape"):
        bound(module=scripted(Half(), tmp_path / "half.pt"))


def test_a_gamma_image_is_restored():
    rows, cols = np.mgrid[:24, :24]
    truth = 8 + 60 * np.exp(-((rows - 11) ** 2 + (cols - 13) ** 2) / 10.0)
    forward = {"kind": "nonlinear-blur", "white": 100.0, "path": "straight", "length": 5.0}
    noise = {"kind": "gaussian", "sigma": 0.5}
    y = simulate(truth, forward=forward, noise=noise)
    prior = {"kind": "gaussian", "correlation_length": 3.0, "exponent": 2.0}
    sampler = {"kind": "daps", "steps": 10, "informed_start": False}
    result = reconstruct(y, forward=forward, noise=noise, prior=prior, sampler=sampler, samples=2)
    assert result.recipe.sampler.kind == "daps"
    assert np.abs(result.mean - truth).mean() < 3
    assert result.report["misfit"] == pytest.approx(1, abs=0.3)


def seen_by(model, truth, seed=1):
    """Return (Poisson measurement, operator, classical estimate)."""
    grid = Grid(truth.shape, dtype="float64")
    operator, likelihood = model.bind(grid), make("noise", "poisson").bind(grid)
    wide = operator.embed(torch.as_tensor(truth)[None, None])
    y = likelihood.sample(operator(wide), Streams(seed, [0], dtype=torch.float64))
    streams = Streams(seed, ["estimate"], dtype=torch.float64)
    return y, operator, operator.classical_estimate(y, likelihood, None, streams)


@pytest.mark.parametrize("ground", [2.0, 0.0])
@pytest.mark.parametrize("response", ["gamma", "table"])
def test_a_bright_structure_on_a_dark_ground_keeps_its_brightness(response, ground):
    """The response is steep in the dark and flat where bright: one tangent fits neither."""
    shape = STRUCTURES["mitochondria"][0](np.random.default_rng(9), 80).astype(np.float64)
    truth = ground + 100 * np.clip(shape / np.percentile(shape, 99.8), 0, 1.5)
    fields = {"kind": "nonlinear-blur", "white": 120.0, "extent": 9.0}
    if response == "table":
        light = np.linspace(0, 140, 15)
        fields["table"] = np.stack((light, 120 * (light / 140) ** 0.4545), 1)
    y, operator, found = seen_by(make("forward", fields), truth)
    image = operator.crop(found.image)
    z = operator(found.image)
    assert float(image.mean()) == pytest.approx(truth.mean(), rel=0.15)
    assert float(((y - z) ** 2 / z.clamp_min(1)).mean()) < 2
    assert float((image[0, 0] - torch.as_tensor(truth)).square().mean().sqrt()) < 12
    assert float(image.min()) >= 0
    scale, _ = object_map(image, found.noise, found.lost())
    assert 50 < float(scale) < 140


def test_sparse_light_on_no_ground_is_restored_and_explained():
    photons = 300.0
    rows, cols = np.mgrid[:40, :40]
    truth = sum(
        photons * a * np.exp(-((rows - r) ** 2 + (cols - c) ** 2) / 18.0)
        for r, c, a in ((11, 12, 1.0), (27, 29, 0.6), (32, 9, 0.3))
    )
    forward = {"kind": "nonlinear-blur", "white": 1.2 * photons, "extent": 7.0}
    y = simulate(truth, forward=forward, noise="poisson", seed=2)
    assert (y == 0).mean() > 0.1
    result = reconstruct(y, forward=forward, noise="poisson", samples=1)
    assert result.recipe.sampler.kind == "daps"
    assert result.report["misfit"] == pytest.approx(1, abs=0.2)
    assert result.mean.sum() == pytest.approx(truth.sum(), rel=0.1)
    assert np.sqrt(np.mean((result.mean - truth) ** 2)) < 0.05 * photons


def test_inverse_of_a_response():
    from napari_dps.forward._response import Curve, TableCurve

    rows = np.array([[0.0, 10.0], [10.0, 60.0], [30.0, 60.0], [50.0, 80.0]])
    for curve, flat in ((Curve(100.0, 2.2), 0.0), (TableCurve(*rows.T, GRID), 15.0)):
        light = torch.linspace(0.0, 49.0, 99, dtype=torch.float64)
        back = curve.inverse(curve(light))
        known = light if not flat else torch.where((light > 10) & (light <= 30), 10.0, light)
        assert torch.allclose(back, known, atol=1e-6)
        beyond = torch.tensor([1e6], dtype=torch.float64)
        assert float(curve.inverse(beyond)) == (50.0 if flat else 100.0)


class Centred(torch.nn.Module):
    def forward(self, x):
        return x - x.mean() + 5


class Noisy(torch.nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Rooted(torch.nn.Module):
    def forward(self, x):
        return torch.sqrt(torch.abs(x))


class Boxed(torch.nn.Module):
    """A mean over a box whose kernel is written in the code, in single precision."""

    def forward(self, x):
        return torch.nn.functional.conv2d(x, torch.ones(1, 1, 3, 3) / 9, padding=1)


@pytest.mark.parametrize(
    ("module", "word"),
    [
        (Centred(), "gives another measurement of an object beside others"),
        (Noisy(), "must be deterministic"),
        (Rooted(), "no finite derivative where the object is zero"),
    ],
)
def test_modules_that_cannot_be_trusted_are_refused(module, word, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        torch.jit.script(module).save(str(tmp_path / "module.pt"))
    for scale in (1.0, 50.0):
        with pytest.raises(InputError, match=f"module.pt'.*{word}"):
            bound(module=str(tmp_path / "module.pt"), module_scale=scale)


def test_a_module_with_constants_of_single_precision_simulates(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Boxed()).save(str(tmp_path / "boxed.pt"))
    forward = {"kind": "nonlinear-blur", "module": str(tmp_path / "boxed.pt")}
    image = np.random.default_rng(0).random((16, 18))
    y = simulate(image, forward=forward, noise={"kind": "gaussian", "sigma": 1e-6})
    assert y[4, 5] == pytest.approx(image[3:6, 4:7].mean(), abs=1e-4)
