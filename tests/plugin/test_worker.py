"""The computing process and what follows it: answers, cancelling, and every way to die."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from plugin import fake_run

from napari_dps.errors import DPSError, InputError, OutOfMemoryError
from napari_dps.image import Image
from napari_dps.plugin.messages import (
    ComputeError,
    Estimate,
    Failed,
    Finished,
    Partial,
    Request,
    Stop,
    Update,
    answer,
)
from napari_dps.plugin.process import Computer
from napari_dps.recipe import Recipe


@pytest.fixture(autouse=True)
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_dps.device.available_devices", lambda: {"cpu": "fake"})


IMAGE = Image.from_array(np.arange(64.0).reshape(8, 8), name="cells")


def request(mode: int = fake_run.PLAIN, samples: int = 3, **more: Any) -> Request:
    return Request(1, IMAGE, Recipe(samples=samples, seed=mode), **more)


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def computer() -> Iterator[Computer]:
    computer = Computer(fake_run.COMMAND)
    yield computer
    computer.close()


def ask(computer: Computer, request: Request, cancelled: Any = never) -> list[Any]:
    return [m for m in computer.ask(request, cancelled) if m is not None]


# ---------------------------------------------------------------- the computing side, here


def test_answer_ends_with_the_result() -> None:
    messages = list(answer(request(), Stop(), fake_run.FakeRun))
    assert isinstance(messages[0], Estimate)
    assert messages[0].devices
    assert isinstance(messages[-1], Finished)
    assert messages[-1].result.samples.shape == (3, 8, 8)
    assert not messages[-1].cancelled
    partial = [m.result for m in messages if isinstance(m, Partial)]
    assert [len(p.samples) for p in partial] == [1, 2]
    assert any(isinstance(m, Update) for m in messages)


def test_an_estimate_runs_nothing() -> None:
    messages = list(answer(request(run=False), Stop(), fake_run.FakeRun))
    assert [type(m) for m in messages] == [Estimate]


def test_stopping_keeps_what_is_finished() -> None:
    stop, end = Stop(), None
    for message in answer(request(fake_run.SLOW), stop, fake_run.FakeRun):
        end = message
        if isinstance(message, Partial):
            stop.set()
    assert isinstance(end, Finished)
    assert end.cancelled
    assert len(end.result.samples) == 1
    assert end.result.report["complete"] is False


def test_stopping_at_once_gives_nothing() -> None:
    stop = Stop()
    stop.set()
    end = list(answer(request(), stop, fake_run.FakeRun))[-1]
    assert isinstance(end, Finished)
    assert end.cancelled
    assert end.result is None


@pytest.mark.parametrize(
    ("mode", "error", "words"),
    [
        (fake_run.REFUSE, InputError, "NaN in 3 pixels"),
        (fake_run.RUNTIME, ComputeError, "RuntimeError: shapes do not match"),
        (fake_run.MEMORY, OutOfMemoryError, "smaller region"),
    ],
)
def test_errors_become_one_sentence(mode: int, error: type[DPSError], words: str) -> None:
    end = list(answer(request(mode), Stop(), fake_run.FakeRun))[-1]
    assert isinstance(end, Failed)
    assert isinstance(end.error(), error)
    assert words in str(end.error())
    assert "\n" not in str(end.error())
    assert bool(end.trace) == (mode != fake_run.REFUSE)


def test_pictures_come_at_most_five_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def tick() -> float:
        now[0] += 0.03
        return now[0]

    monkeypatch.setattr("napari_dps.plugin.messages.time.monotonic", tick)
    messages = list(answer(request(samples=50), Stop(), fake_run.FakeRun))
    pictures = [m for m in messages if isinstance(m, Update) and m.preview is not None]
    assert 2 <= len(pictures) <= now[0] / 0.2 + 1


# ---------------------------------------------------------------- across the pipe


def test_one_process_answers_many_requests(computer: Computer) -> None:
    first = ask(computer, request())
    process = computer._process
    assert isinstance(first[-1], Finished)
    np.testing.assert_array_equal(first[-1].result.mean, IMAGE.data + 1)
    assert isinstance(ask(computer, request(fake_run.REFUSE))[-1], Failed)
    assert [type(m) for m in ask(computer, request(run=False))] == [Estimate]
    assert computer._process is process


def test_cancel_keeps_the_process(computer: Computer) -> None:
    cancelled = threading.Event()
    messages = []
    for message in computer.ask(request(fake_run.SLOW, samples=50), cancelled.is_set):
        messages.append(message)
        if isinstance(message, Update) and message.samples_done == 1:
            cancelled.set()
    end = messages[-1]
    assert isinstance(end, Finished)
    assert end.cancelled
    assert 1 <= len(end.result.samples) < 50
    assert computer.alive


def test_a_step_that_hangs_is_killed_and_samples_survive() -> None:
    computer = Computer(fake_run.COMMAND)
    first, hangs = False, threading.Event()
    end: Any = None
    for message in computer.ask(request(fake_run.STUCK), hangs.is_set):
        if first and message is None:  # nothing came for a while after the first sample
            hangs.set()
        first |= isinstance(message, Update) and message.samples_done == 1
        end = message
    assert isinstance(end, Finished)
    assert end.cancelled
    assert not computer.alive
    assert len(end.result.samples) == 1
    # And the next request simply starts another process.
    assert isinstance(ask(computer, request())[-1], Finished)
    computer.close()


def test_a_killed_process_is_told_as_memory() -> None:
    computer = Computer(fake_run.COMMAND)
    end = ask(computer, request(fake_run.KILLED_LATE))[-1]
    assert isinstance(end, Failed)
    assert isinstance(end.error(), OutOfMemoryError)
    assert len(end.partial.samples) == 1
    computer.close()


def test_a_crash_is_told() -> None:
    computer = Computer(fake_run.COMMAND)
    end = ask(computer, request(fake_run.CRASH))[-1]
    assert isinstance(end, Failed)
    assert "exit code 3" in end.text
    computer.close()


def test_whoever_stops_listening_stops_the_work() -> None:
    computer = Computer(fake_run.COMMAND)
    messages = computer.ask(request(fake_run.SLOW, samples=500), never)
    while not isinstance(next(messages), Update):
        pass
    assert computer.alive
    messages.close()  # type: ignore[attr-defined]
    assert not computer.alive


# ---------------------------------------------------------------- the napari worker


@pytest.fixture
def computation(qtbot: Any, make_napari_viewer: Any) -> Iterator[Any]:
    from napari_dps.plugin.worker import Computation

    computation = Computation(fake_run.COMMAND)
    yield computation
    computation.close()
    qtbot.waitUntil(lambda: not computation.busy)


def test_computation_runs_and_reports(qtbot: Any, computation: Any) -> None:
    seen: list[Any] = []
    computation.updated.connect(seen.append)
    states: list[bool] = []
    computation.running_changed.connect(states.append)
    with qtbot.waitSignal(computation.finished, timeout=30_000) as done:
        computation.start(request)
    assert len(done.args[0].result.samples) == 3
    qtbot.waitUntil(lambda: not computation.busy)
    assert seen
    assert states == [True, False]


@pytest.mark.parametrize("mode", [fake_run.REFUSE, fake_run.RUNTIME])
def test_computation_fails_once_and_is_usable_again(
    qtbot: Any, computation: Any, mode: int
) -> None:
    failures: list[str] = []
    computation.failed.connect(lambda text, _: failures.append(text))
    computation.start(lambda: request(mode))
    qtbot.waitUntil(lambda: not computation.busy, timeout=30_000)
    assert len(failures) == 1
    with qtbot.waitSignal(computation.estimated, timeout=30_000):
        computation.estimate(request)
    qtbot.waitUntil(lambda: not computation.busy)


def test_a_request_that_cannot_be_made_is_an_error(qtbot: Any, computation: Any) -> None:
    def broken() -> Request:
        raise RuntimeError("the layer is gone")

    with qtbot.waitSignal(computation.failed, timeout=30_000) as failed:
        computation.start(broken)
    assert "the layer is gone" in failed.args[0]
    qtbot.waitUntil(lambda: not computation.busy)


def test_closing_in_the_middle_is_silent(qtbot: Any, computation: Any) -> None:
    answers: list[Any] = []
    for signal in (computation.finished, computation.estimated):
        signal.connect(answers.append)
    with qtbot.waitSignal(computation.updated, timeout=30_000):
        computation.start(lambda: request(fake_run.SLOW, samples=200))
    answers.clear()
    computation.close()
    assert not computation.busy
    qtbot.wait(300)
    assert not answers
    with qtbot.waitSignal(computation.finished, timeout=30_000):
        computation.start(request)
    qtbot.waitUntil(lambda: not computation.busy)
