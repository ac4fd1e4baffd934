"""What makes runs fast: few waits for a GPU, fused products, bfloat16. No clock is looked at."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from napari_dps import core, reconstruct
from napari_dps.components import make
from napari_dps.core import gauss_newton, linalg
from napari_dps.core.covariance import StationaryCovariance
from napari_dps.core.linalg import SELDOM, conjugate_gradients
from napari_dps.core.operator import MappedOperator
from napari_dps.core.prior import Prior
from napari_dps.grid import Grid
from napari_dps.priors import _precision
from napari_dps.priors._network import DenoiserNetwork, NetworkPrior
from napari_dps.run import Run
from napari_dps.start import find_start

GAUSSIAN = {"kind": "gaussian", "mean": -0.5, "std": 0.3, "correlation_length": 2.0}
BLUR = {"kind": "gaussian-blur", "sigma": 1.0}
READS = {
    torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy,
    torch.Tensor.__bool__, torch.Tensor.__float__, torch.Tensor.__int__, torch.Tensor.nonzero,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Images this small gain nothing from threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Reads(TorchFunctionMode):
    """Counts what would wait for a GPU: a value looked at, or a tensor fetched.

    What a program does on the CPU anyway is in double precision, or in whole numbers.

    Parameters
    ----------
    kinds : dtypes
        Of values that would be on the GPU.
    """

    def __init__(self, kinds: tuple[torch.dtype, ...] = (torch.float32, torch.bool)) -> None:
        super().__init__()
        self.count, self.kinds = 0, kinds

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        fetched = func is torch.Tensor.to and "cpu" in [
            str(a) for a in (*args[1:], *kwargs.values())
        ]
        if func in READS or fetched:
            self.count += args[0].dtype in self.kinds
        return func(*args, **kwargs)


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.poisson(30 + 20 * np.sin(np.arange(24) / 3) * np.ones((24, 1))).astype(np.float32)


def bound(counts: np.ndarray, sampler: dict[str, object], forward: object = None) -> Run:
    recipe = {
        "forward": forward or BLUR, "noise": "poisson", "prior": GAUSSIAN, "sampler": sampler,
        "samples": 2,
    }  # fmt: skip
    run = Run(counts, recipe, device="cpu")
    run._bind()
    for _ in find_start(run):
        pass
    return run


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (linalg, gauss_newton):
        monkeypatch.setattr(module, "cheap_to_read", lambda x: False)


def reads_per_step(run: Run) -> tuple[list[int], torch.Tensor]:
    """Return the reads of each step but the first, which may fill caches, and the last one."""
    found = []
    with Reads() as reads:
        for step in run._sampler.sample(*_arguments(run)):
            found.append(reads.count)
            reads.count, last = 0, step.x0
    return found[1:-1], last


def _arguments(run: Run):
    from napari_dps.core.streams import Streams

    return run._sampled_problem([0, 0]), 2, Streams(0, [(0, 0), (0, 1)])


@pytest.mark.parametrize("kind", ["dps", "pigdm", "daps"])
def test_no_step_waits_for_a_gpu(counts, kind, monkeypatch) -> None:
    usual = reads_per_step(bound(counts, {"kind": kind, "steps": 6}))[1]
    as_on_a_gpu(monkeypatch)
    waits, x0 = reads_per_step(bound(counts, {"kind": kind, "steps": 6}))
    assert waits == [0] * 4
    assert torch.equal(x0, usual)  # how often one looks changes nothing


def test_no_step_waits_where_the_operator_is_not_affine(counts, monkeypatch) -> None:
    forward = {"kind": "phase-retrieval", "measured": "intensity"}
    sampler = {"kind": "daps", "steps": 5, "informed_start": False}
    usual = reads_per_step(bound(counts, sampler, forward))[1]
    as_on_a_gpu(monkeypatch)
    waits, x0 = reads_per_step(bound(counts, sampler, forward))
    assert waits == [0] * 3
    assert torch.equal(x0, usual)


def test_moment_matching_waits_once_a_product(counts) -> None:
    # Whether another network call is needed depends on what the last one gave.
    run = bound(counts, {"kind": "mmps", "steps": 6})
    before, waits = 0, []
    problem, n, streams = _arguments(run)
    # Whether to go on is decided from what was fetched, on the CPU.
    with Reads(kinds=(torch.float32,)) as reads:
        for step in run._sampler.sample(problem, n, streams):
            waits.append((reads.count, step.calls["vjp"] - before))
            before, reads.count = step.calls["vjp"], 0
    assert all(count == products > 0 for count, products in waits[:-1])


def test_a_report_waits_once_and_only_when_it_is_made(counts) -> None:
    run = Run(counts, {"prior": GAUSSIAN, "sampler": {"kind": "pigdm", "steps": 5}, "samples": 1})
    steps = iter(run)
    with Reads() as reads:
        for progress in steps:
            if progress.stage == "sample" and 1 < progress.done < 4:
                reads.count = 0
                assert progress.misfit is not None and progress.misfit > 0
                assert reads.count == 1


def test_the_reader_of_a_value_is_counted() -> None:
    x = torch.ones(3)
    with Reads() as reads:
        float(x.sum()), bool((x > 0).any()), x.cpu(), x.tolist(), x.to("cpu"), x.sum().item()
    assert reads.count == 6


def test_conjugate_gradients_look_seldom_off_the_cpu(monkeypatch) -> None:
    matrix = torch.diag(torch.linspace(1, 3, 8, dtype=torch.float64))
    rhs = torch.ones((1, 8), dtype=torch.float64)

    def solve() -> linalg.Solution:
        return conjugate_gradients(lambda p: p @ matrix, rhs, iterations=100, tolerance=1e-6)

    usual = solve()
    as_on_a_gpu(monkeypatch)
    seldom = solve()
    assert usual.iterations < SELDOM == seldom.iterations
    assert torch.equal(usual.u, seldom.u)


class Stated(Prior):
    """States a spectrum that is not symmetric, as a coarser grid's highest mode makes it."""

    def power_spectrum(self, shape):
        generator = torch.Generator().manual_seed(2)
        return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1


@pytest.mark.parametrize("shape", [(12, 15), (7, 8), (4, 6, 10)])
def test_real_transforms_do_what_complex_ones_do(shape) -> None:
    x = torch.randn((2, 1, *shape), dtype=torch.float64)
    spectrum, axes = Stated().power_spectrum(shape), tuple(range(2, x.ndim))
    every = tuple(range(-len(shape), 0))
    mirrored = spectrum.flip(every).roll((1,) * len(shape), every)
    even = (spectrum + mirrored) / 2
    gain = even * 0.25 / (even + 0.25)
    expected = torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * gain, dim=axes).real
    covariance = StationaryCovariance(Stated(), x, 0.5)
    assert torch.allclose(covariance(x), expected)
    assert torch.allclose(covariance.root(covariance.root(x)), expected)
    assert torch.allclose(covariance.whiten(covariance.root(x)), x)


@pytest.mark.parametrize("boundary", ["extend", "periodic"])
@pytest.mark.parametrize("extra", [{}, {"flat_field": True}])
def test_the_short_way_is_the_long_way(boundary, extra) -> None:
    from napari_dps.core.illumination import IlluminatedOperator

    operator = make("forward", {**BLUR, "boundary": boundary}).bind(Grid((14, 17), dtype="float64"))
    if extra:
        flat = torch.linspace(0.5, 1.5, 17, dtype=torch.float64)
        operator = IlluminatedOperator(operator, flat, torch.tensor(3.0, dtype=torch.float64))
    scale = torch.tensor([20.0, 30.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    mapped = MappedOperator(operator, scale, 0 * scale)
    x = torch.zeros((2, *mapped.x_shape), dtype=torch.float64)
    v = torch.randn((2, *mapped.y_shape), dtype=torch.float64)
    covariance = StationaryCovariance(Stated(), x, 0.7)
    _, jvp, vjp = mapped.linearize(x)
    short = mapped.normal(covariance.transfer)
    assert torch.allclose(short(v), jvp(covariance(vjp(v))))
    assert torch.allclose(mapped.normal(0.3)(v), 0.3 * jvp(vjp(v)))


@pytest.mark.parametrize("kind", ["daps", "diffpir", "pigdm"])
def test_a_draw_is_the_same_on_either_way(counts, monkeypatch, kind) -> None:
    recipe = {"forward": BLUR, "noise": "poisson", "prior": GAUSSIAN, "samples": 2}
    recipe["sampler"] = {"kind": kind, "steps": 5}
    transforms, rfftn = [], torch.fft.rfftn

    def counted(*arguments, **options):
        transforms.append(None)
        return rfftn(*arguments, **options)

    monkeypatch.setattr(torch.fft, "rfftn", counted)

    def drawn() -> tuple[np.ndarray, int]:
        run = Run(counts, recipe, device="cpu", dtype="float64")
        before = len(transforms)
        for _ in run:
            pass
        return run.result().samples, len(transforms) - before

    short, few = drawn()
    monkeypatch.setattr(core.operator.MappedOperator, "normal", lambda self, transfer: None)
    long, many = drawn()
    # Results are single precision; in double only their rounding may differ.
    np.testing.assert_allclose(short, long, rtol=1e-6)
    assert few < many  # the start takes as many either way


def test_a_blur_has_the_shorter_way() -> None:
    """Products of both ways are equal, and the operator offers the shorter one."""
    operator = make("forward", BLUR).bind(Grid((24, 24), dtype="float64"))
    v = torch.randn((2, *operator.y_shape), dtype=torch.float64, generator=torch.manual_seed(0))
    short = operator.normal(0.25)
    assert short is not None
    long = 0.25 * operator(operator.transpose(v))
    torch.testing.assert_close(short(v), long, rtol=1e-10, atol=1e-12)


# -- precision ----------------------------------------------------------------------------------


@pytest.fixture
def clean_cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(_precision, "cache_file", lambda: tmp_path / "deep" / "precision.json")
    monkeypatch.setattr(_precision, "_known", {})
    return tmp_path / "deep" / "precision.json"


@pytest.fixture
def small() -> NetworkPrior:
    torch.manual_seed(0)
    return NetworkPrior(DenoiserNetwork((8, 16), groups=4))


def test_bfloat16_restores_what_float32_restores(counts) -> None:
    # The shipped prior. Measured with 64x64 pixels and 4 samples: the means differ by 2.4 % of a
    # sample's standard deviation with mmps, 0.3 % with daps, 0.7 % with pigdm, 3 % with dps.
    means, spreads = [], []
    for precision in ("float32", "bfloat16"):
        result = reconstruct(
            counts, forward=BLUR, prior={"kind": "fluorescence", "precision": precision},
            sampler={"kind": "mmps", "steps": 10}, samples=2, device="cpu",
        )  # fmt: skip
        assert result.recipe.prior.precision == precision
        means.append(result.mean)
        spreads.append(float(np.sqrt(np.mean(result.std**2))))
    off = float(np.sqrt(np.mean((means[0] - means[1]) ** 2)))
    assert 0 < off < 0.1 * spreads[0]
    assert spreads[1] == pytest.approx(spreads[0], rel=0.05)


def test_bfloat16_errs_less_where_less_noise_is_left(small) -> None:
    x = torch.randn((1, 1, 16, 16))
    small.set_precision("float32")
    exact = {sigma: small(x, sigma) for sigma in (0.01, 1.0)}
    small.set_precision("bfloat16")
    off = {sigma: float((small(x, sigma) - exact[sigma]).abs().max()) for sigma in exact}
    assert 0 < off[0.01] < 0.02 * off[1.0]
    x0, vjp = small.linearize(x, 0.3)
    assert x0.dtype == vjp(torch.ones_like(x0)).dtype == torch.float32
    small.set_precision("float32")
    assert torch.equal(small(x, 1.0), exact[1.0])


def test_float32_with_channels_last_is_as_exact_as_without(small) -> None:
    x = torch.randn((2, 1, 16, 16))
    double = NetworkPrior(copy.deepcopy(small.network).double())(x.double(), 0.3)
    before = float((small(x, 0.3) - double).abs().max())
    small.set_precision("float32")
    assert small.network.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert float((small(x, 0.3) - double).abs().max()) < 2 * before + 1e-7
    assert small.network.fast is None
    after = small(x, 0.3)
    small.set_precision("bfloat16")
    small.set_precision("float32")
    assert torch.equal(small(x, 0.3), after)


def test_double_precision_stays_double() -> None:
    prior = NetworkPrior(DenoiserNetwork((8, 16), groups=4).double())
    prior.set_precision("bfloat16")
    assert prior.precision == "float32"
    assert prior(torch.zeros((1, 1, 16, 16), dtype=torch.float64), 0.3).dtype == torch.float64


def test_auto_measures_once_and_remembers(small, clean_cache, monkeypatch) -> None:
    races = []

    def race(network, device, call):
        races.append(device)
        return "bfloat16"

    monkeypatch.setattr(_precision, "_race", race)
    small.set_precision("auto")
    small.set_precision("auto")
    assert (len(races), small.precision) == (1, "bfloat16")
    assert list(json.loads(clean_cache.read_text()).values()) == ["bfloat16"]
    _precision._known.clear()  # as in another process
    small.set_precision("auto")
    assert len(races) == 1
    _precision._known.clear()
    clean_cache.write_text("not JSON")
    small.set_precision("auto")
    assert len(races) == 2


def test_auto_takes_one_of_both_and_the_recipe_says_which(small, clean_cache) -> None:
    small.set_precision("auto")
    assert small.precision in ("float32", "bfloat16")
    assert (small.network.fast is not None) == (small.precision == "bfloat16")
    choice = make("prior", {"kind": "fluorescence", "precision": "auto"})
    prior = choice.bind(Grid((16, 16)))
    assert choice.settled(prior).precision == prior.precision != "auto"


def test_a_cache_that_cannot_be_written_does_no_harm(small, monkeypatch, tmp_path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(_precision, "cache_file", lambda: tmp_path / "file" / "precision.json")
    monkeypatch.setattr(_precision, "_known", {})
    monkeypatch.setattr(_precision, "_race", lambda *a: "float32")
    small.set_precision("auto")
    assert small.precision == "float32"
