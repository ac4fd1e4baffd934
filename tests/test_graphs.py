"""Recorded networks, with a recorder that does on a CPU what CUDA graphs do on a GPU."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_dps import reconstruct
from napari_dps.priors import _graphs, _precision
from napari_dps.priors._graphs import BEFORE, KEPT, OFTEN, Graphs, are_wanted
from napari_dps.priors._network import DenoiserNetwork, NetworkPrior
from napari_dps.priors._recording import NotRecorded, Recorder

SHAPE = (2, 1, 8, 8)


class Tape(Recorder):
    """Plays work back into the memory of its first result, and counts."""

    def __init__(self) -> None:
        self.recorded = self.played = 0

    def warm(self, work: Callable[[], Tensor]) -> None:
        """Work once."""
        work()

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], Any]]:
        """Record."""
        self.recorded += 1
        out = work()

        def replay() -> None:
            self.played += 1
            out.detach().copy_(work().detach())

        return out, replay


@pytest.fixture(autouse=True)
def always_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes less time is not a test's business."""
    monkeypatch.setattr(_graphs, "WORTH", float("inf"))


def network(x: Tensor, time: Tensor) -> Tensor:
    """Return something that is not linear and hangs on the time."""
    return torch.tanh(x * time.reshape(-1, 1, 1, 1)) + 0.1 * x.roll(1, -1) ** 2


def image(seed: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Return noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def product(call: Callable[[Tensor, Tensor], Tensor], x: Tensor, time: Tensor) -> Any:
    """Return a call's output and its product, as a function."""
    leaf = x.clone().requires_grad_(True)
    out = call(leaf, time)
    return out.detach(), lambda v: torch.autograd.grad(out, leaf, v, retain_graph=True)[0]


def played(graphs: Graphs) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the network behind recordings, called often enough to be one."""

    def call(x: Tensor, time: Tensor) -> Tensor:
        return graphs(network, x, time)

    return call


def warm(graphs: Graphs, shape: tuple[int, ...] = SHAPE) -> None:
    """Call until the next call is played back, without and with products."""
    for _ in range(BEFORE + 1):
        graphs(network, image(0, shape), torch.ones(shape[0]))
        graphs(network, image(0, shape).requires_grad_(True), torch.ones(shape[0]))


def test_a_recording_is_the_network() -> None:
    tape = Tape()
    graphs = Graphs(lambda device: tape)
    warm(graphs)
    assert tape.recorded == 3  # the pass alone; the pass and its product
    before = tape.played
    for seed in range(3):
        x, time = image(seed), torch.tensor([0.5 + seed, 2.0])
        assert torch.equal(graphs(network, x, time), network(x, time))
        out, vjp = product(played(graphs), x, time)
        expected, exact = product(network, x, time)
        assert torch.equal(out, expected)
        for k in range(2):
            assert torch.equal(vjp(image(10 + k)), exact(image(10 + k)))
    assert tape.played > before + 9


def test_results_stay_when_the_next_call_comes() -> None:
    graphs = Graphs(lambda device: Tape())
    warm(graphs)
    x, y, time = image(1), image(2), torch.tensor([1.0, 3.0])
    first = graphs(network, x, time)
    out, vjp = product(played(graphs), x, time)
    early = vjp(image(3))
    graphs(network, y, time)
    _, other = product(played(graphs), y, 2 * time)
    # Both calls' products are right, in turns.
    for _ in range(2):
        assert torch.equal(vjp(image(3)), product(network, x, time)[1](image(3)))
        assert torch.equal(other(image(4)), product(network, y, 2 * time)[1](image(4)))
    assert torch.equal(early, vjp(image(3)))
    assert torch.equal(first, network(x, time)) and torch.equal(out, first)


def test_calls_after_another_call_are_made_once_more_not_each_time() -> None:
    tape = Tape()
    graphs = Graphs(lambda device: tape)
    warm(graphs)
    _, vjp = product(played(graphs), image(1), torch.ones(2))
    product(played(graphs), image(2), torch.ones(2))
    before = tape.played
    for _ in range(3):
        vjp(image(3))
    assert tape.played - before == 4


class Stuck(Tape):
    """Plays nothing back: what was recorded stays as it is."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], Any]]:
        """Record."""
        return work(), lambda: None


class Failing(Tape):
    """Fails, as a GPU does at what cannot be recorded."""

    error: Exception = RuntimeError("operation not permitted\nwhen stream is capturing")

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], Any]]:
        """Fail."""
        self.recorded += 1
        raise self.error


class Full(Tape):
    """Has no room."""

    def warm(self, work: Callable[[], Tensor]) -> None:
        """Refuse."""
        raise NotRecorded("it would hold about 900 of 1000 MiB that are free")


@pytest.mark.parametrize(
    ("recorder", "reason", "shapes"),
    [
        (Stuck(), "differs from the network", 2),
        (Failing(), "not permitted when stream is capturing", 1),  # and no further try
        (Full(), "900 of 1000 MiB", 2),
    ],
)
def test_what_is_not_the_network_is_not_used(
    recorder: Tape, reason: str, shapes: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "napari_dps")
    graphs = Graphs(lambda device: recorder)
    warm(graphs)
    assert len(graphs.reasons) == shapes
    assert all(reason in why for why in graphs.reasons.values()) and reason in caplog.text
    out, vjp = product(played(graphs), image(1), torch.ones(2))
    expected, exact = product(network, image(1), torch.ones(2))
    assert torch.equal(out, expected) and torch.equal(vjp(out), exact(out))


def test_another_error_is_told() -> None:
    tape = Failing()
    tape.error = TypeError("a mistake in the program")
    with pytest.raises(TypeError, match="mistake"):
        warm(Graphs(lambda device: tape))


def test_a_black_image_shows_what_is_not_played_back() -> None:
    graphs = Graphs(lambda device: Stuck())
    for _ in range(BEFORE + 1):
        graphs(lambda x, time: x * time[0], torch.zeros(SHAPE), torch.ones(2))
    assert all("differs" in why for why in graphs.reasons.values()) and graphs.reasons


def test_what_takes_longer_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_graphs, "WORTH", 0.9)
    monkeypatch.setattr(_graphs, "_seconds", lambda work, x: 1.0)
    graphs = Graphs(lambda device: Tape())
    warm(graphs)
    assert set(graphs.reasons.values()) == {"it would take 1.00 of the network's own time"}


def test_large_inputs_and_rare_shapes_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_graphs, "LARGEST", 100)
    tape = Tape()
    graphs = Graphs(lambda device: tape)
    warm(graphs)  # 128 values
    for k in range(20):
        for _ in range(BEFORE):
            graphs(network, image(0, (1, 1, 2, 2 + k)), torch.ones(1))
    assert tape.recorded == 0 and not graphs.reasons


def test_only_the_last_shapes_stay() -> None:
    tape = Tape()
    graphs = Graphs(lambda device: tape)
    shapes = [(1, 1, 2, 2 + k) for k in range(KEPT + 1)]

    def call(shape: tuple[int, ...]) -> int:
        before = tape.recorded
        graphs(network, image(0, shape), torch.ones(1))
        return tape.recorded - before

    for shape in shapes[:-1]:
        assert sum(call(shape) for _ in range(BEFORE + 2)) == 1
    call(shapes[0])  # so that another one was used least lately
    assert sum(call(shapes[-1]) for _ in range(BEFORE + 2)) == 1
    assert {key[0] for key in graphs._kept} == {shapes[0], *shapes[2:]}
    # Shapes that push each other out would be recorded all the time.
    assert call(shapes[1]) == 0 and list(graphs.reasons.values()) == ["other shapes came since"]
    assert torch.equal(
        graphs(network, image(3, shapes[0]), torch.ones(1)),
        network(image(3, shapes[0]), torch.ones(1)),
    )


def test_calls_that_take_turns_are_not_made_twice_for_ever() -> None:
    """Tiles of one image are such: a pass each, then a product each, again and again."""
    tape = Tape()
    graphs = Graphs(lambda device: tape)
    warm(graphs)
    for _ in range(OFTEN + 2):
        first = product(played(graphs), image(1), torch.ones(2))[1]
        second = product(played(graphs), image(2), torch.ones(2))[1]
        assert torch.equal(first(image(3)), product(network, image(1), torch.ones(2))[1](image(3)))
        second(image(3))
    assert list(graphs.reasons.values()) == ["calls of this shape take turns"]


def test_a_copy_has_no_recordings() -> None:
    graphs = Graphs(lambda device: Tape())
    warm(graphs)
    assert graphs._kept and not copy.deepcopy(graphs)._kept
    assert not pickle.loads(pickle.dumps(graphs))._kept


def test_recordings_make_room_where_memory_runs_out() -> None:
    tape = Tape()
    graphs = Graphs(lambda device: tape)
    warm(graphs)
    calls = []

    def hungry(x: Tensor, time: Tensor) -> Tensor:
        calls.append(len(graphs._kept))
        if graphs._kept:
            raise RuntimeError("CUDA out of memory")
        return network(x, time)

    x = image(0, (1, 1, 4, 4))
    assert torch.equal(graphs(hungry, x, torch.ones(1)), network(x, torch.ones(1)))
    assert calls == [2, 0]

    def starved(x: Tensor, time: Tensor) -> Tensor:
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        graphs(starved, x, torch.ones(1))
    before = tape.recorded
    warm(graphs)
    assert tape.recorded == before  # memory is scarce: none is held any more


class OnCuda:
    """Stands for an image on a GPU."""

    device = torch.device("cuda", 0)


def test_only_frozen_networks_on_gpus_record_and_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    unet, on_cuda = small_prior().network.unet, OnCuda()
    monkeypatch.setattr(torch.version, "hip", None)
    assert not are_wanted(unet, on_cuda)
    monkeypatch.setenv("NAPARI_DPS_CUDA_GRAPHS", "1")
    assert are_wanted(unet, on_cuda)
    assert not are_wanted(unet, image(0)) and not are_wanted(unet, torch.empty(0, device="meta"))
    assert not are_wanted(torch.nn.Linear(2, 2).requires_grad_(False), on_cuda)
    unet.requires_grad_(True)
    assert not are_wanted(unet, on_cuda)
    unet.requires_grad_(False)
    monkeypatch.setitem(unet.config, "up_block_types", ["SkipUpBlock2D"])
    assert not are_wanted(unet, on_cuda)


def frozen(unet: Any, x: Tensor) -> bool:
    """Whether a network is frozen, wherever it is."""
    return not next(unet.parameters()).requires_grad


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tape]:
    """Let U-Nets on the CPU be recorded."""
    found = Tape()
    monkeypatch.setattr(_precision, "are_wanted", frozen)
    monkeypatch.setattr(_precision, "Graphs", lambda: Graphs(lambda device: found))
    yield found


def small_prior() -> NetworkPrior:
    """Return a prior of a small random network."""
    torch.manual_seed(0)
    return NetworkPrior(DenoiserNetwork(channels=(8, 8), groups=4))


def test_a_prior_answers_the_same_from_recordings(tape: Tape) -> None:
    prior = small_prior()
    plain = copy.deepcopy(prior)
    plain.network.unet.requires_grad_(True)  # what is trained is never recorded
    for k in range(BEFORE + 3):
        x, sigma = image(k, (2, 1, 16, 20)), 0.1 * (k + 1)
        x0, vjp = prior.linearize(x, sigma)
        expected, exact = plain.linearize(x, sigma)
        torch.testing.assert_close(x0, expected)
        for seed in (50, 51):
            v = image(seed, (2, 1, 16, 20))
            torch.testing.assert_close(vjp(v), exact(v))
    assert tape.recorded == 2 and tape.played > 0


def test_other_weights_are_recorded_anew(tape: Tape) -> None:
    prior = small_prior()
    x = image(0, (1, 1, 16, 16))
    with torch.no_grad():
        for _ in range(BEFORE + 1):
            prior(x, 1.0)
        assert tape.recorded == 1
        prior.set_precision("float32")
        for _ in range(BEFORE):
            prior(x, 1.0)
        assert tape.recorded == 1
        prior(x, 1.0)
    assert tape.recorded == 2


def test_a_run_is_the_same_from_recordings(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.random.default_rng(0).poisson(9.0, (32, 32))
    recipe = {
        "forward": {"kind": "gaussian-blur", "sigma": 1.0}, "noise": "poisson",
        "sampler": {"kind": "mmps", "steps": 8}, "samples": 2,
    }  # fmt: skip
    expected = reconstruct(y, recipe, device="cpu")
    found = Tape()
    monkeypatch.setattr(_precision, "are_wanted", frozen)
    monkeypatch.setattr(_precision, "Graphs", lambda: Graphs(lambda device: found))
    got = reconstruct(y, recipe, device="cpu")
    assert found.played > 0
    np.testing.assert_allclose(got.samples, expected.samples, rtol=1e-4, atol=1e-3)
