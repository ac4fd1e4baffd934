"""What the catalogue shows of every kind: one recipe, as short as it can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from _takes import answers

WATER = {"numerical_aperture": 1.1, "immersion_index": 1.33, "sample_index": 1.33}
POISSON = {"kind": "poisson"}
VOLUME = (
    "A volume of a few planes, restored with a prior of planes; shown are the plane in the middle "
    "and, below it, a section along Z."
)


@dataclass(frozen=True)
class Example:
    """One kind as the catalogue shows it.

    Parameters
    ----------
    fields : dict
        Parameters of the kind.
    beside : dict
        The noise of a forward model's example, the forward model of all others.
    image : str
        File that is restored.
    files : dict of str to str
        Further files that the recipe names, and what each holds.
    picture : str
        What the picture shows.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=lambda: dict(POISSON))
    image: str = "image.tif"
    files: dict[str, str] = field(default_factory=dict)
    picture: str = ""


FORWARD = {
    "identity": Example(picture="Nuclei, 20 photons where bright."),
    "gaussian-blur": Example({"sigma": 2.0}, picture="Nuclei, 100 photons where bright."),
    "motion-blur": Example(
        {"path": "straight", "length": 12.0, "angle": 30.0},
        picture="Mitochondria, 100 photons where bright.",
    ),
    "psf": Example(
        {"psf": "psf.tif"},
        files={"psf.tif": "the image of a point, or what `napari-dps psf` makes of beads"},
        picture="Mitochondria through an astigmatic lens, 100 photons where bright.",
    ),
    "widefield": Example(
        {**WATER, "pixel_size": 0.1, "z_step": 0.3},
        picture=f"Filaments, 200 photons where bright. {VOLUME}",
    ),
    "confocal": Example(
        {**WATER, "pinhole": 1.0, "pixel_size": 0.1, "z_step": 0.3},
        picture=f"Filaments, 40 photons where bright. {VOLUME}",
    ),
    "lightsheet": Example(
        {**WATER, "sheet_thickness": 2.0, "pixel_size": 0.1, "z_step": 0.3},
        picture="One plane of filaments, 100 photons where bright.",
    ),
    "inpaint": Example(
        {"mask": "mask.tif", "box": [[50, 20, 66, 40]]},
        files={"mask.tif": "an image of the same shape, 0 where a pixel is missing"},
        picture="Membranes, 100 photons where bright, scratches and a box missing.",
    ),
    "random-inpaint": Example(
        {"missing": 0.8}, picture="Nuclei, 100 photons where bright, 80 % of the pixels lost."
    ),
    "downsample": Example(
        {"factor": 2, "method": "binning"},
        picture="Cytoplasm, 200 photons per coarse pixel where bright.",
    ),
    "nonlinear-blur": Example(
        {"white": 120.0, "gamma": 2.2, "extent": 9.0},
        picture="Mitochondria, 100 photons where bright; the camera shows white at 120.",
    ),
    "phase-retrieval": Example(
        {"oversampling": 2.0, "measured": "intensity"},
        picture="Nuclei in a dark field; a million photons in the pattern, which is "
        "shown by its logarithm.",
    ),
    "ptychography": Example(
        {"probe": "probe.npy", "positions": "positions.npy"},
        image="patterns.tif",
        files={
            "probe.npy": "the probe's real and imaginary part, shape (2, Y, X)",
            "positions.npy": "Y and X of the probe at every pattern, shape (N, 2)",
        },
        picture="Cells that only shift the phase, at 64 overlapping places; shown are the phase "
        "where the probe was, and the logarithm of one pattern.",
    ),
    "radon": Example(
        {"count": 40, "angular_range": 180.0},
        {"kind": "gaussian", "sigma": 0.5},
        image="sinogram.tif",
        picture="A slice with round cells from 40 projections.",
    ),
    "fourier-mask": Example(
        {"acceleration": 3.0, "centre": 0.1, "object": "complex"},
        {"kind": "gaussian", "sigma": 0.02},
        image="kspace.tif",
        picture="A complex object from a third of its k-space; shown are its amplitude and the "
        "logarithm of k-space.",
    ),
    "compose": Example(
        {
            "steps": [
                {"kind": "gaussian-blur", "sigma": 2.0},
                {"kind": "downsample", "factor": 2},
                {"kind": "random-inpaint", "missing": 0.3},
            ]
        },
        picture="Cytoplasm, blurred, binned, and 30 % of the pixels lost; 200 photons per coarse "
        "pixel where bright.",
    ),
}

IDENTITY = {"kind": "identity"}

NOISE = {
    "gaussian": Example(
        {"sigma": 12.0}, IDENTITY, picture="Membranes of 100 grey values, noise of 12."
    ),
    "poisson": Example(
        {"gain": 2.2, "offset": 100.0},
        IDENTITY,
        picture="Puncta, 30 photons where bright, 2.2 grey values each.",
    ),
    "poisson-gaussian": Example(
        {"gain": 2.2, "offset": 100.0, "read_noise": 1.6},
        IDENTITY,
        picture="Reticulum, 30 photons where bright, and a read noise of 1.6 electrons.",
    ),
}

BLURRED = {"kind": "gaussian-blur", "sigma": 2.0}

PRIOR = {
    "checkpoint": Example(
        {"path": "my-prior"},
        BLURRED,
        files={"my-prior": "the folder of a trained prior, or a file of one; see below"},
    ),
}

SAMPLER: dict[str, Example] = {}

EXAMPLES = {"forward": FORWARD, "noise": NOISE, "sampler": SAMPLER, "prior": PRIOR}
PICTURED = ("forward", "noise")
"""Groups whose kinds have an example each and a picture; the others' can be made."""


def example(group: str, kind: str) -> Example:
    """Return the example of a kind: its own, or one like those of its group."""
    own = EXAMPLES[group].get(kind)
    if own is not None or group in PICTURED:
        return EXAMPLES[group][kind]
    if group == "prior":
        return Example({}, BLURRED)
    said = answers(kind)
    if said["blur"] is not None and said["phase retrieval"] is None:
        return Example({}, {"kind": "phase-retrieval"}, "pattern.tif")
    return Example({}, BLURRED)


def recipe(group: str, kind: str) -> dict[str, Any]:
    """Return the recipe of a kind's example, as JSON."""
    shown = example(group, kind)
    own = {"kind": kind, **shown.fields}
    if group == "forward":
        return {"forward": own, "noise": shown.beside}
    if group == "noise":
        return {"forward": shown.beside, "noise": own}
    return {"forward": shown.beside, "noise": dict(POISSON), group: own}
