"""The shelf of samplers as a whole: every kind runs, and no two of them are the same thing."""

from itertools import combinations

import numpy as np
import pytest

import napari_dps
from napari_dps.components import registry
from napari_dps.errors import DPSError
from napari_dps.run import Run

SIDE = 12
FAR_FIELD = ("er", "hio", "oss", "raar")
# Few steps, since nobody looks at the images: what is asked is whether they differ.
FIELDS = {
    "dps": {"steps": 12},
    "mcg": {"steps": 12},
    "ilvr": {"steps": 12},
    "ddrm": {"steps": 8},
    "pnp-dm": {"steps": 4},
    "smc": {"particles": 16, "steps": 4},
    **{kind: {"steps": 8} for kind in ("mmps", "pigdm", "daps", "diffpir", "pnp-admm")},
}


def blob() -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return 20 + 60 * np.exp(-((rows - 5) ** 2 + (columns - 7) ** 2) / 8.0)


@pytest.fixture(scope="module")
def results() -> dict[str, np.ndarray]:
    """Return the mean image of every kind but ``auto``: of one blurred image, or one far field."""
    prior = {"kind": "gaussian", "correlation_length": 2.0, "exponent": 2.0}
    found = {}
    for kind in registry("sampler"):
        if kind == "auto":
            continue
        forward = {"kind": "gaussian-blur", "sigma": 1.0, "boundary": "periodic"}
        if kind in FAR_FIELD:
            forward = {"kind": "phase-retrieval", "oversampling": 2.0}
        y = napari_dps.simulate(blob(), forward=forward, noise="poisson", seed=1)
        sampler = {"kind": kind, **FIELDS.get(kind, {})}
        made = napari_dps.reconstruct(
            y, forward=forward, noise="poisson", prior=prior, sampler=sampler, samples=2
        )
        assert made.report["sampler"] == kind
        found[kind] = np.asarray(made.mean, np.float64)
    return found


def test_every_kind_gives_an_image(results):
    assert set(results) == set(registry("sampler")) - {"auto"}
    for kind, mean in results.items():
        assert mean.shape == (SIDE, SIDE) and np.isfinite(mean).all(), kind


def test_no_two_samplers_give_the_same_image(results):
    for one, two in combinations(results, 2):
        apart = np.sqrt(np.mean((results[one] - results[two]) ** 2))
        assert apart > 1e-3, f"{one} and {two} differ by {apart:.2g} of 80 photons"


@pytest.mark.parametrize(("forward", "kind"), [("identity", "mmps"), ("phase-retrieval", "pnp-dm")])
def test_auto_tells_what_it_took(forward, kind):
    y = napari_dps.simulate(blob(), forward=forward, noise="poisson", seed=1)
    run = napari_dps.run.Run(y, {"forward": forward, "noise": "poisson", "prior": "gaussian"})
    assert run.plan().network_calls > 0
    assert run.recipe.sampler.kind == kind


def test_the_classical_ones_refuse_what_is_not_theirs():
    for kind in FAR_FIELD:
        with pytest.raises(DPSError, match="magnitudes of one far field"):
            napari_dps.reconstruct(blob(), forward="identity", noise="poisson", sampler=kind)


@pytest.mark.parametrize(
    ("forward", "kind"),
    [
        ("gaussian-blur", "mmps"),
        ({"kind": "nonlinear-blur", "white": 50.0}, "daps"),
        ("phase-retrieval", "pnp-dm"),
        ({"kind": "phase-retrieval", "support": "autocorrelation"}, "pnp-dm"),
        ({"kind": "phase-retrieval", "support_pixels": 20}, "daps"),
    ],
)
def test_auto_chooses_by_the_forward_model(forward, kind):
    rows, columns = np.mgrid[:16, :16]
    image = 1 + 40 * np.exp(-((rows - 7) ** 2 + (columns - 8) ** 2) / 6)
    recipe = {"forward": forward, "prior": "gaussian", "samples": 1}
    run = Run(napari_dps.simulate(image, recipe), recipe, device="cpu")
    run._bind()
    assert run.recipe.sampler.kind == kind
