"""The grid that a component is bound to: shape, pixel size, device and number type."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Grid:
    """Where the arrays of one run live.

    Attributes
    ----------
    shape : tuple of int
        Shape of the measurement in pixels: (Y, X), or (Z, Y, X) of a volume.
    pixel_size : tuple of float or None
        Pixel pitch per axis in micrometres; None where that of Y or X is unknown, NaN along an
        axis that has none (the planes of a stack, the angles of a sinogram).
    device, dtype : str
        Names as torch knows them, e.g. ``"cuda"`` and ``"float32"``.
    """

    shape: tuple[int, ...]
    pixel_size: tuple[float, ...] | None = None
    device: str = "cpu"
    dtype: str = "float32"

    def with_shape(self, shape: tuple[int, ...]) -> Grid:
        """Return the same grid with another spatial shape."""
        return replace(self, shape=tuple(int(n) for n in shape))
