"""``napari-dps simulate``: what the microscope would record of an object."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter

from napari_dps.cli._options import (
    Chosen,
    floats,
    option,
    recipe_from,
    recipe_parameters,
    signature,
)
from napari_dps.cli._output import check_image_output, write_array
from napari_dps.cli._terminal import note, print_json
from napari_dps.cli.reconstruct import input_parameters

GROUPS = ("forward", "noise")


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command, with the options of the chosen forward model and noise."""
    source = inspect.Parameter(
        "image",
        inspect.Parameter.POSITIONAL_ONLY,
        annotation=Annotated[str, Parameter(help="Object: TIFF, OME-TIFF, PNG or npy.")],
    )
    return signature(
        simulate,
        [
            source,
            option("out", str, "Measurement: .tif or .npy.", short="-o", required=True),
            *input_parameters(),
            *recipe_parameters(chosen),
            option("seed", int, "Seed of the noise (0)."),
            option("json", bool, "Print one JSON object on stdout.", default=False),
        ],
    )


def simulate(image: str, **given: Any) -> None:
    """Simulate the measurement of an object: forward model, then noise."""
    from napari_dps.io import read_image

    target = check_image_output(given["out"], image)
    recipe = recipe_from(given, GROUPS)
    source = read_image(
        image,
        axes=given.get("axes"),
        pixel_size=floats(given.get("pixel_size"), "--pixel-size"),
    )
    # Only now, so that a mistake is told without waiting for torch.
    from napari_dps.api import simulate_image

    measured = simulate_image(source, recipe, seed=recipe.seed)
    write_array(target, measured.data, measured.axes, measured)
    if given.get("json"):
        print_json({"input": image, "output": str(target), "shape": list(measured.shape)})
    else:
        note(f"{target}: {' x '.join(map(str, measured.shape))} pixels")
