"""Operators that show nothing of a flat object: the data say nothing of its level, and no sampler
takes rounding for light."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch

from napari_dps import reconstruct, simulate
from napari_dps.core.flat import flat_level, shown_flat
from napari_dps.forward.function import FunctionModel

SIDE = 16
SAMPLERS = ("mmps", "daps", "wiener", "admm-tv", "pnp-admm", "ilvr")


class Difference(FunctionModel):
    """Differences along rows, each of which sums to zero."""

    kind: Literal["test-difference"] = "test-difference"
    affine = True

    def measure(self, x: torch.Tensor) -> torch.Tensor:
        return x - torch.roll(x, 1, -1)


def scene() -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return 20 + 100 * np.exp(-((rows - 7) ** 2 + (columns - 9) ** 2) / 12)


def steps(kind: str) -> dict[str, Any]:
    few = {"mmps": 6, "daps": 4, "pnp-admm": 6, "ilvr": 20}
    return {"kind": kind, **({"steps": few[kind]} if kind in few else {})}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_differences_have_no_level(kind: str) -> None:
    truth = scene()
    noise = np.random.default_rng(0).normal(0, 1.0, truth.shape)
    measured = truth - np.roll(truth, 1, -1) + noise
    found = reconstruct(
        measured.astype(np.float32), forward=Difference(), noise={"kind": "gaussian", "sigma": 1.0},
        prior="gaussian", sampler=steps(kind), samples=2, device="cpu",
    )  # fmt: skip
    assert np.abs(found.samples).max() < 1000
    across = found.mean - np.roll(found.mean, 1, -1)
    assert np.corrcoef(across.ravel(), measured.ravel())[0, 1] > 0.5
    told = [w for w in found.report["warnings"] if "mean level comes from the prior alone" in w]
    # Classical samplers ask for no first estimate.
    assert len(told) == (kind not in ("wiener", "admm-tv"))


@pytest.mark.parametrize("kind", ["mmps", "wiener", "admm-tv"])
@pytest.mark.parametrize("of", ["real", "complex"])
def test_k_space_without_its_middle_has_no_level(kind: str, of: str) -> None:
    mask = (np.random.default_rng(3).random((SIDE, SIDE)) < 0.6).astype(float)
    mask[SIDE // 2, SIDE // 2] = 0
    forward = {"kind": "fourier-mask", "mask": mask, "object": of}
    noise = {"kind": "gaussian", "sigma": 1.0}
    truth = scene().astype(complex if of == "complex" else float)
    measured = simulate(truth, forward=forward, noise=noise, seed=1)
    found = reconstruct(
        measured, forward=forward, noise=noise, prior="gaussian", sampler=steps(kind), samples=2,
        device="cpu",
    )  # fmt: skip
    assert np.abs(found.samples).max() < 1000
    mean = found.mean[0] if of == "complex" else found.mean
    assert np.corrcoef(np.real(truth).ravel(), mean.ravel())[0, 1] > 0.8
    told = [w for w in found.report["warnings"] if "mean level comes from the prior alone" in w]
    assert len(told) == 1


def test_the_level_is_that_of_the_total() -> None:
    flat = torch.tensor([[2.0, 2.0, 0.0], [1.0, -1.0, 1e-9], [-1.0, -1.0, -1.0]])
    weight = torch.ones_like(flat)
    y = torch.tensor([[8.0, 4.0, 0.0], [5.0, 1.0, 2.0], [-3.0, -3.0, -3.0]])
    assert flat_level(flat, weight, y, 1.0).tolist() == [3.0, 0.0, 3.0]
    mean, shown = shown_flat(flat, weight, 1.0)
    assert shown.tolist() == [True, False, True] and mean[1] == 1.0
