"""Components (forward model, noise, prior, sampler) and the registry that finds them.

A component is a frozen pydantic model: light to import, to check and to write as JSON. What it
stands for is built by ``bind(grid)``; only there may torch be imported.
"""

import difflib
import hashlib
import importlib
import importlib.metadata
import pkgutil
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_dps.arrays import ArrayRef, NumberOrArray, load_mask
from napari_dps.errors import RecipeError
from napari_dps.fields import describe_field
from napari_dps.grid import Grid

GROUPS = {
    "forward": "napari_dps.forward",
    "noise": "napari_dps.noise",
    "prior": "napari_dps.priors",
    "sampler": "napari_dps.samplers",
}


class Component(BaseModel):
    """Base of everything that a recipe can choose."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )
    group: ClassVar[str] = ""
    title: ClassVar[str] = ""
    kind: str

    def bind(self, grid: Grid) -> Any:
        """Build the torch object that this choice stands for on ``grid``."""
        raise TypeError(f"{type(self).__name__} cannot be bound")

    @classmethod
    def kind_name(cls) -> str:
        """Return the name under which recipes know this class."""
        return str(get_args(cls.model_fields["kind"].annotation)[0])

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the documentation."""
        return (cls.__doc__ or "").strip().splitlines()[0]


def _own_kind(value: object) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, Component)
        and bool(get_args(value.model_fields["kind"].annotation))
    )


@cache
def registry(group: str) -> Mapping[str, type[Component]]:
    """Return the components of one group by kind: ours, then those of entry points.

    Parameters
    ----------
    group : {"forward", "noise", "prior", "sampler"}
        Which list.
    """
    package = importlib.import_module(GROUPS[group])
    found: dict[str, type[Component]] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        if info.name.startswith("_") or info.ispkg:
            continue
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in vars(module).values():
            if _own_kind(value) and value.__module__ == module.__name__:
                found[value.kind_name()] = value
    for point in importlib.metadata.entry_points(group=f"napari_dps.{group}"):
        try:
            value = point.load()
            if not _own_kind(value) or value.group != group:
                raise TypeError(f"{value!r} is no {group} component with a `kind`")
            if value.kind_name() in found:
                raise ValueError(f"the kind {value.kind_name()!r} is taken already")
        except Exception as error:  # a stranger's bug must not take ours down, but is told
            warnings.warn(f"entry point {point.name!r} was skipped: {error}", stacklevel=2)
            continue
        found[value.kind_name()] = value
    return found


def nearest(name: str, allowed: list[str]) -> str:
    """Return a hint that names the nearest right name, or all of them."""
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"allowed are {', '.join(allowed)}"


def component_class(group: str, kind: str) -> type[Component]:
    """Return the class of a kind.

    Raises
    ------
    RecipeError
        If there is none; the sentence names the nearest right name.
    """
    known = registry(group)
    if kind not in known:
        raise RecipeError(f"there is no {group} {kind!r}; {nearest(str(kind), list(known))}")
    return known[kind]


def make(group: str, spec: Any) -> Component:
    """Make a component from a kind string, a dict with ``kind``, or a component.

    Raises
    ------
    RecipeError
        One sentence about the first thing that is wrong.
    """
    if isinstance(spec, Component):
        if spec.group != group:
            raise RecipeError(
                f"{type(spec).__name__} is a {spec.group}, but a {group} is wanted here"
            )
        return spec
    if isinstance(spec, str):
        spec = {"kind": spec}
    if not isinstance(spec, Mapping):
        raise RecipeError(
            f"{group} came as {type(spec).__name__}; give a kind, a dict with 'kind', or a "
            f"component object"
        )
    fields = dict(spec)
    kind = fields.pop("kind", None)
    if kind is None:
        raise RecipeError(f"{group} has no 'kind'; allowed are {', '.join(registry(group))}")
    cls = component_class(group, kind)
    try:
        return cls(**fields)
    except ValidationError as error:
        raise RecipeError(sentence(error, f"{group} {kind!r}", cls)) from None


def _is_word(loc: tuple[int | str, ...]) -> bool:
    return any(str(part).startswith("literal[") for part in loc[1:])


def _field_names(loc: tuple[int | str, ...]) -> list[str]:
    """Drop the names of types that pydantic puts between those of fields."""
    types = {"float", "int", "bool", "str"}
    rest = [str(p) for p in loc[1:] if str(p).isidentifier() and str(p)[0].islower()]
    return [str(p) for p in loc[:1]] + [p for p in rest if p not in types]


def sentence(error: ValidationError, where: str, model: type[BaseModel] | None = None) -> str:
    """Turn a pydantic error about a ``model`` into one sentence."""
    found = error.errors()
    # A union reports every alternative that failed; the one that is no fixed word says most.
    alternatives = [e for e in found if not _is_word(e["loc"])]
    first = (alternatives or found)[0]
    names = _field_names(first["loc"])
    name, owner = ".".join(names), _owner(model, names)
    if first["type"] == "extra_forbidden":
        allowed = [n for n in owner.model_fields if n != "kind"] if owner is not None else []
        if not allowed:
            return f"{where} has no parameter {name!r}; it takes none"
        return f"{where} has no parameter {name!r}; {nearest(names[-1], allowed)}"
    given = first.get("input")
    text = f"{given:g}" if isinstance(given, float) else " ".join(repr(given).split())
    text = text if len(text) < 60 else text[:57] + "..."
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if first["type"] in ("model_type", "model_attributes_type"):
        message = "give one of its words, or its numbers by name"
    elif owner is not None and first["type"] in _RANGE and names[-1] in owner.model_fields:
        # Pydantic names only the end that was passed.
        info = describe_field(names[-1], owner.model_fields[names[-1]])
        message = f"give a number {info.range_text or 'that is finite'} {info.unit}".rstrip()
    if not name:
        return f"{where}: {message}"
    return f"{where}: {name} = {text} is not allowed, {message}"


_RANGE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")


def _owner(model: type[BaseModel] | None, names: list[str]) -> type[BaseModel] | None:
    """Return the model that the last name belongs to, ``names`` being a path from ``model``."""
    for name in names[:-1]:
        field = model.model_fields.get(name) if model is not None else None
        inner = get_args(field.annotation) if field is not None else ()
        model = next((m for m in inner if isinstance(m, type) and issubclass(m, BaseModel)), None)
    return model


class ForwardModel(Component):
    """Base of forward models: how the object becomes the expected measurement.

    ``bind(grid)`` is the optics alone. Light that does not come from the object, and uneven
    illumination, are common to all models and are added by the run.
    """

    group: ClassVar[str] = "forward"
    positive_scale: ClassVar[bool] = True

    background: NumberOrArray = Field(
        NumberOrArray(0.0), json_schema_extra={"unit": "ADU"}, validate_default=False
    )
    """Light that reaches the detector without coming from the object, above the camera's offset:
    a number, or an image of the measurement's shape."""
    flat_field: ArrayRef | None = None
    """Relative sensitivity or illumination of every pixel, about 1: an image of the measurement's
    shape."""

    def dimensions(self, axes: str, shape: tuple[int, ...]) -> int:
        """Return 3 where the model takes the Z, Y and X of such an image as one volume, else 2.

        Parameters
        ----------
        axes : str
            One letter per axis of the image.
        shape : tuple of int
            Its shape.
        """
        return 2

    def object_channels(self) -> int:
        """Return 2 where the object is complex (real and imaginary part), else 1."""
        return 1

    def measurement_shape(self, object_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the measurement of an object of the given shape (pixels)."""
        return tuple(object_shape)

    def object_pixel_size(self, grid: Grid) -> tuple[float, ...] | None:
        """Return the pitch of the object's grid in micrometres; None where it is not known."""
        return grid.pixel_size

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

    def image_channels(self) -> int:
        """Return how many channels of an image the prior takes as one: 1, or 3 for colours."""
        return 1

    def identity(self) -> dict[str, Any]:
        """Return what a report keeps: the kind and a hash, of the weights where there are any."""
        text = self.model_dump_json(exclude_none=True).encode()
        return {"kind": self.kind, "hash": hashlib.sha256(text).hexdigest()[:16]}


class SamplerChoice(Component):
    """Base of samplers: how the posterior is drawn from."""

    group: ClassVar[str] = "sampler"

    def choose(self, *, affine: bool) -> "SamplerChoice":
        """Return the concrete sampler for a problem (only ``auto`` has a choice to make)."""
        return self

    @property
    def pairs(self) -> bool:
        """Whether samples are drawn in antithetic pairs (a field ``antithetic`` says so)."""
        return bool(getattr(self, "antithetic", False))


ComponentGroup = Literal["forward", "noise", "prior", "sampler"]
