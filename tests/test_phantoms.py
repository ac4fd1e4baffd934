"""Phantoms: seeded, non-negative, sharp, of the shape that was asked; what judges blank fields."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_dps.errors import InputError
from napari_dps.training.images import normalise
from napari_dps.training.phantoms import STRUCTURES, _filaments, _nuclei, filaments, phantom
from napari_dps.training.phantoms._draw import STEP, bodies, chains, splat

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SHARP = [name for name in STRUCTURES if name != "haze"]


def fine_power(image: NDArray[np.float64]) -> float:
    """Return the share of the variance at periods below 6 pixels."""
    window = np.outer(np.hanning(len(image)), np.hanning(len(image)))
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    k = np.hypot(np.fft.fftfreq(len(image))[:, None], np.fft.fftfreq(len(image))[None])
    return float(power[k > 1 / 6].sum() / power.sum())


@pytest.mark.parametrize("name", [*STRUCTURES, None])
def test_small_phantoms(name: str | None) -> None:
    for seed in range(20):
        image = phantom(np.random.default_rng(seed), 16, name)
        assert image.shape == (16, 16)
        assert np.isfinite(image).all()


@pytest.mark.parametrize("name", [*STRUCTURES, None])
def test_phantoms_by_name(name: str | None) -> None:
    first = phantom(np.random.default_rng(1), 48, name)
    np.testing.assert_array_equal(first, phantom(np.random.default_rng(1), 48, name))
    assert not np.array_equal(first, phantom(np.random.default_rng(2), 48, name))
    for seed in range(12):
        image = phantom(np.random.default_rng(seed), 48, name)
        assert image.shape == (48, 48)
        assert np.isfinite(image).all()
        assert image.min() >= 0.0
        assert np.percentile(image, 99.8) <= 1.0 + 1e-9
        assert 0.9 <= image.max() <= 10 / 3 + 1e-9


def test_unknown_structure_is_refused_with_the_names() -> None:
    with pytest.raises(InputError, match=r"no structure 'nucleus': .*nuclei"):
        phantom(np.random.default_rng(0), 32, "nucleus")


@pytest.mark.parametrize("name", SHARP)
def test_structures_are_sharp_and_rarely_blank(name: str) -> None:
    draws = [STRUCTURES[name][0](np.random.default_rng(seed), 96) for seed in range(20)]
    # A Gaussian blur of 2 pixels would leave less than 1 % of the power of white noise there.
    assert np.median([fine_power(image) for image in draws]) > 0.01
    assert sum(image.std() > 0.02 for image in draws) >= 19


def test_haze_is_not_sharp() -> None:
    draws = [STRUCTURES["haze"][0](np.random.default_rng(seed), 96) for seed in range(8)]
    assert max(fine_power(image) for image in draws) < 0.003


def test_statistics_are_in_the_range_of_real_images() -> None:
    sources = [normalise(phantom(np.random.default_rng(seed), 96)) for seed in range(60)]
    fields = np.stack([s.patch(0, 0, 96) for s in sources if s is not None])
    assert len(fields) == 60
    # Real fields of train_open, evenly over structures: median -0.84, last decile -0.1.
    assert -0.95 < np.median(fields) < -0.65
    assert -0.4 < np.quantile(fields, 0.9) < 0.2
    assert 0.2 < fields.std(axis=(1, 2)).mean() < 0.6


@pytest.mark.parametrize("persistence", [20.0, 100.0])
def test_persistence_length(persistence: float) -> None:
    rng = np.random.default_rng(0)
    paths = chains(rng, np.zeros((3000, 2)), 200, persistence)
    steps = np.diff(paths, axis=1) / STEP
    np.testing.assert_allclose(np.hypot(steps[..., 0], steps[..., 1]), 1.0)
    # Smoothing the curvature takes the same from every lag: two of them tell the length.
    near, far = (float((steps[:, 60] * steps[:, 60 + lag]).sum(-1).mean()) for lag in (40, 80))
    assert far / near == pytest.approx(np.exp(-40 * STEP / (2 * persistence)), abs=0.04)


def test_density_puts_more_fibre_into_the_image() -> None:
    def covered(density: float) -> float:
        draws = [
            filaments(np.random.default_rng(seed), 96, persistence=500.0, density=density)
            for seed in range(10)
        ]
        return float(np.mean([(image > 0.1).mean() for image in draws]))

    assert covered(0.6) > 2.0 * covered(0.05)


@pytest.mark.parametrize(("size", "density"), [(64, 1.5), (128, 0.3), (128, 0.8), (256, 1.5)])
def test_density_is_the_one_asked_for(
    monkeypatch: pytest.MonkeyPatch, size: int, density: float
) -> None:
    """At any size: length of fibre in sight per area, in the median over draws."""
    lengths: list[float] = []

    def spy(points: NDArray[np.float64], weights: NDArray[np.float64], side: int) -> object:
        inside = ((points > 0) & (points < side)).all(axis=1)
        lengths.append(float(inside.sum()) * STEP / side**2)
        return splat(points, weights, side)

    monkeypatch.setattr(_filaments, "splat", spy)
    for seed in range(12):
        filaments(np.random.default_rng(seed), size, persistence=500.0, density=density)
    assert len(lengths) == 12
    assert np.median(lengths) == pytest.approx(density, rel=0.25)


def test_dense_images_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_filaments, "POINTS", 1000)
    parts: list[int] = []

    def spy(points: NDArray[np.float64], weights: NDArray[np.float64], side: int) -> object:
        parts.append(len(points))
        return splat(points, weights, side)

    monkeypatch.setattr(_filaments, "splat", spy)
    image = filaments(np.random.default_rng(0), 64, density=1.0)
    assert image.max() > 0.9
    assert len(parts) > 10
    assert max(parts) <= 1000


def test_small_nuclei_fill_large_images_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverage is a share of the area: a wide field holds more nuclei than a narrow one."""
    # The least radius, the highest coverage.
    monkeypatch.setattr(_nuclei, "log_uniform", lambda rng, low, high: low if low == 4.0 else high)
    for size in (64, 256):
        image = STRUCTURES["nuclei"][0](np.random.default_rng(3), size)
        assert (image > 0.1).mean() > 0.25


def test_points_keep_their_light() -> None:
    points = np.array([[3.25, 4.5], [0.0, 7.0], [-5.0, 2.0]])
    image = splat(points, np.array([1.0, 2.0, 4.0]), 8)
    assert image.sum() == pytest.approx(3.0)
    assert image[0, 7] == pytest.approx(2.0)
    assert image[3, 4] == pytest.approx(0.375)


def test_bodies_on_a_coarse_grid_fill_the_image() -> None:
    for size in (30, 64):
        image = bodies(np.random.default_rng(0), size, 4)
        assert image.shape == (size, size)
        assert image.min() >= 0.0
        assert image.max() == pytest.approx(1.0)


def test_claims_of_blank_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import blank

    from napari_dps import Result

    truth, nothing = blank.field(32, spot=False, seed=0)
    assert (truth == 1.0).all()
    assert not nothing.any()
    spot, footprint = blank.field(32, spot=True, seed=0)
    assert spot.max() == pytest.approx(6.0, abs=0.5)
    assert footprint[spot > 1.1].all()
    assert 0.05 < footprint.mean() < 0.3
    lower = np.where(footprint, 3.0, 0.9)
    lower[0, :4] = 1.1
    assert blank.claimed(lower, footprint) == pytest.approx(4 / (~footprint).sum())
    rng = np.random.default_rng(1)
    draws = rng.normal(1.0, 0.2, (400, 16, 16))
    exact = blank.lower_bound(Result(draws))
    normal = blank.lower_bound(Result(draws[:100]))
    for bound in (exact, normal):
        assert bound.mean() == pytest.approx(1.0 - 2.576 * 0.2, abs=0.04)
    with pytest.raises(SystemExit, match="4 or more"):
        blank.lower_bound(Result(draws[:2]))
