"""Where to compute: the device that ``"auto"`` stands for, and why."""

from __future__ import annotations

import difflib
import shutil
import sys
from ctypes.util import find_library
from pathlib import Path

from napari_dps.errors import InputError


def available_devices() -> dict[str, str]:
    """Return the devices that this torch can use, best first.

    Returns
    -------
    dict of str to str
        Torch name (``"cuda"``, ``"cuda:1"``, ``"mps"``, ``"cpu"``) and what it is.
    """
    import torch

    found: dict[str, str] = {}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_device_name(torch.cuda.current_device())
        for index in range(torch.cuda.device_count()):
            found[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    found["cpu"] = f"{torch.get_num_threads()} threads"
    return found


def choose_device(device: str = "auto") -> tuple[str, str]:
    """Return the device to compute on, and why.

    Parameters
    ----------
    device : str
        ``"auto"`` (CUDA if there is one, else Apple's GPU, else the CPU) or a torch name.

    Returns
    -------
    name : str
        Torch name.
    why : str
        One sentence.

    Raises
    ------
    InputError
        If the device named is not there; the sentence names those that are.
    """
    found = available_devices()
    name = str(device).strip().lower()
    if name == "auto":
        best = next(iter(found))
        if best != "cpu":
            return best, f"{found[best]} is the fastest device that torch finds here"
        return best, f"torch finds no GPU here ({why_no_gpu()})"
    if name in found:
        return name, "it was asked for"
    allowed = ["auto", *found]
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close and name.split(":")[0] not in found else ""
    reason = f" ({why_no_gpu()})" if name.startswith("cuda") and "cuda" not in found else ""
    raise InputError(
        f"the device {device!r} is not available here{reason}; {hint}available are "
        f"{', '.join(allowed)}"
    )


def is_cpu_build() -> bool:
    """Whether this torch was built without CUDA, ROCm or Apple's GPU."""
    import torch

    hip = getattr(torch.version, "hip", None)
    return torch.version.cuda is None and hip is None and not torch.backends.mps.is_built()


def nvidia_signs() -> list[str]:
    """Return what on this machine tells of an NVIDIA GPU, whatever torch can see."""
    signs = []
    if shutil.which("nvidia-smi"):
        signs.append("nvidia-smi")
    if Path("/proc/driver/nvidia/version").exists():
        signs.append("/proc/driver/nvidia")
    if find_library("nvcuda" if sys.platform == "win32" else "cuda"):
        signs.append("the CUDA driver library")
    return signs


def why_no_gpu() -> str:
    """Return in a few words why torch sees no GPU."""
    signs = nvidia_signs()
    if signs and is_cpu_build():
        return (
            f"this torch is a CPU build although {' and '.join(signs)} tell of an NVIDIA GPU: "
            "install the CUDA build from pytorch.org"
        )
    if signs:
        return f"{' and '.join(signs)} tell of an NVIDIA GPU, but torch cannot use its driver"
    return "this torch is a CPU build" if is_cpu_build() else "no GPU was found"
