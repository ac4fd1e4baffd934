"""Total variation by splitting. See :mod:`napari_dps.samplers.admm_tv` for the method."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from napari_dps.core.channelwise import ChannelwiseOperator
from napari_dps.core.classical import data_of, refuse_non_affine
from napari_dps.core.differences import divergence, gradient, length
from napari_dps.core.flat import flat_level, shown_flat
from napari_dps.core.linalg import column, conjugate_gradients, dot, smooth
from napari_dps.core.operator import Operator
from napari_dps.core.problem import Problem
from napari_dps.core.sampler import Sampler, Step
from napari_dps.core.streams import Streams

ROUND = 5
"""Iterations between two looks at misfit, weights and the balance of the residuals."""
RELAXED = 1.6
"""Over-relaxation (Boyd et al., section 3.4.3)."""
CLOSE = 0.01
"""How near to one the chi-square per datum must come."""
BOUNDS = (1e-4, 1e4)
"""Weights that the discrepancy principle may choose."""
BELOW = 5.0
"""Standard deviations by which a total below zero is no chance."""
BALANCED = 150
"""Iterations after which the penalty stays, since a changing one need not converge."""


@dataclass
class State:
    """Where the iteration stands; every tensor has the batch first.

    Attributes
    ----------
    x, z : Tensor
        Image, and its expected measurement.
    u, du : Tensor
        Split-off gradient and its scaled multiplier.
    v, dv : Tensor
        Split-off non-negative image and its multiplier.
    rho, weight : Tensor, shape (B,)
        Penalty, and weight of the total variation in units of the noise.
    gain, above : Tensor, shape (B,)
        How strongly the weight answers to the misfit, and whether that was above one.
    """

    x: Tensor
    z: Tensor
    u: Tensor
    du: Tensor
    v: Tensor
    dv: Tensor
    rho: Tensor
    weight: Tensor
    gain: Tensor
    above: Tensor

    def kept(self, other: State, running: Tensor) -> State:
        """Return the other state where running, else this one."""
        chosen = {}
        for part in fields(self):
            old, new = getattr(self, part.name), getattr(other, part.name)
            chosen[part.name] = torch.where(column(running, old), new, old)
        return State(**chosen)


class ADMMTVSampler(Sampler):
    """Least squares with total variation, by the alternating direction method of multipliers.

    Parameters
    ----------
    weight : float or None
        Of the total variation, in units of the noise; None: chi-square per datum becomes 1.
    positive : bool
        Keep the object at or above zero, where it is light: not a complex one, nor where the
        measurement lies below zero on the whole.
    iterations : int
        At most.
    inner : int
        Conjugate-gradient products of an iteration.
    tolerance : float
        Relative primal and dual residual at which an image is done.
    """

    def __init__(
        self,
        weight: float | None,
        *,
        positive: bool,
        iterations: int,
        inner: int,
        tolerance: float,
    ) -> None:
        self.weight, self.positive = weight, positive
        self.iterations, self.inner, self.tolerance = iterations, inner, tolerance

    def check(self, problem: Problem) -> None:
        """Refuse operators that are not affine."""
        refuse_non_affine(problem, "admm-tv")

    def total_steps(self) -> int:
        """Return the iterations, at most."""
        return self.iterations

    def likely_steps(self) -> int:
        """Return how many are likely done."""
        return min(self.iterations, 120)

    def rehearse(self, problem: Problem, n: int) -> None:
        """Do one iteration from the flat level."""
        solver = _Solver(problem, n, self)
        solver.step(solver.begin())

    def sample(self, problem: Problem, n: int, streams: Streams) -> Iterator[Step]:
        """Yield steps; see :meth:`Sampler.sample`. No random number is drawn."""
        solver = _Solver(problem, n, self)
        state = solver.begin()
        running = torch.ones(n, dtype=torch.bool, device=problem.y.device)
        used = torch.zeros(n, dtype=torch.int64, device=problem.y.device)
        looked = state.x
        misfit = problem.misfit(state.z)
        for k in range(1, self.iterations + 1):
            new, primal, dual = solver.step(state)
            state = state.kept(new, running)
            used += running
            if k % ROUND == 0 or k == self.iterations:
                misfit = problem.misfit(state.z)
                moved = (dot(state.x - looked, state.x - looked) / dot(state.x, state.x)).sqrt()
                done = torch.maximum(primal, dual) < self.tolerance
                done = done & (moved.flatten() < ROUND * self.tolerance)
                if self.weight is None:
                    done = done & (((misfit - 1).abs() < CLOSE) | solver.at_bound(state, misfit))
                running = running & ~done
                looked = state.x
                if not bool(running.any()):
                    break
                state = state.kept(solver.tuned(state, misfit, primal, dual, k), running)
                solver.reweigh(state.z, running)
            if k < self.iterations:
                yield Step(k, self.iterations, solver.image(state), misfit, dict(problem.calls))
        x = solver.image(state)
        misfit = problem.misfit(problem.operator.operator(x))
        details: list[dict[str, Any]] = [
            {
                "iterations": count,
                "stopped_by": "iterations" if went_on else "tolerance",
                "weight": weight,
                "lambda": weight / noise,
                "chosen_by": "chi2 per datum" if self.weight is None else "weight given",
                "positive": bool(kept),
            }
            for count, went_on, weight, noise, kept in zip(
                used.tolist(),
                running.tolist(),
                state.weight.tolist(),
                solver.noise.tolist(),
                solver.keep.tolist(),
                strict=True,
            )
        ]
        yield Step(self.iterations, self.iterations, x, misfit, dict(problem.calls), details)


class _Solver:
    """The iteration on one batch."""

    def __init__(self, problem: Problem, n: int, sampler: ADMMTVSampler) -> None:
        self.problem, self.sampler, self.n = problem, sampler, n
        self.operator: Operator = problem.operator.operator
        self.y, self.mask = data_of(problem, n)
        self.ones = torch.ones(
            (n, *self.operator.x_shape), dtype=self.y.dtype, device=self.y.device
        )
        self.dark = self.operator(torch.zeros_like(self.ones))
        k2 = torch.zeros(self.operator.x_shape[1:], dtype=self.y.dtype, device=self.y.device)
        for axis, size in enumerate(k2.shape):
            frequency = torch.fft.fftfreq(size, dtype=self.y.dtype, device=self.y.device)
            part = 2 - 2 * torch.cos(2 * math.pi * frequency)
            k2 = k2 + part.reshape([-1 if a == axis else 1 for a in range(k2.ndim)])
        self.laplacian = k2

    def linear(self, x: Tensor) -> Tensor:
        """Return the operator's linear part."""
        if self.problem.checkpoint is not None:
            self.problem.checkpoint()
        return self.operator(x) - self.dark

    def begin(self) -> State:
        """Return the flat level that explains the total, and weigh the data about it."""
        flat = self.linear(self.ones)
        level = flat_level(flat, self.mask, self.y - self.dark, self.operator.response)
        x = column(level, self.ones) * self.ones
        # Weighed by the smoothed data at first: the flat level would call bright spots certain.
        share = smooth(self.mask, 5).clamp_min(1e-6)
        self.local = torch.where(share > 1e-5, smooth(self.mask * self.y, 5) / share, self.y)
        variance = self.problem.likelihood.variance(self.local)
        self.keep = (self.sampler.positive & ~self._no_light(variance)).to(x)
        self.information = self.mask / variance
        count = self.mask.flatten(1).sum(1)
        own = (self.mask * variance).flatten(1).sum(1) / count / self.problem.likelihood.redundancy
        self.noise = own.sqrt() / self.operator.response
        stiff = self.operator.adjoint(self.information * flat).flatten(1).mean(1)
        # What an operator that shows no flat object answers to structure.
        answer = self.information.flatten(1).mean(1) * self.operator.response**2
        _, shown = shown_flat(flat, self.mask, self.operator.response)
        tiny = torch.finfo(stiff.dtype).tiny
        self.stiff = torch.where(shown, stiff, answer).clamp_min(tiny)
        zero = torch.zeros_like(gradient(x))
        weight = 1.0 if self.sampler.weight is None else self.sampler.weight
        return State(
            x,
            column(level, flat) * flat + self.dark,
            zero,
            zero,
            x.clamp_min(0),
            torch.zeros_like(x),
            0.2 * self.stiff,
            torch.full_like(level, weight),
            torch.ones_like(level),
            torch.ones_like(level, dtype=torch.bool),
        )

    def _no_light(self, variance: Tensor) -> Tensor:
        """Return where the object is no light, shape (B,): complex, or below zero as a whole."""
        if self.operator.x_shape[0] == 2 and not isinstance(self.operator, ChannelwiseOperator):
            return torch.ones(self.n, dtype=torch.bool, device=self.y.device)
        total = (self.mask * (self.y - self.dark)).flatten(1).sum(1)
        error = (self.mask * variance).flatten(1).sum(1).sqrt()
        return total < -BELOW * error

    def reweigh(self, z: Tensor, running: Tensor) -> None:
        """Weigh the data anew at the present expectation, where the run goes on.

        Half of the smoothed data is the least that counts: a passing dark spot would make its data
        look certain, and hold on to itself. The geometric mean with the weights before damps.
        """
        variance = self.problem.likelihood.variance(torch.maximum(z, 0.5 * self.local))
        # Roots first: in units such as metres the product leaves the numbers of single precision.
        damped = self.information.sqrt() * (self.mask / variance).sqrt()
        self.information = torch.where(column(running, z), damped, self.information)

    def image(self, state: State) -> Tensor:
        """Return the present estimate."""
        return torch.where(column(self.keep, state.x) > 0, state.v, state.x)

    def step(self, state: State) -> tuple[State, Tensor, Tensor]:
        """Return the next state, and the relative primal and dual residuals."""
        rho, keep = column(state.rho, state.x), column(self.keep, state.x)
        slope = gradient(state.x)
        rhs = self.operator.adjoint(self.information * (self.y - state.z))
        rhs = rhs - rho * divergence(state.u - state.du - slope)
        rhs = rhs + keep * rho * (state.v - state.dv - state.x)

        def matvec(p: Tensor) -> tuple[Tensor, Tensor]:
            seen = self.linear(p)
            stiff = self.operator.adjoint(self.information * seen)
            return stiff + rho * (keep * p - divergence(gradient(p))), seen

        scale = column(self.stiff, state.x) + rho * (self.laplacian + keep)
        axes = tuple(range(2, state.x.ndim))

        def precondition(r: Tensor) -> Tensor:
            modes = torch.fft.fftn(r, dim=axes) / scale
            filtered: Tensor = torch.fft.ifftn(modes, dim=axes).real
            return filtered

        # Always as many products: where a number that hangs on rounding ends a solve, frames of a
        # stack drift away from what each alone becomes.
        found = conjugate_gradients(
            matvec, rhs, iterations=self.sampler.inner, tolerance=0.0, precondition=precondition
        )
        x = state.x + found.u
        z = state.z if found.image is None else state.z + found.image
        slope = gradient(x)
        mixed = RELAXED * slope + (1 - RELAXED) * state.u
        pulled = mixed + state.du
        size = length(pulled)
        threshold = column(state.weight / (self.noise * state.rho), size)
        u = pulled * (1 - threshold / size.clamp_min(1e-30)).clamp_min(0)
        du = pulled - u
        mixed_x = RELAXED * x + (1 - RELAXED) * state.v
        v = (mixed_x + state.dv).clamp_min(0)
        dv = mixed_x + state.dv - v
        v, dv = torch.where(keep > 0, v, x), keep * dv
        new = replace(state, x=x, z=z, u=u, du=du, v=v, dv=dv)
        return new, *self._residuals(state, new, slope)

    def _residuals(self, old: State, new: State, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Return the relative primal and dual residuals (Wohlberg 2017), shape (B,)."""

        def norm2(v: Tensor) -> Tensor:
            return (v**2).flatten(1).sum(1)

        gap = norm2(slope - new.u) + self.keep * norm2(new.x - new.v)
        size = norm2(slope) + self.keep * norm2(new.x)
        keep = column(self.keep, new.x)
        change = keep * (new.v - old.v) - divergence(new.u - old.u)
        force = keep * new.dv - divergence(new.du)
        # The data's own pull is the force that a solution has to balance.
        primal = (gap / size.clamp_min(1e-30)).sqrt()
        dual = (norm2(change) / norm2(force).clamp_min(1e-30)).sqrt()
        return primal, dual

    def tuned(self, state: State, misfit: Tensor, primal: Tensor, dual: Tensor, k: int) -> State:
        """Return the state with its penalty balanced and, where wanted, its weight nearer."""
        rho, weight = state.rho, state.weight
        if k <= BALANCED:
            ratio = (primal / dual.clamp_min(1e-30)).sqrt().clamp(0.5, 2.0)
            rho = rho * torch.where((ratio > 1.2) | (ratio < 1 / 1.2), ratio, 1)
        gain, above = state.gain, misfit > 1
        if self.sampler.weight is None:
            # Blurred data hardly answer to the weight and direct ones do, so that the gain grows
            # until the misfit jumps over one, and is halved there.
            jumped = above != state.above
            gain = torch.where(jumped, gain / 2, gain * 1.25).clamp(0.1, 20.0)
            off = misfit.clamp_min(1e-6).log()
            move = torch.where(off.abs() < 0.8 * CLOSE, torch.zeros_like(off), -gain * off)
            weight = (weight * move.clamp(-0.7, 0.7).exp()).clamp(*BOUNDS)
        shrink = state.rho / rho  # multipliers are scaled by the penalty
        return replace(
            state,
            rho=rho,
            weight=weight,
            gain=gain,
            above=above,
            du=state.du * column(shrink, state.du),
            dv=state.dv * column(shrink, state.dv),
        )

    def at_bound(self, state: State, misfit: Tensor) -> Tensor:
        """Return where no weight brings the misfit to one, shape (B,)."""
        low = (state.weight <= BOUNDS[0]) & (misfit > 1)
        return low | ((state.weight >= BOUNDS[1]) & (misfit < 1))
