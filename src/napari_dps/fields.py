"""What a component's parameters are: one description for forms, command line and catalogue."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo as PydanticField

from napari_dps.arrays import ArrayRef, NumberOrArray

_PLAIN: tuple[type, ...] = (bool, int, float, str)


@dataclass(frozen=True)
class FieldInfo:
    """One parameter of a component.

    Parameters
    ----------
    name : str
        Name in recipes, on the command line and in Python.
    annotation : type or str
        ``float``, ``int``, ``bool``, ``str``, ``"array"`` (a path or an array), ``"choice"``
        (one of ``choices``) or ``"other"`` (a structure: written as JSON).
    default : object
        Value that is taken when none is given; None also where the parameter is required.
    required : bool
        Whether there is no default.
    minimum, maximum : float or None
        Bounds, None where open.
    exclusive_minimum, exclusive_maximum : bool
        Whether the bound itself is not allowed.
    choices : tuple
        Allowed values of a ``"choice"``.
    unit : str
        Unit, "" where there is none.
    description : str
        What the parameter means.
    optional : bool
        Whether None is allowed.
    auto : bool
        Whether ``"auto"`` is allowed beside a value of ``annotation``.
    number : bool
        Whether an ``"array"`` may be one number.
    """

    name: str
    annotation: type | str
    default: Any
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    choices: tuple[Any, ...] = ()
    unit: str = ""
    description: str = ""
    optional: bool = False
    auto: bool = False
    number: bool = False

    @property
    def type_name(self) -> str:
        """Return the type in words, such as ``"auto or float"``."""
        if self.annotation == "choice":
            name = " or ".join(str(choice) for choice in self.choices)
        elif self.annotation == "array":
            name = "number or path" if self.number else "path"
        elif isinstance(self.annotation, type):
            name = self.annotation.__name__
        else:
            name = "json"
        if self.auto:
            name = f"auto or {name}"
        return f"{name} or none" if self.optional else name

    @property
    def range_text(self) -> str:
        """Return the allowed range in words, "" where there is no bound."""
        parts = []
        if self.minimum is not None:
            parts.append(f"{'>' if self.exclusive_minimum else '>='} {self.minimum:g}")
        if self.maximum is not None:
            parts.append(f"{'<' if self.exclusive_maximum else '<='} {self.maximum:g}")
        return " and ".join(parts)

    @property
    def wanted(self) -> str:
        """Return what a number must be, such as ``"a number > 0 and <= 200 px, or auto"``."""
        what = "a whole number" if self.annotation is int else "a number"
        text = f"{what} {self.range_text or 'that is finite'} {self.unit}".rstrip()
        if self.annotation == "other":
            words = " or ".join(map(str, self.choices)) or "one for each axis"
            text += f", or {words}"
        return f"{text}, or auto" if self.auto else text

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able description, as the catalogue prints it."""
        default = self.default
        if isinstance(default, NumberOrArray):
            default = default.plain()
        if not (default is None or isinstance(default, (bool, int, float, str, list, dict))):
            default = list(default) if isinstance(default, tuple) else str(default)
        return {
            "name": self.name,
            "type": self.type_name,
            "default": default,
            "required": self.required,
            "unit": self.unit,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "exclusive_minimum": self.exclusive_minimum,
            "exclusive_maximum": self.exclusive_maximum,
            "choices": list(self.choices),
            "description": self.description,
        }


def _flatten(annotation: Any, metadata: list[Any]) -> Iterator[Any]:
    """Yield the members of nested unions; collect the metadata of ``Annotated`` on the way."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *extra = get_args(annotation)
        metadata.extend(extra)
        yield from _flatten(inner, metadata)
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _flatten(member, metadata)
    else:
        yield annotation


def _bounds(metadata: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in metadata:
        if isinstance(item, PydanticField):
            found.update(_bounds(item.metadata))
            continue
        # annotated_types: Ge, Gt, Le, Lt hold one of these, Interval all four.
        for name, key in (
            ("ge", "minimum"),
            ("gt", "minimum"),
            ("le", "maximum"),
            ("lt", "maximum"),
        ):
            value = getattr(item, name, None)
            if value is not None:
                found[key] = value
                found[f"exclusive_{key}"] = name in ("gt", "lt")
    return found


def _unit(field: PydanticField, metadata: list[Any]) -> str:
    for source in (field, *(item for item in metadata if isinstance(item, PydanticField))):
        if isinstance(source.json_schema_extra, dict) and "unit" in source.json_schema_extra:
            return str(source.json_schema_extra["unit"])
    return ""


def describe_field(name: str, field: PydanticField) -> FieldInfo:
    """Describe one pydantic field.

    Parameters
    ----------
    name : str
        Its name.
    field : pydantic.fields.FieldInfo
        As in ``model_fields``.
    """
    metadata: list[Any] = list(field.metadata)
    members = list(_flatten(field.annotation, metadata))
    optional = type(None) in members or None in members
    choices: list[Any] = []
    kinds: list[Any] = []
    for member in members:
        if get_origin(member) is Literal:
            choices.extend(get_args(member))
        elif member is not type(None) and member is not None:
            kinds.append(member)
    auto = "auto" in choices and bool(kinds)
    if auto:
        choices.remove("auto")
    annotation: type | str = "other"
    if any(isinstance(kind, type) and issubclass(kind, ArrayRef) for kind in kinds):
        annotation = "array"
    elif choices and not kinds:
        annotation = "choice"
    elif not choices and len(kinds) == 1 and kinds[0] in _PLAIN:
        annotation = kinds[0]
    elif not choices and set(kinds) == {int, float}:
        annotation = float
    elif not choices and kinds and all(_is_pathlike(kind) for kind in kinds):
        annotation = str
    number = any(isinstance(kind, type) and issubclass(kind, NumberOrArray) for kind in kinds)
    required = field.is_required()
    default = None if required else field.get_default(call_default_factory=True)
    return FieldInfo(
        name=name,
        annotation=annotation,
        default=default,
        required=required,
        choices=tuple(choices),
        unit=_unit(field, metadata),
        description=" ".join((field.description or "").split()),
        optional=optional,
        auto=auto,
        number=number,
        **_bounds(metadata),
    )


def _is_pathlike(kind: Any) -> bool:
    return isinstance(kind, type) and (kind is str or hasattr(kind, "__fspath__"))


def describe_fields(cls: type[BaseModel]) -> list[FieldInfo]:
    """Describe the parameters of a component, its own first and ``kind`` left out.

    Parameters
    ----------
    cls : type of Component
        A forward model, noise, prior source or sampler.
    """
    bases = [getattr(base, "model_fields", {}) for base in cls.__mro__[1:]]
    names = sorted(cls.model_fields, key=lambda name: sum(name in base for base in bases))
    return [describe_field(name, cls.model_fields[name]) for name in names if name != "kind"]
