"""How good is the approximation: the Jensen gap of this run, its bounds, and an estimate of it.

Diffusion posterior sampling puts the denoised image where an average over all images belongs:
p(y | x_t) = E[p(y | x0) | x_t] becomes p(y | E[x0 | x_t]). The difference is the Jensen gap of
Chung et al., "Diffusion Posterior Sampling for General Noisy Inverse Problems", ICLR 2023.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dps.uncertainty.verdict.evidence import Evidence, Finding
from napari_dps.uncertainty.verdict.finders import TITLES
from napari_dps.uncertainty.verdict.pairs import between_within

if TYPE_CHECKING:
    from torch import Tensor

    from napari_dps.core.problem import Problem

__all__ = ["estimate", "find", "log_bounds", "operator_norm"]

LEVELS = (0.1, 0.3, 1.0)
"""Noise levels, prior units, at which the gap is estimated."""
DRAWS, STEPS, STARTS = 6, 6, 2
"""Draws of x0 given x_t, network calls a draw, and posterior samples that are noised."""
ITERATIONS = 30


def find(evidence: Evidence) -> Finding | None:
    """Return bounds and an estimate of the Jensen gap; some hundred calls of the network.

    Parameters
    ----------
    evidence : Evidence
        Samples of one frame.

    Returns
    -------
    Finding or None
        None for fewer than two samples, from which no distance follows.
    """
    if len(evidence.x) < 2:
        return None
    problem = evidence.problem
    mean = evidence.x.mean(0, keepdim=True)
    norm = operator_norm(problem, mean, evidence.seed)
    unit = float(problem.operator.scale.abs().mean()) / 2
    sigma = equivalent_sigma(problem, mean) / unit
    data = _count(problem)
    distance = mean_distance(evidence.x, evidence.pairs)
    levels = [
        estimate(problem, evidence.x[:STARTS], level, evidence.seed)
        for level in LEVELS
        if level < problem.prior.sigma_max
    ]
    for row in levels:
        row["bounds"] = log_bounds(data, sigma, norm / unit, row["m1"])
    numbers: dict[str, Any] = {
        "data": data,
        "sigma": sigma,
        "operator_norm": norm / unit,
        "m1": distance,
        "unit": unit,
        "bounds": log_bounds(data, sigma, norm / unit, distance),
        "levels": levels,
        "equivalent_sigma": type(problem.likelihood).__name__ != "GaussianLikelihood",
    }
    return Finding(
        name="jensen_gap",
        title=TITLES["jensen_gap"],
        sentence=_say(numbers),
        numbers=numbers,
    )


def mean_distance(x: Tensor, pairs: bool) -> float:
    """Return m1 = E||x0 - E x0|| from samples (S, *x_shape), pairs told as in `Evidence`."""
    found = between_within(x.double().cpu().numpy(), pairs)
    whole = x if found is None else x[: len(x) // 2 * 2]
    distance = float((whole - whole.mean(0)).flatten(1).norm(dim=1).mean())
    # The mean is the samples' own: it lies closer to each than that of all.
    if found is None:
        return distance * math.sqrt(len(x) / (len(x) - 1))
    between, within = (float(part.sum()) for part in found)
    seen = (1 - 2 / len(whole)) * between + within
    return distance * math.sqrt((between + within) / seen) if seen > 0 else distance


def operator_norm(
    problem: Problem, x: Tensor, seed: int = 0, iterations: int = ITERATIONS
) -> float:
    """Return the largest singular value of the composed operator's Jacobian at ``x``.

    Parameters
    ----------
    problem : Problem
        Its operator goes from prior units to expectation; data that do not count are left out.
    x : Tensor, shape (1, *x_shape)
        Where to linearize; for an affine operator it is the same everywhere.
    seed : int
        Of the first vector.
    iterations : int
        Of the power method on J^T J.
    """
    from napari_dps.core.streams import Streams

    _, jvp, vjp = problem.operator.linearize(x)
    v = Streams(seed, ["power"], x.device, x.dtype).normal(x.shape[1:])
    # A positive start is never orthogonal to the leading vector of an operator that adds up light.
    v = v.abs()
    size = 0.0
    for _ in range(iterations):
        v = v / v.norm().clamp_min(1e-30)
        image = jvp(v)
        if problem.valid is not None:
            image = image * problem.valid
        size = float(image.norm())
        v = vjp(image)
    return size


def equivalent_sigma(problem: Problem, x: Tensor) -> float:
    """Return the noise per datum at the image ``x``, in the data's units.

    Under Gaussian noise its standard deviation; otherwise the geometric mean of the standard
    deviations that the expected data have, so that the density's constant stays the same.
    """
    import torch

    with torch.no_grad():
        variance = problem.likelihood.variance(problem.operator(x))
    variance = variance.double().expand_as(problem.y)
    if problem.valid is not None:
        variance = variance[problem.valid.expand_as(variance)]
    return math.exp(0.5 * float(variance.log().mean()))


def _count(problem: Problem) -> int:
    """Return the number of data that count."""
    if problem.valid is None:
        return int(problem.y[0].numel())
    return int(problem.valid.expand_as(problem.y)[0].sum())


def log_bounds(data: int, sigma: float, norm: float, m1: float) -> dict[str, float]:
    """Return natural logarithms of two bounds of the Jensen gap.

    Parameters
    ----------
    data : int
        d, the number of data.
    sigma : float
        Standard deviation of a datum.
    norm : float
        ||grad A||, the largest singular value.
    m1 : float
        E||x0 - E x0||.

    Returns
    -------
    dict
        ``paper``: d/sqrt(2 pi sigma^2) exp(-1/(2 sigma^2)) ||grad A|| m1, the expression of the
        paper's Theorem 1; ``lipschitz``: L ||grad A|| m1 with the steepest slope that a Gaussian
        density of d data has, L = (2 pi sigma^2)^(-d/2) exp(-1/2)/sigma.
    """
    if min(norm, m1) <= 0:
        return {"paper": -math.inf, "lipschitz": -math.inf}
    common = math.log(norm) + math.log(m1)
    two_pi = math.log(2 * math.pi * sigma**2)
    return {
        "paper": math.log(data) - two_pi / 2 - 1 / (2 * sigma**2) + common,
        "lipschitz": -data / 2 * two_pi - 0.5 - math.log(sigma) + common,
    }


def estimate(
    problem: Problem,
    x: Tensor,
    level: float,
    seed: int = 0,
    *,
    draws: int = DRAWS,
    steps: int = STEPS,
) -> dict[str, Any]:
    """Return a Monte-Carlo estimate of the gap at one noise level, in nats.

    Parameters
    ----------
    problem : Problem
        Of one frame.
    x : Tensor, shape (K, *x_shape)
        Posterior samples; each is noised to x_t = x + level n.
    level : float
        Standard deviation of that noise, prior units.
    seed : int
        Of all noise.
    draws : int
        Images drawn from p(x0 | x_t) for each x_t, by a diffusion without guidance.
    steps : int
        Noise levels of such a diffusion.

    Returns
    -------
    dict
        ``gap``: log E[p(y | x0) | x_t] - log p(y | E[x0 | x_t]), averaged over x_t, by the mean
        of the draws' likelihoods; ``low``, ``high``: values that lie below and above the true one
        on average; ``weight``: how many draws that mean rests on; ``m1``: E||x0 - E x0||.

    Notes
    -----
    The mean over few draws misses the rare images that explain the data best, so that its
    logarithm is too low on average, and at small noise it is its largest term. What brackets the
    truth needs no luck: with q = p(x0 | x_t) and q_y = p(x0 | x_t, y),

        E_q[log p(y | x0)]  <=  log E_q[p(y | x0)]  <=  E_{q_y}[log p(y | x0)],

    the left by Jensen's inequality, the right because the difference is the divergence of q_y
    from q. And x itself is a draw from q_y if it is one from the posterior.
    """
    import torch

    problem = replace(problem, calls={"forward": 0, "vjp": 0})
    rows = []
    for k in range(len(x)):
        sample = x[k : k + 1]
        drawn, centre = _draw(problem, sample, (seed, k), level, draws, steps)
        with torch.no_grad():
            there = torch.cat([centre, sample, drawn])
            logs = torch.cat([_log_prob(problem, one) for one in there[:, None]]).double()
        at_mean, at_sample, others = logs[0], logs[1], logs[2:]
        weights = others.softmax(0)
        rows.append(
            (
                float(others.logsumexp(0) - math.log(len(others)) - at_mean),
                float(others.mean() - at_mean),
                float(at_sample - at_mean),
                float(1 / (weights**2).sum()),
                float((drawn - centre).flatten(1).norm(dim=1).mean()),
            )
        )
    gap, low, high, weight, m1 = np.mean(rows, axis=0).tolist()
    return {"level": level, "gap": gap, "low": low, "high": high, "weight": weight, "m1": m1}


def _log_prob(problem: Problem, x: Tensor) -> Tensor:
    return problem.likelihood.log_prob(problem.y, problem.operator(x), problem.valid)


def _draw(
    problem: Problem, x: Tensor, label: tuple[int, int], level: float, draws: int, steps: int
) -> tuple[Tensor, Tensor]:
    """Return draws from p(x0 | x_t), and its mean, for x_t = x + level n."""
    import torch

    from napari_dps.core.sampler import SecondOrderMove
    from napari_dps.core.schedule import karras_ladder
    from napari_dps.core.streams import Streams

    seed, k = label
    shape = x.shape[1:]
    noisy = x + level * Streams(seed, [("jensen", k)], x.device, x.dtype).normal(shape)
    centre = problem.denoise(noisy, level)
    sigmas = karras_ladder(steps, level, min(level / 4, max(0.01, problem.prior.sigma_min)))
    found = []
    for d in range(draws):  # one by one: a large image may leave no room for more
        streams = Streams(seed, [("jensen", k, d)], x.device, x.dtype)
        move, moving = SecondOrderMove(), noisy

        def noise(streams: Streams = streams) -> Tensor:
            return streams.normal(shape)

        for sigma, lower in pairwise(sigmas):
            x0 = centre if sigma == level else problem.denoise(moving, sigma)
            moving = move(moving, x0, sigma, lower, noise)
        found.append(moving)
    return torch.cat(found), centre


def _say(n: dict[str, Any]) -> str:
    """Return the sentence."""
    paper, lipschitz = n["bounds"]["paper"], n["bounds"]["lipschitz"]
    text = (
        "Guiding by the denoised image leaves out the spread about it. By the paper's expression "
        f"the gap is at most exp({paper:.4g}), by the steepest slope of a Gaussian density at most "
        f"exp({lipschitz:.4g})"
    )
    if 1 / (2 * n["sigma"] ** 2) > 20:
        text += f"; at a noise of {n['sigma']:.3g} the paper's expression says nothing"
    if n["equivalent_sigma"]:
        text += " (counts: with the geometric mean of the data's standard deviations for sigma)"
    parts = [
        f"{row['low'] / n['data']:+.2g} to {row['high'] / n['data']:+.2g} at noise level "
        f"{row['level']:g}"
        for row in n["levels"]
    ]
    return f"{text}. Estimated, log p(y | x_t) is off by, per datum: {', '.join(parts)} nats."
