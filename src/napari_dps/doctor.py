"""What is installed here, what would compute, which priors are ready, and what is wrong."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from napari_dps.components import registry
from napari_dps.device import available_devices, choose_device, is_cpu_build, nvidia_signs
from napari_dps.errors import DPSError

PACKAGES = (
    "napari-dps", "torch", "numpy", "scipy", "scikit-image", "tifffile", "diffusers",
    "safetensors", "pydantic", "cyclopts", "napari", "magicgui", "qtpy", "zarr", "yaozarrs",
)  # fmt: skip
BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")
WEIGHTS = Path(__file__).parent / "priors" / "weights"
#: One sample of 256 x 256 with its gradients, and the program itself.
MEMORY_NEEDED = 2**30


def examine() -> dict[str, Any]:
    """Look at this installation.

    Returns
    -------
    dict
        ``versions``, ``qt``, ``device`` (name, why, available, cpu_build, nvidia_signs), ``memory``
        (bytes), ``threads``, ``priors`` and ``problems``: one sentence each, with what to do.
    """
    found = {
        "versions": package_versions(),
        "qt": qt_binding(),
        "device": examine_device(),
        "memory": examine_memory(),
        "threads": examine_threads(),
        "priors": find_priors(),
    }
    return {**found, "problems": find_problems(found)}


def package_versions() -> dict[str, str | None]:
    """Return the versions of what we build on, None where it is not installed."""
    found: dict[str, str | None] = {
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def qt_binding() -> str:
    """Return the Qt binding that napari would use, ``"none"`` where there is none."""
    installed = {}
    for name in BINDINGS:
        try:
            installed[name.lower()] = f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    asked = os.environ.get("QT_API", "").lower()
    if asked in installed:
        return f"{installed[asked]} (QT_API)"
    return next(iter(installed.values()), "none")


def examine_device() -> dict[str, Any]:
    """Return the device that ``"auto"`` chooses, why, and what torch and the machine offer."""
    name, why = choose_device("auto")
    return {
        "name": name,
        "why": why,
        "available": available_devices(),
        "cpu_build": is_cpu_build(),
        "nvidia_signs": nvidia_signs(),
    }


def examine_memory() -> dict[str, Any]:
    """Return free and total memory in bytes, of the machine and of each CUDA device."""
    import psutil
    import torch

    machine = psutil.virtual_memory()
    gpus = {}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        gpus[f"cuda:{index}"] = {"free": int(free), "total": int(total)}
    return {"free": int(machine.available), "total": int(machine.total), "gpus": gpus}


def examine_threads() -> dict[str, int | None]:
    """Return how many threads torch uses, and how many the machine has."""
    import torch

    return {"torch": torch.get_num_threads(), "machine": os.cpu_count()}


def find_priors(weights: Path = WEIGHTS) -> list[dict[str, Any]]:
    """Return the priors that can be chosen, and whether their weights are here.

    Parameters
    ----------
    weights : Path
        Where the priors that come with the program lie, one folder each.

    Returns
    -------
    list of dict
        ``kind``, ``present``, ``where`` (folder, or what the prior needs), ``about``.
    """
    from napari_dps.priors._folder import prior_info

    found: list[dict[str, Any]] = []
    folders = (
        {p.name: p for p in sorted(weights.iterdir()) if p.is_dir()} if weights.is_dir() else {}
    )
    for kind, cls in registry("prior").items():
        entry = {"kind": kind, "present": True, "where": "closed form", "about": cls.summary()}
        if kind in folders:
            entry["where"] = str(folders[kind])
            try:
                info = prior_info(folders[kind])
                entry["info"] = info.model_dump(mode="json")
            except DPSError as error:
                entry |= {"present": False, "about": str(error)}
        elif "path" in cls.model_fields:
            entry["where"] = f"--prior.path of {kind}"
        elif kind == "fluorescence":
            entry |= {"present": False, "where": str(weights / kind), "about": "not installed"}
        found.append(entry)
    return found


def find_problems(found: dict[str, Any]) -> list[str]:
    """Return what is wrong, one sentence each, with what to do.

    Parameters
    ----------
    found : dict
        As in `examine`, but for the problems.
    """
    problems = []
    device = found["device"]
    if device["name"] == "cpu" and device["nvidia_signs"]:
        problems.append(f"the NVIDIA GPU of this machine is not used: {device['why']}")
    if found["qt"] == "none":
        problems.append(
            "no Qt binding is installed, so that napari cannot open: run "
            '`pip install "napari-dps[qt]"` (the command line and Python need none)'
        )
    for prior in found["priors"]:
        if not prior["present"]:
            problems.append(
                f"the prior {prior['kind']!r} is not ready ({prior['about']}): install napari-dps "
                "again, or choose another prior"
            )
    if found["memory"]["free"] < MEMORY_NEEDED:
        problems.append("less than 1 GiB of memory is free: close other programs before a run")
    return problems
