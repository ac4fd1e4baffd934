"""How many iterations a guess takes: as many as the noise level and the data need, known before."""

from typing import Any

import numpy as np
import pytest
import torch

from napari_dps.core import typical as typical_module
from napari_dps.core.covariance import StationaryCovariance
from napari_dps.core.linalg import conjugate_gradients, iterations_for
from napari_dps.core.problem import Problem
from napari_dps.core.typical import TypicalSystem
from napari_dps.run import Run
from napari_dps.samplers import mmps
from napari_dps.start import find_start
from napari_dps.training.phantoms import phantom

SIDE = 32
BLUR = {"kind": "gaussian-blur", "sigma": 2.0}


def started(data: np.ndarray, **recipe: Any) -> Problem:
    """Return the problem of a run whose start was found."""
    run = Run(data, {"samples": 1, **recipe}, device="cpu")
    run._bind()
    for _ in find_start(run):
        pass
    return run._problem


def scene(peak: float) -> np.ndarray:
    """Return a measured scene of so many photons."""
    clean = peak * phantom(np.random.default_rng(0), SIDE).astype(np.float64) + 1
    return np.random.default_rng(1).poisson(clean).astype(np.float64)


@pytest.mark.parametrize("condition", [1.0, 1.3, 4.0, 30.0, 300.0])
@pytest.mark.parametrize("share", [0.1, 0.01])
def test_so_many_iterations_leave_the_share_that_was_asked_for(
    condition: float, share: float
) -> None:
    values = torch.logspace(0, np.log10(condition), 200, dtype=torch.float64)
    rhs = torch.randn(1, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def left(iterations: int) -> float:
        found = conjugate_gradients(lambda p: values * p, rhs, iterations=iterations, tolerance=0.0)
        error = found.u - rhs / values
        before = rhs / values
        return float(((values * error**2).sum() / (values * before**2).sum()).sqrt())

    needed = iterations_for(condition, share, 1000)
    assert left(needed) <= share
    if condition >= 30:  # the bound is for the worst spectrum, this one is near it
        assert left(needed // 3) > share


def test_there_is_at_least_one_iteration_and_at_most_what_is_allowed() -> None:
    assert iterations_for(1.0, 0.1, 12) == 1
    assert iterations_for(1.0 + 1e-12, 0.1, 12) == 1
    assert iterations_for(1e30, 0.1, 12) == 12
    assert iterations_for(float("inf"), 0.1, 12) == 12


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_precision_of_even_noise_is_that_of_a_pixel_over_what_it_collects(factor: int) -> None:
    forward = {"kind": "downsample", "factor": factor} if factor > 1 else "identity"
    problem = started(scene(100.0), forward=forward, noise={"kind": "gaussian", "sigma": 4.0})
    assert problem.precisions is not None
    slope = problem.operator.operator.response * float(problem.operator.scale.item()) / 2
    # All that a pixel of the object gives goes into one datum, in equal shares.
    assert problem.precisions[0] == pytest.approx((slope / 4.0) ** 2 / factor**2, rel=1e-4)


def test_the_precision_of_counts_is_that_of_dark_regions() -> None:
    image = np.full((SIDE, SIDE), 400.0)
    image[:, : SIDE // 2] = 10.0
    levels = {"scale": 200.0, "background": 0.0}
    problem = started(image, noise="poisson", forward="identity", intensity=levels)
    assert problem.precisions is not None and problem.reference is not None
    assert float(problem.reference.min()) == pytest.approx(10.0, rel=0.5)
    # 1/10 and 1/400 weighted by themselves.
    want = 100.0**2 * (1 / 10**2 + 1 / 400**2) / (1 / 10 + 1 / 400)
    assert problem.precisions[0] == pytest.approx(want, rel=0.2)


def test_data_that_do_not_count_say_nothing() -> None:
    image, levels = scene(100.0), {"scale": 100.0, "background": 0.0}
    image[: SIDE // 2] = np.nan
    common: dict[str, Any] = {"noise": {"kind": "gaussian", "sigma": 4.0}, "intensity": levels}
    problem = started(image, forward="inpaint", **common)
    assert problem.precisions is not None
    assert problem.precisions[0] == pytest.approx((50.0 / 4.0) ** 2, rel=1e-4)


def test_frames_have_their_own_and_keep_it_when_selected() -> None:
    frames = np.stack([scene(20.0), scene(500.0)])
    problem = started(frames, noise="poisson", forward=BLUR)
    alone = [started(f, noise="poisson", forward=BLUR).precisions for f in frames]
    found = problem.precisions
    assert found is not None and alone[0] is not None and alone[1] is not None
    # The second frame's estimate has random numbers of its own.
    assert found[:1] == alone[0] and found[1] == pytest.approx(alone[1][0], rel=0.1)
    assert problem.select([1]).precisions == found[1:]
    assert problem.ladders()[0] != problem.ladders()[1]


@pytest.mark.parametrize("peak", [5.0, 30.0, 300.0, 1e4])
@pytest.mark.parametrize("sigma", [1.0, 0.1, 0.01])
def test_the_condition_is_about_the_largest_eigenvalue_of_the_guess(
    peak: float, sigma: float
) -> None:
    problem = started(scene(peak), noise="poisson", forward=BLUR)
    assert problem.start is not None and problem.precisions is not None
    x = problem.start.estimate
    typical = StationaryCovariance(problem.prior, x, sigma)
    assert typical.largest == pytest.approx(float(typical.transfer.max()))  # type: ignore[union-attr]
    z, jvp, vjp = problem.operator.linearize(x)
    system = TypicalSystem(typical, jvp, vjp, problem.variance(z).sqrt(), lambda v: v)
    v = torch.ones_like(z)
    for _ in range(100):
        v = v / v.norm()
        product = system._product(v)
        v, largest = product, float((v * product).sum())
    condition = 1 + typical.largest * problem.precisions[0]
    assert largest / 3 < condition < 3 * largest


def test_large_images_are_solved_one_by_one_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = started(scene(30.0), noise="poisson", forward=BLUR)
    assert problem.start is not None and problem.alike
    noise = torch.randn(3, *problem.operator.x_shape, generator=torch.Generator().manual_seed(0))
    z, jvp, vjp = problem.operator.linearize(problem.start.estimate + 0.1 * noise)
    typical = StationaryCovariance(problem.prior, problem.start.estimate, 0.5)
    normal = problem.operator.normal(typical.transfer)
    root = problem.variance(z).sqrt()
    assert len(root) == 3
    residual = problem.residual(z) / root

    def solved(alike: bool) -> torch.Tensor:
        system = TypicalSystem(typical, jvp, vjp, root, lambda v: v, normal, alike)
        return system.solve(residual, iterations=8, tolerance=0.0)

    together = solved(True)  # too small to be taken apart
    sizes: list[int] = []
    monkeypatch.setattr(typical_module, "LARGE", SIDE**2)
    solve = TypicalSystem._product

    def watched(self: TypicalSystem, p: torch.Tensor) -> torch.Tensor:
        sizes.append(len(p))
        return solve(self, p)

    monkeypatch.setattr(TypicalSystem, "_product", watched)
    torch.testing.assert_close(solved(True), together, rtol=1e-4, atol=1e-4)
    assert sizes == [1] * 24
    solved(False)  # frames that differ stay together
    assert sizes[24:] == [3] * 8


def test_more_light_and_higher_noise_levels_take_more_iterations_up_to_a_limit() -> None:
    problems = [started(scene(peak), noise="poisson", forward=BLUR) for peak in (5.0, 30.0, 300.0)]
    for sigma in (0.01, 0.1, 1.0):
        x = torch.zeros((1, 1, SIDE, SIDE))
        largest = StationaryCovariance(problems[0].prior, x, sigma).largest
        counts = [mmps.leading_iterations(p, largest) for p in problems]
        assert counts == sorted(counts)
        assert 1 <= counts[0] and counts[-1] <= mmps.MOST
    assert counts[-1] == mmps.MOST
    problems[0].precisions = None  # nothing is known: all that are allowed
    assert mmps.leading_iterations(problems[0], 0.0) == mmps.MOST
