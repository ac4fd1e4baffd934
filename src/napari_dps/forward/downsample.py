"""Downsampling: the detector's pixels are coarser than the object's."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from napari_dps.components import ForwardModel
from napari_dps.errors import InputError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.operator import Operator

Factor = Annotated[int, Field(ge=1, le=32)]


class Downsample(ForwardModel):
    """Coarse pixels: camera binning or bicubic; the result lies on the fine grid.

    A coarse pixel holds the mean of its fine pixels, so that a flat object keeps its value: the
    object is in electrons per coarse pixel, and so is its sum divided by the factors' product.
    """

    kind: Literal["downsample"] = "downsample"
    title: ClassVar[str] = "Downsampling (super-resolution)"

    factor: Factor | tuple[Factor, Factor] | tuple[Factor, Factor, Factor] = Field(
        2, json_schema_extra={"unit": "px"}
    )
    """Fine pixels per pixel of the image: one whole number for Y and X, or [along Y, along X], or,
    of a volume, [along Z, along Y, along X]."""
    method: Literal["binning", "bicubic"] = "binning"
    """Camera binning (the mean of a block), or antialiased bicubic (Keys, a = -0.5, widened by
    the factor); light from beyond the field comes in."""

    @field_validator("factor", mode="before")
    @classmethod
    def _some_factor(cls, value: Any) -> Any:
        factors: Any = value if isinstance(value, (list, tuple)) else [value]
        whole = all(isinstance(f, int) and not isinstance(f, bool) for f in factors)
        if not whole or len(factors) not in (1, 2, 3) or not all(1 <= f <= 32 for f in factors):
            raise ValueError(
                "give a whole number from 2 to 32, or one for Y and one for X such as [2, 4], with "
                "one for Z before them for a volume"
            )
        if max(factors) == 1:
            raise ValueError("a factor of 1 leaves the pixels as they are; give 2 or more")
        return tuple(factors) if len(factors) > 1 else factors[0]

    def dimensions(self, axes: str, shape: tuple[int, ...]) -> int:
        """Return 3 where planes are coarse too, else 2: every plane is one measurement."""
        if not isinstance(self.factor, tuple) or len(self.factor) < 3:
            return 2
        if "Z" not in axes:
            raise InputError(
                f"the factor {list(self.factor)} is one of a volume, but the image has axes "
                f"{axes}, none of them Z; give {list(self.factor[1:])}, along Y and X"
            )
        return 3

    def factors(self, ndim: int) -> tuple[int, ...]:
        """Return the factor along every axis of a grid: planes stay where Z has no factor.

        Raises
        ------
        InputError
            If there is one for Z, but no planes.
        """
        given = self.factor if isinstance(self.factor, tuple) else (self.factor, self.factor)
        if len(given) > ndim:
            raise InputError(
                f"the factor {list(given)} is one of a volume, but here an image has {ndim} axes; "
                f"give {list(given[1:])}, along Y and X"
            )
        return (1,) * (ndim - len(given)) + given

    def measurement_shape(self, object_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the coarse shape."""
        factors = self.factors(len(object_shape))
        if any(n % f for n, f in zip(object_shape, factors, strict=True)):
            raise InputError(
                f"an object of {tuple(object_shape)} pixels cannot be binned by {factors}; crop "
                "it to multiples of the factors"
            )
        return tuple(n // f for n, f in zip(object_shape, factors, strict=True))

    def object_pixel_size(self, grid: Grid) -> tuple[float, ...] | None:
        """Return the fine pitch."""
        if grid.pixel_size is None:
            return None
        factors = self.factors(len(grid.shape))
        return tuple(p / f for p, f in zip(grid.pixel_size, factors, strict=True))

    def object_offset(self, grid: Grid) -> tuple[float, ...]:
        """Return the first fine pixel's centre: half a block before the coarse one's."""
        return tuple(-(f - 1) / 2 for f in self.factors(len(grid.shape)))

    def bind(self, grid: Grid) -> "Operator":
        """Build the operator."""
        from napari_dps.forward._resample import Downsampling, bicubic, box

        factors = self.factors(len(grid.shape))
        taps = [(box if self.method == "binning" else bicubic)(f) for f in factors]
        return Downsampling(grid, factors, taps)
