"""Reproduce published traces of the DPS authors' sampler: largest relative error per case.

    python benchmarks/traces.py FOLDER

FOLDER holds ``index.json`` and the traces it lists, made by the authors' own code on a prior in
closed form. The noise that the traces used is replayed through the streams.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from napari_dps.core.dps import DPSSampler
from napari_dps.core.likelihood import GaussianLikelihood
from napari_dps.core.operator import LinearOperator, MappedOperator, Operator
from napari_dps.core.problem import Problem
from napari_dps.core.projection import MCGSampler, Projection
from napari_dps.core.streams import Streams
from napari_dps.forward._fourier import FourierMagnitude
from napari_dps.forward._mask import Mask
from napari_dps.grid import Grid
from napari_dps.priors._gaussian import GaussianPrior


class Transfer(LinearOperator):
    """Multiply the DFT by a real transfer function."""

    def __init__(self, transfer: torch.Tensor) -> None:
        shape = (1, *transfer.shape)
        super().__init__(shape, shape)
        self.transfer = transfer

    def __call__(self, x: torch.Tensor, theta: object = None) -> torch.Tensor:
        """Return A x."""
        return torch.fft.ifft2(torch.fft.fft2(x) * self.transfer).real

    def transpose(self, v: torch.Tensor) -> torch.Tensor:
        """Return A^T v."""
        return torch.fft.ifft2(torch.fft.fft2(v) * self.transfer.conj()).real


class Replay(Streams):
    """Streams that hand out recorded draws, in order."""

    def __init__(self, draws: Iterator[torch.Tensor]) -> None:
        super().__init__(0, [0], "cpu", torch.float64)
        self.draws = draws

    def normal(self, shape: object) -> torch.Tensor:
        """Return the next recorded draw."""
        return next(self.draws).reshape(1, *shape)  # type: ignore[misc]


def operator_of(case: dict[str, object], trace: dict[str, np.ndarray]) -> Operator:
    """Return the operator of one case."""
    if case["operator"] == "blur":
        return Transfer(torch.as_tensor(trace["transfer"]))
    size = trace["spectrum"].shape
    if case["operator"] == "mask":
        mask = trace["mask"].squeeze() != 0
        return Mask(mask, Grid(size, dtype="float64"))
    padded = tuple(n + 32 for n in size)
    return FourierMagnitude(Grid(padded, dtype="float64"), size, intensity=False, centred=True)


def relative(a: torch.Tensor, b: np.ndarray) -> float:
    """Return the relative error in the largest-element sense."""
    reference = torch.as_tensor(b).reshape(a.shape)
    return float((a - reference).abs().max() / reference.abs().max())


def replay(case: dict[str, object], trace: dict[str, np.ndarray]) -> dict[str, float]:
    """Run one case and return its errors, in VP coordinates."""
    size = trace["spectrum"].shape
    operator = operator_of(case, trace)
    one = torch.ones((1, 1, 1, 1), dtype=torch.float64)
    # The traces have no object map: a = 2, b = -1 make it the identity.
    mapped = MappedOperator(operator, 2 * one, -one)
    spectrum = torch.as_tensor(trace["spectrum"]).reshape(size)
    prior = GaussianPrior(float(trace["prior_mean"]), spectrum)
    y = torch.as_tensor(trace["y"]).reshape(1, *operator.y_shape)
    problem = Problem(y, prior, mapped, GaussianLikelihood(float(case["noise_sigma"])))  # type: ignore[arg-type]
    # The authors' run drew x_T and then one noise image a step from one generator.
    g = torch.Generator().manual_seed(int(case["seed"]))  # type: ignore[call-overload]
    draws = (torch.randn((1, 1, *size), generator=g, dtype=torch.float64) for _ in iter(int, 1))
    streams = Replay(draws)
    steps = int(case["steps"])  # type: ignore[call-overload]
    errors: dict[str, float] = {}
    scale, clip = float(case["scale"]), bool(case["clip_denoised"])  # type: ignore[arg-type]
    sampler = DPSSampler(steps, scale, clip=clip)
    if case["method"] == "mcg":
        sampler = MCGSampler(steps, scale, Projection(0.0, 20), clip=clip, noised=False)
    norms, last = [], None
    for step in sampler.sample(problem, 1, streams):
        last = step
        if step.i < step.total:
            norms.append(float(problem.residual(mapped(step.x0)).pow(2).sum().sqrt()))
    assert last is not None
    errors["x_final"] = relative(last.x0, trace["x_final"])
    if "residual_norm" in trace:
        reference = trace["residual_norm"].squeeze()[: len(norms)]
        errors["residual_norm"] = float(np.abs(np.array(norms) / reference - 1).max())
    return errors


def main(folder: Path) -> dict[str, dict[str, float]]:
    """Run all cases of a folder."""
    cases = json.loads((folder / "index.json").read_text())
    return {c["file"]: replay(c, dict(np.load(folder / c["file"]))) for c in cases}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1])), indent=2))
