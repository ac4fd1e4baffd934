"""Cancelling and running out of memory outside the sampler: at once, in one sentence, no loss."""

import threading

import numpy as np
import pytest
import torch

from napari_dps import assess, reconstruct, simulate, start
from napari_dps.core import interrupt, projections
from napari_dps.core.linalg import conjugate_gradients
from napari_dps.errors import InputError, OutOfMemoryError
from napari_dps.run import Run

SPOT = 5 + 60 * np.exp(-((np.arange(16)[:, None] - 7) ** 2 + (np.arange(16)[None] - 9) ** 2) / 9)
PHASE = {"forward": "phase-retrieval", "prior": "gaussian", "samples": 1}
BLUR = {
    "forward": "gaussian-blur", "prior": "gaussian", "samples": 2,
    "sampler": {"kind": "mmps", "steps": 4},
}  # fmt: skip


def test_a_run_is_cancelled_within_its_first_estimate(monkeypatch):
    run, rounds = Run(simulate(SPOT, PHASE), PHASE, device="cpu"), []
    plain = projections.Projections.to_data

    def to_data(self, field):
        rounds.append(1)
        if len(rounds) == 5:
            run.cancel()
        return plain(self, field)

    monkeypatch.setattr(projections.Projections, "to_data", to_data)
    assert [p.stage for p in run] == ["estimate"]
    assert len(rounds) == 5  # hundreds would follow
    with pytest.raises(InputError, match="before a single sample"):
        run.result()


def test_conjugate_gradients_ask_before_each_product():
    calls = []

    class EnoughError(Exception):
        pass

    def listener():
        calls.append(1)
        if len(calls) == 3:
            raise EnoughError

    matrix = torch.diag(torch.arange(1.0, 9.0))
    rhs = torch.ones(1, 8)
    with pytest.raises(EnoughError), interrupt.listening(listener):
        conjugate_gradients(lambda p: p @ matrix, rhs, iterations=8, tolerance=0)
    assert len(calls) == 3
    # Nobody listens any more, here or in another thread meanwhile.
    conjugate_gradients(lambda p: p @ matrix, rhs, iterations=8, tolerance=0)
    with interrupt.listening(listener):
        thread = threading.Thread(target=interrupt.ask)
        thread.start()
        thread.join()
    assert len(calls) == 3


def test_memory_that_runs_out_in_the_first_estimate_is_one_sentence(monkeypatch):
    def estimate(*args, **more):
        raise RuntimeError("CUDA out of memory (as a test)")

    monkeypatch.setattr(start, "_estimate", estimate)
    with pytest.raises(OutOfMemoryError, match=r"first estimate of an object of .*smaller region"):
        list(Run(simulate(SPOT, BLUR), BLUR, device="cpu"))

    def broken(*args, **more):
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(start, "_estimate", broken)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        list(Run(simulate(SPOT, BLUR), BLUR, device="cpu"))


def test_memory_that_runs_out_in_the_verdict_loses_no_sample(monkeypatch, tmp_path):
    y = simulate(SPOT, BLUR)
    whole = reconstruct(y, BLUR, device="cpu")

    def verdict(*args):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("napari_dps.report.verdict", verdict)
        found = reconstruct(y, BLUR, device="cpu")
    assert np.array_equal(found.samples, whole.samples)
    assert found.report["verdict"] is None
    assert any("no verdict" in told for told in found.report["warnings"])
    found.save_report(tmp_path / "report.html")
    assert "verdict" in (tmp_path / "report.html").read_text(encoding="utf-8")
    judged = assess(found, y, device="cpu")
    assert judged.report["verdict"]["sentence"]
