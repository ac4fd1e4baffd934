"""What a recipe can choose: the bases of forward models, noise, priors and samplers.

A component is a frozen pydantic model: light to import, to check and to write as JSON. What it
stands for is built by ``bind(grid)``; only there may torch be imported.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from napari_dps.arrays import ArrayRef, NumberOrArray, load_mask, split_complex
from napari_dps.errors import InputError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.prior import Prior


class Component(BaseModel):
    """Base of everything that a recipe can choose."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )
    group: ClassVar[str] = ""
    title: ClassVar[str] = ""
    words: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Words that an array's field takes in place of a path, by the field's name."""
    kind: str

    def bind(self, grid: Grid) -> Any:
        """Build the torch object that this choice stands for on ``grid``."""
        raise TypeError(f"{type(self).__name__} cannot be bound")

    def check_files(self) -> None:
        """Refuse files that are not there, each by the name of its parameter.

        Raises
        ------
        InputError
            One sentence about the first.
        """
        for name in type(self).model_fields:
            value = getattr(self, name)
            path = value.path if isinstance(value, ArrayRef) else None
            if path in self.words.get(name, ()):
                continue
            if path and not Path(path).is_file():
                raise InputError(
                    f"{self.group} {self.kind!r}: {name} = {path!r} is not allowed, there is "
                    "no such file; give the path of a TIFF, PNG or npy file"
                )
            for part in value if isinstance(value, tuple) else ():
                if isinstance(part, Component):
                    part.check_files()

    @classmethod
    def kind_name(cls) -> str:
        """Return the name under which recipes know this class."""
        return str(get_args(cls.model_fields["kind"].annotation)[0])

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the documentation."""
        return (cls.__doc__ or "").strip().splitlines()[0]


class ForwardModel(Component):
    """Base of forward models: how the object becomes the expected measurement.

    ``bind(grid)`` is the optics alone. Light that does not come from the object, and uneven
    illumination, are common to all models and are added by the run.
    """

    group: ClassVar[str] = "forward"
    only_masks: ClassVar[bool] = False
    """Whether the measurement is the object itself, at some pixels."""

    background: NumberOrArray = Field(
        NumberOrArray(0.0), json_schema_extra={"unit": "ADU"}, validate_default=False
    )
    """Light that reaches the detector without coming from the object, above the camera's offset:
    a number, or an image of the measurement's shape."""
    flat_field: ArrayRef | None = None
    """Relative sensitivity or illumination of every pixel, about 1: an image of the measurement's
    shape."""
    full_scale: Literal["auto"] | Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        "auto", json_schema_extra={"unit": "ADU"}
    )
    """Value at which the camera saturates; auto: the data type's largest, or a plateau that only a
    full detector leaves. Saturated pixels are reported and, where counts are expected, left out."""

    def dimensions(self, axes: str, shape: tuple[int, ...]) -> int:
        """Return 3 where a measurement is a stack (a volume, the patterns of a scan), else 2.

        Which axis makes the stack, :meth:`stack_axis` says. Other axes are frames, restored one
        by one.

        Parameters
        ----------
        axes : str
            One letter per axis of the image.
        shape : tuple of int
            Its shape.
        """
        return 2

    def object_dimensions(self, axes: str, shape: tuple[int, ...]) -> int:
        """Return 3 where the object behind such an image (or itself given) is a volume, else 2."""
        return self.dimensions(axes, shape)

    def stack_axis(self, leading: str) -> str:
        """Return the axis that makes a measurement a stack, where it is one.

        Z where there is one, else the last before Y and X.

        Parameters
        ----------
        leading : str
            The image's axes but Y and X, one letter at least.
        """
        return "Z" if "Z" in leading else leading[-1]

    def object_channels(self) -> int:
        """Return 2 where the object is complex (real and imaginary part), else 1."""
        return 1

    def measurement_shape(self, object_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the measurement of an object of the given shape (pixels)."""
        return tuple(object_shape)

    def object_pixel_size(self, grid: Grid) -> tuple[float, ...] | None:
        """Return the pitch of the object's grid in micrometres; None where it is not known."""
        return grid.pixel_size

    def object_axes_from(self, count: int) -> tuple[int, ...]:
        """Return which axis of the measurement each axis of the object takes its pitch from.

        Parameters
        ----------
        count : int
            Spatial axes of the measurement, which the object has too.
        """
        return tuple(range(count))

    def object_offset(self, grid: Grid) -> tuple[float, ...]:
        """Return the centre of the object's first pixel, in its pixels, from the measurement's."""
        return (0.0,) * len(grid.shape)

    def laid_out(self, lay: Callable[[ArrayRef], ArrayRef]) -> "ForwardModel":
        """Return the model with masks of a whole image laid out as its frames are.

        Parameters
        ----------
        lay : callable
            Gives a mask of the whole image back with shape (F, *grid), and any other as it is.
        """
        return self

    def of_frame(self, index: int, dimensions: int) -> "ForwardModel":
        """Return the model of one frame of many, after :meth:`laid_out`.

        Parameters
        ----------
        index : int
            Of the frame.
        dimensions : int
            Axes of one frame's measurement.
        """
        return self

    def measured_pixels(self, frames: Any) -> Any:
        """Return what this model says of measured pixels: True where measured, None for all.

        Parameters
        ----------
        frames : ndarray, shape (F, *grid)
            The measurement in its own units; NaN where the file has none.
        """
        mask = getattr(self, "mask", None)
        if mask is None or callable(mask):
            return None
        return load_mask(mask, frames.shape[1:], "mask")

    def real_array(
        self, image: Any, axes: str | None, *, measurement: bool = True
    ) -> tuple[Any, str | None]:
        """Return an image and its axes, a complex array as the real one that the model takes.

        Parameters
        ----------
        image : array or other
            As the user gave it.
        axes : str or None
            Its axes, where they were given.
        measurement : bool
            Whether it is a measurement, or an object to be measured.
        """
        if measurement or self.object_channels() == 1:
            return image, axes
        return split_complex(image, axes)

    def check_noise(self, noise: "NoiseModel") -> None:
        """Refuse noise that measurements of this kind cannot have; a RecipeError says why."""

    def white_noise(
        self, frames: Any, grid: Grid | None = None, valid: Any = None
    ) -> tuple[float, float] | None:
        """Return the deviation of Gaussian noise and its error, where this model can tell.

        None, the default: the measurement is an image, from which the noise model tells it.

        Parameters
        ----------
        frames : ndarray, shape (F, *grid)
            The measurement in its own units.
        grid : Grid, optional
            Its grid, which knows the pixel size.
        valid : ndarray of bool, optional
            Which of its pixels count; None where all do.
        """
        return None

    def resolved(self, frames: Any, grid: Grid, report: dict[str, Any]) -> "ForwardModel":
        """Return the model with everything that the measurement itself tells filled in.

        Parameters
        ----------
        frames : ndarray, shape (F, *grid)
            The measurement in photoelectrons.
        grid : Grid
            Its grid.
        report : dict
            Receives what was found.
        """
        return self

    def saturation_level(self) -> float | None:
        """Return the camera's full scale in the image's units; None where it is to be found."""
        return None if self.full_scale == "auto" else float(self.full_scale)

    def warnings(self, grid: Grid) -> list[str]:
        """Return what a user should know of this model on this grid; may raise as ``bind``."""
        return []

    def object_to_input(self, values: Any, gain: float, offset: float) -> Any:
        """Turn an object in photoelectrons into the units of the input image."""
        return values * gain + offset

    def object_from_input(self, values: Any, gain: float, offset: float) -> Any:
        """Turn an object in the units of the input image into photoelectrons."""
        return (values - offset) / gain


class NoiseModel(Component):
    """Base of noise models: how the expected measurement becomes the recorded one."""

    group: ClassVar[str] = "noise"
    derived: ClassVar[frozenset[str]] = frozenset()
    """Fields whose "auto" needs no image where all others are given."""

    def camera(self) -> tuple[float, float]:
        """Return (gain in ADU per electron, offset in ADU) of a typical pixel."""
        return 1.0, 0.0

    def electrons(self, values: Any) -> Any:
        """Turn measured values (..., *grid) into photoelectrons, each pixel by its own camera."""
        gain, offset = self.camera()
        return (values - offset) / gain

    def recorded(self, electrons: Any) -> Any:
        """Turn photoelectrons (..., *grid) into measured values; undoes :meth:`electrons`."""
        gain, offset = self.camera()
        return electrons * gain + offset

    def resolve(self, image: Any, report: dict[str, Any]) -> "NoiseModel":
        """Return the model with everything that was ``"auto"`` estimated from the image.

        Parameters
        ----------
        image : ndarray, shape (frames, Y, X)
            The measurement in its own units.
        report : dict
            Receives what was estimated and how sure it is.
        """
        return self

    def check(self, image: Any) -> list[str]:
        """Refuse an image that this noise cannot have made; return warnings."""
        return []


class PriorSource(Component):
    """Base of prior sources: where the diffusion prior comes from."""

    group: ClassVar[str] = "prior"
    volumetric: ClassVar[bool] = False
    """Whether it is a prior of volumes too; others are applied plane by plane."""

    def image_channels(self) -> int:
        """Return how many channels of an image the prior takes as one: 1, or 3 for colours."""
        return 1

    def settled(self, prior: "Prior") -> "PriorSource":
        """Return the choice as it turned out for a bound prior: nothing left open."""
        return self

    def identity(self) -> dict[str, Any]:
        """Return what a report keeps: the kind and a hash, of the weights where there are any."""
        text = self.model_dump_json(exclude_none=True).encode()
        return {"kind": self.kind, "hash": hashlib.sha256(text).hexdigest()[:16]}


class SamplerChoice(Component):
    """Base of samplers: how the posterior is drawn from."""

    group: ClassVar[str] = "sampler"
    point_estimate: ClassVar[bool] = False
    """Whether it gives one image and no posterior: such a run has one sample and no error bars."""
    classical: ClassVar[bool] = False
    """Whether it works on the object itself, in photoelectrons, without prior or object map."""
    interacting: ClassVar[bool] = False
    """Whether the samples of a frame are drawn together and cannot be split into batches."""

    def choose(
        self, *, affine: bool, symmetric: bool = False, multimodal: bool = False
    ) -> "SamplerChoice":
        """Return the concrete sampler for a problem (only ``auto`` has a choice to make).

        Parameters
        ----------
        affine
            Whether the forward model is linear but for a constant.
        symmetric
            Whether flips and shifts of the object leave the data as they are, as without phases.
        multimodal
            Whether other objects explain the data nearly as well, and nothing else is known that
            tells them apart.
        """
        return self

    @property
    def pairs(self) -> bool:
        """Whether samples are drawn in antithetic pairs (a field ``antithetic`` says so)."""
        return bool(getattr(self, "antithetic", False))
