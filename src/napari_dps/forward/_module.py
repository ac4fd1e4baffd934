"""A forward model that is a file: TorchScript or torch.export, without unpickling code.

A TorchScript archive is read by torch's own reader, which knows data and TorchScript only. An
exported program is JSON and raw tensors, but torch.export.load unpickles some parts and evaluates
some texts; so an archive is looked through first, and what could run Python code is refused.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_dps.core.linearised import NonlinearOperator
from napari_dps.errors import InputError
from napari_dps.forward._trial import trusted
from napari_dps.grid import Grid

_TARGET = re.compile(
    r"(torch\.ops\.(aten|prims)\.(?!from_file)\w+(\.\w+)?|_operator\.(add|sub|mul|floordiv|mod|"
    r"truediv|neg|pos|eq|ne|lt|le|gt|ge|getitem|pow|and_|or_)|torch\.sym_(min|max|not|sum|ite))"
)
_WORDS = re.compile(r"[^\W\d]\w*")
_ALLOWED = set(
    "Symbol Integer Rational Float Add Mul Pow Min Max FloorDiv ModularIndexing Where PythonMod "
    "Mod CleanDiv CeilToInt FloorToInt TruncToInt CeilDiv RoundToInt PowByNatural IntTrueDiv "
    "FloatTrueDiv ToFloat Eq Ne Lt Le Gt Ge Equality Unequality StrictLessThan LessThan "
    "StrictGreaterThan GreaterThan And Or Not oo int_oo positive integer negative real "
    "nonnegative finite True False precision L size stride storage_offset x input not and or "
    "is None".split()
)


def load_module(path: str, device: str) -> Callable[[Tensor], Tensor]:
    """Return the module in a TorchScript or torch.export file.

    Raises
    ------
    InputError
        If the file is missing, is neither, or could run code on being loaded.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(
            f"there is no file {path!r}; give the path of a TorchScript or torch.export file"
        )
    names = _names(file)
    inside = {name.partition("/")[2] for name in names}
    try:
        with warnings.catch_warnings():
            # torch calls TorchScript deprecated; files of it are there nevertheless.
            warnings.simplefilter("ignore")
            if any(name.startswith("code/") for name in inside) and "constants.pkl" in inside:
                load: Any = torch.jit.load
                module = load(str(file), map_location=device)
                module.eval()
            elif any(name.startswith("models/") for name in inside):
                _check_export(file)
                # An exported program was traced in the mode that it has.
                module = torch.export.load(str(file)).module().to(device)
            else:
                raise _refused(path, "holds neither (a state dict or a pickle, perhaps)")
    except InputError:
        raise
    except Exception as error:  # torch raises many kinds; all mean the same to the user
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"the module {path!r} cannot be loaded ({reason}); export it again") from (
            error
        )
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module  # type: ignore[no-any-return]


def _refused(path: str, why: str) -> InputError:
    return InputError(
        f"the module {path!r} {why}; it was not loaded, since pickles can run any code: give a "
        "file written by torch.jit.save or torch.export.save"
    )


def _names(file: Path) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        raise _refused(str(file), "is no TorchScript or torch.export archive") from None


def _check_export(file: Path) -> None:
    """Refuse an exported program of which a part could run Python code."""
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            inside = name.partition("/")[2]
            base = inside.rpartition("/")[2]
            known = re.fullmatch(
                r"\.data/\w+|byteorder|version|archive_(format|version)|models/\w+\.json|"
                r"data/weights/(weight_\d+|\w+_config\.json)|"
                r"data/constants/(tensor_\d+|\w+_config\.json)|data/sample_inputs/\w+\.pt|extra/.*",
                inside,
            )
            if known is None:
                raise _refused(str(file), f"has a part {base!r} that is no tensor")
            if inside.endswith(".pt"):
                try:
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                except Exception:
                    raise _refused(str(file), f"has a pickle in {base!r}") from None
            if inside.endswith(".json"):
                for key, value in _walk(json.loads(archive.read(name))):
                    if not _harmless(key, value):
                        raise _refused(str(file), f"has {key} = {str(value)[:60]!r} in {base!r}")


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every (key, value) of nested JSON."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _walk(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, key)
    else:
        yield key, value


def _harmless(key: str, value: Any) -> bool:
    """Whether a value of an exported program's JSON is data that torch does not run."""
    if key == "use_pickle":
        return value is False
    if key == "target" and isinstance(value, str):
        return _TARGET.fullmatch(value) is not None
    if key in ("expr_str", "guards_code"):
        # torch evaluates these: only sizes, and functions of sizes, may stand there.
        words = {w for w in _WORDS.findall(str(value)) if not re.fullmatch(r"[a-z]+\d+", w)}
        return "__" not in str(value) and words <= _ALLOWED
    return True


class ModuleOperator(NonlinearOperator):
    """z = scale module((x - zero) / scale) + zero.

    Parameters
    ----------
    path : str
        A TorchScript or torch.export file.
    grid : Grid
        The measurement's grid; the object's is the same.
    scale, zero : float
        Light that the module takes as one and as zero.
    """

    def __init__(self, path: str, grid: Grid, scale: float, zero: float) -> None:
        shape = (1, *grid.shape)
        super().__init__(shape, shape)
        module: Any = load_module(path, grid.device)

        def function_for(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
            kept = module.to(dtype)
            return lambda x: kept((x - zero) / scale) * scale + zero

        self._function = trusted(
            function_for, f"the module {path!r}", shape, grid, scale=scale, zero=float(zero)
        )

    def __call__(self, x: Tensor, theta: object = None) -> Tensor:
        """Return the expected measurement."""
        return self._function(x)
