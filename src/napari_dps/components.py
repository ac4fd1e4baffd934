"""The registry of components, and what a recipe's parts are made of (see :mod:`.kinds`)."""

import difflib
import importlib
import importlib.metadata
import pkgutil
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from napari_dps.errors import RecipeError
from napari_dps.fields import describe_field
from napari_dps.kinds import Component, ForwardModel, NoiseModel, PriorSource, SamplerChoice

__all__ = [
    "GROUPS",
    "Component",
    "ComponentGroup",
    "ForwardModel",
    "NoiseModel",
    "PriorSource",
    "SamplerChoice",
    "component_class",
    "make",
    "nearest",
    "registry",
    "sentence",
]

GROUPS = {
    "forward": "napari_dps.forward",
    "noise": "napari_dps.noise",
    "prior": "napari_dps.priors",
    "sampler": "napari_dps.samplers",
}


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
        words = [e["ctx"]["expected"] for e in found if e["type"] == "literal_error"]
        inner = _owner(model, [*names, ""])
        fields = ", ".join(f"{n!r}: ..." for n in inner.model_fields) if inner is not None else ""
        message = f"give {' or '.join([*words, f'{{{fields}}}'])}"
    elif first["type"] == "missing" and len(names) > 1:
        return f"{where}: {'.'.join(names[:-1])} = {text} lacks {names[-1]!r}"
    elif owner is not None and names[-1] in owner.model_fields:
        info = describe_field(names[-1], owner.model_fields[names[-1]])
        bounded = info.annotation in (int, float) or info.minimum is not None
        if bounded and first["type"] in _RANGE | _NO_NUMBER:
            # Pydantic names only the end that was passed, and no end for what is no number.
            message = f"give {info.wanted}"
    if not name:
        return f"{where}: {message}"
    return f"{where}: {name} = {text} is not allowed, {message}"


_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}
_NO_NUMBER = {
    "float_type",
    "float_parsing",
    "int_type",
    "int_parsing",
    "int_from_float",
    "tuple_type",
}


def _owner(model: type[BaseModel] | None, names: list[str]) -> type[BaseModel] | None:
    """Return the model that the last name belongs to, ``names`` being a path from ``model``."""
    for name in names[:-1]:
        field = model.model_fields.get(name) if model is not None else None
        inner = get_args(field.annotation) if field is not None else ()
        model = next((m for m in inner if isinstance(m, type) and issubclass(m, BaseModel)), None)
    return model


ComponentGroup = Literal["forward", "noise", "prior", "sampler"]
