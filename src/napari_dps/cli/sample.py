"""``napari-dps sample``: draw from a prior without any data, to see what it knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_dps.cli._options import Chosen, component_from, option, recipe_parameters, signature
from napari_dps.cli._output import check_image_output, write_array
from napari_dps.cli._terminal import note, print_json
from napari_dps.components import make
from napari_dps.errors import InputError
from napari_dps.recipe import DEFAULTS, Recipe

GROUPS = ("prior",)


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command, with the options of the chosen prior."""
    return signature(
        sample,
        [
            option("out", str, "Samples: .tif or .npy.", short="-o", required=True),
            option("number", int, "How many.", short="-n", default=16),
            option("shape", tuple[int, int], "Rows and columns.", default=(64, 64)),
            option("steps", int, "Noise levels to go through.", default=50),
            option("seed", int, "Seed of all random numbers.", default=0),
            option("device", str, "auto, cpu, cuda, cuda:1, mps.", default="auto"),
            option("json", bool, "Print one JSON object on stdout.", default=False),
            *recipe_parameters(chosen),
        ],
    )


def sample(**given: Any) -> None:
    """Draw images from a prior, in its own units (-1 to 1)."""
    target = check_image_output(given["out"])
    base = Recipe.load(given["recipe"]) if given.get("recipe") else None
    prior = component_from("prior", given, base)
    if prior is None:
        prior = base.prior if base is not None else make("prior", DEFAULTS["prior"])
    count, shape = given.get("number", 16), given.get("shape", (64, 64))
    seed, steps = given.get("seed", 0), given.get("steps", 50)
    for name, value in (("-n", count), ("--shape", min(shape)), ("--steps", steps)):
        if value < 1:
            raise InputError(f"{name} = {value} is not allowed, give 1 or more")
    if seed < 0:
        raise InputError(f"--seed = {seed} is not allowed, give 0 or more")
    # Only now, so that a mistake is told without waiting for torch.
    from napari_dps.api import sample_prior

    draws = sample_prior(prior, count, shape, seed, steps=steps, device=given.get("device", "auto"))
    write_array(target, draws, "QYX" if draws.ndim == 3 else "QCYX")
    if given.get("json"):
        print_json({"output": str(target), "prior": prior.kind, "shape": list(draws.shape)})
    else:
        note(f"{target}: {count} draws from the prior {prior.kind!r}")
