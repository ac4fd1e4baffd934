"""Frames of a stack: drawn together where they share a ladder, and alike with any neighbour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_dps import reconstruct, simulate
from napari_dps.batches import FEW, Batches


def all_of(batches: Batches, size: int) -> list[list[tuple[int, int]]]:
    found: list[list[tuple[int, int]]] = []
    done = 0
    while done < len(batches.items):
        found.append(batches.take(done, size))
        done += len(found[-1])
    return found


def test_frames_that_are_alike_share_a_batch_and_whole_samples_come_first() -> None:
    found = all_of(Batches(3, ["a", "a"]), 4)
    assert found == [[(0, 0), (0, 1), (1, 0), (1, 1)], [(2, 0), (2, 1)]]


def test_frames_that_differ_do_not_and_few_samples_go_through_all_of_them() -> None:
    found = all_of(Batches(FEW + 2, ["a", "b", "b"]), 6)
    assert [batch[0] for batch in found] == [(0, 0), (0, 1), (2, 2), (FEW, 0), (FEW, 1)]
    for batch in found:
        assert len({"abb"[f] for _, f in batch}) == 1 and len(batch) <= 6
    every = [item for batch in found for item in batch]
    assert sorted(every) == [(s, f) for s in range(FEW + 2) for f in range(3)]
    assert {s for s, _ in every[: 3 * FEW]} == set(range(FEW))


def test_samples_that_are_drawn_together_stay_together() -> None:
    found = all_of(Batches(9, [(0, "a"), (1, "a")], whole=True), 9)
    assert found == [[(s, f) for s in range(9)] for f in range(2)]


@pytest.mark.parametrize("kind", ["mmps", "pigdm", "pnp-dm"])
def test_a_frame_is_restored_alike_beside_a_dim_one(kind: str) -> None:
    rows, columns = np.mgrid[:20, :20]
    spot = np.exp(-((rows - 8) ** 2 + (columns - 11) ** 2) / 12)
    bright = simulate(5 + 50 * spot, forward="gaussian-blur", noise="poisson", seed=0)
    dim = simulate(0.5 + spot, forward="gaussian-blur", noise="poisson", seed=1)

    def restored(image: np.ndarray, **more: Any) -> np.ndarray:
        result = reconstruct(
            image,
            forward="gaussian-blur",
            noise="poisson",
            prior="gaussian",
            sampler={"kind": kind, "steps": 6},
            samples=3,
            device="cpu",
            **more,
        )
        return np.asarray(result.samples)

    alone = restored(bright)
    beside = restored(np.stack([bright, dim]), axes="TYX")
    np.testing.assert_allclose(beside[:, 0], alone, atol=1e-3 * float(np.ptp(alone)))
