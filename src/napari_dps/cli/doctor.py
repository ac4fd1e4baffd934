"""``napari-dps doctor``: what is installed, what would compute, what is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter

from napari_dps.cli._options import Chosen
from napari_dps.cli._terminal import print_json, print_table, size

GROUPS: tuple[str, ...] = ()


def command(chosen: Chosen) -> Callable[..., Any]:
    """Return the command."""
    return doctor


def doctor(*, json: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Say which versions, device, Qt binding and priors are here, and what is missing.

    Parameters
    ----------
    json
        Print one JSON object.
    """
    from napari_dps.doctor import examine

    found = examine()
    if json:
        print_json(found)
        return
    device, memory = found["device"], found["memory"]
    rows: list[tuple[str, Any]] = [(name, version) for name, version in found["versions"].items()]
    rows += [
        ("Qt binding", found["qt"]),
        ("device", f"{device['name']}: {device['why']}"),
        ("devices found", ", ".join(f"{k} ({v})" for k, v in device["available"].items())),
        ("torch build", "CPU only" if device["cpu_build"] else "GPU"),
        ("NVIDIA GPU here", ", ".join(device["nvidia_signs"]) or "no sign of one"),
        ("memory", f"{size(memory['free'])} free of {size(memory['total'])}"),
        *((f"memory of {n}", f"{size(m['free'])} free") for n, m in memory["gpus"].items()),
        ("CPU threads", found["threads"]["torch"]),
    ]
    print_table("napari-dps doctor", ("what", "found"), rows)
    priors = [
        (p["kind"], "yes" if p["present"] else "no", p["where"], p["about"])
        for p in found["priors"]
    ]
    print_table("priors", ("prior", "ready", "where", "about"), priors)
    for problem in found["problems"]:
        print(f"problem: {problem}")
    if not found["problems"]:
        print("no problem found")
