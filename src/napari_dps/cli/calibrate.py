"""``napari-dps calibrate``: intervals that are tested to cover, for one recipe."""

from __future__ import annotations

import inspect
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from napari_dps import components
from napari_dps.cli._options import (
    Chosen,
    floats,
    option,
    recipe_from,
    recipe_parameters,
    signature,
)
from napari_dps.cli._output import check_folder
from napari_dps.cli._progress import ProgressDisplay
from napari_dps.cli._terminal import duration, note, print_json, print_table
from napari_dps.cli.reconstruct import intensity_parameters
from napari_dps.errors import InputError

if TYPE_CHECKING:
    from napari_dps.uncertainty.calibrate import CalibrationStep

GROUPS = tuple(components.GROUPS)


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command, with the options of the chosen components."""
    images = inspect.Parameter(
        "images",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            list[str] | None,
            Parameter(
                name="--images",
                help="Clean images, or folders of them; left out: phantoms and the prior itself.",
                group=Group("Input", sort_key=1),
                consume_multiple=True,
                negative=(),
            ),
        ],
    )
    pixels = "Pixel size in micrometres: one number, or Y,X."
    return signature(
        calibrate,
        [
            option("out", Path, "Calibration (.json).", short="-o", required=True, group="Output"),
            option("json", bool, "Print one JSON object on stdout.", default=False, group="Output"),
            option("quiet", bool, "Show no progress.", short="-q", default=False, group="Output"),
            images,
            option("crops", int, "How many crops to restore.", default=100, group="Input"),
            option("size", int, "Side of a crop in pixels.", default=64, group="Input"),
            option(
                "photons",
                float,
                "Brightness: photons at an object's 99.8th percentile (the recipe's intensity).",
                group="Input",
            ),
            option(
                "background",
                float,
                "Photons at an object's darkest (the recipe's intensity, else 1; Gaussian: 0).",
                group="Input",
            ),
            option(
                "own_noise",
                float,
                "Pass over crops of --images with more noise of their own, in photons.",
                group="Input",
            ),
            option("pixel_size", str, pixels, group="Input"),
            *recipe_parameters(chosen),
            *intensity_parameters(),
            option("samples", int, "Posterior samples a crop (20).", group="Choices"),
            option("seed", int, "Seed of crops, noise and samples (0).", group="Choices"),
            option("device", str, "auto, cpu, cuda, cuda:1, mps.", default="auto", group="Choices"),
        ],
    )


def calibrate(**given: Any) -> int:
    """Measure how honest a recipe's error bars are, and fit intervals that cover."""
    out: Path = given["out"]
    keep = _check(out, given.get("images") or [], given.get("recipe"))
    recipe = recipe_from(given)
    # Only now, so that a mistake is told without waiting for torch.
    from napari_dps.uncertainty.calibrate import calibrate as fit
    from napari_dps.uncertainty.conformal import too_few

    quiet = bool(given.get("quiet"))
    crops = given.get("crops", 100)
    loose = too_few(crops) if crops > 0 else None  # else refused
    try:
        with ProgressDisplay("calibrating", quiet) as display, warnings.catch_warnings():
            if loose:  # told once, in the terminal's own form
                note(f"warning: {loose}")
                warnings.filterwarnings("ignore", message=re.escape(loose))

            def show(step: CalibrationStep) -> None:
                left = step.seconds_left
                words = [f"{step.done}/{step.total} crops"]
                words += [] if left is None else [f"{duration(left)} left"]
                at = round(1000 * (step.done + step.share))
                display.update(at, 1000 * step.total, ", ".join(words))

            found = fit(
                recipe,
                given.get("images"),
                crops=crops,
                size=given.get("size", 64),
                seed=recipe.seed,
                photons=given.get("photons"),
                background=given.get("background"),
                pixel_size=floats(given.get("pixel_size"), "--pixel-size"),
                device=given.get("device", "auto"),
                on_step=show,
                keep=keep,
                own_noise=given.get("own_noise"),
            )
    except KeyboardInterrupt:
        note(f"stopped; the same command goes on from the crops kept in {keep}")
        return 130
    found.save(out)
    keep.unlink(missing_ok=True)
    if given.get("json"):
        print_json({"output": str(out), **found.model_dump()})
        return 0
    rows = [
        [f"{float(k) * 100:g}%", found.nominal_coverage[k], v, found.calibrated_coverage[k]]
        for k, v in found.lambdas.items()
    ]
    number = found.distinct_images
    of = f" of {number} image{'s' * (number != 1)}" if number not in (None, found.images) else ""
    title = f"{found.images} crops{of}, covered share of pixels"
    print_table(title, ("interval", "as drawn", "lambda", "mean +- lambda s"), rows)
    tenths = found.decile_coverage
    figures = [
        ("CRPS", found.crps),
        ("error of the mean", found.rmse),
        ("spread / error of the mean", found.spread_skill),
        ("90% interval, brightest fifth", found.bright_coverage),
        ("90% interval, least covered tenth by std", tenths and min(tenths)),
        ("90% interval, most covered tenth by std", tenths and max(tenths)),
    ]
    print_table("error bars", ("metric", "value"), figures)
    note(f"{out}: use it with reconstruct --calibration {out}")
    return 0


def _check(out: Path, images: list[str], recipe: str | None) -> Path:
    """Return where crops are kept; refuse what could not be written in the end.

    Raises
    ------
    InputError
        The sentence names the file.
    """
    if out.suffix.lower() != ".json" or out.is_dir():
        raise InputError(
            f"the output {str(out)!r} is no calibration file; name it calibration.json"
        )
    keep = out.with_name(f"{out.name}.crops.jsonl")
    for source in (*images, *([recipe] if recipe else [])):
        if os.path.realpath(source) in (os.path.realpath(out), os.path.realpath(keep)):
            raise InputError(f"{str(out)!r} would overwrite an input; choose another name")
    check_folder(out)
    return keep
