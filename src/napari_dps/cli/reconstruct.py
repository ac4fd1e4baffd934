"""``napari-dps reconstruct``: images in, posterior means, deviations and samples out."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from napari_dps import components
from napari_dps.cli._options import (
    Chosen,
    floats,
    option,
    recipe_from,
    recipe_parameters,
    signature,
)
from napari_dps.cli._output import Job, check_report, is_page, plan_outputs
from napari_dps.cli._progress import ProgressDisplay, stop_on_signals
from napari_dps.cli._terminal import complain, duration, note, plain, print_json, size
from napari_dps.errors import DPSError, InputError, OutOfMemoryError
from napari_dps.recipe import Recipe

if TYPE_CHECKING:
    from napari_dps.uncertainty.calibration import Calibration

GROUPS = tuple(components.GROUPS)
PARTS = ("mean", "std", "samples")


class Stopped(Exception):
    """The user stopped the run; `outcome` is what was saved, None if nothing was finished."""

    def __init__(self, outcome: dict[str, Any] | None) -> None:
        super().__init__()
        self.outcome = outcome


def input_parameters() -> list[inspect.Parameter]:
    """Return the options that say how to read an image, for every verb that reads one."""
    return [
        option("axes", str, "Axes of the input, one letter each, such as TYX.", group="Input"),
        option(
            "pixel_size",
            str,
            "Pixel size in micrometres: one number, or one per axis with commas between them.",
            group="Input",
        ),
    ]


def intensity_parameters() -> list[inspect.Parameter]:
    """Return the options of the object map, for every verb that restores."""
    return [
        option(
            "intensity",
            Literal["auto"],
            "Estimate the object's brightness and background.",
            group="Choices",
        ),
        option(
            "intensity__scale",
            float,
            "Brightness range of the object, photoelectrons.",
            group="Choices",
            dotted=True,
        ),
        option(
            "intensity__background",
            float,
            "Darkest value of the object, photoelectrons.",
            group="Choices",
            dotted=True,
        ),
    ]


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command, with the options of the chosen components."""
    inputs = inspect.Parameter(
        "inputs",
        inspect.Parameter.VAR_POSITIONAL,
        annotation=Annotated[str, Parameter(help="TIFF, OME-TIFF, PNG or npy files.")],
    )
    out = "Result: a .tif, .ome.tif or .zarr file; a folder for several inputs."
    parameters = [
        inputs,
        option("out", str, out, short="-o", required=True, group="Output"),
        option("write", list[str], "Which of mean, std, samples to keep.", group="Output"),
        option(
            "report",
            Path,
            "Also write the report: .html for a page with the verdict and pictures, else JSON.",
            group="Output",
        ),
        option("json", bool, "Print one JSON object on stdout.", default=False, group="Output"),
        option("quiet", bool, "Show no progress.", short="-q", default=False, group="Output"),
        *input_parameters(),
        option("valid", str, "Mask file, nonzero where a pixel counts.", group="Input"),
        option(
            "calibration",
            Path,
            "Calibration (.json) of this recipe, for intervals tested to cover.",
            group="Input",
        ),
        *recipe_parameters(chosen),
        *intensity_parameters(),
        option("samples", int, "Posterior samples to draw (20).", group="Choices"),
        option("seed", int, "Seed of all random numbers (0).", group="Choices"),
        option("device", str, "auto, cpu, cuda, cuda:1, mps.", default="auto", group="Choices"),
    ]
    return signature(reconstruct, parameters)


def reconstruct(*inputs: str, **given: Any) -> int:
    """Restore images: posterior mean, standard deviation and samples of each."""
    jobs = plan_outputs(inputs, given["out"])
    if given.get("report") is not None:
        check_report(given["report"], jobs)
    write = parse_write(given.get("write"))
    recipe = recipe_from(given)
    calibration = None
    if given.get("calibration") is not None:
        from napari_dps.uncertainty.calibration import Calibration

        calibration = Calibration.load(given["calibration"])
    if recipe.sampler.point_estimate:
        write = of_point_estimate(write, recipe.sampler.kind, bool(given.get("write")))
    outcomes: list[dict[str, Any]] = []
    code = 0
    for job in jobs:
        try:
            outcomes.append(restore(job, recipe, write, given, calibration))
        except Stopped as stopped:
            if stopped.outcome is None:
                complain("stopped before a sample was finished; nothing was written")
            else:
                outcomes.append(stopped.outcome)
            code = 130
            break
        except DPSError as error:
            if len(jobs) == 1:
                raise
            complain(f"{job.source}: {error}")
            outcomes.append({"input": job.source, "error": str(error)})
            code = 2
    answer = outcomes[0] if len(jobs) == 1 and outcomes else {"results": outcomes}
    report = given.get("report")
    if report is not None and not is_page(report) and any("report" in item for item in outcomes):
        _write_report(given["report"], answer)
    if given.get("json"):
        print_json(answer)
    return code


def parse_write(words: Iterable[str] | None) -> tuple[str, ...]:
    """Return the parts of the result to keep, in their order.

    Raises
    ------
    InputError
        If a part is unknown.
    """
    asked = [part.strip() for word in words or PARTS for part in word.split(",") if part.strip()]
    for part in asked:
        if part not in PARTS:
            raise InputError(
                f"--write {part!r} is not allowed; {components.nearest(part, list(PARTS))}"
            )
    return tuple(part for part in PARTS if part in asked) or PARTS


def of_point_estimate(write: tuple[str, ...], kind: str, asked: bool) -> tuple[str, ...]:
    """Return the parts of a point estimate to keep: the mean, or what was asked for.

    Raises
    ------
    InputError
        If a standard deviation was asked for.
    """
    if not asked:
        return ("mean",)
    if "std" in write:
        raise InputError(
            f"--write std cannot be had: the sampler {kind!r} gives a point estimate without error "
            "bars; write mean, or choose a sampler that draws samples, such as 'auto'"
        )
    return write


def restore(
    job: Job,
    recipe: Recipe,
    write: tuple[str, ...],
    given: dict[str, Any],
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Restore one image and save the result.

    Raises
    ------
    Stopped
        If the user stopped it; what was finished is saved.
    DPSError
        If it cannot be done; nothing is written then, unless memory ran out after some samples.
    """
    from napari_dps.api import Run

    quiet = bool(given.get("quiet"))
    run = Run(
        job.source,
        recipe,
        device=given.get("device", "auto"),
        axes=given.get("axes"),
        pixel_size=floats(given.get("pixel_size"), "--pixel-size"),
    )
    plan = run.plan() if not quiet or calibration is not None else None
    if calibration is not None:
        _check_calibration(run, calibration, given["calibration"])
    if plan is not None and not quiet:
        tile = "no tiles" if plan.tile is None else f"tiles of {plan.tile} px"
        note(
            f"{job.source}: about {duration(plan.seconds)}, {size(plan.bytes)}, "
            f"{plan.network_calls} network calls, batches of {plan.batch}, {tile}"
        )
    told = tell_warnings(run.warnings, 0)
    label = Path(job.source).name
    with stop_on_signals(run.cancel) as stop, ProgressDisplay(label, quiet) as display:
        steps = iter(run)
        try:
            for progress in steps:
                display.show(progress)
                if stop.asked:
                    break
        except KeyboardInterrupt:
            if stop.asked:
                raise Stopped(None) from None
            stop.asked = True
        except OutOfMemoryError:
            if run.samples_done:
                run.result().save(job.target, write=write)
                note(f"{run.samples_done} finished samples are in {job.target}")
            raise
        finally:
            close = getattr(steps, "close", None)
            if close is not None:
                close()
    tell_warnings(run.warnings, told)
    try:
        result = run.result()
    except InputError:
        if stop.asked:
            raise Stopped(None) from None
        raise
    if calibration is not None:
        result = _calibrated(result, calibration)
    paged = is_page(given.get("report"))
    if paged and not stop.asked:
        result = _assessed(result, job, given)
    result.save(job.target, write=write)
    if paged:
        result.save_report(given["report"])
    outcome = {"input": job.source, "output": str(job.target), "report": plain(result.report)}
    if not given.get("json"):
        note(_summary(job, result))
    if stop.asked and not result.report.get("complete", True):
        raise Stopped(outcome)
    return outcome


def _check_calibration(run: Any, calibration: Calibration, path: Path) -> None:
    """Refuse, before anything is drawn, a calibration of another recipe."""
    from napari_dps.uncertainty.calibration import differences_of_run

    if run.recipe.sampler.point_estimate:
        raise InputError(
            f"the sampler {run.recipe.sampler.kind!r} gives a point estimate without error bars; "
            "leave --calibration out, or choose a sampler that draws samples, such as 'auto'"
        )
    found = differences_of_run(run, calibration)
    if found:
        raise InputError(
            f"the calibration {str(path)!r} belongs to another recipe ({found[0]}); calibrate "
            "this one, or leave --calibration out"
        )


def _calibrated(result: Any, calibration: Calibration) -> Any:
    """Return the result with its calibration; one that was stopped early keeps its own."""
    found = calibration.matches(result)
    if found:  # fewer samples than asked for: what was drawn is kept all the same
        note(f"warning: the calibration was not applied ({found[0]}): intervals are nominal")
        return result
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        other = result.calibrated(calibration)
    for warning in caught:
        note(f"warning: {warning.message}")
    return other


def _assessed(result: Any, job: Job, given: dict[str, Any]) -> Any:
    """Return the result after the closer look that a page shows."""
    from napari_dps.uncertainty.verdict.assess import assess

    if not given.get("quiet"):
        note(f"{job.source}: judging")
    return assess(
        result,
        job.source,
        device=given.get("device", "auto"),
        axes=given.get("axes"),
        pixel_size=floats(given.get("pixel_size"), "--pixel-size"),
    )


def tell_warnings(texts: list[str], told: int) -> int:
    """Print the warnings that were not told yet; return how many were told in all."""
    for text in texts[told:]:
        note(f"warning: {text}")
    return len(texts)


def _summary(job: Job, result: Any) -> str:
    report = result.report
    what = f"{len(result)} samples"
    if result.point_estimate:
        what = "a point estimate without error bars"
    words = [f"{what} in {duration(report.get('seconds'))}"]
    misfit = report.get("misfit")
    if isinstance(misfit, (int, float)):
        words.append(f"chi2 {misfit:.3g} per datum")
    if not report.get("complete", True):
        words.append("stopped early")
    verdict = report.get("verdict")
    told = f"\n{verdict['sentence']}" if verdict and verdict["alarm"] else ""
    return f"{job.target}: {', '.join(words)}{told}"


def _write_report(path: Path, answer: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(plain(answer), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"the report cannot be written to {str(path)!r} ({error.strerror}); "
            "name a file in a folder that can be written"
        ) from None
