"""Which measurements a sampler takes: every sampler is asked with a small problem of each kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from napari_dps.components import SamplerChoice, registry
from napari_dps.errors import DPSError, RecipeError
from napari_dps.grid import Grid
from napari_dps.image import Image
from napari_dps.recipe import Recipe
from napari_dps.run import Run

SIDE = 16
PRIOR = {"kind": "gaussian", "mean": -0.3, "std": 0.3}
POISSON = {"kind": "poisson"}
GAUSSIAN = {"kind": "gaussian", "sigma": 1.0}
CAMERA = {"kind": "poisson-gaussian", "gain": 1.0, "offset": 0.0, "read_noise": 2.0}
BLUR = {"kind": "gaussian-blur", "sigma": 1.0}


@dataclass(frozen=True)
class Measurement:
    """A small problem of one kind.

    Attributes
    ----------
    title : str
        What the table calls it.
    forward : dict
        The forward model.
    noise : dict
        The noise.
    shape : tuple of int
        Of what was measured.
    axes : str
        Its axes.
    """

    title: str
    forward: dict[str, Any]
    noise: dict[str, Any] = field(default_factory=lambda: dict(POISSON))
    shape: tuple[int, ...] = (SIDE, SIDE)
    axes: str = "YX"


def probe() -> Any:
    """Return a small probe of ptychography."""
    rows, columns = np.mgrid[-4:4, -4:4]
    found = 3 * np.exp(-(rows**2 + columns**2) / 8 + 0j)
    return np.stack((found.real, found.imag))


@cache
def forward_problems() -> tuple[Measurement, ...]:
    """Return a problem for every family of forward models, of counts where it counts."""
    scan = [(4.0 * r, 4.0 * c) for r in range(3) for c in range(3)]
    chain = [BLUR, {"kind": "downsample", "factor": 2}]
    ptychography = {"kind": "ptychography", "probe": probe(), "positions": scan}
    kspace = {"kind": "fourier-mask", "object": "complex"}
    volume = {"kind": "psf", "psf": np.ones((3, 3, 3)), "psf_background": "none"}
    return (
        Measurement("noise alone", {"kind": "identity"}),
        Measurement("blur", BLUR),
        Measurement("blur of a volume", volume, shape=(4, SIDE, SIDE), axes="ZYX"),
        Measurement("missing pixels", {"kind": "random-inpaint", "missing": 0.5}),
        Measurement("coarse pixels", {"kind": "downsample", "factor": 2}),
        Measurement("chain", {"kind": "compose", "steps": chain}),
        Measurement("tomography", {"kind": "radon", "count": 12}, shape=(12, SIDE)),
        Measurement("k-space", kspace, GAUSSIAN, (2, SIDE, SIDE), "CYX"),
        Measurement("nonlinear blur", {"kind": "nonlinear-blur", "white": 50.0, "extent": 3.0}),
        Measurement("phase retrieval", {"kind": "phase-retrieval"}, shape=(2 * SIDE, 2 * SIDE)),
        Measurement("ptychography", ptychography, shape=(9, 8, 8), axes="TYX"),
    )


@cache
def noise_problems() -> tuple[Measurement, ...]:
    """Return a problem for every noise, on an image."""
    noises = (("Poisson", POISSON), ("Gaussian", GAUSSIAN), ("Poisson-Gaussian", CAMERA))
    return tuple(Measurement(title, {}, noise) for title, noise in noises)


def asked(kind: str, problem: Measurement) -> str | None:
    """Return why a sampler refuses a problem; None where it takes it."""
    rng = np.random.default_rng(0)
    data = rng.poisson(20.0, problem.shape).astype(np.float64)
    image = Image.from_array(data, axes=problem.axes)
    recipe = Recipe(
        forward=problem.forward, noise=problem.noise, prior=PRIOR, sampler=kind, samples=2
    )
    try:
        next(iter(Run(image, recipe, device="cpu")))
    except RecipeError as error:
        return str(error)
    except DPSError as error:
        raise AssertionError(f"{problem.title} is no fair question: {error}") from error
    return None


@cache
def answers(kind: str) -> dict[str, str | None]:
    """Return a sampler's answer to every forward model, then to every noise.

    Of the forward models it takes, noise is asked with the first.
    """
    found = {problem.title: asked(kind, problem) for problem in forward_problems()}
    taken = next((p for p in forward_problems() if found[p.title] is None), None)
    for problem in noise_problems():
        if taken is None:
            found[problem.title] = "no forward model is taken"
        else:
            same = Measurement("", taken.forward, problem.noise, taken.shape, taken.axes)
            found[problem.title] = asked(kind, same)
    return found


def calls(kind: str) -> tuple[int, int] | None:
    """Return about how many forward passes and products a sample costs at the defaults.

    None of classical methods, and of ``auto``, which is another sampler.
    """
    cls: Any = registry("sampler")[kind]
    if cls.classical or kind == "auto":
        return None
    sampler = cls().bind(Grid((SIDE, SIDE), None, "cpu", "float32"))
    forward, products = sampler.calls_per_step()
    steps = sampler.total_steps()
    return round(steps * forward), round(steps * products)


def gives(kind: str) -> str:
    """Return what a sampler gives."""
    cls: Any = registry("sampler")[kind]
    assert issubclass(cls, SamplerChoice)
    if cls.point_estimate:
        return "one image, without a prior" if cls.classical else "one image"
    return "samples, drawn together" if cls.interacting else "samples"
