"""The base of forward models of your own: a torch function, and that is all."""

from typing import TYPE_CHECKING, Any, ClassVar

from napari_dps.components import ForwardModel
from napari_dps.errors import InputError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator


class FunctionModel(ForwardModel):
    """A forward model made of one torch function; derive from it and write ``measure``.

    Derivatives come from torch, the first estimate from linearising. See docs/own-model.md.

    Attributes
    ----------
    affine : bool
        Whether ``measure`` is affine in the object (A x + b): then restoring is faster and more
        exact. It is checked.
    margin : int
        Pixels around the image whose light reaches it: ``measure`` is given the object with so
        many more pixels on every side in Y and X, and these are cut off what it returns.
    """

    affine: ClassVar[bool] = False
    margin: ClassVar[int] = 0

    def measure(self, x: Any) -> Any:
        """Return the expected measurement of objects, both (batch, 1, rows, columns).

        Parameters
        ----------
        x : Tensor
            Objects in photoelectrons (in the image's own unit under Gaussian noise).
        """
        raise NotImplementedError(f"{type(self).__name__} has no method `measure`")

    def reach(self) -> int:
        """Return the margin; override it where it depends on a parameter."""
        return self.margin

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._function import function_operator

        name = type(self).__name__
        if type(self).measure is FunctionModel.measure:
            raise InputError(
                f"{name} has no method `measure`; write one that returns the expected measurement "
                "of a batch of objects"
            )
        return function_operator(self.measure, name, grid, self.reach(), self.affine)
