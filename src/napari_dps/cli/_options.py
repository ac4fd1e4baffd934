"""Command line options made from the fields of the chosen components, and back to a recipe."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from cyclopts import App, CycloptsError, Group, Parameter, Token

from napari_dps.components import GROUPS, Component, component_class, make, registry
from napari_dps.errors import DPSError, RecipeError
from napari_dps.fields import FieldInfo, describe_fields
from napari_dps.recipe import DEFAULTS, Recipe

_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_JOIN = "__"
_PAGES = ("Output", "Input", "Choices", "Options")


@dataclass(frozen=True)
class Chosen:
    """The kinds that a command line names, before its other options are read.

    Parameters
    ----------
    bases : dict of str to Component or type of Component
        By group: the recipe's component that options override or, where the recipe says nothing
        about this kind, the class.
    """

    bases: Mapping[str, Component | type[Component]] = field(default_factory=dict)

    def class_of(self, group: str) -> type[Component]:
        """Return the chosen class of a group."""
        base = self.bases[group]
        return base if isinstance(base, type) else type(base)


def first_pass(tokens: list[str], groups: Iterable[str]) -> Chosen:
    """Read only which kinds and which recipe a command line names.

    Which options exist depends on them, so that the command itself is built afterwards.

    Raises
    ------
    DPSError
        If a kind is unknown or the recipe cannot be read.
    """
    scout = App(help_flags=[], version_flags=[])
    named: dict[str, str | None] = {}

    @scout.default
    def _scout(
        *rest: Annotated[str, Parameter(allow_leading_hyphen=True)],
        forward: str | None = None,
        noise: str | None = None,
        prior: str | None = None,
        sampler: str | None = None,
        recipe: str | None = None,
    ) -> None:
        named.update(forward=forward, noise=noise, prior=prior, sampler=sampler, recipe=recipe)

    try:
        scout(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError:
        named.clear()  # an option without its value: the second pass says so in its own words
    path = named.get("recipe")
    base = Recipe.load(path) if path else None
    bases: dict[str, Component | type[Component]] = {}
    for group in groups:
        kind = named.get(group)
        kept: Component | None = getattr(base, group) if base is not None else None
        if kept is not None and kind in (None, kept.kind):
            bases[group] = kept
        else:
            bases[group] = _class_of_kind(group, kind or DEFAULTS[group])
    return Chosen(bases)


def _class_of_kind(group: str, kind: str) -> type[Component]:
    if group == "prior" and kind not in registry(group):
        from napari_dps.priors._library import entries

        if Path(kind).exists() or kind in entries():
            raise RecipeError(
                f"there is no kind of prior {kind!r}; to take the weights of that name write "
                f"--prior checkpoint --prior.path {kind}"
            )
    return component_class(group, kind)


def _annotation(info: FieldInfo) -> Any:
    if info.annotation == "choice":
        kind: Any = cast(Any, Literal)[info.choices]
    elif isinstance(info.annotation, type):
        kind = info.annotation
    else:
        kind = str
    if info.auto:
        kind = Literal["auto"] | kind
    # None is every option's default: only what was given reaches the command.
    return kind | None


def _help(info: FieldInfo) -> str:
    facts = [info.unit, info.range_text]
    if info.annotation == "other":
        facts.append("JSON")
    if info.required:
        facts.append("required")
    text = ", ".join(fact for fact in facts if fact)
    return f"{info.description} [{text}]" if text else info.description


def _default_text(value: object) -> Callable[[object], str]:
    return lambda _: str(value)


def whole_number(kind: Any, tokens: Sequence[Token]) -> int | str:
    """Read a whole number, or auto where that is allowed; cyclopts would round 1.5 to 2."""
    text = tokens[0].value
    if text == "auto" and kind is not int and "auto" in str(kind):
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'"{text}" is no whole number') from None


def whole_numbers(kind: Any, tokens: Sequence[Token]) -> tuple[int | str, ...]:
    """Read whole numbers; see :func:`whole_number`."""
    return tuple(whole_number(int, [token]) for token in tokens)


_CONVERTERS: dict[Any, Callable[..., Any]] = {int: whole_number, tuple[int, int]: whole_numbers}


def component_parameters(chosen: Chosen) -> list[inspect.Parameter]:
    """Return the options of the chosen components: ``--forward KIND``, ``--forward.sigma``, ..."""
    parameters = []
    for group, base in chosen.bases.items():
        cls = chosen.class_of(group)
        kind = cls.kind_name()
        parameters.append(
            option(
                group,
                str,
                f"Kind of {group}; `napari-dps list {group}` shows all.",
                default=kind,
                group="Choices",
            )
        )
        infos = describe_fields(cls)
        page = Group(
            f"{group} {kind}: {cls.summary()}", sort_key=len(_PAGES) + list(GROUPS).index(group)
        )
        for info in infos:
            value = getattr(base, info.name) if isinstance(base, Component) else info.default
            shown = _default_text(value) if value is not None else False
            parameters.append(
                inspect.Parameter(
                    f"{group}{_JOIN}{info.name}",
                    _KEYWORD,
                    default=None,
                    annotation=Annotated[
                        _annotation(info),
                        Parameter(
                            name=f"--{group}.{info.name.replace('_', '-')}",
                            help=_help(info),
                            group=page,
                            show_default=shown,
                            negative_none=(),
                            converter=whole_number if info.annotation is int else None,
                        ),
                    ],
                )
            )
    return parameters


def option(
    name: str,
    annotation: Any,
    text: str,
    *,
    short: str | None = None,
    default: Any = None,
    required: bool = False,
    group: str = "Options",
    dotted: bool = False,
) -> inspect.Parameter:
    """Return one keyword option for a command's signature.

    Parameters
    ----------
    name : str
        Name of the keyword; ``--`` and hyphens are put where they belong.
    annotation : type
        As cyclopts converts it.
    text : str
        Help.
    short : str, optional
        Second name, such as ``-o``.
    default : object
        Shown in the help where not None; only what was given reaches the command.
    required : bool
        Whether it must be given.
    group : str
        Under which heading the help shows it.
    dotted : bool
        Whether ``__`` in the name stands for a dot.
    """
    long = "--" + (name.replace(_JOIN, ".") if dotted else name).replace("_", "-")
    names = (long, short) if short else (long,)
    shown = _default_text(default) if default not in (None, False) else False
    converter = _CONVERTERS.get(annotation)
    if default is None and not required:
        annotation = annotation | None
    return inspect.Parameter(
        name,
        _KEYWORD,
        default=inspect.Parameter.empty if required else default,
        annotation=Annotated[
            annotation,
            Parameter(
                name=names,
                help=text,
                group=Group(group, sort_key=_PAGES.index(group)),
                show_default=shown,
                negative=(),
                converter=converter,
            ),
        ],
    )


def recipe_parameters(chosen: Chosen) -> list[inspect.Parameter]:
    """Return ``--recipe`` and the options of the chosen components."""
    text = "Recipe (JSON) to start from; the options given override it."
    return [option("recipe", str, text, group="Choices"), *component_parameters(chosen)]


def signature(
    command: Callable[..., Any], parameters: Iterable[inspect.Parameter]
) -> Callable[..., Any]:
    """Give a ``(*values, **given)`` command the signature that cyclopts shall read."""
    listed = list(parameters)
    cast(Any, command).__signature__ = inspect.Signature(listed)
    command.__annotations__ = {item.name: item.annotation for item in listed}
    return command


def _value(info: FieldInfo, where: str, value: Any) -> Any:
    if info.number and isinstance(value, str) and not (info.auto and value == "auto"):
        try:
            return float(value)
        except ValueError:
            if Path(value).exists():
                return value
            allowed = "a number or a file" + (", or auto" if info.auto else "")
            raise RecipeError(
                f"{where} = {value!r} is not allowed, since there is no such file; give {allowed}"
            ) from None
    if info.annotation != "other" or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        if value[:1] in "[{":
            raise RecipeError(f"{where} = {value!r} is no JSON; write it as [1, 2]") from None
        return value  # a bare word, such as one choice among structures


def component_from(group: str, given: Mapping[str, Any], base: Recipe | None) -> Component | None:
    """Return the component that the options given describe, None where they say nothing.

    Parameters
    ----------
    group : str
        Which of the four choices.
    given : dict
        Options as they were given, and only those.
    base : Recipe or None
        The recipe that they override.

    Raises
    ------
    RecipeError
        One sentence about the first thing that is wrong.
    """
    prefix = f"{group}{_JOIN}"
    values = {
        name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)
    }
    kind = given.get(group)
    if kind is None and not values:
        return None
    kept: Component | None = getattr(base, group) if base is not None else None
    fields: dict[str, Any] = {}
    if kept is not None and kind in (None, kept.kind):
        kind = kept.kind
        fields = {name: getattr(kept, name) for name in kept.model_fields_set}
    kind = kind or DEFAULTS[group]
    infos = {info.name: info for info in describe_fields(component_class(group, kind))}
    for name, value in values.items():
        fields[name] = _value(infos[name], f"--{group}.{name.replace('_', '-')}", value)
    for info in infos.values():
        if info.required and fields.get(info.name) is None:
            raise RecipeError(
                f"{group} {kind!r} needs --{group}.{info.name.replace('_', '-')} "
                f"({info.type_name}): {info.description or 'it has no default'}"
            )
    return make(group, {**fields, "kind": kind})


def recipe_from(given: Mapping[str, Any], groups: Iterable[str] = tuple(GROUPS)) -> Recipe:
    """Return the recipe that the options given describe.

    Raises
    ------
    RecipeError
        One sentence about the first thing that is wrong.
    """
    base = Recipe.load(given["recipe"]) if given.get("recipe") else None
    parts: dict[str, Any] = {group: component_from(group, given, base) for group in groups}
    intensity = _intensity(given, base)
    for name in ("samples", "seed", "valid"):
        parts[name] = given.get(name)
    return Recipe.parse(base, intensity=intensity, **parts)


def _intensity(given: Mapping[str, Any], base: Recipe | None) -> Any:
    named = {
        key: given[f"intensity{_JOIN}{key}"]
        for key in ("scale", "background")
        if given.get(f"intensity{_JOIN}{key}") is not None
    }
    if not named:
        return given.get("intensity")
    if given.get("intensity") is not None:
        raise RecipeError(
            "--intensity auto estimates both numbers; leave it out or leave out "
            f"--intensity.{next(iter(named))}"
        )
    if base is not None and base.intensity != "auto":
        named = {**base.intensity.model_dump(), **named}
    if "scale" not in named:
        raise RecipeError("--intensity.background needs --intensity.scale beside it")
    return named


def floats(text: str | None, what: str) -> float | tuple[float, ...] | None:
    """Read one number, or several with commas between them.

    Raises
    ------
    DPSError
        If a part is no number.
    """
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise DPSError(
            f"{what} = {text!r} is not allowed, give a number or several with commas between "
            "them, such as 0.2,0.1,0.1"
        ) from None
    return values[0] if len(values) == 1 else values
