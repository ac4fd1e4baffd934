"""An array that knows its axes, its pixel size and where both came from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dps.errors import InputError
from napari_dps.units import to_micrometer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Image", "check_array", "guess_axes", "to_micrometer"]

#: Letters an axis may have: time, channel, depth, row, column; samples of RGB(A) light.
AXES = "TCZYXS"
SPATIAL = "ZYX"


def check_array(array: ArrayLike, name: str = "image") -> NDArray[Any]:
    """Return `array` as a native-endian NumPy array of real numbers.

    Parameters
    ----------
    array : array-like
        Any shape.
    name : str
        What to call it in an error.

    Returns
    -------
    numpy.ndarray
        Same shape and numeric type.

    Raises
    ------
    InputError
        If it is empty, complex, masked, ragged, or no numbers.
    """
    if np.ma.is_masked(array):
        raise InputError(
            f"'{name}' is a masked array with {np.sum(np.ma.getmask(array))} masked pixels, which "
            "would be lost; give its data, and ~image.mask as `valid`."
        )
    try:
        data = np.asarray(array)
    except ValueError:
        raise InputError(f"'{name}' has rows of different lengths; give a full array.") from None
    if data.dtype.kind == "c":
        raise InputError(
            f"'{name}' holds complex numbers ({data.dtype}); measurements are real: "
            "give its magnitude or intensity."
        )
    if data.dtype.kind not in "buif":
        raise InputError(
            f"'{name}' holds {data.dtype} values; an image needs integer or real numbers."
        )
    if data.size == 0:
        raise InputError(
            f"'{name}' is empty (shape {data.shape}); every axis needs at least one pixel."
        )
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def guess_axes(shape: tuple[int, ...], name: str = "image") -> str:
    """Return the axes that an array without labels most probably has.

    Two axes are YX, three ZYX, four TZYX, five TCZYX; a last axis of 3 or 4 behind a picture is
    colour (S), which later steps refuse in words of their own.

    Raises
    ------
    InputError
        If the number of axes leaves no sensible guess.
    """
    ndim = len(shape)
    if ndim >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > 4:
        return guess_axes(shape[:-1], name) + "S"
    if not 2 <= ndim <= 5:
        raise InputError(
            f"'{name}' has {ndim} axes (shape {shape}); 2 to 5 are allowed, Y and X last."
        )
    return {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}[ndim]


def _check_axes(axes: str, shape: tuple[int, ...], name: str) -> str:
    if not isinstance(axes, str):
        raise InputError(f"axes must be a string such as 'TYX'; got {axes!r}.")
    letters = axes.upper()
    if len(letters) != len(shape):
        raise InputError(
            f"axes '{axes}' name {len(letters)} axes but '{name}' has {len(shape)} "
            f"(shape {shape}); give one letter per axis."
        )
    wrong = sorted(set(letters) - set(AXES))
    if wrong or len(set(letters)) != len(letters) or not {"Y", "X"} <= set(letters):
        raise InputError(
            f"axes '{axes}' cannot be used; name each axis once with letters of T, C, Z, Y, X "
            "(S for RGB), Y and X among them."
        )
    return letters


@dataclass(frozen=True, eq=False)
class Image:
    """A measurement with everything needed to give its result back in the same coordinates.

    Attributes
    ----------
    data : numpy.ndarray
        Pixel values, dtype as stored, one dimension per letter of `axes`.
    axes : str
        One letter per axis, of T, C, Z, Y, X; S where the file holds RGB(A).
    scale : tuple of float
        Step along each axis, in `units`; 1 where unknown.
    units : tuple of str
        ``"micrometer"``, ``"second"`` or ``"pixel"`` per axis.
    translate : tuple of float
        Position of the first pixel along each axis, in `units`.
    name : str
        What to call it.
    calibration : str
        Where the pixel size came from: ``"file"``, ``"given"`` or ``"none"``.
    path : str or None
        The file it was read from.
    metadata : dict
        What else the reader noticed, in plain types.

    Raises
    ------
    InputError
        If the parts do not fit each other, or the array holds no real numbers.
    """

    data: NDArray[Any]
    axes: str
    scale: tuple[float, ...] = ()
    units: tuple[str, ...] = ()
    translate: tuple[float, ...] = ()
    name: str = "image"
    calibration: str = "none"
    path: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill what was left out and check that all parts fit."""
        data = check_array(self.data, self.name)
        ndim = data.ndim

        def put(key: str, value: object) -> None:
            object.__setattr__(self, key, value)

        put("data", data)
        put("axes", _check_axes(self.axes, data.shape, self.name))
        put("scale", tuple(float(v) for v in self.scale) or (1.0,) * ndim)
        put("units", tuple(str(v) for v in self.units) or ("pixel",) * ndim)
        put("translate", tuple(float(v) for v in self.translate) or (0.0,) * ndim)
        for key in ("scale", "units", "translate"):
            if len(getattr(self, key)) != ndim:
                raise InputError(
                    f"{key} {getattr(self, key)} of '{self.name}' needs one entry per axis of "
                    f"'{self.axes}'."
                )
        if not all(math.isfinite(v) and v > 0 for v in self.scale):
            raise InputError(f"scale {self.scale} of '{self.name}' must be positive and finite.")
        if not all(math.isfinite(v) for v in self.translate):
            raise InputError(f"translate {self.translate} of '{self.name}' must be finite.")
        if self.calibration not in ("file", "given", "none"):
            raise InputError(
                f"calibration '{self.calibration}' is unknown; allowed are file, given, none."
            )

    @classmethod
    def from_array(
        cls,
        array: ArrayLike,
        axes: str | None = None,
        pixel_size: float | tuple[float, ...] | None = None,
        name: str = "image",
    ) -> Image:
        """Make an image from an array.

        Parameters
        ----------
        array : array-like
            Two to five axes of real numbers.
        axes : str, optional
            One letter per axis; guessed from the number of axes where left out
            (YX, ZYX, TZYX, TCZYX).
        pixel_size : float or tuple of float, optional
            Micrometres; see `with_pixel_size`.
        name : str
            What to call it.

        Returns
        -------
        Image

        Raises
        ------
        InputError
            If array, axes or pixel size cannot be used.
        """
        data = check_array(array, name)
        image = cls(data, guess_axes(data.shape, name) if axes is None else axes, name=name)
        return image if pixel_size is None else image.with_pixel_size(pixel_size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pixels along each axis."""
        return tuple(int(n) for n in self.data.shape)

    @property
    def is_rgb(self) -> bool:
        """Whether an axis holds red, green and blue rather than a measured quantity."""
        return "S" in self.axes

    @property
    def spatial_shape(self) -> tuple[int, int]:
        """Rows and columns (Y, X) of one frame."""
        return self.shape[self.axes.index("Y")], self.shape[self.axes.index("X")]

    @property
    def frame_count(self) -> int:
        """How many 2D frames all axes but Y and X make."""
        return math.prod(self.shape) // math.prod(self.spatial_shape)

    @property
    def pixel_size_yx(self) -> tuple[float, float] | None:
        """Pixel size along Y and X in micrometres; None where it is not known."""
        found = []
        for letter in "YX":
            axis = self.axes.index(letter)
            factor = to_micrometer(self.units[axis])
            if factor is None:
                return None
            found.append(self.scale[axis] * factor)
        return found[0], found[1]

    def frames(self) -> Iterator[tuple[tuple[int, ...], NDArray[np.float64]]]:
        """Go through the 2D frames, converting one at a time.

        Yields
        ------
        index : tuple of int
            Position along the axes other than Y and X, in the order of `axes`.
        frame : numpy.ndarray
            float64, shape (Y, X), a copy.

        Raises
        ------
        InputError
            If the image is RGB.
        """
        if self.is_rgb:
            raise InputError(
                f"'{self.name}' is a colour (RGB) picture; give one gray channel, "
                "or its channels as an axis C."
            )
        stack = np.moveaxis(self.data, [self.axes.index("Y"), self.axes.index("X")], [-2, -1])
        for index in np.ndindex(*stack.shape[:-2]):
            yield index, np.array(stack[index], dtype=np.float64)

    def with_axes(self, axes: str) -> Image:
        """Return the same image with its axes in the order of `axes`, a view of the same pixels."""
        order = [self.axes.index(letter) for letter in axes]
        return replace(
            self,
            data=self.data.transpose(order),
            axes=axes,
            scale=tuple(self.scale[i] for i in order),
            units=tuple(self.units[i] for i in order),
            translate=tuple(self.translate[i] for i in order),
        )

    def picture_last(self) -> Image:
        """Return the same image with rows and columns last; colour stays behind them."""
        leading = "".join(letter for letter in self.axes if letter not in "YXS")
        return self.with_axes(leading + "YX" + ("S" if self.is_rgb else ""))

    def with_data(self, data: ArrayLike) -> Image:
        """Return the same image with other pixel values (as many axes, any numeric type)."""
        return replace(self, data=np.asarray(data))

    def with_pixel_size(self, pixel_size: float | tuple[float, ...]) -> Image:
        """Return the same image with a pixel size typed by hand.

        Parameters
        ----------
        pixel_size : float or tuple of float
            Micrometres. One number holds for Y and X (Z keeps the step its file names, else takes
            the same number); two are Y and X; as many as spatial axes: in the order of `axes`.

        Returns
        -------
        Image
            With ``calibration="given"``.

        Raises
        ------
        InputError
            If a size is not positive, or their number fits no axes.
        """
        spatial = [letter for letter in self.axes if letter in SPATIAL]
        values = np.atleast_1d(np.asarray(pixel_size, dtype=object)).tolist()
        if not all(
            isinstance(v, (int, float, np.integer, np.floating)) and math.isfinite(v) and v > 0
            for v in values
        ):
            raise InputError(
                f"pixel size {pixel_size!r} cannot be used; give micrometres above zero, "
                f"one number or one for each of {', '.join(spatial)}."
            )
        in_plane = [letter for letter in spatial if letter != "Z"]
        sizes: dict[str, float]
        if len(values) == len(spatial):
            sizes = dict(zip(spatial, map(float, values), strict=True))
        elif len(values) == 2:
            sizes = dict(zip(in_plane, map(float, values), strict=True))
        elif len(values) == 1:
            sizes = dict.fromkeys(in_plane, float(values[0]))
        else:
            raise InputError(
                f"pixel size has {len(values)} numbers but axes '{self.axes}' have "
                f"{len(spatial)} in space; give one number or one for each of "
                f"{', '.join(spatial)}."
            )
        if "Z" in spatial and "Z" not in sizes:
            axis = self.axes.index("Z")
            if to_micrometer(self.units[axis]) is None:
                sizes["Z"] = sizes["Y"]
        scale, units, translate = list(self.scale), list(self.units), list(self.translate)
        for letter, size in sizes.items():
            axis = self.axes.index(letter)
            old = to_micrometer(units[axis])
            # A position known in pixels moves to micrometres together with the pixel.
            translate[axis] *= size if old is None else old
            scale[axis], units[axis] = size, "micrometer"
        return replace(
            self,
            scale=tuple(scale),
            units=tuple(units),
            translate=tuple(translate),
            calibration="given",
        )
