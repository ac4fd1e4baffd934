"""Turn what a parser or validator has to say into one sentence."""

from __future__ import annotations

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)
from pydantic import ValidationError

from napari_dps.cli._options import Chosen
from napari_dps.components import GROUPS, nearest, registry, sentence
from napari_dps.fields import describe_fields


def parser_sentence(error: CycloptsError, verb: str, chosen: Chosen | None) -> str:
    """Return a cyclopts error as one sentence.

    Parameters
    ----------
    error : CycloptsError
        As the parser raised it.
    verb : str
        The verb that was called, "" if none.
    chosen : Chosen or None
        The components whose options were on offer.
    """
    if isinstance(error, UnknownOptionError) and chosen is not None:
        name = str(error.token.keyword or error.token.value)
        group, dot, field = name.removeprefix("--").partition(".")
        if dot and group in chosen.bases:
            return _unknown_field(chosen, group, field)
        if dot and group in GROUPS:
            return f"{verb} takes no {group}; {name} has no meaning here"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"{verb} takes no {error.unused_tokens[0]!r} here; see napari-dps {verb} --help"
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        argument = error.argument
        if argument.required and not argument.tokens:
            names = " or ".join(argument.names) or argument.name
            return f"{verb} needs {names}; see napari-dps {verb} --help"
    text = " ".join(str(error).split()).rstrip(".")
    wanted = _wanted_number(error, chosen) if isinstance(error, CoercionError) else ""
    text = text.removeprefix(f'Command "{verb}" parameter ').replace("|None", "") + wanted
    text = text.replace("Literal[auto]|", "auto or ")
    return "; ".join(part[:1].lower() + part[1:] for part in text.split(". "))


def _wanted_number(error: CoercionError, chosen: Chosen | None) -> str:
    """Return what a component's number must be, "" where another option is wrong."""
    group, _, field = (error.argument.name if error.argument else "").lstrip("-").partition(".")
    if chosen is None or group not in chosen.bases:
        return ""
    for info in describe_fields(chosen.class_of(group)):
        if info.name == field.replace("-", "_") and info.annotation in (int, float):
            return f"; give {info.wanted}"
    return ""


def _unknown_field(chosen: Chosen, group: str, field: str) -> str:
    cls = chosen.class_of(group)
    kind = cls.kind_name()
    key = field.replace("-", "_")
    owners = [
        other
        for other, owner in registry(group).items()
        if key in {info.name for info in describe_fields(owner)}
    ]
    if owners:
        return (
            f"{group} {kind!r} has no parameter {field!r}; it belongs to {', '.join(owners)}, "
            f"which --{group} chooses"
        )
    names = [info.name.replace("_", "-") for info in describe_fields(cls)]
    hint = nearest(field, names) if names else "it takes none"
    return f"{group} {kind!r} has no parameter {field!r}; {hint}"


def validation_sentence(error: ValidationError) -> str:
    """Return a pydantic error as one sentence."""
    return sentence(error, error.title)
