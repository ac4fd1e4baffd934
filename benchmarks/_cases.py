"""The rows of benchmarks/models.py: each model, its noise and its classical baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage
import skimage.restoration
import torch
from _common import Array

from napari_dps.components import ForwardModel, make
from napari_dps.core.ptychography import epie
from napari_dps.demo._baselines import filtered_back_projection, hio
from napari_dps.grid import Grid
from napari_dps.uncertainty.registration import register

SIDE, MARGIN, PEAK, BACKGROUND = 64, 16, 200.0, 5.0
PIXEL = 0.1
"""Micrometres."""


@dataclass
class Case:
    """One row: a model, its noise, and what it is compared with.

    Attributes
    ----------
    forward, noise : dict
        As in a recipe.
    baseline : callable
        (measurement, truth, model) to images, of which the one nearest to the truth counts.
    name : str
        Of the baseline.
    direct : callable or None
        The measurement as an image of the object, where that makes sense.
    margin : int
        Object beyond the field that light comes from, in object pixels.
    truth : callable
        From the crop in photons to the object.
    fitted : callable
        (image, truth) to the image as it is compared: what the measurement leaves free is fitted.
    """

    forward: dict[str, Any]
    noise: dict[str, Any]
    baseline: Callable[[Array, Array, ForwardModel], list[Array]]
    name: str
    direct: Callable[[Array], Array] | None = None
    margin: int = 0
    truth: Callable[[Array], Array] = lambda x: x
    fitted: Callable[[Array, Array], Array] = lambda x, truth: x


POISSON = {"kind": "poisson"}


def bound(model: ForwardModel, shape: tuple[int, ...]) -> Any:
    """Return the operator of a measurement of ``shape``, in double precision."""
    pixel = (PIXEL * 3, PIXEL, PIXEL)[-len(shape) :]
    return model.bind(Grid(shape, pixel, "cpu", "float64"))


def tensor(values: Array) -> torch.Tensor:
    """Return values with batch and channel axis."""
    return torch.as_tensor(np.asarray(values, np.float64))[None, None]


def expectation_maximisation(
    counts: Array, truth: Array, model: ForwardModel, iterations: int = 300
) -> list[Array]:
    """Return iterates of Richardson-Lucy (of emission tomography: MLEM) with any linear model."""
    operator = bound(model, counts.shape)
    y = tensor(np.maximum(counts, 0))
    seen = torch.ones_like(y) if operator.measured is None else operator.measured.to(y)
    seen = seen.expand_as(y)
    sensitivity = operator.adjoint(seen)
    level = (seen * y).sum() / (seen * operator(torch.ones_like(sensitivity))).sum()
    x = torch.ones_like(sensitivity) * level
    floor = 0.01 * sensitivity.max()
    found = []
    for _ in range(iterations):
        ratio = operator.adjoint(seen * y / operator(x).clamp_min(1e-9))
        factor = (ratio / sensitivity.clamp_min(floor)).clamp_min(0)
        x = x * torch.where(sensitivity > floor, factor, torch.ones_like(factor))
        found.append(operator.crop(x)[0, 0].numpy())
    return found


def interpolated(counts: Array, truth: Array, model: ForwardModel) -> list[Array]:
    """Return nearest and biharmonic interpolation of missing pixels."""
    known = np.asarray(model.measured_pixels(counts[None].astype(np.float64)))
    known = known.reshape(counts.shape)
    nearest = scipy.ndimage.distance_transform_edt(
        ~known, return_distances=False, return_indices=True
    )
    return [
        np.asarray(counts[tuple(nearest)]),
        skimage.restoration.inpaint_biharmonic(counts, ~known),
    ]


def enlarged(counts: Array, truth: Array, model: ForwardModel) -> list[Array]:
    """Return bicubic enlargement."""
    factor = truth.shape[0] / counts.shape[0]
    return [scipy.ndimage.zoom(counts, factor, order=3, mode="reflect", grid_mode=True)]


def back_projected(counts: Array, truth: Array, model: ForwardModel) -> list[Array]:
    """Return filtered back-projections, smoothed more and more."""
    angles = model.angle_list(counts.shape[0])  # type: ignore[attr-defined]
    sharp = filtered_back_projection(counts, angles)
    return [scipy.ndimage.gaussian_filter(sharp, s) for s in np.arange(0, 3, 0.25)]


def answered(counts: Array, truth: Array, model: ForwardModel) -> list[Array]:
    """Undo the response, then Richardson-Lucy."""
    white, gamma = model.white, model.gamma  # type: ignore[attr-defined]
    light = white * np.clip(counts / white, 0, 1) ** gamma
    return expectation_maximisation(light, truth, make("forward", motion_of(model)))  # type: ignore[arg-type]


def motion_of(model: ForwardModel) -> dict[str, Any]:
    """Return the linear part of a nonlinear blur."""
    return {"kind": "psf", "psf": model.psf(), "centre": "none", "psf_background": "none"}  # type: ignore[attr-defined]


def fienup(counts: Array, truth: Array, model: ForwardModel) -> list[Array]:
    """Return what hybrid input-output explains best among four restarts."""
    found, _ = hio(counts, (truth.shape[0], truth.shape[1]), restarts=4)
    return [found[0]]


def scanned(patterns: Array, truth: Array, model: ForwardModel) -> list[Array]:
    """Return iterates of ePIE."""
    operator = bound(model, patterns.shape)
    magnitude = operator.magnitudes(torch.as_tensor(patterns, dtype=torch.float64))
    found = []
    for passes in (10, 30, 100):
        image, _, _ = epie(magnitude, None, operator.scan, operator.probe, passes)
        found.append(np.stack((image.real.numpy(), image.imag.numpy())))
    return found


def zero_filled(kspace: Array, truth: Array, model: ForwardModel) -> list[Array]:
    """Return the inverse transform with zeros where nothing was measured."""
    operator = bound(model, kspace.shape)
    parts = operator.adjoint(torch.as_tensor(kspace, dtype=torch.float64)[None])[0].numpy()
    return [parts if truth.ndim == 3 else parts[0]]


def phased(x: Array) -> Array:
    """Return a transparent object whose phase is the image's."""
    share = np.clip((x - BACKGROUND) / PEAK, 0, 1.2)
    z = (1 - 0.3 * share) * np.exp(1j * (2 * share - 1))
    return np.stack((z.real, z.imag))


def thick(x: Array) -> Array:
    """Return a volume of eight planes from the parts of an image, each in focus at its depth."""
    depth = np.arange(8)[:, None, None]
    parts = [x, x[::-1], x.T]
    centres = (2.0, 4.0, 6.0)
    planes = [p * np.exp(-((depth - c) ** 2) / 2) for p, c in zip(parts, centres, strict=True)]
    return np.asarray(sum(planes)) / 1.5 + BACKGROUND


def disc(x: Array) -> Array:
    """Return the image inside the circle that every projection sees."""
    rows, columns = np.indices(x.shape) - (x.shape[0] - 1) / 2
    return np.where(np.hypot(rows, columns) < x.shape[0] / 2 - 2, x - BACKGROUND, 0) / 8


def coma() -> Array:
    """Return a lopsided PSF."""
    rows, columns = np.mgrid[-8:9, -8:9].astype(float)
    core = np.exp(-(rows**2 + columns**2) / 4)
    tail = 0.4 * np.exp(-((rows - 2) ** 2 / 4 + (columns - 3) ** 2 / 8))
    return (core + tail) / (core + tail).sum()


def holes(shape: tuple[int, ...], share: float) -> Array:
    """Return a mask with small round holes, nonzero where measured."""
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(1).standard_normal(shape), 2)
    return (noise < np.quantile(noise, 1 - share)).astype(np.uint8)


def scan() -> dict[str, Any]:
    """Return a probe of 32x32 pixels and 7x7 positions over a 64x64 object."""
    rows, columns = np.mgrid[-16:16, -16:16]
    distance = rows**2 + columns**2
    probe = 20 * np.exp(-distance / 60 + 0.02j * distance)
    positions = [(5.2 * r + 0.4 * (c % 2), 5.2 * c) for r in range(7) for c in range(7)]
    return {"kind": "ptychography", "probe": probe, "positions": positions}


def phase_fitted(image: Array, truth: Array) -> Array:
    """Return a complex image with the global phase that fits best."""
    return np.asarray(register(image.astype(np.float64), truth, phase_only=True))


def cases() -> dict[str, Case]:
    """Return every row."""
    rl, name = expectation_maximisation, "Richardson-Lucy, best"

    def same(y: Array) -> Array:
        return y

    def big(factor: int) -> Callable[[Array], Array]:
        return lambda y: np.kron(y, np.ones((factor, factor)))

    def blur(**forward: Any) -> Case:
        return Case(forward, POISSON, rl, name, same, MARGIN)

    angles = np.arange(45) * 4.0
    chain = [{"kind": "gaussian-blur", "sigma": 1.0}, {"kind": "downsample", "factor": 2}]
    chain.append({"kind": "random-inpaint", "missing": 0.3})
    found = {
        "gaussian-blur": blur(kind="gaussian-blur", sigma=2.0),
        "motion-blur": blur(kind="motion-blur", length=9, angle=30),
        "psf": blur(kind="psf", psf=coma()),
        "widefield": blur(kind="widefield", numerical_aperture=0.8, immersion_index=1.0),
        "confocal": blur(kind="confocal", numerical_aperture=0.8, immersion_index=1.0),
        "lightsheet": blur(kind="lightsheet", numerical_aperture=0.8),
        "lightsheet-3d": Case(
            {"kind": "lightsheet", "numerical_aperture": 0.8}, POISSON, rl, name, same, truth=thick
        ),
        "inpaint": Case(
            {"kind": "inpaint", "mask": holes((SIDE, SIDE), 0.3)},
            POISSON,
            interpolated,
            "biharmonic or nearest",
        ),
        "random-inpaint": Case(
            {"kind": "random-inpaint", "missing": 0.8},
            POISSON,
            interpolated,
            "biharmonic or nearest",
        ),
    }
    for factor, method in ((2, "binning"), (4, "binning"), (2, "bicubic"), (4, "bicubic")):
        forward = {"kind": "downsample", "factor": factor, "method": method}
        found[f"downsample-{factor}x-{method}"] = Case(
            forward, POISSON, enlarged, "bicubic", big(factor), MARGIN
        )
    found |= {
        "nonlinear-blur": Case(
            {"kind": "nonlinear-blur", "extent": 9, "white": 250.0},
            {"kind": "gaussian", "sigma": 4.0},
            answered,
            "response undone, Richardson-Lucy, best",
            same,
            MARGIN,
        ),
        "phase-retrieval": Case(
            {"kind": "phase-retrieval"},
            POISSON,
            fienup,
            "hybrid input-output",
            truth=lambda x: x / 10,
            fitted=lambda image, truth: np.asarray(register(image.astype(np.float64), truth)),
        ),
        "ptychography": Case(
            scan(), POISSON, scanned, "ePIE, best", truth=phased, fitted=phase_fitted
        ),
        "radon-gaussian": Case(
            {"kind": "radon", "angles": angles},
            {"kind": "gaussian", "sigma": 10.0},
            back_projected,
            "filtered back-projection, best",
            truth=disc,
        ),
        "radon-poisson": Case(
            {"kind": "radon", "angles": angles}, POISSON, rl, "MLEM, best", truth=disc
        ),
        "fourier-mask-real": Case(
            {"kind": "fourier-mask", "object": "real"},
            {"kind": "gaussian", "sigma": 5.0},
            zero_filled,
            "zero-filled",
        ),
        "fourier-mask-complex": Case(
            {"kind": "fourier-mask", "acceleration": 3},
            {"kind": "gaussian", "sigma": 0.03},
            zero_filled,
            "zero-filled",
            truth=phased,
        ),
        "compose": Case({"kind": "compose", "steps": chain}, POISSON, rl, name),
    }
    return found
