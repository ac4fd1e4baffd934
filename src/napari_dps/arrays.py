"""Arrays as recipe fields: a path in JSON, an array in Python, one content hash for both.

A recipe must stay a small text. An array given in Python is kept in memory and written as a
content-hashed ``.npy`` file beside the recipe when the recipe is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from napari_dps.errors import InputError

NUMBERS = "buif"
"""Kinds of dtype that a mask, a PSF or a spectrum may have."""


def read_values(path: str) -> np.ndarray:
    """Return the values of a TIFF, PNG or ``.npy`` file, without units or axes.

    Raises
    ------
    InputError
        If the file is missing or holds no numbers.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"there is no file {path!r}; give the path of a TIFF, PNG or npy file")
    try:
        if file.suffix.lower() == ".npy":
            values = np.load(file, allow_pickle=False)
        elif file.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            values = tifffile.imread(file)
        else:
            import skimage.io

            values = skimage.io.imread(file)
    except Exception as error:  # readers raise many kinds; all mean the same to the user
        raise InputError(
            f"{path!r} cannot be read as an image ({type(error).__name__}); "
            "give a TIFF, PNG or npy file"
        ) from error
    values = np.asarray(values)
    if values.dtype.kind not in NUMBERS:
        raise InputError(f"{path!r} holds {values.dtype} values; real numbers are needed")
    return values


def read_shape(path: str) -> tuple[int, ...]:
    """Return the shape of the values that :func:`read_values` returns, where cheap without them.

    Raises
    ------
    InputError
        As :func:`read_values`.
    """
    file = Path(path)
    try:
        if file.suffix.lower() == ".npy":
            return tuple(np.load(file, mmap_mode="r", allow_pickle=False).shape)
        if file.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            with tifffile.TiffFile(file) as tiff:
                return tuple(tiff.series[0].shape)
    except Exception:  # read_values tells what is wrong with the file
        return tuple(read_values(path).shape)
    return tuple(read_values(path).shape)


class ArrayRef:
    """A reference to an array: a file (TIFF, PNG, npy) or values held in memory.

    Parameters
    ----------
    source : str, Path or array
        Where the values come from.
    pixel_size : dict of str to float, optional
        Micrometres per pixel along Z, Y and X of values held in memory, as far as they are known.
        A file says it itself.
    """

    def __init__(
        self, source: str | Path | np.ndarray, pixel_size: dict[str, float] | None = None
    ) -> None:
        self.path: str | None = None
        self._values: np.ndarray | None = None
        self._pixel_size = dict(pixel_size or {})
        if isinstance(source, (str, Path)):
            self.path = str(source)
        else:
            self._values = np.array(source)
            self._values.setflags(write=False)

    def load(self) -> np.ndarray:
        """Return the values.

        Raises
        ------
        InputError
            If the file is missing or is no image.
        """
        if self._values is not None:
            return self._values
        return read_values(str(self.path))

    def shape(self) -> tuple[int, ...]:
        """Return the shape of the values; of TIFF and npy files without reading the values.

        Raises
        ------
        InputError
            As :meth:`load`.
        """
        return read_shape(str(self.path)) if self._values is None else self._values.shape

    def pixel_size(self) -> dict[str, float]:
        """Return micrometres per pixel along Z, Y and X, as far as they are known.

        Of a TIFF they are what its OME or ImageJ metadata say. An npy or PNG file knows none.

        Raises
        ------
        InputError
            If the file is missing or damaged.
        """
        if self._values is not None:
            return dict(self._pixel_size)
        file = Path(str(self.path))
        if file.suffix.lower() not in (".tif", ".tiff"):
            return {}
        if not file.is_file():
            raise InputError(f"there is no file {self.path!r}; give the path of a TIFF, PNG or npy")
        from napari_dps._tiff import read_calibration

        return {k: v[0] for k, v in read_calibration(file).items() if k in "ZYX"}

    @property
    def digest(self) -> str:
        """Return a hash of the values and their pixel size (in memory) or of the path."""
        if self._values is None:
            return hashlib.sha256(str(self.path).encode()).hexdigest()
        head = f"{self._values.dtype.str}{self._values.shape}".encode()
        if self._pixel_size:
            head += repr(sorted(self._pixel_size.items())).encode()
        return hashlib.sha256(head + self._values.tobytes()).hexdigest()

    def write_beside(self, folder: Path) -> ArrayRef:
        """Return a reference to a file in ``folder``, writing the values there if need be."""
        if self._values is None:
            return self
        # An npy file has no place for a pixel size.
        name = f"array-{self.digest[:16]}.{'tif' if self._pixel_size else 'npy'}"
        target = folder / name
        if target.exists():
            return ArrayRef(name)
        if self._pixel_size:
            from napari_dps._tiff import write_values

            write_values(target, self._values, self._pixel_size)
        else:
            np.save(target, self._values)
        return ArrayRef(name)

    def resolved_in(self, folder: Path) -> ArrayRef:
        """Return the reference with a relative path taken from ``folder``."""
        if self.path is None or Path(self.path).is_absolute():
            return self
        beside = folder / self.path
        return ArrayRef(beside) if beside.exists() else self

    def __str__(self) -> str:
        return self.path if self.path is not None else f"array:{self.digest[:16]}"

    def __repr__(self) -> str:
        return f"ArrayRef({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArrayRef) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @classmethod
    def parse(cls, value: Any) -> ArrayRef:
        """Take a path, an array or nested lists of numbers."""
        if isinstance(value, ArrayRef):
            return value
        if isinstance(value, (str, Path)):
            if not str(value).strip():
                raise ValueError("an empty path was given; name a file or leave it out")
            return cls(value)
        try:
            array = np.asarray(value)
        except ValueError:
            raise ValueError("its rows differ in length; give a path or a full array") from None
        if array.dtype.kind not in NUMBERS or array.size == 0 or array.ndim == 0:
            raise ValueError("not an array of real numbers; give a path or an array")
        return cls(array)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "format": "path", "title": "path or array"}


class NumberOrArray(ArrayRef):
    """One number for all pixels, or an array of one number per pixel (a file, a layer, values).

    Parameters
    ----------
    source : float, str, Path or array
        A number (or its text), or where the values come from.
    """

    def __init__(self, source: float | str | Path | np.ndarray) -> None:
        self.number: float | None = None
        if isinstance(source, (bool, np.bool_)):
            raise ValueError(f"{source} is no number; give a number, a path or an array")
        if isinstance(source, str):
            try:
                source = float(source)
            except ValueError:
                pass
        if isinstance(source, (int, float, np.integer, np.floating)) or (
            isinstance(source, np.ndarray) and source.ndim == 0
        ):
            self.number = float(source)
            if not np.isfinite(self.number):
                raise ValueError(f"{self.number} is no finite number; give one, or an array")
            source = np.array(self.number)
        super().__init__(source)

    @classmethod
    def parse(cls, value: Any) -> NumberOrArray:
        """Take a number, a path, an array or nested lists of numbers."""
        if isinstance(value, NumberOrArray):
            return value
        if isinstance(value, (bool, int, float, np.number, np.bool_)):
            return cls(value)  # type: ignore[arg-type]
        if isinstance(value, str) and value.strip():
            return cls(value)
        if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in NUMBERS:
            return cls(value)
        given = ArrayRef.parse(value)
        return cls(given.path if given.path is not None else given.load())

    def on(self, shape: tuple[int, ...], what: str, *, minimum: float | None = None) -> np.ndarray:
        """Return the values as float64, a scalar array or one of the given shape.

        Raises
        ------
        InputError
            If the shape differs, or a value is not finite or below ``minimum``.
        """
        values = np.asarray(self.load(), dtype=np.float64)
        if values.ndim and values.shape != tuple(shape):
            raise InputError(
                f"the {what} has shape {values.shape}, but the measurement has {tuple(shape)}: "
                f"give a number, or a {what} of that shape"
            )
        if not np.isfinite(values).all():
            raise InputError(f"the {what} has NaN or infinite values; replace them before use")
        if minimum is not None and (values < minimum).any():
            raise InputError(
                f"the {what} goes down to {values.min():g}; it must be at least {minimum:g} "
                "everywhere"
            )
        return values

    def write_beside(self, folder: Path) -> ArrayRef:
        """Return a reference to a file in ``folder``; a number stays what it is."""
        return self if self.number is not None else self.parse(str(super().write_beside(folder)))

    def resolved_in(self, folder: Path) -> ArrayRef:
        """Return the reference with a relative path taken from ``folder``."""
        found = super().resolved_in(folder)
        return found if isinstance(found, NumberOrArray) else self.parse(str(found))

    def plain(self) -> float | str:
        """Return what JSON holds: the number, or the path."""
        return self.number if self.number is not None else super().__str__()

    def __str__(self) -> str:
        return str(self.plain())

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(cls.plain),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "number"}, {"type": "string", "format": "path"}]}


def split_complex(image: Any, axes: str | None) -> tuple[Any, str | None]:
    """Return an array and its axes; of a complex one its parts, as an axis C before Y and X.

    Raises
    ------
    InputError
        If the axes of a complex array do not end with YX, or have a C.
    """
    if not isinstance(image, np.ndarray) or image.dtype.kind != "c":
        return image, axes
    letters = axes.upper() if axes is not None else "TZYX"[4 - image.ndim :]
    if len(letters) != image.ndim or letters[-2:] != "YX" or "C" in letters:
        raise InputError(
            f"a complex array of shape {image.shape} with axes {axes!r} cannot be used; give rows "
            "and columns last (YX), and no axis C"
        )
    return np.stack((image.real, image.imag), -3), letters[:-2] + "CYX"


class PixelMap(NumberOrArray):
    """One number per pixel, beside a number or a word that stands for all of them."""

    @classmethod
    def parse(cls, value: Any) -> PixelMap:
        """Take a path, an array or nested lists of numbers; a number is none of these."""
        if isinstance(value, PixelMap):
            return value
        found = NumberOrArray.parse(value)
        if found.number is not None:
            raise ValueError("a number is no map; give a path or an array")
        return cls(found.path if found.path is not None else found.load())

    def for_pixels(
        self, shape: tuple[int, ...], what: str, *, minimum: float | None = None
    ) -> np.ndarray:
        """Return the map for the last axes of ``shape``: a camera sees plane after plane.

        Raises
        ------
        InputError
            As :meth:`on`, or if the map has fewer than two axes.
        """
        axes = self.load().ndim
        if axes < 2:
            raise InputError(
                f"the {what} has {axes} axis; give a map of the measurement's shape {tuple(shape)}"
            )
        return self.on(tuple(shape)[-axes:], what, minimum=minimum)


ArrayField = Annotated[ArrayRef, "path or array"]


def load_mask(ref: ArrayRef, shape: tuple[int, ...], what: str, of: str = "image") -> np.ndarray:
    """Return a boolean mask of the given shape, that of an ``of``, nonzero meaning True.

    Raises
    ------
    InputError
        If the shape differs, a value is negative or not finite, or nothing is left.
    """
    values = np.asarray(ref.load())
    if values.shape != tuple(shape):
        raise InputError(
            f"the {what} has shape {values.shape}, but the {of} has {tuple(shape)}: "
            f"give a {what} of the {of}'s shape"
        )
    if values.dtype != bool and (not np.isfinite(values).all() or (values < 0).any()):
        raise InputError(
            f"the {what} has negative or non-finite values; it must be 0 where a pixel is "
            "left out and positive where it counts"
        )
    mask: np.ndarray = np.asarray(values != 0)
    if not mask.any():
        raise InputError(f"the {what} is zero everywhere, so that no pixel counts; mark some")
    return mask
