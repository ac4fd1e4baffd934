"""The user's own priors: one folder, names in it, and the way from a name to a prior."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ..errors import PriorError
from . import _diffusers, _folder
from ._formats import Facts, Found, describe, find

VARIABLE = "NAPARI_DPS_PRIORS"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HUB_ID = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[\w./-]{1,200}))?"
)
SHIPPED = ("fluorescence",)
"""What comes along; no prior of the user's may be called so."""
HUB_FACTS = [
    *("model_index.json", "config.json", "unet/config.json"),
    *("scheduler_config.json", "scheduler/scheduler_config.json", "unet/scheduler_config.json"),
    *("napari-dps.json", "README.md"),
]
"""What tells whether a repository is a prior, before anything large is fetched."""


def library() -> Path:
    """Return the folder of the user's priors; the variable NAPARI_DPS_PRIORS names another."""
    named = os.environ.get(VARIABLE, "").strip()
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_path("napari-dps", appauthor=False)) / "priors"


def entries() -> dict[str, Path]:
    """Return the priors in the user's folder by name: folders, and files without their suffix."""
    folder = library()
    if not folder.is_dir():
        return {}
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or (path.suffix.lower() == ".json" and not path.is_dir()):
            continue  # the card of a file
        found[path.name if path.is_dir() else path.stem] = path
    return found


def resolve(path: str, *, download: bool = False) -> Path:
    """Return where a prior lies: a path, a name in the user's folder, or an id of the hub.

    Parameters
    ----------
    path : str
        Looked for in this order.
    download : bool
        Whether the Hugging Face hub may be asked for what is not here.

    Raises
    ------
    PriorError
        If it is nowhere, or only on the hub and nobody agreed to download it.
    """
    path = path.strip()
    if not path:
        raise PriorError(
            "the checkpoint prior has no path; name a folder or file, one of your priors "
            "(`napari-dps priors` lists them), or an id of the Hugging Face hub"
        )
    here = Path(path).expanduser()
    if here.exists():
        return here
    known = entries()
    if path in known:
        return known[path]
    hub = HUB_ID.fullmatch(path)
    if hub is None:
        listed = ", ".join(known) or "none yet"
        raise PriorError(
            f"there is no prior {path!r}: no such folder or file, and none of your priors "
            f"({listed}) has that name"
        )
    return _from_hub(hub["id"], hub["revision"], download)


def _from_hub(name: str, revision: str | None, download: bool) -> Path:
    """Return the folder of a repository of the hub: the copy that is here, else a fresh one."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def fetch(patterns: list[str], **options: Any) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=patterns, **options
            )
        )

    try:
        # Nothing is asked for by name: whether enough of it is here is for this module to say.
        here = fetch([], local_files_only=True)
        if _complete(here):
            return here
    except (LocalEntryNotFoundError, OSError):
        pass  # nothing of it is here, which the next lines deal with
    if not download:
        raise PriorError(
            f"there is no prior {name!r} on this machine, neither a folder or file nor one of "
            "your priors; to download it from the Hugging Face hub agree with `download` "
            "(--prior.download; of the verb priors: --download)"
        )
    try:
        here = fetch(HUB_FACTS)
        for weights in _weights_of(here, name):
            if not _complete(here):
                here = fetch([weights])
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise PriorError(
            f"the prior {name!r} cannot be downloaded ({type(error).__name__}: {reason}); check "
            "its id and the connection"
        ) from None
    if not _complete(here):
        raise PriorError(
            f"the repository {name!r} of the hub has no weights that can be read "
            f"({_diffusers.WEIGHTS[0]} or {_folder.WEIGHTS}); choose another, or ask its author "
            "for them"
        )
    return here


def _complete(folder: Path) -> bool:
    """Whether what makes a prior lies in a folder, of whatever kind it then turns out to be."""

    def holds(places: tuple[str, ...], *names: str) -> bool:
        return any((folder / place / name).is_file() for place in places for name in names)

    own = holds(("",), _folder.WEIGHTS) and holds(("",), _folder.CONFIG)
    return own or (
        holds(("", "unet"), *_diffusers.WEIGHTS)
        and holds(("", "unet"), _diffusers.CONFIG)
        and holds(("", "unet", "scheduler"), _diffusers.SCHEDULER)
    )


def _weights_of(folder: Path, name: str) -> list[str]:
    """Return where a repository's weights may lie, best first, from its configurations.

    Raises
    ------
    PriorError
        If they are none of a prior.
    """
    if _diffusers.is_diffusers(folder):
        unet = _diffusers.unet_place(folder)
        _diffusers.configurations(unet / _diffusers.CONFIG, _diffusers.scheduler_place(folder))
        return [(unet.relative_to(folder) / weights).as_posix() for weights in _diffusers.WEIGHTS]
    if (folder / _folder.CONFIG).is_file():
        _folder.read_info(folder)
        return [_folder.WEIGHTS]
    raise PriorError(
        f"the repository {name!r} of the hub holds no prior: it has neither {_folder.CONFIG} nor "
        "model_index.json; name a diffusers pipeline or a folder of napari-dps"
    )


def add(source: Path, name: str | None = None, *, replace: bool = False) -> Facts:
    """Copy a prior into the user's folder, whole or not at all, once its weights were read.

    Parameters
    ----------
    source : Path
        Folder or file.
    name : str or None
        What to call it there; None: as it is called.
    replace : bool
        Whether one of that name may be replaced.

    Raises
    ------
    PriorError
        If it is no prior, cannot be loaded, or the name is taken or not allowed.
    """
    found = find(source)
    name = name or source.resolve().stem
    if not NAME.fullmatch(name):
        raise PriorError(
            f"a prior cannot be called {name!r}; take up to 64 letters, digits, '.', '_' and '-', "
            "a letter or digit first (--name)"
        )
    if name.lower().endswith(".json"):
        raise PriorError(
            f"a prior cannot be called {name!r}: files of that ending say something about the "
            "prior beside them; choose another --name"
        )
    if name in SHIPPED:
        raise PriorError(
            f"a prior cannot be called {name!r}, as the one that comes along is; choose another "
            "--name"
        )
    there = entries()
    if name in there and not replace:
        raise PriorError(
            f"there is a prior {name!r} already; choose another --name, or --replace it"
        )
    describe(found)
    from ._load import load

    load(found)  # what cannot be used is told now, and not at the first run
    folder = library()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".adding-", dir=folder))
    except OSError as error:
        raise PriorError(
            f"the folder of priors {str(folder)!r} cannot be written ({error.strerror}); name "
            f"another with the variable {VARIABLE}"
        ) from None
    try:
        return _put(found, fresh, folder, name, there.get(name))
    except OSError as error:
        raise PriorError(
            f"{str(source)!r} cannot be copied ({error.strerror}); look for space and permissions"
        ) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _put(found: Found, fresh: Path, folder: Path, name: str, old: Path | None) -> Facts:
    """Copy to ``fresh`` first, then move in place of ``old``."""
    if found.path.is_dir():
        copy = fresh / name
        for path in [*found.files, *found.extras]:
            target = copy / path.relative_to(found.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        moves = [(copy, folder / name)]
    else:
        moves = []
        for path in found.files:
            copy = fresh / path.name
            shutil.copyfile(path, copy)
            moves.append((copy, folder / f"{name}{path.suffix.lower()}"))
    if old is not None:
        for path in _parts(old):
            os.replace(path, fresh / f"old-{path.name}")
    for copy, target in moves:
        os.replace(copy, target)
    return describe(find(moves[0][1]))


def _parts(path: Path) -> list[Path]:
    """Return what one entry consists of: a folder, or a file and its card."""
    card = path.with_suffix(".json")
    return [path] if path.is_dir() or not card.is_file() else [path, card]


def locate(name: str) -> Path:
    """Return where a prior of the user's folder lies.

    Raises
    ------
    PriorError
        If there is none of that name.
    """
    known = entries()
    if name not in known:
        raise PriorError(
            f"there is no prior {name!r} in {str(library())!r}; there are: "
            f"{', '.join(known) or 'none yet'}"
        )
    return known[name]


def remove(name: str) -> list[Path]:
    """Delete a prior from the user's folder; return what was deleted.

    Raises
    ------
    PriorError
        If there is none of that name, or it cannot be deleted.
    """
    parts = _parts(locate(name))
    try:
        for path in parts:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise PriorError(f"the prior {name!r} cannot be deleted ({error.strerror})") from None
    return parts
