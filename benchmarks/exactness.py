"""Samplers against a posterior known in closed form: bias, spread and coverage.

    python benchmarks/exactness.py [--kinds mmps daps ...] [--samples 64] [--truths 4] [--quick]

A Gaussian prior, a linear operator and Gaussian noise give a Gaussian posterior. Reported for
each sampler at its default, and with and without the informed start:

- ``error``: root-mean-square error of the samples' mean against the exact mean, over the
  Monte-Carlo floor (exact standard deviation over root S);
- ``spread``: the samples' standard deviation over the exact one (root of the mean ratio of
  variances), over measured and unmeasured pixels;
- ``coverage``: share of pixels of the truth inside the sampled 90 % interval.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch

from napari_dps.components import make
from napari_dps.core.covariance import power_law_spectrum
from napari_dps.core.estimate import gaussian_field_estimate
from napari_dps.core.likelihood import GaussianLikelihood
from napari_dps.core.operator import MappedOperator, Operator
from napari_dps.core.problem import Problem, Start
from napari_dps.core.streams import Streams
from napari_dps.forward.gaussian_blur import GaussianBlur
from napari_dps.forward.random_inpaint import RandomInpaint
from napari_dps.grid import Grid
from napari_dps.priors._gaussian import GaussianPrior

SIZE = 24
DTYPE = torch.float64


def operator_of(task: str) -> Operator:
    """Return the task's operator."""
    grid = Grid((SIZE, SIZE), dtype="float64")
    if task == "half":
        return RandomInpaint(missing=0.5).bind(grid)
    return GaussianBlur(sigma=1.5, boundary="periodic").bind(grid)


def exact_posterior(
    operator: Operator, spectrum: torch.Tensor, mean: float, sigma: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (gain, covariance, A) of the posterior, as dense matrices."""
    n = SIZE * SIZE
    eye = torch.eye(n, dtype=DTYPE).reshape(n, 1, SIZE, SIZE)
    columns = torch.fft.ifft2(torch.fft.fft2(eye) * spectrum).real.reshape(n, n)
    a = operator(eye).reshape(n, n).T
    s = a @ columns @ a.T + sigma**2 * torch.eye(n, dtype=DTYPE)
    gain = torch.linalg.solve(s, a @ columns).T
    return gain, columns - gain @ a @ columns, a


def study(
    kind: str, task: str, sigma: float, samples: int, truths: int, informed: bool, **fields: object
) -> dict[str, object]:
    """Run one sampler on one task and return its figures."""
    spectrum = power_law_spectrum((SIZE, SIZE), 0.3, 2.0, 1.5)
    mean = -0.2
    operator = operator_of(task)
    gain, covariance, a = exact_posterior(operator, spectrum, mean, sigma)
    exact_std = covariance.diagonal().clamp_min(0).sqrt().reshape(SIZE, SIZE)
    options = dict(fields)
    if kind != "dps":
        options["informed_start"] = informed
    choice = make("sampler", {"kind": kind, **options})
    sampler = choice.bind(Grid((SIZE, SIZE), dtype="float64"))
    one = torch.ones((1, 1, 1, 1), dtype=DTYPE)
    likelihood = GaussianLikelihood(sigma)
    seen = operator.measured
    mask = torch.ones((SIZE, SIZE), dtype=torch.bool) if seen is None else seen
    rows: list[tuple[float, float, float, float, float, float]] = []
    begin, calls = time.perf_counter(), {}
    for t in range(truths):
        draw = Streams(7, [("truth", t)], dtype=DTYPE)
        white = draw.normal((1, SIZE, SIZE))
        truth = mean + torch.fft.ifft2(torch.fft.fft2(white) * spectrum.sqrt()).real
        y = likelihood.sample(operator(truth), draw)
        if seen is not None:
            y = torch.where(seen, y, torch.zeros_like(y))
        flat_mean = torch.full((SIZE * SIZE,), mean, dtype=DTYPE)
        exact = flat_mean + gain @ (y.flatten() - a @ flat_mean)
        start = None
        if informed and kind != "dps":
            found = gaussian_field_estimate(
                operator, y, likelihood, seen, Streams(1, [0], dtype=DTYPE), positive=False
            )
            start = Start(found.image, float(found.error.max()))
        problem = Problem(
            y,
            GaussianPrior(mean, spectrum),
            MappedOperator(operator, 2 * one, -one),
            likelihood,
            None if seen is None else seen[None, None],
            start,
        )
        problem.noise_level = problem.find_noise_level()
        *_, last = sampler.sample(problem, samples, Streams(t, range(samples), dtype=DTYPE))
        calls = last.calls
        x = last.x0[:, 0]
        sample_mean, sample_var = x.mean(0), x.var(0)
        error = (sample_mean - exact.reshape(SIZE, SIZE)) / exact_std
        ratio = sample_var / exact_std**2
        low, high = (
            torch.as_tensor(np.quantile(x.numpy(), q, axis=0, method="weibull"))
            for q in (0.05, 0.95)
        )
        # Against the exact posterior and not against one truth, which would need many of them.
        normal = torch.distributions.Normal(exact.reshape(SIZE, SIZE), exact_std)
        inside = normal.cdf(high) - normal.cdf(low)
        rows.append(
            (
                float((error**2).mean().sqrt()) * samples**0.5,
                float(ratio[mask].mean().sqrt()),
                float(ratio[~mask].mean().sqrt()) if not bool(mask.all()) else float("nan"),
                float(inside.mean()),
                float(inside[mask].mean()),
                float(inside[~mask].mean()) if not bool(mask.all()) else float("nan"),
            )
        )
    table = np.array(rows).mean(0)
    names = (
        "error",
        "spread",
        "spread_unmeasured",
        "coverage",
        "coverage_measured",
        "coverage_unmeasured",
    )
    return {
        "sampler": kind,
        "task": task,
        "noise": sigma,
        "informed": informed and kind != "dps",
        **fields,
        **{
            n: (None if np.isnan(v) else round(float(v), 3))
            for n, v in zip(names, table, strict=True)
        },
        "calls": calls,
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    """Run the study and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kinds", nargs="*", default=["mmps", "pigdm", "daps", "dps"])
    parser.add_argument("--tasks", nargs="*", default=["half", "blur"])
    parser.add_argument("--noise", nargs="*", type=float, default=[0.1])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--truths", type=int, default=4)
    parser.add_argument("--set", nargs="*", default=[], help="field=value of the sampler")
    args = parser.parse_args()
    fields = {k: json.loads(v) for k, v in (pair.split("=") for pair in args.set)}
    rows = []
    for kind in args.kinds:
        for task in args.tasks:
            for noise in args.noise:
                for informed in (False, True) if kind != "dps" else (False,):
                    row = study(kind, task, noise, args.samples, args.truths, informed, **fields)
                    rows.append(row)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
