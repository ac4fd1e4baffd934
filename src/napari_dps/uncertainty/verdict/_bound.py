"""A result bound to its measurement again: samples as objects on the operator's grid."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_dps.core.operator import MappedOperator
from napari_dps.datum import with_datum_last
from napari_dps.errors import InputError
from napari_dps.recipe import Recipe
from napari_dps.report import object_coordinates
from napari_dps.run import Run
from napari_dps.uncertainty.verdict._residuals import Residuals
from napari_dps.uncertainty.verdict.evidence import Evidence

if TYPE_CHECKING:
    from napari_dps.result import Result

OUTSIDE = 0.03
"""Share of a datum's light that may come from beyond the field where samples end there."""


class Bound:
    """A result with the problem that it solves.

    Parameters
    ----------
    result : Result
        With samples.
    image : array, Image or path
        Its measurement.
    device, axes, pixel_size
        As in :class:`napari_dps.api.Run`.

    Raises
    ------
    InputError
        If they do not belong together.
    """

    def __init__(self, result: Result, image: Any, **given: Any) -> None:
        if not isinstance(result.recipe, Recipe):
            raise InputError(
                f"the result '{result.name}' has no recipe that is understood here, so it cannot "
                "be judged; install what its recipe names, or restore the image again"
            )
        self.result = result
        self.run = Run(image, result.recipe, **given)
        self.run._bind()
        self.problem = self.run._problem
        self._set_object_map()
        self.samples = self._frames()
        self._compare()

    def _set_object_map(self) -> None:
        """Give the problem the object map that the report tells."""
        problem, report = self.problem, self.result.report
        operator, ones = problem.operator.operator, problem.operator.scale
        if self.run.recipe.sampler.classical:
            problem.operator = MappedOperator(operator, 2 * ones, -ones)
            return
        count = len(self.run._live)
        parts = []
        for name in ("scale", "background"):
            values = torch.as_tensor(report.get(name) or [], dtype=ones.dtype, device=ones.device)
            if not values.numel() or values.numel() % count:
                raise self._foreign(f"its report has {values.numel()} numbers as {name}")
            parts.append(values.reshape(count, -1, *[1] * (ones.ndim - 2)))
        problem.operator = MappedOperator(operator, *parts)
        problem.noise_level = problem.find_noise_level()

    def _foreign(self, why: str) -> InputError:
        return InputError(
            f"the image '{self.run.image.name}' is not what '{self.result.name}' was restored "
            f"from ({why}); give the measurement itself"
        )

    def _frames(self) -> NDArray[np.float32]:
        """Return the samples frame by frame, shape (S, F, *object)."""
        run, result = self.run, self.result
        operator, spatial = self.problem.operator.operator, run._datum.object_axes.replace("C", "")
        shape = tuple(part.stop - part.start for part in operator.field)[-len(spatial) :]
        if "C" in run._datum.object_axes:
            shape = (operator.x_shape[0], *shape)
        image = with_datum_last(run.image, run._datum.axes)
        coordinates = object_coordinates(image, run, shape)
        data, axes = result.samples, run.image.axes
        if sorted(coordinates.axes) == sorted(axes):
            if result.axes != axes:
                raise self._foreign(f"axes {axes}, not {result.axes}")
            data = data.transpose(0, *(1 + axes.index(letter) for letter in coordinates.axes))
        if data.shape[1:] != coordinates.shape:
            raise self._foreign(f"it has shape {run.image.shape}")
        return data.reshape(len(data), -1, *shape)

    def _compare(self) -> None:
        """Refuse a measurement with other values than the result keeps, pictures or totals."""
        run, kept = self.run, self.result.maps
        told = self.result.report.get("verdict") or {}
        compared = False
        for name, held in kept.items():
            base, _, at = name.partition("@")
            frame = int(at) if at.isdigit() else int(told.get("frame", 0))
            if base != "measurement" or frame not in run._live:
                continue
            measured = np.asarray(run._prepared.frames[frame], dtype=np.float32)
            planes = measured.reshape(-1, *measured.shape[-2:])
            planes = planes if held.ndim == 2 else planes[None]
            compared = True
            if not any(part.shape == held.shape and _alike(part, held) for part in planes):
                raise self._foreign("its values differ")
        flux = (self.result.report.get("flux") or {}).get("measured")
        if compared or flux is None:
            return
        y = self.problem.y if self.problem.valid is None else self.problem.y * self.problem.valid
        if not _alike(y.double().flatten(1).sum(1).cpu().numpy(), np.ravel(flux)):
            raise self._foreign("its sum differs")

    def objects(self, frame: int) -> Tensor:
        """Return the samples of a frame in prior units on the operator's grid (S, *x_shape)."""
        run = self.run
        k = run._live.index(frame)
        operator = self.problem.select([k]).operator
        gain, offset = run.recipe.noise.camera()
        values = run.recipe.forward.object_from_input(
            self.samples[:, frame].astype(np.float64), gain, offset
        )
        y = self.problem.y
        inside = torch.as_tensor(np.asarray(values), dtype=y.dtype, device=y.device)
        inside = inside.reshape(len(inside), operator.x_shape[0], *inside.shape[-self._ndim :])
        x: Tensor = operator.from_object(operator.embed(inside))
        return x

    @cached_property
    def _ndim(self) -> int:
        return len(self.problem.operator.x_shape) - 1

    def evidence(self, frame: int) -> Evidence:
        """Return what findings see of a frame."""
        run = self.run
        k = run._live.index(frame)
        problem = run._sampled_problem([k])
        problem.checkpoint = None
        return Evidence(
            problem=problem,
            x=self.objects(frame),
            samples=self.samples[:, frame],
            recipe=run.recipe,
            seed=run.recipe.seed,
            pairs=self.result.pairs,
            restarts=_restarts(self.result.report.get("restart_misfits"), k),
        )

    def judged(self) -> Run:
        """Return the run with the residuals of the samples, borders left out."""
        run, problem = self.run, self.problem
        inside = self._inside()
        if inside is not None:
            valid = torch.ones_like(problem.y, dtype=torch.bool)
            valid = valid if problem.valid is None else problem.valid
            problem.valid = valid & inside
        run._residuals = Residuals(run.recipe.seed)
        totals: dict[tuple[int, int], float] = {}
        for k, frame in enumerate(run._live):
            part, x = problem.select([k]), self.objects(frame)
            with torch.no_grad():
                for s in range(len(x)):
                    z = part.operator(x[s : s + 1])
                    run._residuals.add(part, z, [(s, k)])
                    counted = z if part.valid is None else torch.where(part.valid, z, 0 * z)
                    totals[s, k] = float(counted.double().sum())
        run._fields["flux"] = totals
        return run

    def _inside(self) -> Tensor | None:
        """Return which data depend on the field alone; None where all do."""
        operator = self.problem.operator.operator
        field = operator.field
        whole = all(
            part == slice(0, size) for part, size in zip(field, operator.x_shape[1:], strict=True)
        )
        if whole or not operator.is_affine:
            return None
        everywhere = self.problem.y.new_ones((1, *operator.x_shape))
        beyond = everywhere.clone()
        beyond[(..., *field)] = 0
        _, jvp, _ = operator.linearize(0 * everywhere)
        share = jvp(beyond).abs() / jvp(everywhere).abs().clamp_min(1e-12)
        inside: Tensor = share < OUTSIDE
        return inside


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays hold the same values, but for single precision."""
    if one.shape != other.shape:
        return False
    finite = np.abs(other[np.isfinite(other)])
    size = float(finite.max()) if finite.size else 0.0
    return bool(np.allclose(one, other, rtol=1e-4, atol=1e-5 * size, equal_nan=True))


def _restarts(told: Any, k: int) -> tuple[float, ...]:
    """Return the misfits of one frame's restarts from a report, which keeps them by frame."""
    mine = told[k] if told and k < len(told) else None
    return () if mine is None else tuple(float(v) for v in np.ravel(mine))
