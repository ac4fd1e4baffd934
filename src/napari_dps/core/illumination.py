"""What lies between the optics and the detector: uneven sensitivity, and light from elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_dps.core.estimate import Estimate
from napari_dps.core.likelihood import Likelihood
from napari_dps.core.operator import Linear, Operator
from napari_dps.core.projections import FarFieldOperator
from napari_dps.core.streams import Streams

DARK = 1e-3
"""Sensitivity below which a datum says nothing of the object."""


class IlluminatedOperator(Operator):
    """z = flat * A(x) + background.

    Parameters
    ----------
    operator : Operator
        The optics, A.
    flat : Tensor or None
        Relative sensitivity of every datum, broadcastable to its y.
    background : Tensor or None
        Light that does not come from the object, in photoelectrons, broadcastable to its y.
    """

    def __init__(self, operator: Operator, flat: Tensor | None, background: Tensor | None) -> None:
        super().__init__(operator.x_shape, operator.y_shape, operator.field)
        self.inner, self.flat, self.background = operator, flat, background
        self.is_affine, self.measured = operator.is_affine, operator.measured
        self.symmetric, self.multimodal = operator.symmetric, operator.multimodal
        self.phase_free, self.response = operator.phase_free, operator.response
        if hasattr(operator, "classical_estimate"):
            self.classical_estimate = self._classical_estimate
        if isinstance(operator, FarFieldOperator):
            self.pixels, self.low_pass = operator.pixels, operator.low_pass
            self.far_field, self.back = operator.far_field, operator.back
            self.magnitude = self._magnitude

    def _seen(self, z: Tensor) -> Tensor:
        return z if self.flat is None else self.flat * z

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the expected measurement."""
        z = self._seen(self.inner(x, theta))
        if self.background is None:
            return z
        z = z + self.background
        # What was not measured holds no light from elsewhere either.
        return z if self.measured is None else torch.where(self.measured, z, torch.zeros_like(z))

    def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
        """Return z and the products; the background has no part in them."""
        _, jvp, vjp = self.inner.linearize(x)
        return self(x), (lambda v: self._seen(jvp(v))), (lambda w: vjp(self._seen(w)))

    def normal(self, transfer: Tensor | float) -> Linear | None:
        """Return the shorter way of the optics; see :meth:`Operator.normal`."""
        inner = self.inner.normal(transfer)
        return None if inner is None else lambda v: self._seen(inner(self._seen(v)))

    def normal_inverse(self, transfer: Tensor | float, variance: float) -> Linear | None:
        """Return that of the optics, where every datum is as sensitive as the others."""
        return self.inner.normal_inverse(transfer, variance) if self.flat is None else None

    def adjoint(self, v: Tensor, x: Tensor | None = None) -> Tensor:
        """Return J^T v."""
        return self.inner.adjoint(self._seen(v), x)

    def embed(self, image: Tensor) -> Tensor:
        """Put an image of the field on the object's grid, as the optics do."""
        return self.inner.embed(image)

    def crop(self, x: Tensor) -> Tensor:
        """Return the part of an object that the image shows."""
        return self.inner.crop(x)

    def _classical_estimate(
        self, y: Tensor, likelihood: Likelihood, valid: Tensor | None, streams: Streams
    ) -> Estimate:
        """Return the optics' own estimate, from the measurement without what was added here."""
        inner = self.inner.classical_estimate  # type: ignore[attr-defined]
        found: Estimate = inner(self._before(y), likelihood, valid, streams)
        return found

    def _before(self, y: Tensor) -> Tensor:
        """Return the measurement without what was added here."""
        if self.background is not None:
            y = y - self.background
        return y if self.flat is None else y / self.flat.clamp_min(DARK)

    def _magnitude(self, y: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the optics' magnitudes; see :class:`FarFieldOperator`."""
        assert isinstance(self.inner, FarFieldOperator)
        if self.flat is not None and bool((self.flat < DARK).any()):
            seen = (self.flat >= DARK).expand_as(y)
            valid = seen if valid is None else valid & seen
        return self.inner.magnitude(self._before(y), valid)
