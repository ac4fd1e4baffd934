"""One run: from an image and a recipe to a result. Every face of napari-dps drives this."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dps.allocator import memory_kept
from napari_dps.batches import Batches
from napari_dps.bound_prior import bind_prior, whole_prior
from napari_dps.colours import arrange
from napari_dps.cost import estimate_cost
from napari_dps.datum import datum_of, grid_of
from napari_dps.errors import DPSError, InputError
from napari_dps.image import Image
from napari_dps.light import darkness_warnings, gain_of, illuminated
from napari_dps.memory import Layout, is_out_of_memory, layout, smaller
from napari_dps.noise._warnings import saturation_warnings
from napari_dps.prepare import Prepared, open_image, prepare
from napari_dps.progress import Cancelled, Plan, Progress
from napari_dps.recipe import Recipe
from napari_dps.result import Result
from napari_dps.start import find_start

__all__ = ["Plan", "Progress", "Run"]


class Run:
    """A reconstruction that can be planned, watched, cancelled and kept.

    Parameters
    ----------
    image : Image, array or path
        The measurement.
    recipe : Recipe, dict, path or None
        What to do with it.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
    axes, pixel_size
        As in :func:`napari_dps.reconstruct`, for arrays and files that do not say.

    Raises
    ------
    DPSError
        If the image or the recipe cannot be used; before anything heavy begins.
    """

    def __init__(
        self,
        image: Any,
        recipe: Any = None,
        *,
        device: str = "auto",
        axes: str | None = None,
        pixel_size: float | tuple[float, ...] | None = None,
        dtype: str = "float32",
    ) -> None:
        self.recipe: Recipe = Recipe.parse(recipe)
        self.recipe.forward.check_files()
        self.recipe.noise.check_files()
        image, axes = self.recipe.forward.real_array(image, axes)
        self.image: Image
        self.image, self._colour = arrange(open_image(image, axes, pixel_size), self.recipe)
        self._datum = datum_of(self.image, self.recipe, self._colour)
        self._prepared: Prepared = prepare(self.image, self.recipe, self._datum)
        self.warnings: list[str] = list(self._prepared.warnings)
        self._noise_report: dict[str, Any] = {}
        live = [f for f in range(len(self._prepared.frames)) if f not in self._prepared.constant]
        self._live = live
        if self.recipe.sampler.point_estimate and self.recipe.samples != 1:
            self.recipe = self.recipe.with_parts(samples=1)
        self._dtype = dtype
        noise, measured = self.recipe.noise, self._prepared.frames[live]
        measured = measured.reshape(-1, *measured.shape[-2:])
        self._check_noise(noise, measured)
        self.recipe = self.recipe.with_parts(noise=self._resolve_noise(noise, measured))
        self.warnings += [str(w) for w in self._noise_report.get("warnings", [])]
        self._device_wanted = device
        self._cancel = threading.Event()
        self._problem: Any = None
        self._prior: Any = None
        self._prior_facts: dict[str, Any] = {}
        self._planes = False
        self._layout: Layout | None = None
        self._finished: dict[tuple[int, int], NDArray[np.float32]] = {}
        self._chi2: dict[tuple[int, int], float] = {}
        self._seconds, self._steps = 0.0, 0
        self._fields: dict[str, Any] = {}
        self._details: dict[tuple[int, int], dict[str, Any]] = {}

    def _check_noise(self, noise: Any, measured: NDArray[Any]) -> None:
        valid = self._prepared.valid
        if valid is None:
            counted = measured
        else:
            counted = measured[valid[self._live].reshape(measured.shape)].reshape(1, 1, -1)
        told = noise.check(counted)
        doubtful = saturation_warnings(counted)
        stated = self.recipe.forward.saturation_level() is not None
        if stated or self._prepared.saturated["pixels"]:  # the report has it, and so do warnings
            told = [words for words in told if words not in doubtful]
        elif doubtful:
            top = float(counted[np.isfinite(counted)].max())
            pixels = int((counted == top).sum())
            self._prepared.saturated |= {"pixels": pixels, "value": top, "left_out": False}
        self.warnings += told

    def _resolve_noise(self, noise: Any, measured: NDArray[Any]) -> Any:
        """Estimate what is "auto"; pixels that do not count are NaN to the estimator."""
        valid = self._prepared.valid
        if valid is not None:
            counts = valid[self._live].reshape(measured.shape)
            measured = np.where(counts, measured.astype(np.float64), np.nan)
        if getattr(noise, "sigma", None) == "auto":
            grid = grid_of(self.image, self._datum, "cpu", self._dtype)
            found = self.recipe.forward.white_noise(
                self._prepared.frames[self._live],
                grid,
                None if valid is None else valid[self._live],
            )
            if found is not None:
                told = noise.model_copy(update={"sigma": found[0]})
                known = told.resolve(measured, self._noise_report)
                self._noise_report["sigma_error"] = found[1]
                return known
        return noise.resolve(measured, self._noise_report)

    # -- preparing -----------------------------------------------------------------------------

    def _bind(self) -> None:
        """Build operator, likelihood, prior and sampler; light compared with a run."""
        if self._problem is not None:
            return
        import torch

        from napari_dps.core.operator import MappedOperator
        from napari_dps.core.problem import Problem
        from napari_dps.device import choose_device
        from napari_dps.uncertainty.verdict._residuals import Residuals

        self.device, self.device_reason = choose_device(self._device_wanted)
        dtype, frames = getattr(torch, self._dtype), self._prepared.frames
        self._grid = grid_of(self.image, self._datum, self.device, self._dtype)
        self._resolve_forward()
        operator = self._operator()
        self.warnings += self.recipe.forward.warnings(self._grid)
        likelihood = self.recipe.noise.bind(self._grid)
        electrons = self.recipe.noise.electrons(frames[self._live].astype(np.float64))
        y = torch.as_tensor(electrons, dtype=dtype, device=self.device)
        y = y.reshape(-1, *operator.y_shape)
        valid = None
        if self._prepared.valid is not None:
            valid = torch.as_tensor(self._prepared.valid[self._live], device=self.device)
            valid = valid.reshape(y.shape)
            y = torch.where(valid, y, torch.zeros_like(y))
        self.warnings += darkness_warnings(operator, y, valid, likelihood)
        sampler = self.recipe.sampler.choose(
            affine=operator.is_affine,
            symmetric=operator.symmetric,
            multimodal=operator.multimodal,
        )
        self.recipe = self.recipe.with_parts(sampler=sampler)
        self._sampler = sampler.bind(self._grid)
        self._residuals = Residuals(self.recipe.seed)
        bind_prior(self, operator)
        one = torch.ones([1] * (1 + len(operator.x_shape)), dtype=dtype, device=self.device)
        mapped = MappedOperator(operator, one, 0 * one)
        self._layout = layout(
            len(self._live) * self.recipe.samples,
            operator.x_shape[1:],
            self._prior.bytes_per_pixel() * (1 if self._colour else operator.x_shape[0]),
            self.device,
            self._prior.trained_side,
            whole=self._prior.whole,
        )
        self._problem = Problem(y, whole_prior(self), mapped, likelihood, valid)
        self._sampler.check(self._problem)

    def _resolve_forward(self) -> None:
        """Let the forward model take from the measurement what it is to find there."""
        measured = self._prepared.frames[self._live].astype(np.float64)
        electrons = self.recipe.noise.electrons(measured)
        found: dict[str, Any] = {}
        forward = self.recipe.forward.resolved(electrons, self._grid, found)
        self.recipe = self.recipe.with_parts(forward=forward)
        self._fields["forward"] = found

    def _operator(self) -> Any:
        """Return the physics, for every colour where the object has colours."""
        gain = gain_of(self.recipe.noise, self._grid)
        operator = illuminated(self.recipe.forward, self._grid, gain)
        if not self._colour:
            return operator
        from napari_dps.core.channelwise import ChannelwiseOperator

        if hasattr(operator, "classical_estimate"):
            raise InputError(
                f"the forward model {self.recipe.forward.kind!r} restores gray images; give one "
                "channel at a time"
            )
        return ChannelwiseOperator(operator, 3)

    def plan(self) -> Plan:
        """Return what the run will cost, from a timed call on a small tile."""
        self._bind()
        with memory_kept(self.device):
            return estimate_cost(self)

    # -- running -------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop before the next network call; may be called from any thread."""
        self._cancel.set()

    def __iter__(self) -> Iterator[Progress]:
        """Yield progress until all samples are drawn or the run is cancelled."""
        begin = time.perf_counter()
        self._bind()
        with memory_kept(self.device):
            yield from self._progress(begin)

    def _progress(self, begin: float) -> Iterator[Progress]:
        yield Progress("estimate", 0, 1, 0.0, None, 0, self.recipe.samples)
        count = self.recipe.samples * len(self._live)
        steps = self._sampler.total_steps()
        done_items = 0
        try:
            # A search counts as so many steps of the sampler, so that one bar covers both.
            looked = self._search_steps()
            whole = looked + steps * count
            for done, total in find_start(self):
                seconds = time.perf_counter() - begin
                at = looked * done / total
                left = seconds * (whole - at) / at
                yield Progress("estimate", round(at), whole, seconds, left, 0, self.recipe.samples)
            sampling, together = time.perf_counter(), self.recipe.sampler.interacting
            batches = Batches(self.recipe.samples, self._problem.ladders(together), together)
            while done_items < count:
                assert self._layout is not None
                size = self.recipe.samples if together else self._layout.batch
                batch = batches.take(done_items, size)
                try:
                    for step in self._sample(batch):
                        seconds = time.perf_counter() - begin
                        share = (done_items + len(batch) * step.i / step.total) / count
                        drawing = time.perf_counter() - sampling
                        left = drawing * (1 - share) / share if share > 0 else None
                        self._seconds = seconds
                        yield Progress(
                            "sample",
                            looked + round(share * steps * count),
                            whole,
                            seconds,
                            left,
                            self.samples_done,
                            self.recipe.samples,
                            step.misfit,
                            step.calls,
                            self._previewer(step.x0, batch),
                        )
                except (RuntimeError, MemoryError) as error:
                    self._shrink(error)
                    continue
                done_items += len(batch)
        except Cancelled:
            pass  # cancelling is no error: what is finished is kept
        finally:
            self._seconds = time.perf_counter() - begin

    def _search_steps(self) -> int:
        """Return what the search for a start costs, in steps of one sample."""
        search: int = self._sampler.search_calls(self._problem.operator.operator.multimodal)
        return math.ceil(float(len(self._live) * search / sum(self._sampler.calls_per_step())))

    def _shrink(self, error: Exception) -> None:
        """Plan for less memory after running out of it; raise any other error."""
        if self._layout is None or not is_out_of_memory(error):
            raise error
        self._layout = smaller(self._layout, self._problem.operator.x_shape[1:], self._prior.whole)
        self.warnings.append(
            f"memory ran out; went on with {self._layout.batch} samples at once"
            + (f" and tiles of {self._layout.tile} px" if self._layout.tile else "")
        )

    @property
    def samples_done(self) -> int:
        """Samples of which every frame is finished."""
        frames = len(self._live)
        return sum(
            all((s, f) in self._finished for f in range(frames)) for s in range(self.recipe.samples)
        )

    def _sampled_problem(self, frames: list[int]) -> Any:
        """Return the problem of one batch, with the run's counter, cancelling and tiling."""
        problem = self._problem.select(frames)
        problem.calls = self._problem.calls
        problem.checkpoint = self._check_cancel
        problem.prior = whole_prior(self)
        problem.at_once = self._layout and self._layout.images(self._problem, self.recipe.sampler)
        return problem

    def _sample(self, batch: list[tuple[int, int]]) -> Iterator[Any]:
        from napari_dps.core.streams import Streams

        problem = self._sampled_problem([f for _, f in batch])
        pairs = self.recipe.sampler.pairs
        streams = Streams(
            self.recipe.seed,
            [(self._live[f], s - s % 2 if pairs else s) for s, f in batch],
            self.device,
            problem.y.dtype,
            mirrored=[pairs and s % 2 == 1 for s, _ in batch],
        )
        for step in self._sampler.sample(problem, len(batch), streams):
            self._steps += 1
            if step.i == step.total:
                self._keep(step, problem, batch)
            yield step

    def _check_cancel(self) -> None:
        if self._cancel.is_set():
            raise Cancelled("the run was cancelled")

    def _to_input(self, x: Any, operator: Any) -> NDArray[np.float32]:
        """Turn prior units on the operator's grid into the input's units on its field."""
        gain, offset = self.recipe.noise.camera()
        values = operator.crop(operator.to_object(x)).double().cpu().numpy()
        values = values if "C" in self._datum.object_axes else values[:, 0]
        return np.asarray(
            self.recipe.forward.object_to_input(values, gain, offset), dtype=np.float32
        )

    def _keep(self, step: Any, problem: Any, batch: list[tuple[int, int]]) -> None:
        import torch

        from napari_dps.report import share_beyond

        with torch.no_grad():
            z = problem.operator(step.x0)
        zero = torch.zeros_like(z)
        counted = z if problem.valid is None else torch.where(problem.valid, z, zero)
        # Finite values may predict counts, or have a misfit, that no number holds.
        if not all(bool(torch.isfinite(t).all()) for t in (step.x0, counted, step.misfit)):
            lower = "lower its step length (`scale`) or " * hasattr(self.recipe.sampler, "scale")
            raise DPSError(
                f"the sampler {self.recipe.sampler.kind!r} diverged to non-finite values; "
                f"{lower}choose another one"
            )
        values = self._to_input(step.x0, problem.operator)
        flux = counted.flatten(1).double().sum(1).tolist()
        beyond = share_beyond(problem.operator.crop(step.x0)).tolist()
        with torch.no_grad():
            self._residuals.add(problem, z, batch)
        told = step.details if isinstance(step.details, list) else [step.details]
        self._details |= {item: found for item, found in zip(batch, told, strict=False) if found}
        self._fields.setdefault("flux", {}).update(zip(batch, flux, strict=True))
        self._fields.setdefault("beyond", {}).update(zip(batch, beyond, strict=True))
        for item, value, chi2 in zip(batch, values, step.misfit.tolist(), strict=True):
            self._finished[item] = value
            self._chi2[item] = float(chi2)

    def _previewer(self, x0: Any, batch: list[tuple[int, int]]) -> Any:
        first = x0[:1].detach()

        def picture() -> NDArray[np.float32]:
            values = self._to_input(first, self._problem.select([batch[0][1]]).operator)[0]
            axes = self._datum.object_axes
            if "C" in axes:  # colours, or real and imaginary part
                values = values.mean(0) if self._colour else np.hypot(*values)
            return np.asarray(values.max(0) if "Z" in axes else values, np.float32)

        return picture

    # -- finishing -----------------------------------------------------------------------------

    def result(self) -> Result:
        """Return the result of all finished samples.

        Raises
        ------
        InputError
            If not one sample is finished.
        """
        from napari_dps.report import assemble

        count = self.samples_done
        if count == 0:
            raise InputError(
                "the run ended before a single sample was finished, so there is nothing to keep; "
                "let it run longer or ask for fewer steps"
            )
        return assemble(self, count)
