"""An operator for gray objects on objects of several channels: each is measured alone."""

from __future__ import annotations

from torch import Tensor

from napari_dps.core.operator import Linear, Operator


class ChannelwiseOperator(Operator):
    """The same measurement of every colour.

    Parameters
    ----------
    operator : Operator
        For objects of one channel.
    channels : int
        How many there are.
    """

    def __init__(self, operator: Operator, channels: int) -> None:
        super().__init__(
            (channels, *operator.x_shape[1:]), (channels, *operator.y_shape[1:]), operator.field
        )
        self.single = operator
        self.is_affine, self.measured = operator.is_affine, operator.measured
        self.symmetric, self.multimodal = operator.symmetric, operator.multimodal
        self.response = operator.response

    @staticmethod
    def _fold(v: Tensor) -> Tensor:
        return v.reshape(-1, 1, *v.shape[2:])

    def _unfold(self, v: Tensor) -> Tensor:
        return v.reshape(-1, self.x_shape[0], *v.shape[2:])

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the expected measurement (B, C, ...) of objects (B, C, ...)."""
        return self._unfold(self.single(self._fold(x), theta))

    def linearize(self, x: Tensor) -> tuple[Tensor, Linear, Linear]:
        """Return the measurement and the products with its Jacobian, channel by channel."""
        z, jvp, vjp = self.single.linearize(self._fold(x))

        def forward(v: Tensor) -> Tensor:
            return self._unfold(jvp(self._fold(v)))

        def backward(v: Tensor) -> Tensor:
            return self._unfold(vjp(self._fold(v)))

        return self._unfold(z), forward, backward
