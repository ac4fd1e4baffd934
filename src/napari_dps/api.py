"""The library's front door: reconstruct, simulate, sample_prior."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.allocator import memory_kept
from napari_dps.arrays import ArrayRef
from napari_dps.components import ForwardModel, NoiseModel, PriorSource, make
from napari_dps.datum import Datum, datum_of_object, grid_of, with_datum_last
from napari_dps.errors import InputError, OutOfMemoryError
from napari_dps.grid import Grid
from napari_dps.image import Image
from napari_dps.light import gain_of, illuminated
from napari_dps.prepare import open_image
from napari_dps.recipe import Recipe
from napari_dps.result import Result
from napari_dps.run import Plan, Progress, Run

__all__ = [
    "Plan",
    "Progress",
    "Run",
    "reconstruct",
    "run",
    "sample_prior",
    "simulate",
    "simulate_image",
]


def run(
    image: Any, recipe: Any = None, device: str = "auto", **given: Any
) -> Generator[Progress, None, Result]:
    """Yield the progress of a run; the generator's return value is the Result."""
    job = Run(image, recipe, device=device, **given)
    yield from _watched(job)
    return job.result()


def _watched(job: Run) -> Iterator[Progress]:
    """Iterate a run; what was finished when memory runs out travels with the error."""
    try:
        yield from job
    except OutOfMemoryError as error:
        error.finished = job.result() if job.samples_done else None
        raise


def reconstruct(
    image: Any,
    recipe: Any = None,
    /,
    *,
    forward: Any = None,
    noise: Any = None,
    prior: Any = None,
    sampler: Any = None,
    intensity: Any = None,
    valid: Any = None,
    samples: int | None = None,
    seed: int | None = None,
    axes: str | None = None,
    pixel_size: float | tuple[float, ...] | None = None,
    device: str = "auto",
    on_step: Callable[[Progress], object] | None = None,
) -> Result:
    """Restore an image by drawing from the posterior p(x | y).

    Parameters
    ----------
    image : array, Image or path
        The measurement: 2D, or a stack that is restored frame by frame.
    recipe : Recipe, dict or path, optional
        The choices; those named below replace its parts.
    forward, noise, prior, sampler : component, dict or kind, optional
        What was measured and how; defaults: identity, poisson, fluorescence, auto.
    intensity : "auto" or dict, optional
        ``{"scale": a, "background": b}`` in photoelectrons.
    valid : array or path, optional
        Nonzero where a pixel carries information.
    samples : int, optional
        Posterior samples, 20 by default.
    seed : int, optional
        Seed, 0 by default.
    axes : str, optional
        One letter per axis of the array (T, C, Z, Y, X), where the file does not say.
    pixel_size : float or tuple, optional
        Micrometres.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    on_step : callable, optional
        Called with a :class:`Progress` at every step.

    Returns
    -------
    Result
        Samples, mean and standard deviation in the input's units, float32.

    Raises
    ------
    DPSError
        One sentence about what cannot be used.
    """
    parts = {
        "forward": forward,
        "noise": noise,
        "prior": prior,
        "sampler": sampler,
        "intensity": intensity,
        "valid": valid,
        "samples": samples,
        "seed": seed,
    }
    job = Run(image, Recipe.parse(recipe, **parts), device=device, axes=axes, pixel_size=pixel_size)
    for progress in _watched(job):
        if on_step is not None:
            on_step(progress)
    return job.result()


def simulate(
    image: Any,
    recipe: Any = None,
    /,
    seed: int = 0,
    *,
    forward: Any = None,
    noise: Any = None,
    axes: str | None = None,
) -> NDArray[np.float32]:
    """Draw a measurement of a known object, from the likelihood that inference uses.

    :func:`simulate_image` returns it with its axes and pixel size.

    Parameters
    ----------
    image : array, Image or path
        The object, in the units that its measurement shall have (ADU, counts).
    recipe : Recipe, dict, path or (forward, noise), optional
        How it is measured.
    seed : int
        Seed of the noise.
    forward, noise : component, dict or kind, optional
        Replace the recipe's parts.
    axes : str, optional
        As in :func:`reconstruct`.

    Returns
    -------
    ndarray of float32
        The measurement. Pixels that are not measured hold the camera's offset.
    """
    return simulate_image(image, recipe, seed, forward=forward, noise=noise, axes=axes).data


def simulate_image(
    image: Any,
    recipe: Any = None,
    /,
    seed: int = 0,
    *,
    forward: Any = None,
    noise: Any = None,
    axes: str | None = None,
) -> Image:
    """Draw a measurement as :func:`simulate` does, and return it with its coordinates."""
    import torch

    from napari_dps.core.streams import Streams

    if isinstance(recipe, tuple):
        if len(recipe) != 2:
            raise InputError(f"a tuple of {len(recipe)} came as recipe; give (forward, noise)")
        forward = recipe[0] if forward is None else forward
        noise = recipe[1] if noise is None else noise
        recipe = None
    chosen = Recipe.parse(recipe, forward=forward, noise=noise, seed=seed)
    chosen.forward.check_files()
    chosen.noise.check_files()
    image, axes = chosen.forward.real_array(image, axes, measurement=False)
    given = open_image(image, axes)
    if given.is_rgb:
        raise InputError(f"'{given.name}' is a colour (RGB) image; give one gray channel")
    datum = datum_of_object(given, chosen)
    source = with_datum_last(given, datum)
    report: dict[str, Any] = {}
    one = source.data.shape[-len(datum) :]
    frames = source.data.reshape(-1, *one).astype(np.float64)
    if not np.isfinite(frames).all():
        raise InputError("the object has NaN or infinite pixels; replace them before simulating")
    _refuse_auto(chosen.noise)
    spatial = datum.replace("C", "")
    models = _of_frames(chosen.forward, source, given.axes, frames.shape, len(spatial))
    model = models[0]
    grid = _measurement_grid(model, source, spatial)
    statistics: NoiseModel = chosen.noise.resolve(np.zeros((1, *grid.shape)), report)
    gain, offset = statistics.camera()
    operators = {
        id(one): illuminated(one, grid, gain_of(statistics, grid))
        for one in {id(m): m for m in models}.values()
    }
    likelihood = statistics.bind(grid)
    electrons = model.object_from_input(frames, gain, offset)
    out = []
    for f, frame in enumerate(electrons):
        operator = operators[id(models[f])]
        x = torch.as_tensor(frame).reshape(1, -1, *frame.shape[-len(spatial) :])
        wide = operator.embed(x) if operator.x_shape[1:] != x.shape[2:] else x
        z = operator(wide)
        if statistics.kind != "gaussian" and float(z.min()) < -1e-9 * float(z.abs().max()):
            raise InputError(
                "the expected counts are negative in places, which light cannot be; give an object "
                "that is at or above the camera's offset"
            )
        streams = Streams(chosen.seed, [("simulate", f)], "cpu", torch.float64)
        y = likelihood.sample(z, streams)
        seen = operator.measured
        y = y if seen is None else torch.where(seen, y, torch.zeros_like(y))
        out.append(statistics.recorded(y.numpy().reshape(grid.shape)))
    lead = len(source.axes) - len(datum)
    measured = np.stack(out).reshape(*source.data.shape[:lead], *grid.shape).astype(np.float32)
    return _measurement(measured, source, given.axes, model, grid, datum)


def _of_frames(
    model: ForwardModel, source: Image, axes: str, shape: tuple[int, ...], dimensions: int
) -> list[ForwardModel]:
    """Return the model of every frame: one for all, or with each one's own mask."""
    order = [axes.index(letter) for letter in source.axes]

    def lay(ref: ArrayRef) -> ArrayRef:
        if len(ref.shape()) != len(axes):  # of one frame, or of one plane
            return ref
        values = ref.load().transpose(order)
        if len(axes) > dimensions:
            values = values.reshape(-1, *values.shape[-dimensions:])
            if len(values) != shape[0]:
                raise InputError(
                    f"the mask has shape {ref.shape()}, but the object has {shape[0]} frames; give "
                    "a mask of one frame, or of all of them"
                )
            # One that leaves out nothing is refused as that of a single frame is.
            values = values if (values == 0).any() else values[0]
        return ArrayRef(values)

    laid = model.laid_out(lay)
    return [laid.of_frame(f, dimensions) for f in range(shape[0])]


def _measurement(
    measured: NDArray[np.float32],
    source: Image,
    axes: str,
    model: ForwardModel,
    grid: Grid,
    datum: str,
) -> Image:
    """Return what was measured of ``source``, whose object came with ``axes``, as an image."""
    lead, spatial = len(source.axes) - len(datum), datum.replace("C", "")
    count = len(grid.shape)
    before = source.axes[:lead]
    unit = replace(grid, pixel_size=(1.0,) * count)
    ratio = model.object_pixel_size(unit) if count == len(spatial) else None
    if ratio is None:  # another plane than the object's: its pixels are not the object's
        # Parts of a complex number are channels, the patterns of a scan are not.
        order = "CTZ" if grid.shape[0] == 2 else "TZC"
        stack = "" if count == 2 else next(c for c in order if c not in before)
        scale, units, translate = (1.0,) * count, ("pixel",) * count, (0.0,) * count
        letters = stack + "YX"
    else:
        fine, letters = source.scale[-count:], spatial
        scale = tuple(f / r for f, r in zip(fine, ratio, strict=True))
        units = source.units[-count:]
        begin, offset = source.translate[-count:], model.object_offset(unit)
        translate = tuple(t - o * f for t, o, f in zip(begin, offset, fine, strict=True))
    image = Image(
        measured,
        before + letters,
        (*source.scale[:lead], *scale),
        (*source.units[:lead], *units),
        (*source.translate[:lead], *translate),
        source.name,
        source.calibration,
    )
    return image.with_axes(axes) if sorted(image.axes) == sorted(axes) else image


def _measurement_grid(model: ForwardModel, source: Image, spatial: str) -> Grid:
    """Return the grid of the measurement of an object, with its pixel size where it follows."""
    own = grid_of(source, Datum(spatial, spatial))
    grid = Grid(model.measurement_shape(own.shape), None, "cpu", "float64")
    if own.pixel_size is None or len(grid.shape) != len(spatial):
        return grid
    ratio = model.object_pixel_size(replace(grid, pixel_size=(1.0,) * len(spatial)))
    if ratio is None:
        return grid
    size = tuple(p / r for p, r in zip(own.pixel_size, ratio, strict=True))
    return replace(grid, pixel_size=size)


def _whole(value: object) -> bool:
    return isinstance(value, Integral)


def _refuse_auto(noise: NoiseModel) -> None:
    """Refuse "auto": a simulation cannot estimate the camera from an object."""
    needed = [n for n in type(noise).model_fields if n not in noise.derived]
    open_fields = [n for n in needed if getattr(noise, n) == "auto"]
    if open_fields:
        raise InputError(
            f"simulating needs numbers for {', '.join(open_fields)} of the noise {noise.kind!r}; "
            "'auto' is for reconstruction only"
        )


def sample_prior(
    prior: Any,
    n: int,
    shape: tuple[int, ...],
    seed: int = 0,
    *,
    steps: int = 50,
    device: str = "auto",
) -> NDArray[np.float32]:
    """Draw from a prior without any measurement.

    Parameters
    ----------
    prior : component, dict or kind
        Which prior.
    n : int
        Number of images.
    shape : tuple of int
        Their shape (Y, X).
    seed : int
        Seed.
    steps : int
        Noise levels of the ladder, 80 to 0.005.
    device : str
        As in :func:`reconstruct`.

    Returns
    -------
    ndarray, shape (n, *shape), or (n, 3, *shape) from a prior of colour images; float32
        In prior units, where [-1, 1] spans a normalised image.
    """
    import torch

    from napari_dps.core.sampler import SecondOrderMove
    from napari_dps.core.schedule import karras_ladder
    from napari_dps.core.streams import Streams
    from napari_dps.device import choose_device

    for what, value, least in (("n", n, 1), ("steps", steps, 1), ("seed", seed, 0)):
        if not _whole(value) or value < least:
            raise InputError(
                f"{what} = {value!r} is not allowed, give a whole number of {least} or more"
            )
    sides = np.atleast_1d(np.asarray(shape)).tolist()
    if len(sides) != 2 or not all(_whole(n) and n >= 8 for n in sides):
        raise InputError(f"the shape {shape!r} is not (Y, X) with at least 8 pixels a side")
    source = make("prior", prior)
    assert isinstance(source, PriorSource)
    name, _ = choose_device(device)
    network = source.bind(Grid(tuple(shape), None, name, "float32"))
    channels = source.image_channels()
    out = []
    for k in range(n):  # one by one: sample k does not depend on how many are asked for
        streams = Streams(seed, [(0, k)], name, torch.float32)
        sigmas = karras_ladder(steps, 80.0, 0.005)
        x, move = sigmas[0] * streams.normal((channels, *shape)), SecondOrderMove()

        def noise(streams: Streams = streams) -> torch.Tensor:
            return streams.normal((channels, *shape))

        with torch.no_grad(), memory_kept(name):
            for sigma, lower in pairwise(sigmas):
                x = move(x, network(x, sigma), sigma, lower, noise)
        out.append((x[0] if channels == 3 else x[0, 0]).cpu().numpy())
    return np.stack(out).astype(np.float32)
