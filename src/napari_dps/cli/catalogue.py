"""``napari-dps list``: every forward model, noise, prior and sampler, with its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter

from napari_dps import components
from napari_dps.cli._options import Chosen
from napari_dps.cli._terminal import print_json, print_table
from napari_dps.fields import describe_fields

GROUPS: tuple[str, ...] = ()


def catalogue(groups: tuple[str, ...] = tuple(components.GROUPS)) -> dict[str, Any]:
    """Return what there is to choose from, as plain data."""
    return {
        group: [
            {
                "kind": kind,
                "title": cls.title,
                "summary": cls.summary(),
                "parameters": [info.as_dict() for info in describe_fields(cls)],
            }
            for kind, cls in components.registry(group).items()
        ]
        for group in groups
    }


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command."""
    return list_components


def list_components(
    group: components.ComponentGroup | None = None,
    /,
    *,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """List forward models, noises, priors and samplers with their parameters.

    Parameters
    ----------
    group
        Only one list: forward, noise, prior or sampler.
    json
        Print one JSON object.
    """
    found = catalogue((group,) if group else tuple(components.GROUPS))
    if json:
        print_json(found)
        return
    for name, entries in found.items():
        rows: list[list[str]] = []
        for entry in entries:
            lines = [_line(name, info) for info in entry["parameters"]]
            rows.append([entry["kind"], entry["summary"], "\n".join(lines)])
        print_table(name, ("kind", "what it is", "parameters"), rows)


def _line(group: str, info: dict[str, Any]) -> str:
    unit = f" {info['unit']}" if info["unit"] else ""
    default = " (required)" if info["required"] else f" = {info['default']}{unit}"
    if info["default"] is None and not info["required"]:
        default = ""
    return f"--{group}.{info['name'].replace('_', '-')}{default}"
