"""Operators one after the other (torch part)."""

from __future__ import annotations

from functools import reduce
from math import prod

import torch
from torch import Tensor

from napari_dps.core.estimate import Estimate, gaussian_field_estimate
from napari_dps.core.likelihood import Likelihood
from napari_dps.core.linearised import KnownVariance, linearised_estimate
from napari_dps.core.operator import Linear, Operator
from napari_dps.core.streams import Streams
from napari_dps.core.svd import Separable, Spectral
from napari_dps.forward._mask import Mask


class Chain(Operator):
    """z = A_n(... A_1(x)).

    Parameters
    ----------
    operators : list of Operator
        The first is applied first; the object of each is the measurement of the one before, light
        from beyond the field included.
    masks : list of Tensor
        Which data of the last were measured, all to be fulfilled.
    """

    def __init__(self, operators: list[Operator], masks: list[Tensor]) -> None:
        first, last = operators[0], operators[-1]
        super().__init__(first.x_shape, last.y_shape, _field(operators))
        self.operators = operators
        self.is_affine = all(o.is_affine for o in operators)
        self.measured = reduce(torch.logical_and, masks) if masks else None
        self.symmetric = last.symmetric
        self.multimodal = self._without_masks()[-1].multimodal
        self.phase_free = any(o.phase_free for o in operators)
        self.response = prod(o.response for o in operators)
        if not self.is_affine:
            self.classical_estimate = self._classical_estimate

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the expected measurement."""
        for operator in self.operators:
            x = operator(x)
        return x

    def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
        """Return z and the products of all Jacobians."""
        forward, backward = [], []
        for operator in self.operators:
            x, jvp, vjp = operator.linearize(x)
            forward.append(jvp)
            backward.append(vjp)

        def down(v: Tensor) -> Tensor:
            return reduce(lambda u, f: f(u), forward, v)

        def up(v: Tensor) -> Tensor:
            return reduce(lambda u, f: f(u), reversed(backward), v)

        return x, down, up

    def adjoint(self, v: Tensor, x: Tensor | None = None) -> Tensor:
        """Return J^T v; an affine chain needs no object for it."""
        if not self.is_affine:
            return super().adjoint(v, x)
        return reduce(lambda u, o: o.adjoint(u), reversed(self.operators), v)

    def spectral(self) -> Spectral | None:
        """Return the decomposition of what comes before masks at the end, which are `measured`."""
        front = self._without_masks()
        if len(front) == 1:
            return front[0].spectral()
        found = [operator.axis_matrices() for operator in front]
        matrices = [m for m in found if m is not None]
        if len(matrices) < len(found):
            return None
        return Separable(
            [reduce(lambda m, after: after @ m, axis) for axis in zip(*matrices, strict=True)]
        )

    def _without_masks(self) -> list[Operator]:
        """Return the operators before masks at the end."""
        front = list(self.operators)
        while len(front) > 1 and isinstance(front[-1], Mask):
            front.pop()
        return front

    def _classical_estimate(
        self, y: Tensor, likelihood: Likelihood, valid: Tensor | None, streams: Streams
    ) -> Estimate:
        """Return a first estimate: by the last one's own where only magnitudes were recorded."""
        *earlier, last = self._without_masks()
        alone = not earlier and hasattr(last, "classical_estimate")
        if not (self.multimodal or alone):
            return linearised_estimate(self, y, likelihood, valid, streams)
        found: Estimate = last.classical_estimate(  # type: ignore[attr-defined]
            y, likelihood, valid, streams
        )
        if alone:
            return found
        front = Chain(earlier, [])
        noise = found.error.clamp_min(1e-6).reshape(-1, *[1] * (found.image.ndim - 1))

        def before(image: Tensor) -> Estimate:
            known = KnownVariance(noise[: len(image)] ** 2 * torch.ones_like(image), 1.0)
            return gaussian_field_estimate(front, image, known, None, streams, positive=True)

        outer = before(found.image)
        found.image = outer.image
        found.candidates = None
        return found


def _field(operators: list[Operator]) -> tuple[slice, ...]:
    """Return the part of the first one's object that the last one's measurement shows."""
    field = operators[-1].field
    for operator in reversed(operators[:-1]):
        if len(operator.field) != len(field):  # an object of other axes, as a scan's
            field = operator.field
            continue
        parts = []
        for part, outer, n in zip(field, operator.field, operator.y_shape[1:], strict=True):
            # The object's field holds a whole number of pixels for each that it is seen by.
            ratio = (outer.stop - outer.start) / n
            begin = outer.start + round(part.start * ratio)
            parts.append(slice(begin, begin + round((part.stop - part.start) * ratio)))
        field = tuple(parts)
    return field
